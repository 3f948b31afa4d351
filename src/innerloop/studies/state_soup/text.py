"""The third family of `state-soup`: states of documents, mixed with those of other documents of the same genre."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ...lab.cells import Cells
from ...nn.language.models import LanguageModel
from ...nn.states.context import EncodedContext, compose, encode_context
from ...nn.states.mixing import mix_states
from ...nn.states.similarity import memory_vectors
from ...tasks.text import CharacterText
from ...tasks.tokens import cross_entropy
from .configuration import Config
from .training import language_model, make, over_seeds, train

WAYS = (
    "no state", "own", "same genre alone", "average", "decay", "interpolate .25", "rescaled", "other genre average",
    "other genre decay", "shuffled average", "shuffled decay", "sequential",
)  # fmt: skip


class Pairs(NamedTuple):
    """Passages: of a document, what follows it, and of three other texts, the last of them shuffled characters."""

    own: Int[np.ndarray, "n t"]
    following: Int[np.ndarray, "n t"]
    same: Int[np.ndarray, "n t"]
    other: Int[np.ndarray, "n t"]
    shuffled: Int[np.ndarray, "n t"]


def corpus(length: int) -> CharacterText:
    """The Brown corpus in windows; where it is missing, the error says how it is installed."""
    return CharacterText.brown(length=length, held_out=0.1, min_count=20)


def measure_text(config: Config, cells: Cells) -> None:
    """Train a model of characters and mix what it remembers of two documents. Claim 7."""
    settings = config.text
    task = corpus(2 * settings.length)
    models = make(cells, lambda key: language_model(task.vocabulary, settings.network, key=key))
    model = train(cells, settings.training, task, models)
    pairs = [draw_pairs(task, seed, settings.length, settings.pairs) for seed in cells.seeds]
    stacked = jax.tree.map(lambda *parts: jnp.asarray(np.stack(parts), jnp.int32), *pairs)
    bits, errors = over_seeds(judge_pairs)(model, stacked)
    bits = np.asarray(bits)
    numbers = {}
    for number, way in enumerate(WAYS):
        numbers[f"bits/{way}"] = bits[:, number].mean(axis=1)
        numbers[f"better/{way}"] = (bits[:, number] < bits[:, WAYS.index("own")]).mean(axis=1)
    for layer in range(errors.shape[2]):
        for number, how in enumerate(("seam", "carried")):
            numbers[f"composition/{how}/layer {layer}"] = np.asarray(errors)[:, number, layer]
    cells.record(numbers, step=settings.training.steps)
    cells.save(bits=bits)


def draw_pairs(task: CharacterText, seed: int, length: int, count: int) -> Pairs:
    """Passages of held-out documents: for each one, another of its genre and another of another genre."""
    rng = np.random.default_rng([seed, 7])
    held = [d for split in ("validation", "test") for d in task.documents(split) if len(d.tokens) > 2 * length]
    partners = {d.name: [e for e in held if e.genre == d.genre and e.name != d.name] for d in held}
    own = [d for d in held if partners[d.name]]

    def passage(document: Any, size: int) -> Int[np.ndarray, "t"]:
        start = rng.integers(0, len(document.tokens) - size + 1)
        return document.tokens[start : start + size]

    rows = []
    for _ in range(count):
        document = own[rng.integers(len(own))]
        same = partners[document.name]
        strangers = [e for e in held if e.genre != document.genre]
        text, partner = passage(document, 2 * length), passage(same[rng.integers(len(same))], length)
        stranger = passage(strangers[rng.integers(len(strangers))], length)
        rows.append((text[:length], text[length:], partner, stranger, rng.permutation(partner)))
    return Pairs(*(np.stack(column) for column in zip(*rows, strict=True)))


def judge_pairs(model: LanguageModel, pairs: Any) -> tuple[Float[Array, "ways n"], Float[Array, "2 layers"]]:
    """Bits per character of what follows each passage, by way of mixing; errors of composition by layer."""

    def one(row: Any) -> tuple[Float[Array, "ways"], Float[Array, "2 layers"]]:
        own, same, other, shuffled = (
            encode_context(model, part) for part in (row.own, row.same, row.other, row.shuffled)
        )
        both = encode_context(model, jnp.concatenate([row.same, row.own])).state
        states = [
            jax.tree.map(jnp.zeros_like, own.state),
            own.state,
            same.state,
            mix_states([same, own]).state,
            mix_states([same, own], mode="decay").state,
            mix_states([own, same], 0.25, mode="interpolate").state,
            mix_states([same, own], rescale=True).state,
            mix_states([other, own]).state,
            mix_states([other, own], mode="decay").state,
            mix_states([shuffled, own]).state,
            mix_states([shuffled, own], mode="decay").state,
            both,
        ]
        # What convolutions remember is the end of the passage, whatever is mixed.
        tails = own.state
        states = [tuple(s._replace(tail=t.tail) for s, t in zip(state, tails, strict=True)) for state in states]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)

        def bits(state: Any) -> Float[Array, ""]:
            # The passage's last character is part of the state: what follows is predicted from the second on.
            logits = model(row.following[:-1], state)[0]
            return cross_entropy(logits, row.following[1:]) / jnp.log(2.0)

        return jax.vmap(bits)(stacked), _errors(model, row, same, both)

    found, errors = jax.lax.map(one, pairs)
    return found.T, jnp.mean(errors, axis=0)


def _errors(model: LanguageModel, row: Any, first: EncodedContext, whole: Any) -> Float[Array, "2 layers"]:
    ways = []
    for after in (None, first.state):
        composed = compose(first, encode_context(model, row.own, after=after)).state
        pairs = zip(memory_vectors(composed), memory_vectors(whole), strict=True)
        ways.append(jnp.stack([jnp.linalg.norm(a - b) / jnp.linalg.norm(b) for a, b in pairs]))
    return jnp.stack(ways)
