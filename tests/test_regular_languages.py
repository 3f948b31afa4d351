"""Regular languages in context and parity: automata, strings and legality, recomputed in plain Python."""

import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

import innerloop as il
from innerloop.tasks.automata import NO_EDGE, minimal_automaton, random_automaton
from innerloop.tasks.regular_languages import different_languages
from innerloop.tasks.tokens import IGNORE, certain_logits

SIZES: dict[str, Any] = dict(states=(4, 6), alphabet=(4, 5), edges=3, num_symbols=6)
STRINGS: dict[str, Any] = dict(length=60, strings=(3, 5), string_length=(1, 9))
TASK = il.tasks.RegularLanguages(30, 10, **STRINGS, **SIZES)
FRESH = il.tasks.RegularLanguages(30, 10, fresh_strings=True, **STRINGS, **SIZES)
SEPARATOR, PADDING = 6, 7


@eqx.filter_jit
def sample_all(task, keys):
    both = {}
    for split in ("train", "test", "validation"):
        both[split] = jax.vmap(lambda key, split=split: (task.language(key, split), task.sample(key, split)))(keys)
    return both


def draw(task, split):
    language, example = sample_all(task, jax.random.split(jax.random.key(0), 400))[split]
    parts = (language, example.inputs, example.target.tokens, example.target.legal)
    return list(zip(*(np.asarray(part).tolist() for part in parts), strict=True))


def edges_of(task, language):
    """State -> symbol -> state, from the tables of the task."""
    symbols, following, number = (
        np.asarray(table[language]) for table in (task.symbols, task.next_states, task.num_edges)
    )
    return [{int(symbols[s, e]): int(following[s, e]) for e in range(number[s])} for s in range(len(number))]


# Automata


def words(table, state, depth):
    """All legal words from a state up to a length."""
    if depth == 0:
        return {()}
    found = {()}
    for symbol in np.flatnonzero(table[state] != NO_EDGE).tolist():
        found |= {(symbol, *word) for word in words(table, table[state, symbol], depth - 1)}
    return found


def table_of(*rows):
    table = np.full((len(rows), 3), NO_EDGE, np.int8)
    for state, row in enumerate(rows):
        for symbol, to in row.items():
            table[state, symbol] = to
    return table


def test_a_minimal_automaton_made_by_hand():
    # States 1 and 2 do the same, 4 is never reached, and 3 does something else than 1: it allows symbol 0.
    table = table_of({0: 2, 1: 1}, {2: 3}, {2: 3}, {0: 0}, {0: 3})
    assert np.array_equal(minimal_automaton(table), table_of({0: 1, 1: 1}, {2: 2}, {0: 0}))


def test_states_that_differ_only_after_several_symbols_are_kept_apart():
    # A chain of symbol 0 that ends, from 3, with symbol 1: no state equals another.
    table = table_of({0: 1}, {0: 2}, {0: 3}, {1: 0})
    assert np.array_equal(minimal_automaton(table), table)
    # The same, but going round: all states are one.
    assert np.array_equal(minimal_automaton(table_of({0: 1}, {0: 2}, {0: 3}, {0: 0})), table_of({0: 0}))


def test_minimal_automata_against_equality_of_languages():
    rng = np.random.default_rng(0)
    smaller = 0
    for _ in range(60):
        table = random_automaton(rng, num_states=5, alphabet=np.arange(3), max_edges=2, num_symbols=3)
        least = minimal_automaton(table)
        assert words(least, 0, 6) == words(table, 0, 6)
        languages = [frozenset(words(least, state, 5)) for state in range(len(least))]
        assert len(set(languages)) == len(languages)
        reached, queue = {0}, [0]
        for state in queue:
            new = set(table[state][table[state] != NO_EDGE].tolist()) - reached
            reached |= new
            queue += new
        assert len(least) == len({frozenset(words(table, state, 5)) for state in reached})
        smaller += len(least) < 5
        order = np.array([0, *(1 + rng.permutation(4))])  # renamed states, the first one kept
        renamed = np.where(table == NO_EDGE, NO_EDGE, order[table]).astype(np.int8)[np.argsort(order)]
        assert np.array_equal(minimal_automaton(renamed), least)
    assert 5 < smaller < 55


