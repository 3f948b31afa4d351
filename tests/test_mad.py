"""MAD and multi-query recall: each generator against its definition, read back from the tokens in plain Python."""

import dataclasses
import functools
import itertools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import innerloop as il
from innerloop.core.errors import UnknownNameError
from innerloop.tasks import mad_sweep, mad_tasks
from innerloop.tasks.tokens import IGNORE, certain_logits

SIZE: dict[str, Any] = dict(num_examples=1000)
RECALL = il.tasks.InContextRecall(vocabulary=12, length=24, **SIZE)
# Numbers as arrays, so that other values run in the same program.
NOISY = il.tasks.InContextRecall(vocabulary=12, length=24, noise_symbols=4, noise=jnp.float32(0.4), **SIZE)
SINGLE = il.tasks.InContextRecall(vocabulary=9, length=16, multi_query=False, **SIZE)
FUZZY = il.tasks.FuzzyRecall(vocabulary=9, length=40, **SIZE)
MEMORISATION = il.tasks.Memorisation(vocabulary=16, length=16, **SIZE)
COMPRESSION = il.tasks.Compression(vocabulary=8, length=8, **SIZE)
COPY = il.tasks.SelectiveCopy(vocabulary=8, length=20, num_copied=4, **SIZE)
QUERIES = il.tasks.MultiQueryRecall(vocabulary=16, length=24, num_pairs=3, **SIZE)
TASKS = {
    "recall": RECALL,
    "noisy": NOISY,
    "single": SINGLE,
    "fuzzy": FUZZY,
    "memorisation": MEMORISATION,
    "compression": COMPRESSION,
    "copy": COPY,
    "queries": QUERIES,
}


@eqx.filter_jit
def sample_all(task, keys):
    return {split: jax.vmap(functools.partial(task.sample, split=split))(keys) for split in ("train", "test")}


def draw(task, split):
    """2000 examples as lists. One compiled program for all that a test asks of a task."""
    inputs, target = sample_all(task, jax.random.split(jax.random.key(0), 2000))[split]
    return list(zip(np.asarray(inputs).tolist(), np.asarray(target).tolist(), strict=True))


def whole(inputs, target):
    """All tokens, the last target included."""
    return [*inputs, target[-1]]


@pytest.mark.parametrize(
    "name", ["noisy", pytest.param("fuzzy", marks=pytest.mark.slow), "memorisation", "compression", "copy", "queries"]
)
def test_the_battery(name):
    task = TASKS[name]
    il.testing.check_task(task, prediction=lambda example: certain_logits(example.target, task.vocabulary))


@pytest.mark.parametrize("name", TASKS)
def test_tokens_lie_in_the_vocabulary(name):
    task = TASKS[name]
    for split in ("train", "test"):
        inputs, target = (np.array(part) for part in zip(*draw(task, split), strict=True))
        assert inputs.min() >= 0 and inputs.max() == task.vocabulary - 1
        assert target.min() >= IGNORE and target.max() < task.vocabulary


# In-context recall and noisy recall


@pytest.mark.parametrize("task", [RECALL, NOISY, SINGLE], ids=["recall", "noisy", "single"])
def test_recall_asks_for_the_values_of_keys_seen_before(task):
    symbols, questions = task.num_symbols, 0
    for inputs, target in draw(task, "test"):
        tokens, seen, expected = whole(inputs, target), {}, []
        if not task.multi_query:
            assert tokens.pop(-3) == task.vocabulary - 1
        assert len(tokens) == task.length
        last = len(tokens) // 2 - 1
        for place, (key, value) in enumerate(zip(tokens[::2], tokens[1::2], strict=True)):
            if key >= symbols:
                assert value >= symbols and place != last
                expected += [IGNORE, IGNORE]
                continue
            assert key < task.num_keys <= value < symbols
            known = key in seen
            assert seen.setdefault(key, value) == value
            assert known or place != last
            asks = known and (task.multi_query or place == last)
            expected += [IGNORE, value if asks else IGNORE]
        if not task.multi_query:
            expected.insert(-2, IGNORE)
        assert target == expected[1:]
        questions += sum(t >= 0 for t in target)
    assert questions >= 2000 * (4 if task.multi_query else 1)


