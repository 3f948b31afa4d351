"""Blocks of sequence layers, and models of sequences made of them."""

from .block import Block, Stack, make_blocks
from .models import LanguageModel, OutputsOnly, VectorSequenceModel

__all__ = ["Block", "LanguageModel", "OutputsOnly", "Stack", "VectorSequenceModel", "make_blocks"]
