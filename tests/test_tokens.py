"""What tasks of discrete sequences share, against numpy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

import innerloop as il
from innerloop.tasks.tokens import (
    IGNORE,
    AbstractTokenTask,
    accuracy,
    certain_logits,
    cross_entropy,
    distinct_below,
    draw_bits,
    example_key,
    fraction,
    next_token,
)


def test_loss_and_accuracy_count_only_positions_with_a_target():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(50, 7)).astype(np.float32), rng.integers(-1, 7, size=50)
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    asked = [t for t in range(50) if target[t] >= 0]
    assert 0 < len(asked) < 50
    nats = np.mean([-np.log(probability[t, target[t]]) for t in asked])
    right = np.mean([logits[t].argmax() == target[t] for t in asked])
    target = jnp.asarray(target, jnp.int32)
    assert float(cross_entropy(jnp.asarray(logits), target)) == pytest.approx(nats, rel=1e-5)
    assert float(accuracy(jnp.asarray(logits), target)) == pytest.approx(right, rel=1e-6)


def test_ignored_logits_have_no_gradient():
    logits = jnp.array([[0.0, 1.0], [2.0, 0.0], [2.0, 0.0]])
    target = jnp.array([1, IGNORE, 1])
    gradient = jax.grad(cross_entropy)(logits, target)
    assert np.all(np.asarray(gradient)[1] == 0) and np.all(np.asarray(gradient)[[0, 2]] != 0)


def test_nothing_asked_costs_nothing():
    nothing = jnp.full(3, IGNORE)
    value, gradient = jax.value_and_grad(cross_entropy)(jnp.ones((3, 2)), nothing)
    assert float(value) == 0 and np.all(np.asarray(gradient) == 0)
    assert float(accuracy(jnp.ones((3, 2)), nothing)) == 0


def test_certain_logits():
    target = jnp.array([3, IGNORE, 0, 4])
    logits = certain_logits(target, 5)
    assert float(cross_entropy(logits, target)) == 0 and float(accuracy(logits, target)) == 1


def test_low_precision_logits_are_judged_in_float32():
    target = jnp.array([0, 1])
    assert cross_entropy(jnp.ones((2, 3), jnp.bfloat16), target).dtype == jnp.float32


class Coin(AbstractTokenTask):
    """Four coins, of which the last is asked for."""

    vocabulary: int = 2
    num_examples: int | None = None

    def sample(self, key, split="train"):
        coins = jax.random.bits(example_key(key, split, num_examples=self.num_examples), (64,)) % 2
        return il.tasks.Example(coins.astype(jnp.int32), coins.astype(jnp.int32))


def test_a_finite_training_set_and_fresh_held_out_splits():
    keys = jax.random.split(jax.random.key(0), 64)

    def distinct(task, split):
        inputs = jax.vmap(lambda key: task.sample(key, split).inputs)(keys)
        return len(np.unique(np.asarray(inputs), axis=0))

    assert distinct(Coin(num_examples=5), "train") == 5
    assert distinct(Coin(num_examples=5), "test") == distinct(Coin(num_examples=5), "validation") == 64
    assert distinct(Coin(), "train") == 64


def test_a_training_set_is_a_function_of_its_seed():
    def first_bits(seed, draws):
        keys = jax.random.split(jax.random.key(draws), 64)
        made = jax.vmap(lambda key: example_key(key, "train", num_examples=2, seed=seed))(keys)
        return {int(bits) for bits in jax.vmap(jax.random.bits)(made)}

    assert len(first_bits(0, 0)) == 2 and first_bits(0, 0) == first_bits(0, 1)
    assert first_bits(0, 0).isdisjoint(first_bits(1, 0))


@pytest.mark.parametrize("num_examples", [None, 100])
def test_the_battery(num_examples):
    il.testing.check_task(Coin(num_examples=num_examples), prediction=lambda example: certain_logits(example.target, 2))


def test_bits_for_several_arrays():
    a, b, c = draw_bits(jax.random.key(0), (2, 3), (), (0,))
    assert (a.shape, b.shape, c.shape) == ((2, 3), (), (0,)) and a.dtype == b.dtype == jnp.uint32
    assert len({*np.ravel(a).tolist(), int(b)}) == 7


def test_fractions_reach_both_ends_but_not_one():
    bits = jnp.array([0, 2**31, 2**32 - 1], jnp.uint32)
    assert np.asarray(fraction(bits)).tolist() == [0.0, 0.5, 1 - 2**-24]


def test_distinct_numbers_are_uniform_over_all_ordered_choices():
    bits = jax.random.bits(jax.random.key(0), (24_000, 3), jnp.uint32)
    drawn = np.asarray(jax.jit(jax.vmap(lambda bits: distinct_below(bits, 4)))(bits))
    outcomes, counts = np.unique(drawn, axis=0, return_counts=True)
    assert {tuple(row) for row in outcomes.tolist()} == set(itertools.permutations(range(4), 3))
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


def test_distinct_numbers_can_be_a_whole_permutation():
    bits = jax.random.bits(jax.random.key(1), (50, 9), jnp.uint32)
    drawn = jax.vmap(lambda bits: distinct_below(bits, 9))(bits)
    assert np.array_equal(np.sort(drawn, axis=1), np.tile(np.arange(9), (50, 1)))


def test_next_tokens_are_all_asked_in_training_only():
    tokens, asked = jnp.array([5, 6, 7, 8]), jnp.array([True, False, True, False])
    for split, target in {"train": [6, 7, 8], "test": [IGNORE, 7, IGNORE], "validation": [IGNORE, 7, IGNORE]}.items():
        example = next_token(tokens, asked, split)
        assert example.inputs.tolist() == [5, 6, 7] and example.target.tolist() == target
