"""Two runs of one study side by side: what was set differently, what came out, what became of the claims."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...core.config import diff
from ...core.errors import InnerloopError
from ..judge import read_claims
from ..stats import Interval, mean_band, mean_interval, paired_difference, paired_ratio
from ..store import Run, write_atomically
from .contents import recorded_cells, recorded_series
from .figures import CYCLE, house_style, to_csv


@dataclass(frozen=True)
class MetricRow:
    """One metric of one variant and phase: the value at its last step in both runs.

    `difference` (B - A) and `ratio` (B / A) are paired by seed, and `None` if the runs have different seeds.
    """

    variant: str
    phase: str
    metric: str
    a: Interval
    b: Interval
    difference: Interval | None
    ratio: Interval | None


@dataclass(frozen=True)
class VerdictRow:
    """One claim in both runs; `None` stands for a number that a run does not have."""

    id: str
    statement: str
    verdict_a: str
    verdict_b: str
    estimate_a: float | None
    estimate_b: float | None

    @property
    def changed(self) -> bool:
        return self.verdict_a != self.verdict_b


@dataclass(frozen=True)
class Curve:
    """One metric over steps in both runs: `steps [k]`, `values [seeds, k]`."""

    variant: str
    phase: str
    metric: str
    steps_a: np.ndarray
    values_a: np.ndarray
    steps_b: np.ndarray
    values_b: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; `notes` say what could not be compared and why."""

    a: Run
    b: Run
    settings: dict[str, tuple[Any, Any]]
    metrics: tuple[MetricRow, ...]
    verdicts: tuple[VerdictRow, ...]
    curves: tuple[Curve, ...]
    notes: tuple[str, ...]


def compare(run_a: Run | Path, run_b: Run | Path) -> Comparison:
    """Compare two runs of one study, A and B; runs of different studies are refused.

    Everything that both recorded is compared at its last step. A value that is missing in one seed makes the
    interval NaN, and a note says which cell it was.
    """
    a, b = (run if isinstance(run, Run) else Run.open(run) for run in (run_a, run_b))
    if a.study != b.study:
        raise InnerloopError(
            f"only runs of one study can be compared: {a.path} is of {a.study!r}, {b.path} of {b.study!r}"
        )
    notes = [*_notes_on("A", a), *_notes_on("B", b)]
    if a.seeds != b.seeds:
        notes.append(f"A has seeds {_list(a.seeds)}, B {_list(b.seeds)}: differences cannot be paired")
    metrics, curves, unmatched = _compare_metrics(a, b)
    return Comparison(
        a,
        b,
        settings=_settings(a, b),
        metrics=tuple(metrics),
        verdicts=_compare_verdicts(a, b),
        curves=tuple(curves),
        notes=(*notes, *unmatched),
    )


def draw_curves(comparison: Comparison) -> Any:
    """A Matplotlib figure: a panel per metric and phase, A solid, B dashed, 95% bands over seeds."""
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys((curve.phase, curve.metric) for curve in comparison.curves))
    variants = list(dict.fromkeys(curve.variant for curve in comparison.curves))
    rows = max(1, math.ceil(len(panels) / 2))
    with house_style():
        canvas = Figure(figsize=(8.4, 2.8 * rows + 0.4 + 0.2 * len(variants)), layout="constrained")
        FigureCanvasSVG(canvas)
        if not panels:
            canvas.text(0.5, 0.5, "neither run recorded a curve that the other has too", ha="center")
            return canvas
        grid = canvas.subplots(rows, min(2, len(panels)), squeeze=False).flat
        for axes, (phase, metric) in zip(grid, panels, strict=False):
            axes.set(title=f"{metric} ({phase})", xlabel="step")
            for curve in comparison.curves:
                if (curve.phase, curve.metric) == (phase, metric):
                    colour = CYCLE[variants.index(curve.variant) % len(CYCLE)]
                    _draw_band(axes, curve.steps_a, curve.values_a, f"A: {curve.variant}", colour, "-")
                    _draw_band(axes, curve.steps_b, curve.values_b, f"B: {curve.variant}", colour, (0, (4, 2)))
        for axes in list(canvas.axes)[len(panels) :]:
            axes.set_visible(False)
        named = {label: line for axes in canvas.axes for line, label in zip(*_legend(axes), strict=True)}
        canvas.legend(list(named.values()), list(named), loc="outside lower center", ncols=2)
    return canvas


