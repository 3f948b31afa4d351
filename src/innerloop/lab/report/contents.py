"""What a run folder holds, cell by cell, read without the study's own code: for comparing and exporting."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..store import LEFT_OUT, CellFolder, Run, read_json

Series = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]  # (phase, metric) -> steps [k], values [seeds, k]


@dataclass(frozen=True)
class RecordedCell:
    """One cell that a run has at least begun."""

    variant: str
    seed: int
    folder: CellFolder

    @property
    def name(self) -> str:
        """The name of its folder, such as `adam-s0`."""
        return self.folder.path.name

    def outcome(self) -> dict[str, Any]:
        """What `done.json` says; its status is `finished` or `failed`, here also `unfinished`."""
        if not self.folder.finished:
            return {"status": "unfinished", "reason": "not run to its end", "step": None}
        return read_json(self.folder.path / "done.json")

    def rows(self) -> list[dict[str, Any]]:
        """One record per step and phase, by step: all its metrics, each with its newest value."""
        merged: dict[tuple[int, str], dict[str, Any]] = {}
        for row in self.folder.read_metrics():
            merged.setdefault((row["step"], row["phase"]), {}).update(row)
        return sorted(merged.values(), key=lambda row: row["step"])

    def measurements(self) -> Iterator[tuple[str, int, str, float]]:
        """`(phase, step, metric, value)` of everything recorded; NaN where the value was not finite."""
        for row in self.rows():
            for metric, value in row.items():
                if metric not in ("step", "phase") and (value is None or isinstance(value, (int, float))):
                    yield row["phase"], int(row["step"]), metric, math.nan if value is None else float(value)


def recorded_cells(run: Run) -> list[RecordedCell]:
    """All cells of a run that have a folder, by variant and seed; those that the study leaves out are not there."""
    found = []
    for path in (run.path / "cells").glob("*"):
        match = re.fullmatch(r"(.+)-s(\d+)", path.name)
        if match and path.is_dir():
            cell = RecordedCell(match[1], int(match[2]), CellFolder(path))
            if cell.outcome().get("status") != LEFT_OUT:
                found.append(cell)
    return sorted(found, key=lambda cell: (cell.variant, cell.seed))


def recorded_series(run: Run) -> dict[str, Series]:
    """Per variant, every metric of every phase over the run's seeds; NaN for what a seed has not recorded."""
    tables: dict[str, dict[tuple[str, str], dict[int, dict[int, float]]]] = {}
    for cell in recorded_cells(run):
        of_variant = tables.setdefault(cell.variant, {})
        for phase, step, metric, value in cell.measurements():
            of_variant.setdefault((phase, metric), {}).setdefault(cell.seed, {})[step] = value
    return {
        variant: {name: _as_arrays(by_seed, run.seeds) for name, by_seed in of_variant.items()}
        for variant, of_variant in tables.items()
    }


def _as_arrays(by_seed: dict[int, dict[int, float]], seeds: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    steps = sorted({step for table in by_seed.values() for step in table})
    values = [[by_seed.get(seed, {}).get(step, math.nan) for step in steps] for seed in seeds]
    return np.asarray(steps), np.asarray(values, dtype=float)
