"""MAD, regular languages and text: what is trained on, how it is scored, and what a layer leaves in the records."""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from ...core.rng import named_key
from ...lab.cells import Cells
from ...nn.language import AutoEncoder, LanguageModel, Reconstruction
from ...tasks import (
    AbstractTask,
    CharacterText,
    Compression,
    Example,
    FuzzyRecall,
    InContextRecall,
    Memorisation,
    RegularLanguages,
    SelectiveCopy,
    Split,
)
from ...tasks.tokens import IGNORE
from ...train.supervised import sample_batch
from .configuration import Config, Mad, RegBench, Text, Training
from .diagnosis import diagnose
from .layers import count_parameters, make_model, solver_of
from .training import Lessons, Sequences, as_sequences, read, train

MAD_TASKS = ("recall", "noisy recall", "fuzzy recall", "memorisation", "compression", "selective copy")
_COMPRESSION = MAD_TASKS.index("compression")


# ---- the models, as functions of a task's number -------------------------------------------------------------------


def predict(
    model: LanguageModel, tokens: Int[Array, "t"], number: Int[Array, ""], resets: Bool[Array, "t"] | None
) -> Float[Array, "t v"]:
    """The logits of a language model, whatever the task."""
    return model(tokens, resets=resets)[0]


def predict_or_reconstruct(
    coder: AutoEncoder, tokens: Int[Array, "t"], number: Int[Array, ""], resets: Bool[Array, "t"] | None
) -> Float[Array, "t v"]:
    """The same for MAD, in one of whose tasks all logits come from the last hidden state."""
    hidden = coder.model.hidden_states(tokens, resets=resets)[0][-1]
    return jax.lax.cond(
        number == _COMPRESSION,
        lambda hidden: coder.head(hidden[-1], len(tokens)),
        lambda hidden: coder.model.logits(hidden),
        hidden,
    )


# ---- the benchmarks ------------------------------------------------------------------------------------------------


def measure_mad(config: Config, cells: Cells, layer: str) -> None:
    """One model per task of MAD and seed; accuracy on the test split."""
    mad = config.mad
    learn, test = _mad_data(mad)
    vocabulary = max(32, mad.facts_vocabulary)
    make_language = make_model(layer, mad.sizes, vocabulary, mad.length)

    def make(key: Key[Array, ""]) -> AutoEncoder:
        first, second = jax.random.split(key)
        return AutoEncoder(make_language(first), Reconstruction(mad.sizes.width, vocabulary, key=second))

    lessons = Lessons(MAD_TASKS, predict_or_reconstruct, mad.training, learn)
    before, after = train(cells, lessons, make)

    def record(prefix: str, models: PyTree, **options: Any) -> None:
        right = accuracies(read(predict_or_reconstruct, models, test.inputs, **options), test)
        scores = {f"{prefix}accuracy/{name}": right[:, number] for number, name in enumerate(MAD_TASKS)}
        cells.record({**scores, f"{prefix}accuracy": right.mean(axis=1)}, step=mad.training.steps)

    _record_all(cells, record, layer, before, after, mad)


def measure_regbench(config: Config, cells: Cells, layer: str) -> None:
    """Regular languages in context: how often the likeliest next symbol is legal."""
    regbench = config.regbench
    learn, test, legal = _regbench_data(regbench)
    make = make_model(layer, regbench.sizes, regbench.num_symbols + 2, regbench.length)
    before, after = train(cells, Lessons(("languages",), predict, regbench.training, learn), make)
    asked = np.asarray(test.target)[0] != 255

    def record(prefix: str, models: PyTree, **options: Any) -> None:
        logits = read(predict, models, test.inputs, **options)[:, 0]
        best = logits.argmax(axis=-1)
        allowed = np.take_along_axis(np.broadcast_to(legal, (len(logits), *legal.shape)), best[..., None], -1)[..., 0]
        uniform = legal / np.maximum(legal.sum(-1, keepdims=True), 1)
        distance = 0.5 * np.abs(_softmax(logits) - uniform).sum(-1)
        cells.record(
            {
                f"{prefix}accuracy": allowed[:, asked].mean(axis=1),
                f"{prefix}total_variation": distance[:, asked].mean(axis=1),
            },
            step=regbench.training.steps,
        )

    _record_all(cells, record, layer, before, after, regbench)


def measure_text(config: Config, cells: Cells, layer: str) -> None:
    """Characters of real text: bits per character, at each position, and what conjugate gradients did."""
    text = config.text
    learn, test, vocabulary = _text_data(text)
    make = make_model(layer, text.sizes, vocabulary, text.length)
    before, after = train(cells, Lessons(("text",), predict, text.training, learn), make)

    def record(prefix: str, models: PyTree, **options: Any) -> None:
        bits = _bits(read(predict, models, test.inputs, **options), test)
        cells.record({f"{prefix}bits": bits.mean(axis=(1, 2))}, step=text.training.steps)
        if not prefix:
            cells.save(bits_at=bits.mean(axis=1))

    _record_all(cells, record, layer, before, after, text)
    if layer == "mesa":
        models = jax.tree.map(lambda leaf: leaf[:, 0] if eqx.is_array(leaf) else leaf, after)
        cells.save(**diagnose(models, np.asarray(test.inputs)[0], np.asarray(test.target)[0]))


