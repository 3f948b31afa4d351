"""Regular languages in context: each sequence shows strings of one random automaton."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int8, Key, UInt32

from ..core.errors import require
from ..core.rng import named_key
from .automata import NO_EDGE, minimal_automaton, random_automaton
from .task import AbstractTask, Example, Split, split_key
from .tokens import IGNORE, accuracy, below, counted, cross_entropy, draw_bits, mean_over


class LanguageTarget(NamedTuple):
    """The next symbols, and which symbols the automaton allows next."""

    tokens: Int[Array, "t"]
    legal: Bool[Array, "t v"]


class RegularLanguages(AbstractTask):
    r"""Strings of a random automaton, from which a model is to find out what the automaton allows.

    $$s_1 \,|\, s_2 \,|\, \dots \,|\, s_n \cdot\cdot\cdot, \qquad n \sim U\{10..19\}, \quad |s_i| \sim U\{1..49\}$$

    Strings begin in state 0, and each next symbol is uniform among those that leave the current state.
    Automata have $U\{4..12\}$ states, $U\{4..18\}$ symbols out of 18, and $U\{1..3\}$ edges from each
    state, with different symbols to different other states. They are made minimal, and no two are of one
    language: held-out languages are not in the training set. The target is the next symbol; separators and
    padding are not asked for. Longer sequences are cut.

    | tokens | ids |
    |---|---|
    | symbols | $0, \dots, v - 3$ |
    | separator | $v - 2$ |
    | padding | $v - 1$ |

    A prediction is `float[t v]` logits. Metrics:

    | name | meaning, averaged over the counted positions |
    |---|---|
    | `loss` | cross-entropy in nats |
    | `accuracy` | is the largest logit a legal symbol? the accuracy of the benchmark |
    | `next_symbol_accuracy` | is it the next symbol? |
    | `total_variation` | distance of the softmax to the uniform law of the legal symbols |

    ```python
    >>> import jax, innerloop as il
    >>> task = il.tasks.RegularLanguages(num_languages=20, num_held_out=5, length=40)
    >>> example = task.sample(jax.random.key(0))
    >>> example.inputs.shape, example.target.legal.shape
    ((40,), (40, 20))

    ```

    **Arguments:**

    - `num_languages`: for training.
    - `num_held_out`: for the test split, and as many others for the validation split.
    - `length`: $t$, of inputs.
    - `num_symbols`: $v - 2$.
    - `states`, `alphabet`, `edges`, `strings`, `string_length`: the least and the largest number of each.
    - `fresh_strings`: whether a training language shows other strings each time; by default the training set
      is one sequence for each language, as in the benchmark.
    - `seed`: of automata and training sequences.

    **Reference:** Akyürek et al. (2024), arXiv 2401.12973. The official generator removes duplicates by
    object identity, so that languages may come twice, in training and held-out sets too.

    **Errors:** `ValueError` for ranges that are empty or do not fit into each other, or when there are not as
    many languages.
    """

    symbols: Int8[Array, "n s e"]
    next_states: Int8[Array, "n s e"]
    num_edges: Int8[Array, "n s"]
    num_languages: int = eqx.field(static=True)
    num_held_out: int = eqx.field(static=True)
    length: int = eqx.field(static=True)
    num_symbols: int = eqx.field(static=True)
    strings: tuple[int, int] = eqx.field(static=True)
    string_length: tuple[int, int] = eqx.field(static=True)
    fresh_strings: bool = eqx.field(static=True)
    seed: int

    def __init__(
        self,
        num_languages: int = 5000,
        num_held_out: int = 1000,
        *,
        length: int = 512,
        num_symbols: int = 18,
        states: tuple[int, int] = (4, 12),
        alphabet: tuple[int, int] = (4, 18),
        edges: int = 3,
        strings: tuple[int, int] = (10, 19),
        string_length: tuple[int, int] = (1, 49),
        fresh_strings: bool = False,
        seed: int = 0,
    ):
        for name, (low, high) in dict(states=states, alphabet=alphabet, strings=strings, length=string_length).items():
            require(1 <= low <= high, f"{name} must be a range (least, largest) of numbers above 0, not {(low, high)}")
        require(edges >= 1, f"edges must be at least 1, not {edges}")
        require(edges < states[0], f"{edges} edges to different other states need {edges + 1} states, not {states[0]}")
        require(edges <= alphabet[0], f"{edges} edges with different symbols do not fit {alphabet[0]} symbols")
        require(alphabet[1] <= num_symbols, f"alphabet reaches {alphabet[1]}, above num_symbols = {num_symbols}")
        require(states[1] <= 127 and num_symbols <= 127, "there are at most 127 states and symbols")
        require(length >= 1, f"length must be at least 1, not {length}")
        require(num_languages >= 1 and num_held_out >= 1, "there is at least one language in each split")
        tables = different_languages(
            num_languages + 2 * num_held_out,
            states=states,
            alphabet=alphabet,
            edges=edges,
            num_symbols=num_symbols,
            seed=seed,
        )
        arrays = _outgoing(tables, states[1], edges)
        self.symbols, self.next_states, self.num_edges = (jnp.asarray(array) for array in arrays)
        self.num_languages, self.num_held_out, self.length = num_languages, num_held_out, length
        self.num_symbols, self.strings, self.string_length = num_symbols, strings, string_length
        self.fresh_strings, self.seed = fresh_strings, seed

    @property
    def vocabulary(self) -> int:
        """$v$: the symbols, a separator and padding."""
        return self.num_symbols + 2

    def language(self, key: Key[Array, ""], split: Split = "train") -> Int[Array, ""]:
        """The row of the tables of automata that `sample` uses for this key."""
        start = {"train": 0, "test": self.num_languages, "validation": self.num_languages + self.num_held_out}
        number = self.num_languages if split == "train" else self.num_held_out
        key = split_key(key, split)
        return start[split] + jax.random.randint(key, (), 0, number, jnp.int32)

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """Strings of one language, and what is legal after each symbol."""
        language = self.language(key, split)
        if split == "train" and not self.fresh_strings:
            key = named_key(self.seed, "strings", language)
        else:
            key = named_key(split_key(key, split), "strings")
        edge_bits, length_bits, number_bits = draw_bits(key, (self.length + 1,), (self.strings[1],), ())

        # String i takes lengths[i] tokens and a separator; after the last one there is padding.
        low, high = self.string_length
        lengths = low + below(length_bits, high - low + 1)
        number = self.strings[0] + below(number_bits, self.strings[1] - self.strings[0] + 1)
        ends = jnp.cumsum(lengths + 1, dtype=jnp.int32) - 1
        at = jnp.arange(self.length + 1, dtype=jnp.int32)
        separator = jnp.zeros(self.length + 1, bool).at[ends].set(True, mode="drop")
        padding = at >= ends[number - 1]

        symbols, next_states, num_edges = (
            table[language].astype(jnp.int32) for table in (self.symbols, self.next_states, self.num_edges)
        )
        states, emitted = _walk(symbols, next_states, num_edges, edge_bits, separator)
        tokens = jnp.where(separator, self.num_symbols, emitted)
        tokens = jnp.where(padding, self.num_symbols + 1, tokens)
        target = jnp.where(separator | padding, IGNORE, tokens)[1:]
        legal = jnp.any(jax.nn.one_hot(symbols, self.vocabulary, dtype=bool), axis=1)[states[1:]]
        return Example(tokens[:-1], LanguageTarget(target, legal & counted(target)[:, None]))

    def loss(self, prediction: Float[Array, "t v"], example: Example) -> Float[Array, ""]:
        """Mean cross-entropy in nats over the counted positions."""
        return cross_entropy(prediction, example.target.tokens)

    def metrics(self, prediction: Float[Array, "t v"], example: Example) -> dict[str, Float[Array, ""]]:
        """`loss`, `accuracy`, `next_symbol_accuracy` and `total_variation`."""
        return {
            "loss": self.loss(prediction, example),
            "accuracy": legal_accuracy(prediction, example.target),
            "next_symbol_accuracy": accuracy(prediction, example.target.tokens),
            "total_variation": total_variation(prediction, example.target),
        }


def legal_accuracy(logits: Float[Array, "t v"], target: LanguageTarget) -> Float[Array, ""]:
    """The fraction of counted positions at which the largest logit is a legal symbol's."""
    best = jnp.argmax(logits, axis=1)
    legal = jnp.take_along_axis(target.legal, best[:, None], axis=1)[:, 0]
    return mean_over(counted(target.tokens), legal.astype(jnp.float32))


