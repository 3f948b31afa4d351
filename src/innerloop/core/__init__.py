"""Errors, configuration, named keys and tree tools: what every other part stands on."""
