"""Run folders made by hand, so that the lab is tested without training anything."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.lab.store import CellFolder, Records, Run, create_run


@dataclass(frozen=True)
class Optimiser:
    lr: float = 1e-3
    name: str = "adam"


@dataclass(frozen=True)
class Settings:
    steps: int = 20
    widths: tuple[int, ...] = (4, 8)
    optimiser: Optimiser = Optimiser()


def make_run(
    root: Path,
    *,
    study: str = "demo",
    scale: str = "laptop",
    seeds: tuple[int, ...] = (0, 1, 2),
    config: Any = None,
    fresh: bool = False,
) -> Run:
    """An empty run folder."""
    return create_run(root, study, scale, seeds, config or Settings(), fresh=fresh)


def fill(
    run: Run,
    variant: str,
    seed: int,
    *,
    train: Sequence[float] = (3.0, 2.0, 1.0),
    final: Mapping[str, float] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    status: str = "finished",
    step: int | None = None,
    reason: str = "",
    done: bool = True,
) -> CellFolder:
    """One cell: training losses at steps 10, 20, ..., final metrics at the last step."""
    cell = run.cell(variant, seed)
    records: list[dict[str, Any]] = [
        {"step": 10 * (i + 1), "phase": "train", "loss": loss} for i, loss in enumerate(train)
    ]
    if final is not None:
        records.append({"step": 10 * len(train), "phase": "final", **final})
    cell.append_metrics(records)
    if arrays:
        cell.write_arrays(arrays)
    if done:
        cell.finish({"status": status, "reason": reason, "step": step})
    return cell


def records_of(run: Run) -> Records:
    return Records(run, Settings())
