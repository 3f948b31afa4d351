"""The figures of `mesanet` that look into a trained mesa layer: losses, steps, gates and condition numbers."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...lab.report.plots import band, line_at, pivot
from ...lab.store import Records
from ...lab.study import Figure, Table
from .diagnosis import PAPER_TOLERANCE, STEPS, TOLERANCES
from .tables import DEEPER, make_table, smooth


def _steps_data(records: Records) -> Table:
    panels = {
        "steps": (STEPS, records.array("text-mesa", "loss_by_steps")),
        "tolerance": (TOLERANCES, records.array("text-mesa", "loss_by_tolerance")),
    }
    return make_table(
        "panel,setting,seed,excess",
        (
            (panel, float(setting), int(seed), float(losses[row, place] / panels["steps"][1][row, -1] - 1.0))
            for panel, (settings, losses) in panels.items()
            for place, setting in enumerate(settings)
            for row, seed in enumerate(records.seeds)
        ),
    )


def _draw_steps(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, 2, sharey=True)
    for axes, panel in zip(panels, ("steps", "tolerance"), strict=True):
        _, settings, excess = pivot(table, "seed", "setting", "excess", panel=panel)
        band(axes, settings, np.maximum(100.0 * excess, 1e-3), "", spread="range", marker="o", markersize=3.5)
        line_at(axes, 0.5, "0.5%")
        axes.set(xlabel=panel, yscale="log", ylim=(8e-4, 10))
    panels[0].set_ylabel("loss above that of 30 steps, %")
    panels[1].set_xscale("log")
    panels[1].invert_xaxis()


def _by_head(records: Records, name: str) -> Iterable[tuple[str, int, np.ndarray]]:
    """Of an array `[seeds, layers, ..., heads]`: each head's label, seed and values."""
    array = records.array("text-mesa", name)
    for layer in range(array.shape[1]):
        for head in range(array.shape[-1]):
            for row, seed in enumerate(records.seeds):
                yield f"layer {layer + 1}, head {head + 1}", int(seed), array[row, layer, ..., head]


def _head_data(records: Records) -> Table:
    return make_table(
        "head,seed,position,steps",
        (
            (head, seed, position + 1, value)
            for head, seed, steps in _by_head(records, "steps_at")
            if seed == records.seeds[0]
            for position, value in smooth(steps, 4)
        ),
    )


def _draw_heads(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for head in dict.fromkeys(table["head"]):
        _, positions, steps = pivot(table, "seed", "position", "steps", head=head)
        axes.plot(positions, steps.mean(axis=0), label=head, linestyle="-" if "layer 1" in head else "--")
    axes.set(xlabel="position", ylabel=f"steps to a tolerance of {PAPER_TOLERANCE:g}")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _gate_data(records: Records) -> Table:
    gates = {(head, seed): float(value) for head, seed, value in _by_head(records, "gate")}
    return make_table(
        "head,seed,gate,steps",
        ((head, seed, gates[head, seed], float(np.mean(steps))) for head, seed, steps in _by_head(records, "steps_at")),
    )


def _draw_gates(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for seed in dict.fromkeys(table["seed"]):
        chosen = [i for i, one in enumerate(table["seed"]) if one == seed]
        gates, steps = ([table[name][i] for i in chosen] for name in ("gate", "steps"))
        axes.plot(gates, steps, "o", linestyle="none", label=f"seed {seed}")
    axes.set(xlabel="mean forget gate of a head", ylabel="mean steps of a head")
    axes.legend(loc="upper left")


def _condition_data(records: Records) -> Table:
    edges = np.linspace(0.0, 2.5, 51)
    return make_table(
        "head,log_condition,share",
        (
            (head, float(middle), float(share))
            for head, seed, values in _by_head(records, "log_condition")
            if seed == records.seeds[0]
            for middle, share in zip(
                (edges[1:] + edges[:-1]) / 2, np.histogram(values, edges)[0] / values.size, strict=True
            )
        ),
    )


def _draw_condition(canvas: Any, table: Table) -> None:
    heads = list(dict.fromkeys(table["head"]))
    panels = canvas.subplots(len(heads), 1, sharex=True)
    for axes, head in zip(np.atleast_1d(panels), heads, strict=True):
        rows = [i for i, one in enumerate(table["head"]) if one == head]
        axes.bar([table["log_condition"][i] for i in rows], [table["share"][i] for i in rows], width=0.05)
        axes.set_yticks([])
        axes.set_ylabel(head, rotation=0, ha="right", va="center", fontsize=8.5)
        axes.grid(False)
    np.atleast_1d(panels)[-1].set_xlabel("log10 of the condition number at the end of a sequence")


SOLVER_FIGURES = (
    Figure(
        "solver-loss",
        "The loss against steps and tolerance of conjugate gradients",
        "Text model, test loss; bands are ranges over seeds. What is below 0.001% is drawn there.",
        "Falling curves that saturate between 10 and 15 steps.",
        _steps_data,
        _draw_steps,
        size=(7.4, 3.2),
        scales=DEEPER,
    ),
    Figure(
        "solver-steps",
        "Steps by position and head",
        "Text model of the first seed.",
        "Later tokens need more steps, and some heads many more than others.",
        _head_data,
        _draw_heads,
        size=(7.4, 3.6),
        scales=DEEPER,
    ),
    Figure(
        "gates-steps",
        "Heads that forget little need more steps",
        "Each dot is a head of a text model.",
        "Gates near one go with many steps.",
        _gate_data,
        _draw_gates,
        scales=DEEPER,
    ),
    Figure(
        "condition-numbers",
        "Condition numbers of the heads",
        "Text model of the first seed, at the end of each test sequence; the regulariser is part of the matrix.",
        "Two groups of heads.",
        _condition_data,
        _draw_condition,
        size=(6.4, 5.2),
        scales=DEEPER,
    ),
)
