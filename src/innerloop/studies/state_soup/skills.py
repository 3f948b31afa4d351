"""What `state-soup` measures of a model of key-value skills: states that answer, are found, and are mixed."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

from ...core.rng import named_key
from ...nn.language.models import LanguageModel
from ...nn.states.context import EncodedContext, compose, encode_context
from ...nn.states.mixing import mix_states
from ...nn.states.similarity import memory_vectors, similarity
from ...tasks.skills import KeyValueSkills
from .configuration import Config

WEIGHTS = tuple(i / 20 for i in range(21))
"""Weights of the second state along an interpolation."""
VIEWS = ("raw", "centred", "centred, heads normalised")
"""How states are made into vectors before they are compared."""
USED = VIEWS.index("raw")  # the paper's own
MIXTURES = (
    "no state", "first", "second", "sequential", "average", "sum", "decay", "rescaled", "first layer only",
    "second layer only", "average, tail reset", "foreign average", "foreign decay", "reversed decay",
)  # fmt: skip


class Answers(NamedTuple):
    """How a state answers each key of its skill: cross-entropy in nats, and whether the best guess is right."""

    loss: Float[Array, "*n keys"]
    right: Float[Array, "*n keys"]


def answers(model: LanguageModel, state: PyTree, skill: Int[Array, "keys"]) -> Answers:
    """Ask a state for the value of every key, each on its own."""

    def ask(key: Int[Array, ""]) -> Float[Array, "v"]:
        return model(key[None], state, form="recurrent")[0][0]

    logits = jax.vmap(ask)(jnp.arange(skill.shape[0]))
    chosen = jnp.take_along_axis(logits, skill[:, None], axis=1)[:, 0]
    right = (jnp.argmax(logits, axis=1).astype(skill.dtype) == skill).astype(logits.dtype)
    return Answers(jax.nn.logsumexp(logits, axis=1) - chosen, right)


def encode_last(model: LanguageModel, tokens: Int[Array, "t"], count: Int[Array, ""]) -> PyTree:
    """The state after the last `count` tokens: those before are another segment, so one program serves all counts."""
    first = tokens.shape[0] - count
    return model.hidden_states(tokens, resets=jnp.arange(tokens.shape[0]) == first)[1]


# ---- mixing --------------------------------------------------------------------------------------------------------


def mixtures(model: LanguageModel, first: Int[Array, "n t"], second: Int[Array, "n t"]) -> PyTree:
    """Every way to have a state of two contexts, and interpolations: states with axes `[ways, tasks, ...]`.

    The ways are `MIXTURES`, then the interpolations of both contexts along `WEIGHTS`, then those of the first with
    the second context of another task.
    """

    def encode(tokens: Int[Array, "t"]) -> EncodedContext:
        return encode_context(model, tokens)

    both = jax.vmap(encode)(jnp.concatenate([first, second]))
    one, two = (jax.tree.map(lambda leaf, part=part: jnp.split(leaf, 2)[part], both) for part in (0, 1))
    sequential = jax.vmap(encode)(jnp.concatenate([first, second], axis=1)).state
    foreign = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), two)
    layers = len(model.stack.layers)

    def mix(a: EncodedContext, b: EncodedContext, other: EncodedContext) -> list[PyTree]:
        return [
            mix_states([a, b]).state,
            mix_states([a, b], mode="sum").state,
            mix_states([a, b], mode="decay").state,
            mix_states([a, b], rescale=True).state,
            mix_states([a, b], layers=[0]).state,
            mix_states([a, b], layers=range(1, layers)).state,
            mix_states([a, b], conv="reset").state,
            mix_states([a, other]).state,
            mix_states([a, other], mode="decay").state,
            mix_states([b, a], mode="decay").state,
        ]

    def between(a: EncodedContext, b: EncodedContext) -> PyTree:
        return jax.vmap(lambda weight: mix_states([a, b], weight, mode="interpolate").state)(jnp.asarray(WEIGHTS))

    nothing = jax.tree.map(jnp.zeros_like, one.state)
    fixed = [nothing, one.state, two.state, sequential, *jax.vmap(mix)(one, two, foreign)]
    ways = jax.tree.map(lambda *leaves: jnp.stack(leaves), *fixed)
    paths = [jax.vmap(between, out_axes=1)(one, end) for end in (two, foreign)]
    return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), ways, *paths)


class Mixed(NamedTuple):
    """Answers over all keys, over those that a context has shown, and over those that none has: means over tasks."""

    loss: Float[Array, "ways"]
    accuracy: Float[Array, "ways"]
    seen_accuracy: Float[Array, "ways"]
    unseen_accuracy: Float[Array, "ways"]


class Trials(NamedTuple):
    """Pairs of contexts, the values that are asked for, which keys were shown, and which are asked."""

    first: Int[Array, "n t"]
    second: Int[Array, "n t"]
    skill: Int[Array, "n keys"]
    seen: Bool[Array, "n keys"]
    asked: Bool[Array, "n keys"]


def draw_trials(task: KeyValueSkills, key: Key[Array, ""], kind: str, count: int) -> Trials:
    """Contexts of `count` skills; `kind` is `"newest"` or one that `KeyValueSkills.contexts` knows.

    `"newest"`: the second context shows new values of the keys of the first one, and those are asked for.
    """
    name = "complementary" if kind == "newest" else kind
    found = jax.vmap(lambda one: task.contexts(one, name))(jax.random.split(key, count))
    if kind == "newest":
        skill, keys = jnp.roll(found.skill, 1, axis=0), found.first[:, ::2]
        second = jnp.stack([keys, jnp.take_along_axis(skill, keys, axis=1)], axis=2).reshape(found.first.shape)
        return Trials(found.first, second, skill, found.first_seen, found.first_seen)
    seen = found.first_seen | found.second_seen
    return Trials(found.first, found.second, found.skill, seen, jnp.ones_like(seen))


def judge_mixtures(model: LanguageModel, trials: Trials) -> Mixed:
    """Mix pairs of contexts in every way and ask for keys."""
    states = mixtures(model, trials.first, trials.second)
    judged = jax.lax.map(
        lambda way: jax.vmap(lambda state, skill: answers(model, state, skill))(way, trials.skill), states
    )

    def mean(values: Float[Array, "w n keys"], where: Bool[Array, "n keys"]) -> Float[Array, "w"]:
        weight = where.astype(values.dtype)
        return jnp.sum(values * weight[None], axis=(1, 2)) / jnp.maximum(jnp.sum(weight), 1.0)

    asked, seen = trials.asked, trials.seen
    return Mixed(
        mean(judged.loss, asked), mean(judged.right, asked), mean(judged.right, seen), mean(judged.right, ~seen)
    )


# ---- how exact composition is --------------------------------------------------------------------------------------


def composition_errors(model: LanguageModel, task: KeyValueSkills, key: Key[Array, ""], count: int) -> Array:
    """The relative error of a composed state by layer, without and with the convolutions' tails: `[2, layers]`."""
    found = jax.vmap(task.contexts)(jax.random.split(key, count))

    def errors(first: Int[Array, "t"], second: Int[Array, "t"]) -> Float[Array, "2 layers"]:
        one = encode_context(model, first)
        whole = encode_context(model, jnp.concatenate([first, second])).state
        ways = []
        for after in (None, one.state):
            composed = compose(one, encode_context(model, second, after=after)).state
            pairs = zip(memory_vectors(composed), memory_vectors(whole), strict=True)
            ways.append(jnp.stack([jnp.linalg.norm(a - b) / jnp.linalg.norm(b) for a, b in pairs]))
        return jnp.stack(ways)

    return jnp.mean(jax.vmap(errors)(found.first, found.second), axis=0)