@pytest.mark.parametrize("name", ["recall", "noisy", "single", "fuzzy"])
def test_training_asks_for_every_next_token(name):
    for inputs, target in draw(TASKS[name], "train"):
        assert inputs[1:] == target[:-1] and min(target) >= 0


def test_as_much_noise_as_asked_for_but_never_on_the_protected_pair():
    pairs = NOISY.length // 2 - 1
    noisy = np.array([[t >= NOISY.num_symbols for t in inputs[: 2 * pairs : 2]] for inputs, _ in draw(NOISY, "test")])
    expected = 0.4 * (pairs - 1) / pairs
    interval = scipy.stats.binomtest(int(noisy.sum()), noisy.size).proportion_ci(0.999)
    assert interval.low < expected < interval.high
    nearly_all = dataclasses.replace(NOISY, noise=jnp.float32(0.999))
    clean = [sum(t < NOISY.num_keys for t in inputs[: 2 * pairs : 2]) for inputs, _ in draw(nearly_all, "test")]
    assert min(clean) == 1 and np.mean(clean) < 1.1
    place = [next(i for i, t in enumerate(inputs[::2]) if t < NOISY.num_keys) for inputs, _ in draw(nearly_all, "test")]
    assert set(place) == set(range(pairs))


def test_the_last_key_is_uniform_among_those_presented():
    ranks = []
    for inputs, _ in draw(SINGLE, "test"):
        presented = sorted(set(inputs[:-2:2]))
        if len(presented) == 3:
            ranks.append(presented.index(inputs[-1]))
    assert scipy.stats.chisquare([ranks.count(rank) for rank in range(3)]).pvalue > 1e-3


# Fuzzy recall


def parse(tokens, task):
    """Key and value motifs of a sequence, and the place of each value."""
    padding = task.vocabulary - 1
    start = next(i for i, t in enumerate(tokens) if t != padding)
    assert start >= 1 and padding not in tokens[start:]
    motifs = [[start, tokens[start]]]
    for place in range(start + 1, len(tokens)):
        if (tokens[place] < task.num_keys) == (tokens[place - 1] < task.num_keys):
            motifs[-1].append(tokens[place])
        else:
            motifs.append([place, tokens[place]])
    assert len(motifs) % 2 == 0 and motifs[0][1] < task.num_keys
    return start, [
        (tuple(key[1:]), tuple(value[1:]), value[0]) for key, value in zip(motifs[::2], motifs[1::2], strict=True)
    ]


def test_fuzzy_recall_asks_for_the_values_of_motifs_seen_before():
    questions = []
    for inputs, target in draw(FUZZY, "test"):
        tokens, seen = whole(inputs, target), {}
        expected = [IGNORE] * len(tokens)
        start, pairs = parse(tokens, FUZZY)
        for key, value, place in pairs:
            assert len(key) == len(set(key)) == 3 and len(value) == len(set(value)) <= 3
            if key in seen:
                expected[place : place + len(value)] = value
            assert seen.setdefault(key, value) == value
        assert pairs[-1][0] in {key for key, _, _ in pairs[:-1]}
        assert target == expected[1:]
        # Pairs go on until no more than 2 * 3 tokens are left besides the last pair.
        assert 2 <= start <= 7
        questions.append(len([key for key, _, _ in pairs]) - len(seen))
    assert max(questions) > 1


def test_fuzzy_training_sequences_have_motifs_of_all_sizes():
    sizes = []
    for inputs, target in {(tuple(inputs), tuple(target)) for inputs, target in draw(FUZZY, "train")}:
        _, pairs = parse(whole(inputs, target), FUZZY)
        seen = {}
        for key, value, _ in pairs:
            assert len(key) == len(set(key)) and len(value) == len(set(value))
            assert seen.setdefault(key, value) == value
        assert pairs[-1][0] in {key for key, _, _ in pairs[:-1]}
        sizes.append((len(pairs[-1][0]), len(pairs[-1][1])))
    counts = np.array([[sizes.count((k, v)) for v in (1, 2, 3)] for k in (1, 2, 3)])
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 1e-3


