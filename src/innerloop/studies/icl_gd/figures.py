"""The figures of `icl-gd`: each makes a table from records and draws nothing but that table."""

from collections.abc import Callable
from typing import Any

import numpy as np

from ...lab.report.plots import band, curve_table, heat, line_at, pivot
from ...lab.store import Records
from ...lab.study import Figure, Table
from ...tasks.regression import INPUT_LAWS
from .measure import ALPHAS, WEIGHT_SCALES

DEEPER = ("laptop", "paper")
Columns = dict[str, list[Any]]


def _together(*tables: Columns) -> Columns:
    return {name: [item for table in tables for item in table[name]] for name in tables[0]}


def _levels(records: Records, levels: dict[str, tuple[str, str]]) -> Columns:
    """Reference lines as rows of a curve table: one value per seed, at no step."""
    rows: Columns = {"curve": [], "seed": [], "step": [], "value": []}
    for label, (variant, name) in levels.items():
        for seed, level in zip(records.seeds, records.final(variant, name), strict=True):
            for column, item in zip(rows, (label, int(seed), -1, float(level)), strict=True):
                rows[column].append(item)
    return rows


def _curves(axes: Any, table: Table) -> None:
    for label in dict.fromkeys(table["curve"]):
        _, steps, values = pivot(table, "seed", "step", "value", curve=label)
        if steps == [-1]:
            line_at(axes, float(np.mean(values)), label)
        else:
            band(axes, steps, values, label, spread="range")


def _loss_curves(curves: dict[str, str], levels: dict[str, tuple[str, str]]) -> Callable[[Records], Table]:
    def data(records: Records) -> Table:
        learned = curve_table(records, curves, "loss", phase="evaluate")
        return _together(learned, _levels(records, levels))

    return data


def _draw_losses(*, logarithmic: bool = False) -> Callable[[Any, Table], None]:
    def draw(canvas: Any, table: Table) -> None:
        axes = canvas.subplots()
        _curves(axes, table)
        axes.set(xlabel="training step", ylabel="test loss", yscale="log" if logarithmic else "linear")
        axes.legend(loc="center right")

    return draw


def _alignment_data(records: Records) -> Table:
    names = {
        "cosine of sensitivities": "sensitivity_cosine",
        "difference of sensitivities": "sensitivity_difference",
        "difference of predictions": "prediction_difference",
    }
    tables = [curve_table(records, {"one-layer": label}, name, phase="evaluate") for label, name in names.items()]
    return _together(*tables)


