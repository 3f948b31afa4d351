"""The figures of `mesanet`: each makes a table from records and draws nothing but that table."""

from typing import Any

import numpy as np

from ...lab.report.plots import band, heat, line_at, pivot
from ...lab.stats import mean_interval
from ...lab.store import Records
from ...lab.study import Figure, Table
from .benchmarks import MAD_TASKS
from .layers import LABELS
from .solver_figures import SOLVER_FIGURES
from .tables import DEEPER, make_table, smooth
from .training_free import GATES, MEMORIES, PAIRS, WINDOW

_NAMES = {
    "gla": "linear attention",
    "delta": "delta rule",
    "mesa": "mesa, regulariser 0.25",
    "mesa-no-steps": "mesa without a step",
    "mesa-exact": "mesa, regulariser 1e-13",
}


# ---- without training ----------------------------------------------------------------------------------------------


def _recall_data(records: Records) -> Table:
    errors = records.array("recall-error", "recall_errors")  # [seeds, memories, pairs]
    return make_table(
        "memory,seed,pairs,error",
        (
            (_NAMES[memory], int(seed), pairs, float(errors[row, place, column]))
            for place, memory in enumerate(MEMORIES)
            for row, seed in enumerate(records.seeds)
            for column, pairs in enumerate(PAIRS)
        ),
    )