def test_the_place_of_the_fuzzy_pair_is_spread_over_the_sequence():
    places = []
    for inputs, target in draw(FUZZY, "train"):
        start, pairs = parse(whole(inputs, target), FUZZY)
        places.append(next(place - start - len(key) for key, _, place in pairs if key == pairs[-1][0]))
    counts = np.bincount(places)
    # Uniform but for keys that came by themselves before, and pair boundaries, which are one in three or four.
    assert len(counts) >= 26 and counts[0] > 30 and min(counts[3:24]) > 20


# Memorisation, compression, selective copying


def test_memorisation_has_one_map_for_all_sequences_and_splits():
    facts = np.asarray(MEMORISATION.facts()).tolist()
    assert len(facts) == 7 and len(set(facts)) == 7 and set(facts) <= set(range(7, 15))
    for split in ("train", "test"):
        for inputs, target in draw(MEMORISATION, split):
            assert inputs[1::2] == [15] * 8 and target[::2] == [IGNORE] * 8
            assert target[1::2] == [facts[key] for key in inputs[::2]]
    other = np.asarray(dataclasses.replace(MEMORISATION, facts_seed=1).facts()).tolist()
    assert facts != other


def test_compression_asks_for_the_sequence():
    for inputs, target in draw(COMPRESSION, "test"):
        assert inputs == target and inputs[-1] == 7 and max(inputs[:-1]) < 7


def test_selective_copying_keeps_the_order():
    before_first = []
    for inputs, target in draw(COPY, "test"):
        assert len(inputs) == len(target) == 20
        assert inputs[15:] == [7, 6, 6, 6, 6] and inputs[14] < 6
        data = [token for token in inputs[:15] if token != 6]
        assert target == [IGNORE] * 16 + data and len(data) == 4 and max(data) < 6
        before_first.append(next(i for i, token in enumerate(inputs) if token != 6))
    counts = np.array([before_first.count(k) for k in range(6)] + [sum(b > 5 for b in before_first)])
    expected = 2000 * np.array([*scipy.stats.binom.pmf(range(6), 11, 1 / 4), scipy.stats.binom.sf(5, 11, 1 / 4)])
    assert scipy.stats.chisquare(counts, expected).pvalue > 1e-3


# Multi-query recall


def test_every_key_is_asked_for_once_after_all_pairs():
    for split in ("train", "test"):
        for inputs, target in draw(QUERIES, split):
            keys, values = inputs[:6:2], inputs[1:6:2]
            assert len(set(keys)) == len(set(values)) == 3
            assert min(keys) >= 1 and max(keys) < 8 <= min(values)
            asked = [place for place, t in enumerate(target) if t >= 0]
            assert all(place >= 6 and place % 2 == 0 for place in asked)
            assert sorted(inputs[place] for place in asked) == sorted(keys)
            value_of = dict(zip(keys, values, strict=True))
            assert all(target[place] == value_of[inputs[place]] for place in asked)


def test_filler_is_no_key_unless_it_is_random():
    plain = dataclasses.replace(QUERIES, random_filler=False)
    for inputs, target in draw(plain, "test"):
        assert all((token == 0) == (t == IGNORE) for token, t in zip(inputs[6:], target[6:], strict=True))


