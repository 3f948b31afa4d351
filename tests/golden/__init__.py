"""Transcripts of worlds, stored so that a change of what happens in one is seen."""