def test_random_automata_keep_their_limits():
    rng = np.random.default_rng(1)
    numbers = []
    for _ in range(500):
        table = random_automaton(rng, num_states=5, alphabet=np.array([1, 3, 4]), max_edges=3, num_symbols=6)
        assert table.shape == (5, 6) and np.all(table[:, [0, 2, 5]] == NO_EDGE)
        for state, row in enumerate(table):
            to = row[row != NO_EDGE].tolist()
            assert len(to) == len(set(to)) and state not in to and max(to) < 5
            numbers.append(len(to))
    assert scipy.stats.chisquare([numbers.count(n) for n in (1, 2, 3)]).pvalue > 1e-3


def test_no_language_comes_twice():
    tables = different_languages(300, **SIZES, seed=0)
    assert len({table.tobytes() for table in tables}) == 300
    longer = {tuple(sorted(words(table, 0, 4))) for table in tables[:40]}
    assert len(longer) >= 39  # two may differ in longer words only
    with pytest.raises(ValueError, match="found 2 different languages in 10000 automata, not 500; allow more states"):
        different_languages(500, states=(2, 2), alphabet=(1, 1), edges=1, num_symbols=2, seed=0)


def test_splits_have_languages_of_their_own():
    used = {split: {language for language, *_ in draw(TASK, split)} for split in ("train", "test", "validation")}
    assert used == {"train": set(range(30)), "test": set(range(30, 40)), "validation": set(range(40, 50))}
    assert len({str(edges_of(TASK, language)) for language in range(50)}) == 50


# Strings


def test_strings_and_legality_against_a_walk():
    lengths, numbers = [], []
    for split in ("train", "test", "validation"):
        for language, inputs, target, legal in draw(TASK, split):
            edges, state, strings = edges_of(TASK, language), 0, [0]
            tokens = [*inputs, target[-1] if target[-1] >= 0 else PADDING]
            for place, token in enumerate(tokens):
                allowed = sorted(edges[state])
                if token in (SEPARATOR, PADDING):
                    if place:
                        assert target[place - 1] == IGNORE and not any(legal[place - 1])
                    state = 0
                    if token == SEPARATOR:
                        strings.append(0)
                    continue
                assert PADDING not in tokens[:place] and token in allowed
                if place:
                    assert target[place - 1] == token
                    assert [symbol for symbol, is_legal in enumerate(legal[place - 1]) if is_legal] == allowed
                state = edges[state][token]
                strings[-1] += 1
            if split != "train":
                lengths += strings
                numbers.append(len(strings))
    assert set(lengths) == set(range(1, 10)) and set(numbers) == {3, 4, 5}
    assert scipy.stats.chisquare([lengths.count(n) for n in range(1, 10)]).pvalue > 1e-3
    assert scipy.stats.chisquare([numbers.count(n) for n in (3, 4, 5)]).pvalue > 1e-3


def test_next_symbols_are_uniform():
    chosen = {2: [], 3: []}
    for language, inputs, target, legal in draw(TASK, "test"):
        del language, inputs
        for token, row in zip(target, legal, strict=True):
            allowed = [symbol for symbol, is_legal in enumerate(row) if is_legal]
            if len(allowed) > 1:
                chosen[len(allowed)].append(allowed.index(token))
    for number, places in chosen.items():
        assert len(places) > 500
        assert scipy.stats.chisquare([places.count(place) for place in range(number)]).pvalue > 1e-3


def test_the_training_set_is_one_sequence_a_language_unless_strings_are_fresh():
    assert len({tuple(inputs) for _, inputs, _, _ in draw(TASK, "train")}) == 30
    assert len({tuple(inputs) for _, inputs, _, _ in draw(TASK, "test")}) > 390
    assert len({tuple(inputs) for _, inputs, _, _ in draw(FRESH, "train")}) > 390


def test_long_sequences_are_cut():
    short = il.tasks.RegularLanguages(4, 1, length=10, strings=(3, 3), string_length=(9, 9), **SIZES)
    inputs, target = short.sample(jax.random.key(0))
    assert inputs.shape == target.tokens.shape == (10,) and target.legal.shape == (10, 8)
    assert inputs[9] == SEPARATOR and target.tokens[8] == IGNORE and PADDING not in inputs.tolist()