# ---- the library ---------------------------------------------------------------------------------------------------


class Shelf(NamedTuple):
    """A library of states and few-shot states that are looked up in it, all from random pairs.

    - `skills`: `[n keys]`; `tokens`: the examples behind the states, `[n t]`; `library`: the states.
    - `kept`: what each layer keeps over the examples of a state, the mean over its heads `[layers]`.
    - `halves`: states of the first and of the second half of each skill's examples.
    - `queries`: few-shot states `[shots, n * q, ...]`; `strangers` likewise, with all but one example of other skills.
    - `owner`: the skill of each query; `seen`: the keys it has shown `[shots, n * q, keys]`.
    """

    skills: Int[Array, "n keys"]
    tokens: Int[Array, "n t"]
    library: PyTree
    kept: Float[Array, "layers"]
    halves: tuple[PyTree, PyTree]
    queries: PyTree
    strangers: PyTree
    owner: Int[Array, "m"]
    seen: Bool[Array, "s m keys"]


def make_shelf(model: LanguageModel, task: KeyValueSkills, config: Config, key: Key[Array, ""]) -> Shelf:
    """Draw skills, encode their examples, and encode few-shot queries with the same skills and new examples."""
    size, repeats, pairs = config.library_size, config.queries_per_skill, task.num_pairs

    def show(key: Key[Array, ""], skill: Int[Array, "keys"]) -> Int[Array, "t"]:
        keys = task.random_keys(key, pairs)
        return task.show(key, keys, skill[keys])

    skills = jax.vmap(task.skill)(jax.random.split(named_key(key, "skills"), size))
    tokens = jax.vmap(show)(jax.random.split(named_key(key, "library"), size), skills)
    contexts = jax.vmap(lambda one: encode_context(model, one))(tokens)
    kept = jnp.stack([jnp.mean(jnp.exp(transition)) for transition in contexts.transition])
    halves = [jax.vmap(lambda one: encode_context(model, one).state)(part) for part in jnp.split(tokens, 2, axis=1)]
    owner = jnp.repeat(jnp.arange(size), repeats)
    own = jax.vmap(show)(jax.random.split(named_key(key, "queries"), size * repeats), skills[owner])
    other = jax.vmap(show)(jax.random.split(named_key(key, "others"), size * repeats), jnp.roll(skills, 1, 0)[owner])
    # One example of the own skill, and then examples of another one.
    mixed = jnp.concatenate([own[:, -2:], other[:, 2:]], axis=1)

    def shots(sequences: Int[Array, "m t"], first: bool) -> Any:
        def one(count: Int[Array, ""]) -> PyTree:
            # The first example of a stranger is its own; it is moved to where reading begins.
            rows = jnp.roll(sequences, -2 * count, axis=1) if first else sequences
            return jax.vmap(lambda row: encode_last(model, row, 2 * count))(rows)

        return jax.lax.map(one, jnp.asarray(config.shots))

    last = jnp.arange(pairs)[None] >= pairs - jnp.asarray(config.shots)[:, None]
    shown = jax.nn.one_hot(own[:, ::2], task.num_keys, dtype=bool)
    seen = jnp.any(shown[None] & last[:, None, :, None], axis=2)
    return Shelf(
        skills, tokens, contexts.state, kept, (halves[0], halves[1]), shots(own, False), shots(mixed, True), owner, seen
    )