def _draw_recall(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for memory in dict.fromkeys(table["memory"]):
        _, pairs, errors = pivot(table, "seed", "pairs", "error", memory=memory)
        band(axes, pairs, np.maximum(errors, 1e-6), memory, spread="range")
    line_at(axes, 32.0, "channels", along="y", side="start")
    axes.set(xlabel="pairs stored", ylabel="relative squared error", yscale="log", ylim=(0.01, 5))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _stability_data(records: Records) -> Table:
    arrays = {
        "recursive least squares": records.array("stability", "least_squares_errors"),
        "conjugate gradients": records.array("stability", "solver_errors"),
    }
    return make_table(
        "curve,gate,seed,token,error",
        (
            (curve, gate, int(seed), WINDOW * (window + 1), float(error))
            for curve, errors in arrays.items()
            for place, gate in enumerate(GATES)
            for row, seed in enumerate(records.seeds)
            for window, error in enumerate(errors[row, place])
        ),
    )


def _draw_stability(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, len(GATES), sharey=True)
    for axes, gate in zip(panels, GATES, strict=True):
        for curve in dict.fromkeys(table["curve"]):
            _, tokens, errors = pivot(table, "seed", "token", "error", curve=curve, gate=gate)
            band(axes, tokens, errors, curve, spread="range")
        axes.set(title=f"gate {gate:g}", xlabel="token", yscale="log")
    panels[0].set_ylabel("relative error")
    panels[0].legend(loc="upper left")


# ---- the benchmarks ------------------------------------------------------------------------------------------------


def _mad_data(records: Records) -> Table:
    names = {**{task: f"accuracy/{task}" for task in MAD_TASKS}, "mean": "accuracy"}
    return make_table(
        "layer,task,seed,accuracy",
        (
            (LABELS[layer], task, int(seed), float(score))
            for layer in records.config.layers
            for task, name in names.items()
            for seed, score in zip(records.seeds, records.final(f"mad-{layer}", name), strict=True)
        ),
    )


def _draw_mad(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    layers, tasks = (list(dict.fromkeys(table[name])) for name in ("layer", "task"))
    means = np.asarray(
        [[np.mean(pivot(table, "seed", "task", "accuracy", layer=one)[2], axis=0)[i] for i in range(len(tasks))]
         for one in layers]
    )  # fmt: skip
    heat(axes, 100 * means, rows=layers, columns=_broken(tasks), label="accuracy, %", limits=(0, 100))
    axes.tick_params(labelsize=8.5)


def _broken(tasks: list[str]) -> list[str]:
    """Names of tasks in lines short enough to stand side by side."""
    return [task.replace(" ", "\n").replace("memo", "memo-\n").replace("comp", "com-\np") for task in tasks]


def _scores_data(records: Records) -> Table:
    panels = {
        "MAD: mean accuracy": ("mad", "accuracy"),
        "RegBench: accuracy": ("regbench", "accuracy"),
        "text: bits per character": ("text", "bits"),
    }
    return make_table(
        "panel,layer,seed,score",
        (
            (panel, LABELS[layer], int(seed), float(score))
            for panel, (benchmark, name) in panels.items()
            if benchmark in records.config.benchmarks
            for layer in records.config.layers
            for seed, score in zip(records.seeds, records.final(f"{benchmark}-{layer}", name), strict=True)
        ),
    )


def _draw_scores(canvas: Any, table: Table) -> None:
    panels = list(dict.fromkeys(table["panel"]))
    for axes, panel in zip(np.atleast_1d(canvas.subplots(1, len(panels), sharey=True)), panels, strict=True):
        _, layers, scores = pivot(table, "seed", "layer", "score", panel=panel)
        for place, column in enumerate(scores.T):
            interval = mean_interval(column)
            (drawn,) = axes.plot(column, np.full(len(column), place), "o", color="C0", alpha=0.5, markersize=4)
            axes.plot([interval.low, interval.high], [place, place], "-", color=drawn.get_color(), linewidth=1.2)
            axes.plot([interval.estimate], [place], "|", color=drawn.get_color(), markersize=13)
        axes.set_yticks(range(len(layers)), layers)
        spread = float(scores.max() - scores.min()) or 1.0
        axes.set_xlim(scores.min() - 0.25 * spread, scores.max() + 0.25 * spread)
        axes.set_ylim(len(layers) - 0.5, -0.5)
        axes.set_title(panel)


def _rates_data(records: Records) -> Table:
    groups = {"mad": MAD_TASKS, "regbench": ("RegBench",), "text": ("text",)}
    return make_table(
        "layer,task,rate",
        (
            (LABELS[layer], task, float(rate))
            for benchmark, tasks in groups.items()
            if benchmark in records.config.benchmarks
            for layer in records.config.layers
            for task, rate in zip(tasks, records.array(f"{benchmark}-{layer}", "rates")[0], strict=True)
        ),
    )


def _draw_rates(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    layers, tasks, rates = pivot(table, "layer", "task", "rate")
    heat(axes, 1000 * rates, rows=layers, columns=_broken(tasks), label="learning rate, thousandths", values=True)
    axes.tick_params(labelsize=8.5)


def _position_data(records: Records) -> Table:
    attention = records.array("text-softmax", "bits_at")
    return make_table(
        "layer,seed,position,difference",
        (
            (LABELS[layer], int(seed), position + 1, float(value))
            for layer in records.config.layers
            if layer != "softmax"
            for row, seed in enumerate(records.seeds)
            for position, value in smooth(records.array(f"text-{layer}", "bits_at")[row] - attention[row])
        ),
    )


def _draw_position(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for layer in dict.fromkeys(table["layer"]):
        _, positions, values = pivot(table, "seed", "position", "difference", layer=layer)
        axes.plot(positions, values.mean(axis=0), label=layer)
    line_at(axes, 0.0, "softmax attention")
    axes.set(xlabel="position", ylabel="bits per character above softmax")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


# ---- parity --------------------------------------------------------------------------------------------------------


def _parity_data(records: Records) -> Table:
    curves = {"parity-signed": "gates in (−1, 1)", "parity-positive": "gates in (0, 1)"}
    return make_table(
        "curve,seed,position,accuracy",
        (
            (label, int(seed), position + 1, float(value))
            for variant, label in curves.items()
            for row, seed in enumerate(records.seeds)
            for position, value in enumerate(records.array(variant, "long_accuracy_at")[row])
        ),
    )


def _draw_parity(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for curve in dict.fromkeys(table["curve"]):
        _, positions, values = pivot(table, "seed", "position", "accuracy", curve=curve)
        band(axes, positions, values, curve, spread="range")
    line_at(axes, 40.0, "length of training", along="y", side="start")
    axes.set(xlabel="bit", ylabel="accuracy", ylim=(0.4, 1.02))
    axes.legend(loc="center right")


FIGURES = (
    Figure(
        "recall-error",
        "Recall without training",
        "Random unit keys of 32 channels are stored once and read; bands are ranges over seeds. Next to no regulariser"
        " leaves next to no error up to 32 pairs, far below the panel.",
        "What the optimal memory is for; no figure of the paper.",
        _recall_data,
        _draw_recall,
        size=(7.2, 3.6),
    ),
    Figure(
        "stability",
        "Recursive least squares against conjugate gradients",
        "Float32 errors, each against its own exact solution; the top of the panels is everything beyond, and NaN.",
        "Recursive least squares with forgetting are unstable.",
        _stability_data,
        _draw_stability,
        size=(7.6, 3.2),
    ),
    Figure(
        "scores",
        "Six layers on three benchmarks",
        "Dots are seeds, bars 95% intervals of the mean (cut where they leave the panel). As many parameters and the"
        " same grid of learning rates for all; only softmax attention has no short convolution.",
        "MesaNet is the best recurrent layer, near softmax attention.",
        _scores_data,
        _draw_scores,
        size=(8.4, 3.2),
        scales=DEEPER,
    ),
    Figure(
        "mad",
        "MAD by task",
        "Accuracy on test sequences, mean over seeds.",
        "MesaNet leads on recall and fuzzy recall.",
        _mad_data,
        _draw_mad,
        size=(8.0, 3.6),
        scales=DEEPER,
    ),
    Figure(
        "text-position",
        "Text: where attention is better",
        "Bits per character above softmax attention, by position, mean over seeds.",
        "Recurrent layers are ahead early and fall behind late.",
        _position_data,
        _draw_position,
        size=(7.6, 3.6),
        scales=DEEPER,
    ),
    *SOLVER_FIGURES,
    Figure(
        "parity",
        "Parity with and without gates below zero",
        "Accuracy at each bit; bands are ranges over seeds.",
        "With gates below zero parity generalises to longer sequences.",
        _parity_data,
        _draw_parity,
        scales=DEEPER,
    ),
    Figure(
        "rates",
        "The learning rates that pilots chose",
        "From the same grid for all layers, by the training loss at the end of a shorter training of another seed.",
        "The paper takes the best of a sweep.",
        _rates_data,
        _draw_rates,
        size=(8.0, 3.4),
        scales=DEEPER,
    ),
)
