"""The figures of `mesa-optimization`: each makes a table from records and draws nothing but that table."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from ...lab.report.plots import band, curve_table, heat, line_at, pivot
from ...lab.store import Records
from ...lab.study import Figure, Table
from .claims import DEEPER
from .configuration import REGIMES
from .quantities import BOUND, depths

Columns = dict[str, list[Any]]
PROBES = (
    ("next observation", "target_probes"),
    ("preconditioned observation", "preconditioning_probes"),
    ("preconditioned observation, six steps", "six_steps_probes"),
)


def _table(rows: Iterable[tuple[Any, ...]], *names: str) -> Columns:
    columns: Columns = {name: [] for name in names}
    for row in rows:
        for name, item in zip(names, row, strict=True):
            columns[name].append(item)
    return columns


def _curve_rows(records: Records, label: str, values: np.ndarray, first: int = 1) -> Iterable[tuple[Any, ...]]:
    """Rows (curve, seed, place, value) of an array `[seeds, places]`."""
    for seed, row in zip(records.seeds, values, strict=True):
        for place, item in enumerate(row, first):
            yield label, int(seed), place, float(item)


def _bands(axes: Any, table: Table, x: str, y: str, **where: Any) -> None:
    chosen = [i for i in range(len(table[y])) if all(table[name][i] == item for name, item in where.items())]
    for label in dict.fromkeys(table["curve"][i] for i in chosen):
        _, places, values = pivot(table, "seed", x, y, curve=label, **where)
        band(axes, places, values, label, spread="range")


def _position_data(records: Records) -> Table:
    deepest = depths(records)[-1]
    last = f"linear-{deepest}"
    curves = {
        "one layer, trained": ("linear-1", "losses"),
        "one step of gradient descent": ("linear-1", "gd_losses"),
        "least squares": (last, "least_squares_losses"),
    }
    if deepest > 1:
        curves[f"{deepest} layers, trained"] = (last, "losses")
        curves[f"preconditioned descent, {deepest} steps"] = (last, "preconditioned_losses")
    rows = [row for label, source in curves.items() for row in _curve_rows(records, label, records.array(*source))]
    return _table(rows, "curve", "seed", "position", "loss")


def _draw_position(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    _bands(axes, table, "position", "loss")
    axes.set(xlabel="position in the sequence", ylabel="test loss", ylim=(0, None))
    axes.legend(loc="upper right", fontsize=8)


def _depth_data(records: Records) -> Table:
    rows: list[tuple[Any, ...]] = []
    curves = {"trained": "loss", "preconditioned descent": "preconditioned_loss"}
    for label, name in curves.items():
        for depth in depths(records):
            for seed, loss in zip(records.seeds, records.final(f"linear-{depth}", name), strict=True):
                rows.append((label, int(seed), depth, float(loss)))
    for label, source in {
        "least squares": ("mesa", "least_squares_loss"),
        "one mesa layer": ("mesa", "loss"),
    }.items():
        rows += [
            (label, int(seed), 0, float(loss)) for seed, loss in zip(records.seeds, records.final(*source), strict=True)
        ]
    return _table(rows, "curve", "seed", "depth", "loss")


def _draw_depth(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for label in dict.fromkeys(table["curve"]):
        _, places, values = pivot(table, "seed", "depth", "loss", curve=label)
        if places == [0]:
            side = "start" if label == "least squares" else "end"
            line_at(axes, float(np.mean(values)), label, side=side)
        else:
            band(axes, places, values, label, spread="range", marker="o")
            axes.set_xticks(places)
    axes.set(xlabel="layers, or steps", ylabel="test loss", ylim=(0, None))
    axes.legend()


def _probe_data(records: Records) -> Table:
    variant = f"linear-{depths(records)[-1]}"
    rows = [
        (panel, depth, position, float(error))
        for panel, name in PROBES
        for depth, row in enumerate(records.array(variant, name).mean(axis=0))
        for position, error in enumerate(row, 1)
    ]
    return _table(rows, "decoded", "depth", "position", "error")


def _draw_probes(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(len(PROBES), 1, sharex=True)
    for axes, name in zip(panels, dict.fromkeys(table["decoded"]), strict=True):
        layers, positions, errors = pivot(table, "depth", "position", "error", decoded=name)
        names = ["tokens", *(f"layer {layer}" for layer in layers[1:])]
        shown = [str(position) if position % 5 == 0 or position == 1 else "" for position in positions]
        heat(axes, errors, rows=names, columns=shown, label="error", limits=(0.0, 1.0), values=False)
        axes.set_title(f"decoding the {name}")
    panels[-1].set_xlabel("position in the sequence")


def _products_data(records: Records) -> Table:
    rows: list[tuple[Any, ...]] = []
    for label, name in (("query-key", "query_key"), ("value-output", "value_output")):
        for head, matrix in enumerate(records.array("linear-1", name)[0]):
            rows += [
                (f"{label}, head {head + 1}", row, column, float(item))
                for (row, column), item in np.ndenumerate(matrix)
            ]
    return _table(rows, "matrix", "row", "column", "value")


def _draw_products(canvas: Any, table: Table) -> None:
    names = list(dict.fromkeys(table["matrix"]))
    panels = canvas.subplots(2, len(names) // 2, squeeze=False)
    for axes, name in zip(panels.flat, names, strict=True):
        _, columns, matrix = pivot(table, "row", "column", "value", matrix=name)
        heat(axes, matrix, diverging=True, values=False)
        size = len(columns) // 4
        places = [size * (block + 0.5) - 0.5 for block in range(4)]
        labels = ("pred.", "copy", "$s_t$", "$s_{t-1}$")
        axes.set_xticks(places, labels, fontsize=8)
        axes.set_yticks(places, labels, fontsize=8)
        for edge in range(1, 4):
            axes.axhline(size * edge - 0.5, color="white", linewidth=0.6)
            axes.axvline(size * edge - 0.5, color="white", linewidth=0.6)
        axes.set_title(name)


def _binding_data(records: Records) -> Table:
    rows: list[tuple[Any, ...]] = []
    for regime in ("full", "partial"):
        for label, variant, name in (
            ("softmax", f"softmax-{regime}", "binding_probes"),
            ("hybrid", f"hybrid-{regime}", "binding_probes"),
            ("hybrid, before training", f"hybrid-{regime}", "untrained_binding_probes"),
        ):
            rows += [(regime, *row) for row in _curve_rows(records, label, records.array(variant, name), first=0)]
    return _table(rows, "observed", "curve", "seed", "back", "error")


def _draw_binding(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, 2, sharey=True)
    for axes, regime, title in zip(panels, ("full", "partial"), ("fully observed", "observed in part"), strict=True):
        for label in dict.fromkeys(table["curve"]):
            _, offsets, errors = pivot(table, "seed", "back", "error", observed=regime, curve=label)
            band(axes, offsets, errors, label, spread="range", marker="o")
        line_at(axes, BOUND, "")
        axes.set(title=title, xlabel="tokens back from the last", ylim=(0, 1.1))
    panels[0].set_ylabel("error of the probe")
    panels[1].legend(loc="lower right", fontsize=8)


def _attention_data(records: Records) -> Table:
    rows: list[tuple[Any, ...]] = []
    for regime in ("full", "partial"):
        maps = records.array(f"hybrid-{regime}", "attention")[0]  # seed 0, [heads, to, from]
        for head, matrix in enumerate(maps):
            rows += [(regime, head, to, back, float(item)) for (to, back), item in np.ndenumerate(matrix)]
    return _table(rows, "observed", "head", "reader", "read", "attention")


def _draw_attention(canvas: Any, table: Table) -> None:
    heads, image = list(dict.fromkeys(table["head"])), None
    panels = canvas.subplots(2, len(heads), sharex=True, sharey=True, squeeze=False)
    for row, regime in zip(panels, ("full", "partial"), strict=True):
        for axes, head in zip(row, heads, strict=True):
            _, _, matrix = pivot(table, "reader", "read", "attention", observed=regime, head=head)
            image = axes.imshow(matrix, cmap="cividis", vmin=0.0, vmax=1.0)
            axes.grid(False)
            axes.set_title(f"{'full' if regime == 'full' else 'in part'}, head {head + 1}", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("read token", fontsize=9)
    for axes in panels[:, 0]:
        axes.set_ylabel("reading token", fontsize=9)
    canvas.colorbar(image, ax=panels, label="attention", shrink=0.8)


def _shots_data(records: Records) -> Table:
    curves = {
        "pairs alone": "losses",
        "learned separator": "separator_losses",
        "learned prefix": "prefix_losses",
        "least squares, spurious pairs too": "spurious_losses",
        "least squares, true pairs": "clean_losses",
    }
    rows = [
        row for label, name in curves.items() for row in _curve_rows(records, label, records.array("few-shot", name))
    ]
    return _table(rows, "curve", "seed", "pair", "loss")


def _draw_shots(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for label in dict.fromkeys(table["curve"]):
        _, pairs, losses = pivot(table, "seed", "pair", "loss", curve=label)
        dashed = {"linestyle": "--"} if label.startswith("least") else {}
        band(axes, pairs, losses, label, spread="range", **dashed)
    axes.set(xlabel="pair", ylabel="test loss of its label", ylim=(0, None))
    axes.legend(fontsize=8)


def _scaling_data(records: Records) -> Table:
    rows: list[tuple[Any, ...]] = []
    for label, name in (("least squares", "least_squares_losses"), ("kernel regression", "kernel_regression_losses")):
        for seed, losses in zip(records.seeds, records.array("predictors", name), strict=True):
            rows += [
                (label, int(seed), size, float(loss))
                for size, loss in zip(records.config.scaling_sizes, losses, strict=True)
            ]
    return _table(rows, "curve", "seed", "size", "loss")


def _draw_scaling(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for label in dict.fromkeys(table["curve"]):
        _, sizes, losses = pivot(table, "seed", "size", "loss", curve=label)
        band(axes, sizes, losses, label, spread="range", marker="o")
    axes.set(xlabel="size of an observation", ylabel="test loss (1: predicting 0)", ylim=(0, None))
    axes.legend()


def _observed_data(records: Records) -> Table:
    table: Columns = {"system": [], "curve": [], "seed": [], "step": [], "value": []}
    for regime in REGIMES:
        variants = {f"softmax-{regime}": "softmax, deep", f"hybrid-{regime}": "hybrid, two layers"}
        if regime == "full":
            variants["softmax-shallow"] = "softmax, two layers"
        part = curve_table(records, variants, "loss", phase="evaluate")
        level = records.final(f"hybrid-{regime}", "least_squares_loss")
        for seed, loss in zip(records.seeds, level, strict=True):
            for name, item in zip(
                ("curve", "seed", "step", "value"), ("least squares", int(seed), -1, loss), strict=True
            ):
                part[name].append(item)
        for name, items in part.items():
            table[name] += items
        table["system"] += [regime] * len(part["value"])
    return table


def _draw_observed(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, 3)
    titles = ("fully observed", "observed in part", "nonlinear")
    for axes, regime, title in zip(panels, REGIMES, titles, strict=True):
        for label in dict.fromkeys(table["curve"]):
            _, steps, values = pivot(table, "seed", "step", "value", system=regime, curve=label)
            if steps == [-1]:
                line_at(axes, float(np.mean(values)), label, side="start")
            elif steps:
                band(axes, steps, values, label, spread="range")
        axes.set(title=title, xlabel="training step")
        axes.ticklabel_format(axis="x", style="sci", scilimits=(0, 3))
    panels[0].set_ylabel("test loss")
    panels[0].legend(fontsize=8)


FIGURES = (
    Figure(
        "loss-by-position",
        "The longer the context, the better the prediction",
        "Test loss at each position of a sequence: mean and range over seeds. All models and comparators are clipped"
        " alike.",
        "One trained layer lies on one step of gradient descent.",
        _position_data,
        _draw_position,
    ),
    Figure(
        "loss-by-depth",
        "Layers precondition before they descend",
        "Test loss of trained linear self-attention, and of tuned preconditioned gradient descent with as many steps;"
        " dots are means over seeds.",
        "Both fall together towards least squares; one mesa layer is there at once.",
        _depth_data,
        _draw_depth,
        scales=DEEPER,
    ),
    Figure(
        "probes",
        "What can be decoded after each layer",
        "Normalised error of linear probes, one for each layer and position, on sequences they were not fitted to:"
        " deepest model, mean over seeds. 1 is nothing. The preconditioned observation is solved for exactly, or"
        " approximated by six tuned steps.",
        "The error falls with depth and with the length of the context.",
        _probe_data,
        _draw_probes,
        size=(6.4, 5.6),
        scales=DEEPER,
    ),
    Figure(
        "weight-products",
        "What one layer has learned",
        "Products of weights of seed 0; the layer depends on nothing else. A step of gradient descent compares copy or"
        " observation with the observation before, and moves the observation to the prediction.",
        "Blocks are multiples of the identity.",
        _products_data,
        _draw_products,
        size=(6.4, 5.4),
    ),
    Figure(
        "token-binding",
        "The first layer binds neighbouring observations together",
        "Normalised error of decoding earlier observations from the last token after the first layer; the line is what"
        " counts as found.",
        "Near 0 for the last two observations, and for more where the system is observed in part.",
        _binding_data,
        _draw_binding,
        scales=DEEPER,
    ),
    Figure(
        "attention",
        "Where the first layer looks",
        "Mean attention of the hybrid's first layer, seed 0.",
        "Most mass lies on the present and the previous token.",
        _attention_data,
        _draw_attention,
        size=(7.2, 4.4),
        scales=DEEPER,
    ),
    Figure(
        "few-shot",
        "Few-shot regression with a model of sequences",
        "Test loss of each label, given the pairs before it: mean and range over seeds.",
        "An early ascent, which a learned separator removes; least squares with spurious pairs has it too.",
        _shots_data,
        _draw_shots,
        scales=DEEPER,
    ),
    Figure(
        "scaling",
        "Least squares does not mind larger systems, kernel regression does",
        "Test loss in units of that of predicting zero, without noise and with four times as many observations as"
        " coordinates; ridge and sharpness are the best at each size.",
        "Least squares is level, softmax kernel regression rises.",
        _scaling_data,
        _draw_scaling,
    ),
    Figure(
        "observed-loss",
        "A softmax layer and a mesa layer against a deep softmax model",
        "Test loss over training on three kinds of systems, equal steps.",
        "The hybrid reaches the loss of the deep softmax model or a lower one.",
        _observed_data,
        _draw_observed,
        size=(8.6, 3.4),
        scales=DEEPER,
    ),
)
