"""What `state-soup` trains and records: one function per kind of variant."""

import tempfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ...lab.cells import Cells
from ...nn.language.models import LanguageModel
from ...nn.states.library import StateLibrary
from ...tasks.skills import KeyValueSkills
from .configuration import Config, SkillModel
from .regression import measure_regression
from .skills import (
    MIXTURES,
    USED,
    WEIGHTS,
    chosen_layer,
    composition_errors,
    draw_trials,
    judge_mixtures,
    layer_similarities,
    library_answers,
    make_shelf,
    retrieval,
    retrieve_and_mix,
    state_map,
    stored_and_prompted,
)
from .text import measure_text
from .training import language_model, make, over_seeds, train

KINDS = ("complementary", "overlapping", "noisy")


def measure(config: Config, cells: Cells) -> None:
    """Train one variant and record what its claims read."""
    groups = {"regression": measure_regression, "text": measure_text, "skills": _skills, "selective": _skills}
    groups.get(cells.variant, _decaying)(config, cells)


def skill_task(settings: SkillModel, **changes: Any) -> KeyValueSkills:
    """The skills that a model is made for, with some settings changed."""
    task = settings.task
    return KeyValueSkills(task.keys, task.values, task.pairs, **changes)


def _skills(config: Config, cells: Cells) -> None:
    """The main model: claims 1 to 4 and 6."""
    settings = config.skills
    task, step = skill_task(settings), settings.training.steps
    selective = cells.variant == "selective"
    model = train(cells, settings.training, task, make(cells, _builder(settings, selective=selective)))
    _record_mixtures(config, settings, cells, model)
    keys = cells.keys("library")

    def library(key: Any, model: LanguageModel) -> dict[str, Any]:
        shelf = make_shelf(model, task, config, key)
        found = retrieval(shelf)
        layer = chosen_layer(found["self_retrieval"])
        mixed = retrieve_and_mix(model, shelf, layer)
        size = shelf.skills.shape[0]
        few = jax.tree.map(lambda leaf: leaf[-1].reshape(size, -1, *leaf.shape[2:])[:, 0], shelf.queries)
        alike = jnp.take(layer_similarities(few, shelf.library)[1], layer, axis=0)
        numbers = {"chosen_layer": layer.astype(jnp.float32), **library_answers(model, shelf)}
        arrays = {**found, **{f"answers/{name}": value for name, value in mixed.items()}, "alike": alike}
        return {"numbers": numbers, "arrays": arrays, "shelf": shelf}

    found = over_seeds(library)(keys, model)
    cells.record({**found["numbers"], **_by_shots(config, found["arrays"])}, step=step)
    for name, value in found["arrays"].items():
        cells.save(**{name.replace("/", "_"): value})
    _record_storage(cells, model, found["shelf"], step)
    maps = over_seeds(lambda key, model, layer: state_map(model, task, key, layer))
    layers = jnp.asarray(np.asarray(found["numbers"]["chosen_layer"]).astype(np.int32))
    cells.save(state_map=maps(cells.keys("map"), model, layers))


def _decaying(config: Config, cells: Cells) -> None:
    """Models for which decay matters: gates that start lower, or skills that change. Claim 5."""
    changing = cells.variant == "changing"
    settings = config.decaying
    task = skill_task(settings, change=config.change) if changing else skill_task(settings)
    bias = 4.0 if changing else config.forgetful_bias
    model = train(cells, settings.training, task, make(cells, _builder(settings, forget_bias=bias)))
    _record_mixtures(config, settings, cells, model, newest=changing)


def _builder(settings: SkillModel, **choices: Any) -> Any:
    vocabulary = settings.task.keys + settings.task.values
    return lambda key: language_model(vocabulary, settings.network, key=key, **choices)


def _record_mixtures(
    config: Config, settings: SkillModel, cells: Cells, model: PyTree, *, newest: bool = False
) -> None:
    """All ways of mixing two contexts, for every kind of contexts; how exact composition is."""
    count, keys = config.evaluation_tasks, cells.keys("test")
    judge, found = over_seeds(judge_mixtures), {}
    for kind in ("newest", "complementary") if newest else KINDS:
        task = skill_task(settings, noise=0.2) if kind == "noisy" else skill_task(settings)
        name = "overlapping" if kind == "noisy" else kind
        found[kind] = judge(
            model, over_seeds(lambda key, task=task, name=name: draw_trials(task, key, name, count))(keys)
        )
    task = skill_task(settings)
    exact = over_seeds(lambda key, model: composition_errors(model, task, key, min(count, 64)))
    numbers = {}
    for kind, mixed in found.items():
        for measure, values in mixed._asdict().items():
            for number, way in enumerate(MIXTURES):
                numbers[f"{kind}/{way}/{measure}"] = values[:, number]
    errors = np.asarray(exact(keys, model))
    for layer in range(errors.shape[2]):
        for number, how in enumerate(("seam", "carried")):
            numbers[f"composition/{how}/layer {layer}"] = errors[:, number, layer]
    cells.record(numbers, step=settings.training.steps)
    start, length = len(MIXTURES), len(WEIGHTS)
    for kind, mixed in found.items():
        for measure in ("loss", "accuracy"):
            values = np.asarray(getattr(mixed, measure))
            cells.save(
                **{
                    f"{kind}_path_{measure}": values[:, start : start + length],
                    f"{kind}_foreign_path_{measure}": values[:, start + length :],
                }
            )


def _by_shots(config: Config, arrays: dict[str, Any]) -> dict[str, Any]:
    """Numbers at each number of shots, in the layer that the library itself has chosen."""
    numbers = {}
    found = {name: np.asarray(arrays[name])[:, USED] for name in ("retrieval", "strangers", "shuffled")}
    chosen = np.asarray(arrays["self_retrieval"])[:, USED, :-1].argmax(axis=1)
    rows = np.arange(len(chosen))
    for number, shot in enumerate(config.shots):
        for name, table in found.items():
            numbers[f"{name}/{shot}"] = table[rows, chosen, number]
        numbers[f"best_retrieval/{shot}"] = found["retrieval"][:, :-1, number].max(axis=1)
        for name, value in arrays.items():
            if name.startswith("answers/"):
                numbers[f"{name.removeprefix('answers/')}/{shot}"] = np.asarray(value)[:, number]
    return numbers


def _record_storage(cells: Cells, models: LanguageModel, shelf: Any, step: int) -> None:
    """Put every state into a library, the library into a file, and go on from what is read back."""
    stored = []
    for number in range(len(cells.seeds)):
        states = jax.tree.map(lambda leaf, number=number: np.asarray(leaf[number]), shelf.library)
        library = StateLibrary()
        for skill in range(np.shape(shelf.skills)[1]):
            library.add(f"skill {skill}", jax.tree.map(lambda leaf, skill=skill: leaf[skill], states))
        with tempfile.TemporaryDirectory() as folder:
            path = library.save(Path(folder) / "skills.npz")
            stored.append(StateLibrary.load(path, library["skill 0"]).stacked())
    read = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *stored)
    continued, prompted, other = over_seeds(stored_and_prompted)(models, shelf, read)

    def relative(a: Any) -> np.ndarray:
        a, b = np.asarray(a, float), np.asarray(prompted, float)
        return np.sqrt(((a - b) ** 2).mean(axis=(1, 2)) / (b**2).mean(axis=(1, 2)))

    cells.record({"stored_difference": relative(continued), "other_difference": relative(other)}, step=step)