def test_metrics_against_their_definitions():
    _, example = sample_all(TASK, jax.random.split(jax.random.key(0), 400))["test"]
    example = jax.tree.map(lambda leaf: leaf[0], example)
    logits = np.random.default_rng(0).normal(size=(60, 8)).astype(np.float32) * 2
    softmax = scipy.special.softmax(logits.astype(np.float64), axis=1)
    tokens, legal = (np.asarray(part) for part in example.target)
    asked = np.flatnonzero(tokens >= 0)
    expected = {
        "loss": np.mean([-np.log(softmax[t, tokens[t]]) for t in asked]),
        "accuracy": np.mean([legal[t, logits[t].argmax()] for t in asked]),
        "next_symbol_accuracy": np.mean([logits[t].argmax() == tokens[t] for t in asked]),
        "total_variation": np.mean([np.abs(softmax[t] - legal[t] / legal[t].sum()).sum() / 2 for t in asked]),
    }
    metrics = TASK.metrics(jnp.asarray(logits), example)
    assert {name: float(value) for name, value in metrics.items()} == pytest.approx(expected, rel=1e-5)
    assert 0 < expected["accuracy"] < 1


def test_the_law_itself_is_legal_everywhere():
    _, example = sample_all(TASK, jax.random.split(jax.random.key(0), 400))["test"]
    example = jax.tree.map(lambda leaf: leaf[0], example)
    metrics = TASK.metrics(jnp.where(example.target.legal, 0.0, -1e9), example)
    assert float(metrics["accuracy"]) == 1 and float(metrics["total_variation"]) < 1e-6


def test_transcript():
    _, inputs, target, legal = draw(TASK, "test")[0]
    assert (
        "".join("abcdef|."[token] for token in inputs) == "aeeafdea|ad|a..............................................."
    )
    assert (
        "".join(" " if token < 0 else "abcdef|."[token] for token in target)
        == "eeafdea ad a                                                "
    )
    assert ["".join("abcdef"[s] for s in range(6) if row[s]) for row in legal[:6]] == [
        "def",
        "e",
        "a",
        "def",
        "adf",
        "e",
    ]


def test_the_battery():
    # With fresh strings: two keys may well choose the same of thirty training sequences.
    il.testing.check_task(FRESH, prediction=lambda example: certain_logits(example.target.tokens, FRESH.vocabulary))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(states=(5, 4)), "states must be a range"),
        (dict(states=(3, 4)), "3 edges to different other states need 4 states, not 3"),
        (dict(alphabet=(2, 6)), "3 edges with different symbols do not fit 2 symbols"),
        (dict(alphabet=(4, 7)), "alphabet reaches 7, above num_symbols = 6"),
        (dict(string_length=(0, 3)), "length must be a range"),
        (dict(length=0), "length must be at least 1"),
    ],
)
def test_bad_sizes_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        il.tasks.RegularLanguages(4, 1, **{**SIZES, **options})


# Parity


@pytest.mark.parametrize(
    "task", [il.tasks.Parity(length=9), il.tasks.Parity(length=9, min_length=3, only_last=True)], ids=["all", "last"]
)
def test_parity(task):
    lengths, keys = [], jax.random.split(jax.random.key(0), 500)
    inputs, target = jax.jit(lambda keys: jax.vmap(task.sample)(keys))(keys)
    for bits, parities in zip(np.asarray(inputs).tolist(), np.asarray(target).tolist(), strict=True):
        length = bits.index(2) if 2 in bits else 9
        assert set(bits[:length]) <= {0, 1} and set(bits[length:]) <= {2}
        expected = [parity % 2 for parity in itertools.accumulate(bits[:length])]
        if task.only_last:
            expected[:-1] = [IGNORE] * (length - 1)
        assert parities == expected + [IGNORE] * (9 - length)
        lengths.append(length)
    assert set(lengths) == set(range(task.min_length or 9, 10))
    il.testing.check_task(task, prediction=lambda example: certain_logits(example.target, 3))


def test_parity_lengths_are_refused():
    with pytest.raises(ValueError, match="min_length must lie between 1 and length = 4, not 5"):
        il.tasks.Parity(length=4, min_length=5)
