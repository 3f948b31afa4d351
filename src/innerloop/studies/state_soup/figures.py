"""The figures of `state-soup`: each makes a table from records and draws nothing but that table."""

from typing import Any

import numpy as np

from ...lab.report.figures import INK
from ...lab.report.plots import band, heat, line_at, pivot
from ...lab.study import Figure, Table
from . import tables
from .tables import DEEPER


def _draw_paths(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, 2)
    labels = {"loss": "cross-entropy in nats", "accuracy": "accuracy"}
    for axes, quantity in zip(panels, labels, strict=True):
        for second in dict.fromkeys(table["second state"]):
            _, weights, values = pivot(table, "seed", "weight", "value", quantity=quantity, **{"second state": second})
            band(axes, weights, values, second, spread="range")
        axes.set(xlabel="weight of the second state", ylabel=labels[quantity], ylim=(0, None))
    panels[1].set_ylim(0, 1.03)
    panels[0].legend(title="second state", loc="upper left")
    top = max(table["value"][i] for i, name in enumerate(table["quantity"]) if name == "loss")
    panels[0].set_ylim(0, 1.35 * top)


def _draw_retrieval(canvas: Any, table: Table) -> None:
    views = [view for view in dict.fromkeys(table["view"]) if view != "chance"]
    panels = canvas.subplots(1, len(views), sharey=True)
    chance = next(table["accuracy"][i] for i, view in enumerate(table["view"]) if view == "chance")
    shots = sorted(set(table["shots"]))
    for axes, view in zip(panels, views, strict=True):
        for layer in [name for name in dict.fromkeys(table["layer"]) if name != "chance"]:
            _, _, values = pivot(table, "seed", "shots", "accuracy", view=view, layer=layer)
            band(axes, shots, values, layer, spread="range", marker="o")
        line_at(axes, chance, "")
        axes.set_xscale("log", base=2)
        axes.set_xticks(shots, [str(shot) for shot in shots])
        axes.set(title=view, xlabel="examples in the query", ylim=(0, 1.03))
    panels[0].set_ylabel("right skill first")
    panels[0].legend(loc="upper left")


def _bars(axes: Any, groups: list[str], ways: list[str], values: dict[str, np.ndarray]) -> None:
    """One group of bars per way; dots are seeds."""
    width = 0.8 / len(groups)
    for number, group in enumerate(groups):
        places = np.arange(len(ways)) + (number - (len(groups) - 1) / 2) * width
        bars = axes.bar(places, values[group].mean(axis=0), width=0.92 * width, label=group)
        for row in values[group]:
            axes.plot(places, row, ".", color=bars[0].get_facecolor(), markeredgecolor="white", linestyle="none")


