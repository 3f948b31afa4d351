"""The figures of `rnn-attention`: each makes a table from records and draws nothing but that table."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from ...lab.report.figures import INK
from ...lab.report.plots import band, curve_table, heat, line_at, pivot
from ...lab.store import Records
from ...lab.study import Figure, Table
from .claims import SUCCESS, neurons, special

TRAINED = ("laptop", "paper")
LABELS = {
    "lstm": "LSTM",
    "gru": "GRU",
    "stacked-lru": "two LRU blocks",
    "linear-attention": "linear attention",
    "softmax-attention": "softmax attention",
}
Columns = dict[str, list[Any]]


def _add(table: Columns, **row: Any) -> None:
    for name, item in row.items():
        table[name].append(item)


def _median_curves(axes: Any, table: Table) -> None:
    """Medians over seeds in a band from the best to the worst seed."""
    for label in dict.fromkeys(table["curve"]):
        _, steps, values = pivot(table, "seed", "step", "value", curve=label)
        (line,) = axes.plot(steps, np.median(values, axis=0), label=label)
        axes.fill_between(
            steps, values.min(axis=0), values.max(axis=0), color=line.get_color(), alpha=0.15, linewidth=0
        )


def _sizes_data(records: Records) -> Table:
    imitation = records.config.imitation
    table: Columns = {"neurons": [], "curve": [], "seed": [], "error": [], "compressed": [], "generic": []}
    for size in imitation.sizes:
        for label, prefix in (("as trained", ""), ("multipliers rounded to 0 and 1, trained on", "refit/")):
            errors = records.final(f"neurons-{size}", f"{prefix}relative_error")
            for seed, error in zip(records.seeds, errors, strict=True):
                _add(table, neurons=size, curve=label, seed=int(seed), error=float(error))
                _add(table, compressed=imitation.compressed, generic=imitation.generic)
    return table


def _draw_sizes(canvas: Any, table: Table) -> None:
    left, right = canvas.subplots(1, 2, width_ratios=(3, 2))
    for label in dict.fromkeys(table["curve"]):
        _, sizes, errors = pivot(table, "seed", "neurons", "error", curve=label)
        (line,) = left.plot(sizes, np.median(errors, axis=0), label=label)
        for row in errors:
            left.plot(sizes, row, ".", color=line.get_color(), linestyle="none", alpha=0.6)
        right.plot(sizes, np.mean(errors <= SUCCESS, axis=0), "o-", color=line.get_color(), label=label)
    for axes in (left, right):
        line_at(axes, table["compressed"][0], "d(d+3)/2" if axes is left else "", along="y", side="end")
        line_at(axes, table["generic"][0], "d²+d" if axes is left else "", along="y", side="end")
        axes.set_xlabel("neurons")
    left.set(yscale="log", ylabel="relative error")
    canvas.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=2)
    right.set(ylabel=f"share of seeds with error ≤ {SUCCESS:g}", ylim=(-0.05, 1.05))


def _multipliers_data(records: Records) -> Table:
    variant = neurons("most")(records)
    table: Columns = {"network": [], "seed": [], "multiplier": [], "contribution": []}
    for label, prefix in (("before training", "untrained/"), ("after training", "")):
        multipliers = records.array(variant, f"{prefix}multipliers")
        contribution = records.array(variant, f"{prefix}contribution")
        for seed, ones, shares in zip(records.seeds, multipliers, contribution, strict=True):
            for one, share in zip(ones, shares, strict=True):
                _add(table, network=label, seed=int(seed), multiplier=float(one), contribution=float(share))
    return table


def _draw_multipliers(canvas: Any, table: Table) -> None:
    # Nearly all happens at both ends, so the bins are those of log(1 - x) and of x.
    edges = [0.0, 0.02, 0.05, 0.1, 0.5, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 0.9999, 1.0]
    names = [f"{low:g} – {high:g}" for low, high in itertools.pairwise(edges)]
    axes = canvas.subplots()
    seeds = len(dict.fromkeys(table["seed"]))
    for offset, label in ((-0.2, "before training"), (0.2, "after training")):
        rows = [i for i, name in enumerate(table["network"]) if name == label]
        values = np.clip([table["multiplier"][i] for i in rows], 0.0, 1.0)
        shares = np.asarray([table["contribution"][i] for i in rows]) / seeds
        heights, _ = np.histogram(values, bins=edges, weights=shares)
        axes.bar(np.arange(len(names)) + offset, heights, width=0.38, label=label)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right")
    axes.set(xlabel="multiplier λ", ylabel="share of the contribution")
    axes.legend(loc="upper left", bbox_to_anchor=(0.2, 1.0))


def _weights_data(records: Records) -> Table:
    variant = neurons("generic")(records)
    written, paired = records.array(variant, "written")[0], records.array(variant, "paired")[0]
    table: Columns = {"matrix": [], "row": [], "column": [], "value": [], "multiplier": []}
    kept = records.array(variant, "sorted_multipliers")[0]
    for name, matrix in (("input gate", written[0]), ("input", written[1]), ("products read out", paired)):
        for (row, column), item in np.ndenumerate(matrix):
            _add(table, matrix=name, row=row, column=column, value=float(item), multiplier=float(kept[row]))
    return table


def _draw_weights(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, 3, width_ratios=(1, 1, 2.6))
    for axes, name in zip(panels, dict.fromkeys(table["matrix"]), strict=True):
        _, columns, matrix = pivot(table, "row", "column", "value", matrix=name)
        paired = name == "products read out"
        heat(axes, matrix, diverging=not paired, values=False, limits=(0.0, 1.0) if paired else (-1.0, 1.0))
        axes.set_title(name)
        if paired:
            axes.set(xticks=[], yticks=[], xlabel="neuron, by multiplier")
        else:
            axes.set_xticks(columns, [*(f"x{i + 1}" for i in columns[:-1]), "1"])
            axes.set_yticks([])
    rows = list(dict.fromkeys(table["row"]))
    kept = [table["multiplier"][table["row"].index(row)] for row in rows]
    panels[0].set_yticks(rows, [f"{one:.3f}" for one in kept], fontsize=7.5)
    panels[0].set_ylabel("multiplier of the neuron")


def _curves_data(variants: Callable[[Records], dict[str, str]], metric: str) -> Callable[[Records], Table]:
    return lambda records: curve_table(records, variants(records), metric, phase="evaluate")


def _imitators(records: Records) -> dict[str, str]:
    size = max(records.config.imitation.sizes)
    return {f"neurons-{size}": "gated linear RNN", **{name: LABELS[name] for name in records.config.architectures}}


def _gates(records: Records) -> dict[str, str]:
    return {
        neurons("generic")(records): "both gates",
        "no-output-gate": "no output gate",
        "no-input-gate": "no input gate",
    }


def _draw_errors(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    _median_curves(axes, table)
    axes.set(xlabel="training step", ylabel="relative error", yscale="log")
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _regression_data(records: Records) -> Table:
    regression = records.config.regression
    names = {special(records): f"gated linear RNN, {regression.special} neurons"}
    if "regression-architectures" in records.config.parts:
        names[f"regression-{regression.generic}"] = f"gated linear RNN, {regression.generic} neurons"
        names |= {f"regression-{name}": LABELS[name] for name in records.config.regression_architectures}
    names["regression-shuffled"] = "on shuffled labels"
    table: Columns = curve_table(records, names, "loss", phase="evaluate")
    for seed, loss in zip(records.seeds, records.final(special(records), "gd_loss"), strict=True):
        _add(table, curve="one step of gradient descent", seed=int(seed), step=-1, value=float(loss))
    return table


def _draw_regression(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for label in dict.fromkeys(table["curve"]):
        _, steps, values = pivot(table, "seed", "step", "value", curve=label)
        if steps == [-1]:
            axes.axhline(float(np.mean(values)), color=INK, linewidth=0.9, linestyle=(0, (3, 2)), label=label)
        else:
            band(axes, steps, values, label, spread="range")
    # The first steps, in which losses fall from far above what zero would have, are left out of the picture.
    axes.set(xlabel="training step", ylabel="test loss", yscale="log", ylim=(0.4, 12.0))
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _predictions_data(records: Records) -> Table:
    table: Columns = {"network": [], "seed": [], "gradient descent": [], "network's": []}
    for label, variant in (("trained", special(records)), ("on shuffled labels", "regression-shuffled")):
        own, reference = records.array(variant, "predictions")[0], records.array(variant, "gd_predictions")[0]
        for one, other in zip(own, reference, strict=True):
            _add(table, network=label, seed=int(records.seeds[0]))
            table["gradient descent"].append(float(other))
            table["network's"].append(float(one))
    return table


def _draw_predictions(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    ends = [min(table["gradient descent"]), max(table["gradient descent"])]
    axes.plot(ends, ends, color="0.6", linewidth=0.9, linestyle=(0, (3, 2)), zorder=1)
    for label in ("on shuffled labels", "trained"):
        rows = [i for i, name in enumerate(table["network"]) if name == label]
        x, y = ([table[name][i] for i in rows] for name in ("gradient descent", "network's"))
        axes.plot(x, y, ".", linestyle="none", label=label)
    axes.set(xlabel="prediction of one step of gradient descent", ylabel="prediction of the network")
    axes.legend(loc="upper left")


FIGURES = (
    Figure(
        "neurons",
        "Attention is found when there are neurons enough to hold it",
        "Relative error on held-out sequences against the number of neurons: medians, and each seed as a dot. The"
        " lines mark the compressed construction and the one for attention as it stands; right: how often it succeeds.",
        "The error vanishes once the neurons suffice.",
        _sizes_data,
        _draw_sizes,
        size=(8.4, 3.6),
        scales=TRAINED,
    ),
    Figure(
        "multipliers",
        "The neurons that matter keep everything or nothing",
        "Multipliers of the largest network, each neuron weighted by its contribution to the output; mean over seeds.",
        "The multipliers of active neurons are close to zero or one.",
        _multipliers_data,
        _draw_multipliers,
        size=(6.4, 4.0),
        scales=TRAINED,
    ),
    Figure(
        "weights",
        "The weights fall into blocks",
        "Seed 0, as many neurons as the construction has, sorted by multiplier: those that keep everything are"
        " above. Left: both input matrices, rows of norm one. Right: how strongly the product of two neurons is read"
        " out, in units of the largest. Forgetting neurons see the constant 1; what is read out pairs the two kinds.",
        "The trained weights have the blocks of the construction.",
        _weights_data,
        _draw_weights,
        size=(8.4, 4.4),
        scales=TRAINED,
    ),
    Figure(
        "gates",
        "Both gates are needed",
        "Relative error on held-out sequences over training: median and range over seeds, as many neurons in all.",
        "Without one of the gates the student fails.",
        _curves_data(_gates, "relative_error"),
        _draw_errors,
        size=(7.6, 3.6),
        scales=TRAINED,
    ),
    Figure(
        "architectures",
        "Who imitates attention",
        "Relative error on held-out sequences over training: median and range over seeds, hidden sizes alike.",
        "LSTMs come close, GRUs of one layer less so.",
        _curves_data(_imitators, "relative_error"),
        _draw_errors,
        size=(7.6, 3.6),
        scales=TRAINED,
    ),
    Figure(
        "regression",
        "Regression in context: the loss of one step of gradient descent",
        "Test loss over training: mean and range over seeds.",
        "Linear attention and the gated network meet at the line of one step of gradient descent.",
        _regression_data,
        _draw_regression,
        size=(7.6, 3.6),
    ),
    Figure(
        "predictions",
        "The predictions are those of gradient descent",
        "First output of seed 0 for 200 held-out queries against one optimal step of gradient descent.",
        "All points lie on the diagonal.",
        _predictions_data,
        _draw_predictions,
        size=(4.8, 4.0),
    ),
)
