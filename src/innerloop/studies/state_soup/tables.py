"""The tables behind the figures of `state-soup`: long, one line per seed and point, from stored records alone."""

from typing import Any

import numpy as np

from ...lab.store import Records
from ...lab.study import Table
from .regression import WAYS as REGRESSION_WAYS
from .skills import USED, VIEWS, WEIGHTS
from .text import WAYS as TEXT_WAYS

DEEPER = ("laptop", "paper")
Columns = dict[str, list[Any]]


def _add(table: Columns, *items: Any) -> None:
    for column, item in zip(table.values(), items, strict=True):
        column.append(item)


def paths(records: Records) -> Table:
    """Losses and accuracies along interpolations."""
    table: Columns = {"quantity": [], "second state": [], "seed": [], "weight": [], "value": []}
    for quantity in ("loss", "accuracy"):
        for label, name in (("of the same skill", ""), ("of another skill", "_foreign")):
            paths = records.array("skills", f"complementary{name}_path_{quantity}")
            for seed, path in zip(records.seeds, paths, strict=True):
                for weight, value in zip(WEIGHTS, path, strict=True):
                    _add(table, quantity, label, int(seed), weight, float(value))
    return table


def retrieval(records: Records) -> Table:
    """How often the right skill is found, by view, layer and shots."""
    table: Columns = {"view": [], "layer": [], "seed": [], "shots": [], "accuracy": []}
    found = records.array("skills", "retrieval")
    count = found.shape[2] - 1
    for number, view in enumerate(VIEWS):
        for layer in range(count + 1):
            name = f"layer {layer + 1}" if layer < count else "mean of layers"
            for seed, rows in zip(records.seeds, found[:, number, layer], strict=True):
                for shot, value in zip(records.config.shots, rows, strict=True):
                    _add(table, view, name, int(seed), shot, float(value))
    for seed in records.seeds:
        for shot in records.config.shots:
            _add(table, "chance", "chance", int(seed), shot, 1 / records.config.library_size)
    return table


def choice(records: Records) -> Table:
    """What the library itself says of its layers."""
    table: Columns = {"layer": [], "quantity": [], "seed": [], "value": []}
    halves, kept = records.array("skills", "self_retrieval")[:, USED, :-1], records.array("skills", "kept")
    late = records.array("skills", "retrieval")[:, USED, :-1, -1]
    parts = {"kept over the examples": kept, "finds its own other half": halves, "finds few-shot queries": late}
    for quantity, values in parts.items():
        for seed, row in zip(records.seeds, values, strict=True):
            for layer, value in enumerate(row):
                _add(table, f"layer {layer + 1}", quantity, int(seed), float(value))
    return table


def alike(records: Records) -> Table:
    """Similarities of one few-shot state per skill to the library, first seed."""
    table: Columns = {"query": [], "library": [], "similarity": []}
    for (row, column), value in np.ndenumerate(records.array("skills", "alike")[0]):
        _add(table, row, column, float(value))
    return table


def state_map(records: Records) -> Table:
    """Principal components of states, first seed."""
    table: Columns = {"skill": [], "first component": [], "second component": []}
    for skill, points in enumerate(records.array("skills", "state_map")[0]):
        for point in points:
            _add(table, skill + 1, float(point[0]), float(point[1]))
    return table


WAYS = ("no state", "first", "second", "average", "sum", "decay", "sequential", "first layer only",
        "second layer only", "foreign average", "foreign decay")  # fmt: skip
LABELS = {
    "first": "first alone",
    "second": "second alone",
    "sequential": "reading both",
    "first layer only": "average, layer 1 only",
    "second layer only": "average, other layers only",
    "foreign average": "average, other skill",
    "foreign decay": "decay, other skill",
}
KINDS = ("complementary", "overlapping", "noisy")


def mixing(records: Records) -> Table:
    """Accuracies of every way to have a state of two contexts."""
    table: Columns = {"contexts": [], "way": [], "seed": [], "accuracy": []}
    for kind in KINDS:
        for way in WAYS:
            for seed, value in zip(records.seeds, records.final("skills", f"{kind}/{way}/accuracy"), strict=True):
                _add(table, kind, LABELS.get(way, way), int(seed), float(value))
    return table


def answers(records: Records) -> Table:
    """Accuracies of few-shot states, alone and mixed."""
    table: Columns = {"curve": [], "seed": [], "shots": [], "accuracy": []}
    names = {
        "few_shot": "few-shot state",
        "retrieved": "retrieved state",
        "retrieved_mix": "average of both",
        "unrelated_mix": "average with an unrelated state",
        "few_shot_seen": "few-shot state, seen keys",
    }
    for name, label in names.items():
        for shot in records.config.shots:
            for seed, value in zip(records.seeds, records.final("skills", f"{name}/{shot}"), strict=True):
                _add(table, label, int(seed), shot, float(value))
    return table


def depth(records: Records) -> Table:
    """Errors of composed states by layer."""
    table: Columns = {"model": [], "convolutions": [], "layer": [], "seed": [], "error": []}
    models = [("skills", "skills", records.config.skills.network.layers)]
    if "text" in records.config.variants and records.run.scale in DEEPER:
        models.append(("text", "text", records.config.text.network.layers))
    for variant, label, layers in models:
        for how, words in (("seam", "start from zeros"), ("carried", "continued")):
            for layer in range(layers):
                values = records.final(variant, f"composition/{how}/layer {layer}")
                for seed, value in zip(records.seeds, values, strict=True):
                    _add(table, label, words, layer + 1, int(seed), float(value))
    return table


def text(records: Records) -> Table:
    """Changes in bits per character by mixing."""
    table: Columns = {"mixed with": [], "mode": [], "pair": [], "change": []}
    bits = records.array("text", "bits")
    own = bits[:, TEXT_WAYS.index("own")].ravel()
    partners = {"same genre": "", "other genre": "other genre ", "shuffled characters": "shuffled "}
    for partner, prefix in partners.items():
        for mode in ("average", "decay"):
            changes = bits[:, TEXT_WAYS.index(f"{prefix}{mode}")].ravel() - own
            for number, change in enumerate(changes):
                _add(table, partner, mode, number, float(change))
    return table


def regression(records: Records) -> Table:
    """Squared errors of linear maps."""
    table: Columns = {"layer": [], "way": [], "seed": [], "error": []}
    for layer, label in (("mesa", "mesa"), ("linear", "linear attention")):
        for way in (*REGRESSION_WAYS, "ridge"):
            for seed, value in zip(records.seeds, records.final("regression", f"{layer}/{way}"), strict=True):
                _add(table, label, way, int(seed), float(value))
    return table


def order(records: Records) -> Table:
    """Cross-entropies where decay matters."""
    table: Columns = {"contexts": [], "way": [], "seed": [], "loss": []}
    rows = (("forgetful", "complementary", "gates that start lower"), ("changing", "newest", "new values of old keys"))
    for variant, kind, label in rows:
        for way in ("first", "second", "average", "sum", "decay", "reversed decay", "sequential"):
            for seed, value in zip(records.seeds, records.final(variant, f"{kind}/{way}/loss"), strict=True):
                _add(table, label, LABELS.get(way, way), int(seed), float(value))
    return table
