"""What the figures of `mesanet` share."""

from collections.abc import Iterable
from typing import Any

import numpy as np

DEEPER = ("laptop", "paper")


def make_table(columns: str, rows: Iterable[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """A table from its rows; `columns` are their names, separated by commas."""
    names = columns.split(",")
    lines = list(rows)
    return {name: [line[i] for line in lines] for i, name in enumerate(names)}


def smooth(values: np.ndarray, window: int = 8) -> list[tuple[float, float]]:
    """Means over consecutive windows, with the middle of each."""
    count = max(1, len(values) // window)
    places = np.array_split(np.arange(len(values)), count)
    return [(float(place.mean()), float(values[place].mean())) for place in places]