@pytest.mark.parametrize("power", [0.01, 1.0])
def test_gaps_follow_the_power_law(power):
    task = il.tasks.MultiQueryRecall(vocabulary=16, length=14, num_pairs=1, gap_power=jnp.float32(power))
    gaps = [(next(p for p, t in enumerate(target) if t >= 0) - 2) // 2 for _, target in draw(task, "test")]
    weights = np.arange(1, 7) ** (power - 1.0)
    counts = [gaps.count(gap) for gap in range(6)]
    assert scipy.stats.chisquare(counts, 2000 * weights / weights.sum()).pvalue > 1e-3


def test_several_places_are_drawn_one_after_the_other():
    """The place of two questions out of nine, weighted and without replacement, against all ordered choices."""
    weights = np.arange(1, 10) ** -0.99
    weights /= weights.sum()
    expected = np.zeros(9)
    for a, b in itertools.permutations(range(9), 2):
        expected[[a, b]] += weights[a] * weights[b] / (1 - weights[a])
    task = il.tasks.MultiQueryRecall(vocabulary=16, length=22, num_pairs=2)
    places = np.array([[t >= 0 for t in target[4::2]] for _, target in draw(task, "test")])
    error = places.mean(0) - expected
    assert np.all(np.abs(error) < 4 * np.sqrt(expected * (1 - expected) / 2000))


# All of them


# One digit a token in base 16; a dot where nothing is asked.
GOLDEN = {
    "recall": ("290729171729564a1717171", "....9...7.9.....7.7.7.7"),
    "noisy": ("25078b35170735071717173", "..........7.5.7.7.7.7.5"),
    "single": ("2504253515043583", "...............5"),
    "fuzzy": ("8888888321532061234563106210574231721057", ".....................................574"),
    "memorisation": ("6f0f6f4f4f4f0f3f", ".b.e.b.d.d.d.e.7"),
    "compression": ("60644407", "60644407"),
    "copy": ("66266666602666176666", "................2021"),
    "queries": ("7f2d5c002653818c624d2b79", "........d.c...........f."),
}


def written(example):
    return tuple("".join(f"{token:x}" if token >= 0 else "." for token in part) for part in example)


@pytest.mark.parametrize("name", TASKS)
def test_transcripts(name):
    assert written(draw(TASKS[name], "test")[0]) == GOLDEN[name]


def test_float64_changes_no_token(x64):
    names = ("noisy", "fuzzy", "queries")
    key = jax.random.split(jax.random.key(0), 2000)[0]
    examples = jax.jit(lambda key: [TASKS[name].sample(key, "test") for name in names])(key)
    for name, example in zip(names, examples, strict=True):
        assert example.inputs.dtype == example.target.dtype == np.int32
        assert written(part.tolist() for part in example) == GOLDEN[name]


@pytest.mark.parametrize("name", TASKS)
def test_finite_training_sets(name):
    train, test = ({tuple(inputs) for inputs, _ in draw(TASKS[name], split)} for split in ("train", "test"))
    assert len(train) <= 1000 < len(test)
    assert len(train) > 800 and len(train & test) < 100


def test_the_benchmark_has_its_published_sizes():
    tasks: dict[str, Any] = mad_tasks()
    sizes = {name: (task.vocabulary, task.length, task.num_examples) for name, task in tasks.items()}
    assert sizes == {
        "recall": (16, 128, 12800),
        "noisy recall": (32, 128, 12800),
        "fuzzy recall": (16, 128, 12800),
        "memorisation": (256, 32, 256),
        "compression": (16, 32, 12800),
        "selective copy": (16, 256, 12800),
    }
    assert (tasks["noisy recall"].noise, tasks["noisy recall"].num_symbols) == (0.2, 16)
    assert {name: len(mad_sweep(name)) for name in mad_tasks()} == {
        "recall": 11,
        "noisy recall": 14,
        "fuzzy recall": 11,
        "memorisation": 6,
        "compression": 11,
        "selective copy": 13,
    }
    with pytest.raises(UnknownNameError, match="did you mean 'recall'"):
        mad_sweep("recal")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: il.tasks.InContextRecall(length=9), "length must be even and at least 4, not 9"),
        (lambda: il.tasks.InContextRecall(vocabulary=16, noise_symbols=15), "vocabulary of 16 leaves 1 symbols"),
        (lambda: il.tasks.InContextRecall(noise=0.2), "noise 0.2 needs noise_symbols"),
        (lambda: il.tasks.InContextRecall(noise=1.0, noise_symbols=2), "noise must lie in"),
        (lambda: il.tasks.FuzzyRecall(vocabulary=6), "6 ids hold 2 key tokens"),
        (lambda: il.tasks.FuzzyRecall(length=18), "length must be above"),
        (lambda: il.tasks.Memorisation(length=3), "length must be even"),
        (lambda: il.tasks.Compression(length=1), "length must be at least 2"),
        (lambda: il.tasks.SelectiveCopy(length=32, num_copied=16), "at least 2 \\* num_copied \\+ 1 = 33"),
        (lambda: il.tasks.MultiQueryRecall(vocabulary=8), "8 ids hold 3 keys, too few for 4 pairs"),
        (lambda: il.tasks.MultiQueryRecall(num_pairs=17), "between 1 and length / 4 = 16, not 17"),
        (lambda: il.tasks.MultiQueryRecall(gap_power=0.0), "gap_power must be above 0"),
    ],
)
def test_bad_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
