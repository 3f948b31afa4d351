"""Agents that learn from sampled games: what is trained, recorded, claimed and drawn."""