def _record_all(
    cells: Cells,
    record: Callable[..., None],
    layer: str,
    before: PyTree,
    after: PyTree,
    settings: Mad | RegBench | Text,
) -> None:
    """Record the trained models; of the mesa layer also what the controls need: three ways to break it."""
    if layer == "mesa":
        solver = solver_of(settings.sizes.max_steps, settings.sizes.tolerance)
        record("", after, solver=solver)
        record("untrained/", before, solver=solver)
        record("no_steps/", after, solver=solver_of(0))
        record("forgetful/", after, solver=solver, forget=True)
    else:
        record("", after)
    count = count_parameters(after) / (len(cells.seeds) * _count_tasks(after))
    cells.record({"parameters": np.full(len(cells.seeds), count)}, step=settings.training.steps, phase="size")


def _count_tasks(models: PyTree) -> int:
    return next(leaf.shape[1] for leaf in jax.tree.leaves(models) if eqx.is_array(leaf))


# ---- data, the same for all layers and seeds -----------------------------------------------------------------------


def draw(task: AbstractTask, name: str, count: int, split: Split) -> Any:
    """Examples of a task, as arrays of NumPy."""
    batch = eqx.filter_jit(lambda key: sample_batch(task, key, count, split=split))(named_key(0, name))
    return jax.tree.map(np.asarray, batch)


def _counts(training: Training) -> tuple[tuple[Split, int], tuple[Split, int]]:
    return ("train", training.examples), ("test", training.test_examples)


def mad_tasks(mad: Mad) -> tuple[AbstractTask, ...]:
    """The six tasks at the sizes of the configuration."""
    size: dict[str, Any] = dict(vocabulary=mad.vocabulary, length=mad.length)
    return (
        InContextRecall(**size),
        InContextRecall(vocabulary=2 * mad.vocabulary, noise_symbols=mad.vocabulary, noise=0.2, length=mad.length),
        FuzzyRecall(vocabulary=mad.fuzzy_vocabulary, motif_size=mad.fuzzy_motif_size, length=mad.length),
        Memorisation(vocabulary=mad.facts_vocabulary, length=mad.length),
        Compression(**size),
        SelectiveCopy(num_copied=mad.num_copied, **size),
    )


def _padded(part: Example, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets with so many tokens at the end, at which nothing is asked, that all tasks have one length."""
    missing = ((0, 0), (0, length - part.inputs.shape[1]))
    return np.pad(part.inputs, missing), np.pad(part.target, missing, constant_values=IGNORE)


@lru_cache(maxsize=2)
def _mad_data(mad: Mad) -> tuple[Sequences, Sequences]:
    """The training set and the test set."""
    parts = []
    for split, count in _counts(mad.training):
        drawn = [draw(task, name, count, split) for name, task in zip(MAD_TASKS, mad_tasks(mad), strict=True)]
        parts.append(as_sequences([_padded(part, mad.length) for part in drawn]))
    return parts[0], parts[1]


@lru_cache(maxsize=2)
def _regbench_data(regbench: RegBench) -> tuple[Sequences, Sequences, Bool[np.ndarray, "n t v"]]:
    """The training set, the test set, and which symbols are legal in the latter."""
    task = RegularLanguages(
        regbench.num_languages,
        regbench.num_held_out,
        length=regbench.length,
        num_symbols=regbench.num_symbols,
        states=regbench.states,
        alphabet=regbench.alphabet,
        strings=regbench.strings,
        string_length=regbench.string_length,
        fresh_strings=True,
    )
    learn = draw(task, "languages", regbench.training.examples, "train")
    test = draw(task, "languages", regbench.training.test_examples, "test")
    sets = [as_sequences([(part.inputs, part.target.tokens)]) for part in (learn, test)]
    return sets[0], sets[1], test.target.legal


@lru_cache(maxsize=2)
def _text_data(text: Text) -> tuple[Sequences, Sequences, int]:
    """Windows for training and test, and the size of the alphabet."""
    make = CharacterText.brown if text.corpus == "brown" else CharacterText.king_james
    task = make(length=text.length)
    sets = []
    for split, count in _counts(text.training):
        part = task.part(split)
        starts = np.random.default_rng(0).integers(0, len(part) - text.length, count)
        if split == "test":
            starts = np.linspace(0, len(part) - text.length - 1, count).astype(int)
        windows = part[starts[:, None] + np.arange(text.length + 1)]
        sets.append(as_sequences([(windows[:, :-1], windows[:, 1:])]))
    return sets[0], sets[1], task.vocabulary


# ---- scores ----------------------------------------------------------------------------------------------------


def accuracies(logits: Float[np.ndarray, "s k n t v"], test: Sequences) -> Float[np.ndarray, "s k"]:
    """How often the largest logit is the target's, over all places of a task at which something is asked."""
    target = np.asarray(test.target)
    asked = target != 255
    right = (logits.argmax(axis=-1) == target) & asked
    return right.sum(axis=(2, 3)) / asked.sum(axis=(1, 2))


def _bits(logits: Float[np.ndarray, "s k n t v"], test: Sequences) -> Float[np.ndarray, "s n t"]:
    """Cross-entropy in bits at every place of the only task."""
    logits, target = logits[:, 0], np.asarray(test.target)[0].astype(int)
    chosen = np.take_along_axis(logits, np.broadcast_to(target, logits.shape[:-1])[..., None], -1)[..., 0]
    largest = logits.max(axis=-1)
    total = np.log(np.exp(logits - largest[..., None]).sum(axis=-1)) + largest
    return (total - chosen) / np.log(2.0)


def _softmax(logits: Float[np.ndarray, "*n v"]) -> Float[np.ndarray, "*n v"]:
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