def write_comparison(comparison: Comparison, folder: Path) -> list[Path]:
    """Write `settings.csv`, `metrics.csv`, `verdicts.csv` and `curves.svg` into a folder; return paths."""
    picture = io.StringIO()
    with house_style():
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        draw_curves(comparison).savefig(picture, format="svg", metadata=nothing)
    contents = {
        "settings.csv": to_csv(_settings_table(comparison)),
        "metrics.csv": to_csv(_metrics_table(comparison)),
        "verdicts.csv": to_csv(_verdicts_table(comparison)),
        "curves.svg": picture.getvalue(),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    return [folder / name for name in contents]


def _settings(a: Run, b: Run) -> dict[str, tuple[Any, Any]]:
    """What the two runs were asked for differently: the scale, the seeds, then the configuration."""
    first, second = ({"scale": run.scale, "seeds": list(run.seeds)} for run in (a, b))
    return {f"run.{name}": pair for name, pair in diff(first, second).items()} | diff(a.config, b.config)


def _notes_on(letter: str, run: Run) -> list[str]:
    notes = []
    for cell in recorded_cells(run):
        outcome = cell.outcome()
        if outcome.get("status") != "finished":
            at = f" at step {outcome['step']}" if outcome.get("step") is not None else ""
            reason = outcome.get("reason") or "no reason recorded"
            notes.append(f"{letter}: cell {cell.name} {outcome.get('status')}{at}: {reason}")
    return notes


def _compare_metrics(a: Run, b: Run) -> tuple[list[MetricRow], list[Curve], list[str]]:
    series_a, series_b = recorded_series(a), recorded_series(b)
    keys_a, keys_b = (
        [(variant, *name) for variant, metrics in series.items() for name in metrics] for series in (series_a, series_b)
    )
    rows, curves = [], []
    for variant, phase, metric in keys_a:
        if (variant, phase, metric) not in keys_b:
            continue
        steps_a, values_a = series_a[variant][phase, metric]
        steps_b, values_b = series_b[variant][phase, metric]
        last_a, last_b = values_a[:, -1], values_b[:, -1]
        same_seeds = a.seeds == b.seeds
        rows.append(
            MetricRow(
                variant,
                phase,
                metric,
                a=mean_interval(last_a),
                b=mean_interval(last_b),
                difference=paired_difference(last_a, last_b) if same_seeds else None,
                ratio=paired_ratio(last_a, last_b) if same_seeds else None,
            )
        )
        if max(len(steps_a), len(steps_b)) > 1:
            curves.append(Curve(variant, phase, metric, steps_a, values_a, steps_b, values_b))
    notes = [
        f"only {letter} recorded {metric} of {variant} in phase {phase}"
        for letter, own, other in (("A", keys_a, keys_b), ("B", keys_b, keys_a))
        for variant, phase, metric in own
        if (variant, phase, metric) not in other
    ]
    return rows, curves, notes


def _compare_verdicts(a: Run, b: Run) -> tuple[VerdictRow, ...]:
    claims_a, claims_b = (_claims_by_id(run) for run in (a, b))
    rows = []
    for name in claims_a | claims_b:
        first, second = claims_a.get(name, {}), claims_b.get(name, {})
        rows.append(
            VerdictRow(
                name,
                statement=first.get("statement") or second.get("statement") or "",
                verdict_a=first.get("verdict", "not judged"),
                verdict_b=second.get("verdict", "not judged"),
                estimate_a=first.get("estimate"),
                estimate_b=second.get("estimate"),
            )
        )
    return tuple(rows)


def _claims_by_id(run: Run) -> dict[str, dict[str, Any]]:
    if not (run.path / "claims.json").exists():
        return {}
    return {claim["id"]: claim for claim in read_claims(run.path)}


def _draw_band(axes: Any, steps: np.ndarray, values: np.ndarray, label: str, colour: str, dashes: Any) -> None:
    # A seed that is missing leaves a gap: the mean of the others would be a curve of another experiment.
    mean, low, high = mean_band(values)
    axes.plot(steps, mean, label=label, color=colour, linestyle=dashes)
    if np.isfinite(low).any():
        axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)


def _legend(axes: Any) -> tuple[list[Any], list[str]]:
    return axes.get_legend_handles_labels() if axes.get_visible() else ([], [])


def _settings_table(comparison: Comparison) -> dict[str, list[Any]]:
    return {
        "setting": list(comparison.settings),
        "a": [str(first) for first, _ in comparison.settings.values()],
        "b": [str(second) for _, second in comparison.settings.values()],
    }


def _metrics_table(comparison: Comparison) -> dict[str, list[Any]]:
    rows = comparison.metrics
    table: dict[str, list[Any]] = {
        name: [getattr(row, name) for row in rows] for name in ("variant", "phase", "metric")
    }
    for name in ("a", "b", "difference", "ratio"):
        intervals = [getattr(row, name) for row in rows]
        for part, column in (("estimate", name), ("low", f"{name}_low"), ("high", f"{name}_high")):
            table[column] = [None if interval is None else getattr(interval, part) for interval in intervals]
    return table


def _verdicts_table(comparison: Comparison) -> dict[str, list[Any]]:
    names = ("id", "statement", "verdict_a", "verdict_b", "estimate_a", "estimate_b", "changed")
    return {name: [getattr(row, name) for row in comparison.verdicts] for name in names}


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(str(seed) for seed in seeds)
