"""Blocks of sequence layers, and models of sequences made of them."""

from .block import Block, Stack, make_blocks
from .models import LanguageModel, OutputsOnly, VectorSequenceModel
from .reconstruction import AutoEncoder, Reconstruction

__all__ = [
    "AutoEncoder",
    "Block",
    "LanguageModel",
    "OutputsOnly",
    "Reconstruction",
    "Stack",
    "VectorSequenceModel",
    "make_blocks",
]
