"""Blocks of sequence layers, and models of discrete sequences made of them."""

__all__: list[str] = []