def _draw_choice(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    groups = list(dict.fromkeys(table["quantity"]))
    values = {group: pivot(table, "seed", "layer", "value", quantity=group)[2] for group in groups}
    layers = list(dict.fromkeys(table["layer"]))
    _bars(axes, groups, layers, values)
    axes.set_xticks(range(len(layers)), layers)
    axes.set(ylabel="share", ylim=(0, 1.35), yticks=np.arange(0, 1.01, 0.25))
    axes.legend(loc="upper right", ncols=1)


def _draw_alike(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    _, _, matrix = pivot(table, "query", "library", "similarity")
    heat(axes, matrix, label="cosine, centred", diverging=True, values=False)
    axes.set(xlabel="skill of the library", ylabel="skill of the few-shot state", xticks=[], yticks=[])


def _draw_map(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    markers = "osD^vP"
    for skill in dict.fromkeys(table["skill"]):
        points = [i for i, name in enumerate(table["skill"]) if name == skill]
        x, y = ([table[f"{axis} component"][i] for i in points] for axis in ("first", "second"))
        axes.plot(x, y, linestyle="none", marker=markers[(skill - 1) % 6], markersize=5, alpha=0.8, label=f"{skill}")
    axes.set(xlabel="first principal component", ylabel="second principal component")
    axes.legend(title="skill", loc="center left", bbox_to_anchor=(1.0, 0.5))


def _draw_mixing(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    kinds = list(dict.fromkeys(table["contexts"]))
    found = {kind: pivot(table, "seed", "way", "accuracy", contexts=kind) for kind in kinds}
    ways = found[kinds[0]][1]
    _bars(axes, kinds, ways, {kind: found[kind][2] for kind in kinds})
    axes.set_xticks(range(len(ways)), ways, rotation=35, ha="right", rotation_mode="anchor")
    axes.set(ylabel="accuracy over all keys", ylim=(0, 1.25), yticks=np.arange(0, 1.01, 0.25))
    axes.legend(loc="upper right", ncols=3)


def _draw_answers(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    shots = sorted(set(table["shots"]))
    for label in dict.fromkeys(table["curve"]):
        _, _, values = pivot(table, "seed", "shots", "accuracy", curve=label)
        band(axes, shots, values, label, spread="range", marker="o")
    axes.set_xscale("log", base=2)
    axes.set_xticks(shots, [str(shot) for shot in shots])
    axes.set(xlabel="examples in the few-shot state", ylabel="accuracy", ylim=(0, 1.03))
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))


def _draw_depth(canvas: Any, table: Table) -> None:
    models = list(dict.fromkeys(table["model"]))
    panels = np.atleast_1d(canvas.subplots(1, len(models), sharey=True))
    for axes, model in zip(panels, models, strict=True):
        layers = sorted({table["layer"][i] for i, name in enumerate(table["model"]) if name == model})
        for number, words in enumerate(dict.fromkeys(table["convolutions"])):
            _, _, errors = pivot(table, "seed", "layer", "error", model=model, convolutions=words)
            places = np.broadcast_to(np.asarray(layers) + 0.2 * (number - 0.5), errors.shape)
            marks = {"color": f"C{number}", "marker": "oD"[number], "linestyle": "none", "markersize": 6, "alpha": 0.8}
            axes.plot(places.ravel(), np.maximum(errors, 1e-9).ravel(), label=words, **marks)
        axes.set(title=model, xlabel="layer", yscale="log", xlim=(min(layers) - 0.5, max(layers) + 0.5))
        axes.set_xticks(layers)
    panels[0].set_ylabel("relative error of the state")
    panels[-1].legend(title="convolutions", loc="lower right")


def _draw_text(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, 2, sharex=True, sharey=True)
    for axes, mode in zip(panels, ("average", "decay"), strict=True):
        for partner in dict.fromkeys(table["mixed with"]):
            pairs = zip(table["change"], table["mixed with"], table["mode"], strict=True)
            changes = np.sort([change for change, name, way in pairs if name == partner and way == mode])
            better = float(np.mean(changes < 0))
            axes.plot(
                changes, np.arange(1, len(changes) + 1) / len(changes), label=f"{partner}: {100 * better:.0f}% better"
            )
        axes.vlines(0.0, 0.0, 1.0, color=INK, linewidth=0.9, linestyles="dashed")
        axes.set(title=mode, xlabel="change in bits per character", ylim=(0, 1.45), yticks=np.arange(0, 1.01, 0.25))
        axes.legend(loc="upper left")
    panels[0].set_ylabel("share of pairs")


def _draw_regression(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    layers = list(dict.fromkeys(table["layer"]))
    found = {layer: pivot(table, "seed", "way", "error", layer=layer) for layer in layers}
    ways = found[layers[0]][1]
    _bars(axes, layers, ways, {layer: found[layer][2] for layer in layers})
    names = {**tables.LABELS, "ridge": "ridge regression", "foreign sum": "sum, other map"}
    axes.set_xticks(
        range(len(ways)), [names.get(way, way) for way in ways], rotation=35, ha="right", rotation_mode="anchor"
    )
    axes.set(ylabel="squared error", yscale="log", ylim=(0.5 * min(table["error"]), 6 * max(table["error"])))
    axes.legend(loc="upper right", ncols=2)


def _draw_order(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, 2)
    for axes, label in zip(panels, dict.fromkeys(table["contexts"]), strict=True):
        _, ways, losses = pivot(table, "seed", "way", "loss", contexts=label)
        _bars(axes, ["loss"], ways, {"loss": losses})
        axes.set_xticks(range(len(ways)), ways, rotation=35, ha="right", rotation_mode="anchor")
        axes.set_title(label)
    panels[0].set_ylabel("cross-entropy in nats")


FIGURES = (
    Figure(
        "interpolation",
        "Between two states",
        "Cross-entropy and accuracy over all keys along the line between the states of two contexts that each show"
        " half of the keys: mean and range over seeds.",
        "The best point lies inside, and the path is smooth.",
        tables.paths,
        _draw_paths,
        size=(7.2, 3.4),
    ),
    Figure(
        "mixing",
        "Two contexts as one state",
        "Accuracy over all keys of each way to have a state of two contexts; dots are seeds. Complementary contexts"
        " share no key, overlapping ones draw keys with replacement, noisy ones show a wrong value one time in five.",
        "Mixed states are better than each alone.",
        tables.mixing,
        _draw_mixing,
        size=(7.6, 4.4),
    ),
    Figure(
        "retrieval",
        "Which skill is it?",
        "How often the state of a few examples is most similar to the library's state of the same skill, by layer and"
        " by how states are compared: mean and range over seeds. The dashed line is chance.",
        "Retrieval gets better with the number of examples.",
        tables.retrieval,
        _draw_retrieval,
        size=(7.8, 3.4),
    ),
    Figure(
        "choice",
        "Which layer finds skills, as the library alone tells",
        "What a layer keeps over the examples of a state, how often half of the examples find the other half, and how"
        " often few-shot states find their skill. The library's own halves choose the layer before there is a query.",
        "Not in the paper.",
        tables.choice,
        _draw_choice,
    ),
    Figure(
        "similarity",
        "Similarity of few-shot states and the library",
        "Cosine of centred states in the chosen layer, first seed; the diagonal is the right skill.",
        "The diagonal stands out.",
        tables.alike,
        _draw_alike,
        size=(5.4, 4.4),
    ),
    Figure(
        "map",
        "States of one skill lie together",
        "The first two principal components of states of six skills from twenty contexts each, in the chosen layer,"
        " first seed.",
        "States form clusters by skill.",
        tables.state_map,
        _draw_map,
        size=(6.4, 4.2),
    ),
    Figure(
        "answers",
        "Retrieval and mixing help few examples",
        "Accuracy over all keys of few-shot states, of the states they find, and of their average: mean and range over"
        " seeds.",
        "The retrieved state raises few-shot accuracy.",
        tables.answers,
        _draw_answers,
        size=(7.8, 3.6),
    ),
    Figure(
        "depth",
        "Where mixing with decay is exact",
        "Relative error of the state that is composed of two, against the state after reading both, by layer and seed."
        " With convolutions continued the first layer is exact to rounding; deeper layers are not.",
        "Not in the paper.",
        tables.depth,
        _draw_depth,
        size=(6.8, 3.6),
    ),
    Figure(
        "order",
        "Where decay matters",
        "Cross-entropy where gates forget sooner, and where the second context shows new values of the keys of the"
        " first; dots are seeds.",
        "Mixing with decay is at least as good as the average.",
        tables.order,
        _draw_order,
        size=(7.2, 3.8),
        scales=DEEPER,
    ),
    Figure(
        "text",
        "Documents of one genre and of others",
        "How the loss of what follows a passage changes when its state is mixed with that of another document; pairs"
        " of all seeds in order.",
        "Mixing documents of one class lowers the loss.",
        tables.text,
        _draw_text,
        size=(7.4, 3.8),
        scales=DEEPER,
    ),
    Figure(
        "regression",
        "Statistics that add up",
        "Squared error of linear maps learned in context; two contexts with too few examples each. Dots are seeds.",
        "Not in the paper.",
        tables.regression,
        _draw_regression,
        size=(7.2, 4.0),
        scales=DEEPER,
    ),
)