def layer_similarities(queries: PyTree, library: PyTree) -> Float[Array, "views places q n"]:
    """Similarities by view (`VIEWS`) and layer, the mean over layers last."""
    views = []
    for centre, heads in ((False, False), (True, False), (True, True)):
        vectors = jax.vmap(lambda state, heads=heads: memory_vectors(state, normalise_heads=heads))
        pairs = zip(vectors(queries), vectors(library), strict=True)
        layers = [similarity(query, reference, centre=centre) for query, reference in pairs]
        views.append(jnp.stack([*layers, jnp.mean(jnp.stack(layers), axis=0)]))
    return jnp.stack(views)


def retrieval(shelf: Shelf) -> dict[str, Array]:
    """How often the right skill is the most similar one, by view, layer and number of shots.

    `self_retrieval` needs the library alone: states of the first halves of the examples, looked up among those of
    the second halves. It says which layer to use before any query has come.
    """

    def hits(queries: PyTree, owner: Int[Array, "m"]) -> Float[Array, "views places"]:
        best = jnp.argmax(layer_similarities(queries, shelf.library), axis=-1)
        return jnp.mean((best == owner[None, None]).astype(jnp.float32), axis=-1)

    size = shelf.skills.shape[0]
    first, second = shelf.halves
    halves = jnp.argmax(layer_similarities(first, second), axis=-1) == jnp.arange(size)[None, None]
    shuffled = (shelf.owner + size // 2) % size  # every label is a wrong one
    return {
        "retrieval": jnp.moveaxis(jax.lax.map(lambda queries: hits(queries, shelf.owner), shelf.queries), 0, -1),
        "strangers": jnp.moveaxis(jax.lax.map(lambda queries: hits(queries, shelf.owner), shelf.strangers), 0, -1),
        "shuffled": jnp.moveaxis(jax.lax.map(lambda queries: hits(queries, shuffled), shelf.queries), 0, -1),
        "self_retrieval": jnp.mean(halves.astype(jnp.float32), axis=-1),
        "kept": shelf.kept,
    }


def chosen_layer(self_retrieval: Float[Array, "views places"]) -> Int[Array, ""]:
    """The single layer that finds the library's own states best."""
    return jnp.argmax(self_retrieval[USED, :-1])


def retrieve_and_mix(model: LanguageModel, shelf: Shelf, layer: Int[Array, ""]) -> dict[str, Array]:
    """Accuracy over all keys and over seen and unseen ones, by number of shots `[shots]`: few-shot states, the states
    that they find, and their average; and the average with a state that was not looked up."""

    def one(arguments: Any) -> dict[str, Array]:
        queries, seen = arguments
        similar = layer_similarities(queries, shelf.library)[USED]
        best = jnp.argmax(jnp.take(similar, layer, axis=0), axis=-1)
        found = jax.tree.map(lambda leaf: leaf[best], shelf.library)
        size = shelf.skills.shape[0]
        unrelated = jax.tree.map(lambda leaf: leaf[(shelf.owner + size // 2) % size], shelf.library)

        def average(a: PyTree, b: PyTree) -> PyTree:
            none = (None,) * len(model.stack.layers)
            return mix_states([EncodedContext(a, none), EncodedContext(b, none)]).state

        ways = {
            "few_shot": queries,
            "retrieved": found,
            "retrieved_mix": jax.vmap(average)(found, queries),
            "unrelated_mix": jax.vmap(average)(unrelated, queries),
            "right_mix": jax.vmap(average)(jax.tree.map(lambda leaf: leaf[shelf.owner], shelf.library), queries),
        }
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *ways.values())
        asked = shelf.skills[shelf.owner]
        right = jax.lax.map(
            lambda states: jax.vmap(lambda state, skill: answers(model, state, skill).right)(states, asked), stacked
        )
        result = dict(zip(ways, jnp.mean(right, axis=(1, 2)), strict=True))
        for name, where in (("seen", seen), ("unseen", ~seen)):
            weight = where.astype(right.dtype)
            result[f"few_shot_{name}"] = jnp.sum(right[0] * weight) / jnp.maximum(jnp.sum(weight), 1.0)
        return result

    return jax.lax.map(one, (shelf.queries, shelf.seen))


def library_answers(model: LanguageModel, shelf: Shelf) -> dict[str, Array]:
    """Accuracy of the library's own states over the keys that they have seen, and of no state over the same keys."""
    shown = jnp.any(jax.nn.one_hot(shelf.tokens[:, ::2], shelf.skills.shape[1], dtype=bool), axis=1)
    weight = shown.astype(jnp.float32)
    nothing = jax.tree.map(jnp.zeros_like, shelf.library)
    result = {}
    for name, states in (("library_seen", shelf.library), ("no_state_seen", nothing)):
        right = jax.vmap(lambda state, skill: answers(model, state, skill).right)(states, shelf.skills)
        result[name] = jnp.sum(right * weight) / jnp.sum(weight)
    return result


def stored_and_prompted(
    model: LanguageModel, shelf: Shelf, stored: PyTree
) -> tuple[Float[Array, "n v"], Float[Array, "n v"], Float[Array, "n v"]]:
    """Logits for one key per skill: going on from stored states, after the whole prompt, and from another skill's."""
    queries = jnp.arange(shelf.skills.shape[0]) % shelf.skills.shape[1]

    def go_on(state: PyTree, query: Int[Array, ""]) -> Float[Array, "v"]:
        return model(query[None], state)[0][0]

    prompted = jax.vmap(lambda tokens, query: model(jnp.append(tokens, query))[0][-1])(shelf.tokens, queries)
    other = jax.tree.map(lambda leaf: jnp.roll(leaf, 1, axis=0), stored)
    return jax.vmap(go_on)(stored, queries), prompted, jax.vmap(go_on)(other, queries)


def state_map(model: LanguageModel, task: KeyValueSkills, key: Key[Array, ""], layer: Array) -> Float[Array, "s c 2"]:
    """The two principal components of states of six skills with twenty contexts each, in one layer."""
    skills = jax.vmap(task.skill)(jax.random.split(named_key(key, "skills"), 6))

    def vectors(one: Key[Array, ""], skill: Int[Array, "keys"]) -> Float[Array, "layers d"]:
        keys = task.random_keys(one, task.num_pairs // 2)
        return jnp.stack(memory_vectors(encode_context(model, task.show(one, keys, skill[keys])).state))

    keys = jax.random.split(named_key(key, "contexts"), (6, 20))
    found = jax.vmap(lambda keys, skill: jax.vmap(lambda one: vectors(one, skill))(keys))(keys, skills)
    points = jnp.take(found, layer, axis=2).reshape(120, -1)
    points = points - jnp.mean(points, axis=0, keepdims=True)
    _, _, axes = jnp.linalg.svd(points, full_matrices=False)
    return (points @ axes[:2].T).reshape(6, 20, 2)