def _draw_alignment(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    _curves(axes, table)
    line_at(axes, 1.0, "")
    axes.set(xlabel="training step", ylabel="cosine, or norm", ylim=(0, None))
    axes.legend(loc="upper right")


def _distribution_data(records: Records) -> Table:
    panels = {
        "range of inputs": ("input_range_losses", ALPHAS),
        "scale of weights": ("weight_scale_losses", WEIGHT_SCALES),
        "labels replaced by noise": ("noisy_label_losses", np.arange(records.config.task.num_context + 1)),
        "law of inputs": ("input_law_losses", np.arange(len(INPUT_LAWS))),
    }
    table: Columns = {"panel": [], "setting": [], "curve": [], "seed": [], "loss": []}
    for panel, (name, settings) in panels.items():
        losses = records.array("one-layer", name)
        for column, label in enumerate(("trained layer", "gradient descent")):
            for seed, row in zip(records.seeds, losses[..., column], strict=True):
                for setting, loss in zip(settings, row, strict=True):
                    for key, item in zip(table, (panel, float(setting), label, int(seed), float(loss)), strict=True):
                        table[key].append(item)
    return table


def _draw_distribution(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(2, 2)
    for axes, panel in zip(panels.flat, dict.fromkeys(table["panel"]), strict=True):
        for label in ("trained layer", "gradient descent"):
            _, settings, losses = pivot(table, "seed", "setting", "loss", panel=panel, curve=label)
            if panel == "law of inputs":
                offset = -0.18 if label == "trained layer" else 0.18
                axes.bar(np.asarray(settings) + offset, losses.mean(axis=0), width=0.34, label=label)
                axes.set_xticks(settings, INPUT_LAWS, fontsize=7.5)
            else:
                band(axes, settings, losses, label, spread="range")
        axes.set(title=panel, yscale="log")
    panels[0, 0].set_ylabel("test loss")
    panels[1, 0].set_ylabel("test loss")
    panels[0, 0].legend()


def _products_data(records: Records) -> Table:
    table: Columns = {"matrix": [], "row": [], "column": [], "value": []}
    found = {
        "trained": records.array("one-layer", "products"),
        "built": records.array("one-layer", "reference_products"),
    }
    for origin, arrays in found.items():
        for name, matrix in zip(("query-key", "value-output"), arrays[0], strict=True):
            for (row, column), item in np.ndenumerate(matrix):
                for key, entry in zip(table, (f"{name}, {origin}", row, column, float(item)), strict=True):
                    table[key].append(entry)
    return table


def _draw_products(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(2, 2)
    for axes, name in zip(panels.T.flat, dict.fromkeys(table["matrix"]), strict=True):
        _, _, matrix = pivot(table, "row", "column", "value", matrix=name)
        heat(axes, matrix, diverging=True, values=False)
        axes.set_title(name)
        axes.set(xticks=[], yticks=[])


def _sine_data(records: Records) -> Table:
    table: Columns = {"curve": [], "x": [], "y": []}

    def add(label: str, xs: Any, ys: Any) -> None:
        table["curve"] += [label] * len(xs)
        table["x"] += [float(x) for x in xs]
        table["y"] += [float(y) for y in ys]

    names = {"sine": "trained attention", "sine-gradient-descent": "gradient descent construction"}
    names |= {"sine-without-network": "without the network"}
    for variant, label in names.items():
        add(label, records.array(variant, "sine_queries")[0], records.array(variant, "sine_predictions")[0])
    add("data", records.array("sine", "sine_x")[0, :, 0], records.array("sine", "sine_y")[0, :, 0])
    return table


def _draw_sine(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for label in dict.fromkeys(table["curve"]):
        points = [i for i, name in enumerate(table["curve"]) if name == label]
        x, y = ([table[axis][i] for i in points] for axis in "xy")
        if label == "data":
            axes.plot(x, y, "o", linestyle="none", label="examples in the context")
        else:
            axes.plot(x, y, label=label)
    axes.set(xlabel="query input", ylabel="predicted label")
    axes.margins(y=0.25)
    axes.legend(loc="upper center", ncols=2)


def _copying_data(records: Records) -> Table:
    table: Columns = {"model": [], "share of": [], "seed": [], "share": []}
    for model, prefix in (("before training", "untrained/"), ("after training", "")):
        for part, name in (("own token", "own"), ("next token", "following"), ("all others", "others")):
            shares = records.final("interleaved", f"{prefix}{name}_share", phase="copying")
            for seed, share in zip(records.seeds, shares, strict=True):
                for key, item in zip(table, (model, part, int(seed), float(share)), strict=True):
                    table[key].append(item)
    return table


def _draw_copying(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for offset, model in ((-0.2, "before training"), (0.2, "after training")):
        _, parts, shares = pivot(table, "seed", "share of", "share", model=model)
        places = np.arange(len(parts)) + offset
        bars = axes.bar(places, shares.mean(axis=0), width=0.36, label=model)
        for row in shares:
            axes.plot(places, row, ".", color=bars[0].get_facecolor(), markeredgecolor="white", linestyle="none")
        axes.set_xticks(range(len(parts)), parts)
    axes.set(ylabel="share of the gradient norm", ylim=(0, 1))
    axes.legend()


FIGURES = (
    Figure(
        "one-layer-loss",
        "One layer learns one step of gradient descent",
        "Test loss over training: mean and range over seeds. For 10 inputs in [-1/2, 1/2] and 10 examples the best"
        " possible step has a loss of 0.2062 in closed form.",
        "The loss of the trained layer falls to the line of one step of gradient descent.",
        _loss_curves(
            {"one-layer": "trained layer", "shuffled-labels": "trained on shuffled labels"},
            {"one tuned step of gradient descent": ("one-layer", "reference_loss")},
        ),
        _draw_losses(),
    ),
    Figure(
        "alignment",
        "The trained layer and gradient descent grow alike",
        "Cosine and difference of the sensitivities to the query, and difference of the predictions, on test tasks:"
        " mean and range over seeds.",
        "The cosine goes to one, the differences go to zero.",
        _alignment_data,
        _draw_alignment,
    ),
    Figure(
        "weight-products",
        "What the layer has learned",
        "Products of weights of seed 0 (the layer depends on nothing else) beside the construction.",
        "The construction is diagonal: compare inputs, move labels.",
        _products_data,
        _draw_products,
        size=(6.4, 5.4),
    ),
    Figure(
        "out-of-distribution",
        "Where the test tasks are unlike the training tasks",
        "Test loss of the trained layer and of the same gradient step. Ranges and scales are in units of training.",
        "Both curves rise together.",
        _distribution_data,
        _draw_distribution,
        size=(7.2, 5.2),
    ),
    Figure(
        "two-layers-loss",
        "Two layers do better than two steps, as GD++ does",
        "Test loss of two layers with shared weights over training.",
        "The trained model lies below gradient descent and on GD++.",
        _loss_curves(
            {"two-layers": "two trained layers"},
            {
                "two tuned steps of gradient descent": ("two-layers", "gd_loss"),
                "two tuned steps of GD++": ("two-layers", "gd_plus_plus_loss"),
            },
        ),
        _draw_losses(),
        scales=DEEPER,
    ),
    Figure(
        "sine-loss",
        "Sine waves: gradient descent on learned features",
        "Test loss over training; the embedding and the network are trained in all of them.",
        "With a network before it, trained attention and the construction reach the same loss.",
        _loss_curves(
            {
                "sine": "trained attention",
                "sine-gradient-descent": "gradient descent construction",
                "sine-without-network": "without the network",
            },
            {"one tuned step on the raw input": ("sine", "raw_input_gd_loss")},
        ),
        _draw_losses(logarithmic=True),
        scales=DEEPER,
    ),
    Figure(
        "sine-example",
        "One sine wave",
        "Predictions for all queries from ten examples, first seed.",
        "The predictions of both coincide.",
        _sine_data,
        _draw_sine,
        scales=DEEPER,
    ),
    Figure(
        "copying",
        "The first layer copies labels to their inputs",
        "Where the first layer's output at an input token comes from; dots are seeds. The residual connection alone"
        " gives the own token a large share, so it is the next token's share that tells.",
        "After training the gradient lies on the own and the next token.",
        _copying_data,
        _draw_copying,
        scales=DEEPER,
    ),
)