def total_variation(logits: Float[Array, "t v"], target: LanguageTarget) -> Float[Array, ""]:
    r"""$\tfrac12 \sum_v |p_v - u_v|$, averaged, between the softmax $p$ and the uniform law $u$ of legal symbols."""
    legal = target.legal.astype(logits.dtype)
    uniform = legal / jnp.maximum(jnp.sum(legal, axis=1, keepdims=True), 1)
    return mean_over(counted(target.tokens), 0.5 * jnp.sum(jnp.abs(jax.nn.softmax(logits, axis=1) - uniform), axis=1))


@jax.jit
def _walk(
    symbols: Int[Array, "s e"],
    next_states: Int[Array, "s e"],
    num_edges: Int[Array, "s"],
    bits: UInt32[Array, "n"],
    restart: Bool[Array, "n"],
) -> tuple[Int[Array, "n"], Int[Array, "n"]]:
    """States before, and symbols of, a walk along random edges that begins anew after each `restart`."""

    def advance(state, step):
        bits, ends_here = step
        edge = (bits % num_edges[state].astype(jnp.uint32)).astype(jnp.int32)
        return jnp.where(ends_here, 0, next_states[state, edge]), (state, symbols[state, edge])

    return jax.lax.scan(advance, jnp.int32(0), (bits, restart), unroll=4)[1]


def different_languages(
    number: int, *, states: tuple[int, int], alphabet: tuple[int, int], edges: int, num_symbols: int, seed: int
) -> list[np.ndarray]:
    """As many minimal automata, no two of one language; see `RegularLanguages`."""
    rng = np.random.default_rng(seed)
    found: dict[bytes, np.ndarray] = {}
    for _ in range(20 * number):
        table = minimal_automaton(
            random_automaton(
                rng,
                num_states=int(rng.integers(states[0], states[1] + 1)),
                alphabet=rng.permutation(num_symbols)[: rng.integers(alphabet[0], alphabet[1] + 1)],
                max_edges=edges,
                num_symbols=num_symbols,
            )
        )
        found.setdefault(table.tobytes(), table)
        if len(found) == number:
            return list(found.values())
    raise ValueError(
        f"found {len(found)} different languages in {20 * number} automata, not {number}; allow more states"
    )


def _outgoing(tables: list[np.ndarray], num_states: int, edges: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Automata as lists of edges, padded by repeating; a state that is not there has one edge, to itself."""
    symbols = np.zeros((len(tables), num_states, edges), np.int8)
    following = np.zeros((len(tables), num_states, edges), np.int8)
    number = np.ones((len(tables), num_states), np.int8)
    for i, table in enumerate(tables):
        for state, row in enumerate(table):
            legal = np.flatnonzero(row != NO_EDGE)
            padded = np.resize(legal, edges)
            symbols[i, state], following[i, state], number[i, state] = padded, row[padded], len(legal)
    return symbols, following, number
