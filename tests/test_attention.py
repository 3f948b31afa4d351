"""Linear and softmax attention: against loops, in all forms, as memories, and what they refuse."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from innerloop.nn import LinearSelfAttention, Projections, SoftmaxSelfAttention
from innerloop.nn.attention.softmax_attention import masked_softmax
from innerloop.nn.sequence import FORMS
from innerloop.testing import check_sequence_layer
from oracles import attention as oracle

WIDTH = 5


def projections(use_bias=False, seed=0, num_heads=2):
    drawn = Projections.random(WIDTH, num_heads, 3, 4, output_width=6, use_bias=use_bias, key=jax.random.key(seed))
    # Biases start at zero, where a forgotten one would not be seen.
    names = [name for name in ("query_bias", "key_bias", "value_bias", "output_bias") if use_bias]
    biases = [jax.random.normal(jax.random.key(7), getattr(drawn, name).shape) for name in names]
    return eqx.tree_at(lambda p: [getattr(p, name) for name in names], drawn, biases)


LAYERS = {
    "linear": lambda: LinearSelfAttention(projections(), chunk_size=4),
    "linear, biases, learned scale": lambda: LinearSelfAttention(
        projections(True), scale=jnp.asarray(0.3, float), chunk_size=5
    ),
    "softmax": lambda: SoftmaxSelfAttention(projections(), capacity=32, chunk_size=4),
    "softmax, biases": lambda: SoftmaxSelfAttention(projections(True), capacity=32, scale=0.4, chunk_size=5),
    "mixture": lambda: SoftmaxSelfAttention(projections(), capacity=32, mix=jnp.asarray(0.7, float), chunk_size=4),
}
SCORES = {
    "linear": oracle.linear(1.0),
    "linear, biases, learned scale": oracle.linear(0.3),
    "softmax": oracle.softmax(3**-0.5),
    "softmax, biases": oracle.softmax(0.4),
    "mixture": oracle.mixture(3**-0.5, 0.7),
}
every_layer = pytest.mark.parametrize("name", LAYERS)


def tokens(length, seed=0):
    return jnp.asarray(np.random.default_rng(seed).standard_normal((length, WIDTH)), float)


def weights(layer):
    p = layer.projections
    fields = {name: getattr(p, name) for name in p.__dataclass_fields__}
    return {name: np.asarray(value, np.float64) for name, value in fields.items() if value is not None}


@pytest.mark.parametrize("name", ["linear, biases, learned scale", "softmax", "mixture"])
def test_battery(name):
    check_sequence_layer(LAYERS[name](), width=WIDTH)


@pytest.mark.parametrize("name", ["linear", "softmax, biases"])
def test_battery_in_float64(name, x64):
    check_sequence_layer(LAYERS[name](), width=WIDTH)


@every_layer
def test_causal_forms_are_the_loops(name, x64):
    layer, xs = LAYERS[name](), tokens(11)
    wanted = oracle.causal(weights(layer), np.asarray(xs), score=SCORES[name])
    for form in FORMS:
        np.testing.assert_allclose(layer(xs, form=form)[0], wanted, atol=1e-12)


@every_layer
@pytest.mark.parametrize("readers", [1, 2, 11])
def test_attend_is_the_loops(name, readers, x64):
    layer, context, xs = LAYERS[name](), tokens(7), tokens(readers, seed=1)
    wanted = oracle.attend(weights(layer), np.asarray(context), np.asarray(xs), score=SCORES[name])
    np.testing.assert_allclose(layer.attend(context, xs), wanted, atol=1e-12)


@every_layer
def test_gradients_are_finite_differences_of_the_loops(name, x64):
    layer, context, xs = LAYERS[name](), tokens(4), tokens(2, seed=1)

    def loop_loss(weights):
        return np.sum(np.sin(oracle.attend(weights, np.asarray(context), np.asarray(xs), score=SCORES[name])))

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(layer):
        return jnp.sum(jnp.sin(layer.attend(context, xs)))

    gradients, start = weights(gradient(layer)), weights(layer)
    assert set(gradients) == set(start)
    for leaf, value in start.items():
        direction = np.random.default_rng(1).standard_normal(value.shape)
        ends = [loop_loss(start | {leaf: value + step * direction}) for step in (1e-5, -1e-5)]
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(np.sum(gradients[leaf] * direction), slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize(("name", "field"), [("mixture", "mix"), ("linear, biases, learned scale", "scale")])
def test_learned_numbers_have_gradients(name, field, x64):
    layer, context, xs = LAYERS[name](), tokens(4), tokens(2, seed=1)

    def loss(value):
        changed = eqx.tree_at(lambda layer: getattr(layer, field), layer, value)
        return jnp.sum(jnp.sin(changed.attend(context, xs)))

    value = getattr(layer, field)
    slope = (loss(value + 1e-5) - loss(value - 1e-5)) / 2e-5
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(jax.grad(loss)(value), slope, rtol=1e-6)


@settings(derandomize=True, deadline=None, max_examples=12)
@given(length=st.integers(0, 12), chunk_size=st.integers(1, 14), kind=st.sampled_from(["linear", "softmax"]))
def test_chunk_size_changes_nothing(length, chunk_size, kind):
    if kind == "linear":
        layer = LinearSelfAttention(projections(), chunk_size=chunk_size)
    else:
        layer = SoftmaxSelfAttention(projections(), capacity=12, chunk_size=chunk_size)
    xs = tokens(length)
    np.testing.assert_allclose(layer(xs)[0], layer(xs, form="parallel")[0], atol=1e-5)


@every_layer
def test_order_of_the_context_does_not_matter(name, x64):
    layer, context, xs = LAYERS[name](), tokens(7), tokens(3, seed=1)
    np.testing.assert_allclose(layer.attend(context[::-1], xs), layer.attend(context, xs), atol=1e-12)


def test_two_softmax_heads_in_the_limit_are_centred_linear_attention(x64):
    """Keys scaled by e in one head and by -e in the other: their difference over 2e, with an error O(e^2)."""
    one = projections(num_heads=1)
    context, xs = tokens(7), tokens(3, seed=1)
    scores = jnp.einsum("htk,hnk->htn", one.queries(xs), one.keys(context))
    centred = (scores - scores.mean(-1, keepdims=True)) / 7
    wanted = one.merge(jnp.einsum("htn,hnv->htv", centred, one.values(context)))

    def error(epsilon):
        def both(a, b):
            return jnp.concatenate([a, b])

        pair = Projections(
            query=both(one.query, one.query),
            key=both(epsilon * one.key, -epsilon * one.key),
            value=both(one.value, one.value),
            output=both(one.output, -one.output) / (2 * epsilon),
        )
        layer = SoftmaxSelfAttention(pair, capacity=7, scale=1.0)
        return float(jnp.max(jnp.abs(layer.attend(context, xs) - wanted)))

    errors = [error(epsilon) for epsilon in (0.1, 0.05, 0.025)]
    assert errors[0] < 0.1 * float(jnp.max(jnp.abs(wanted)))
    ratios = [a / b for a, b in itertools.pairwise(errors)]
    np.testing.assert_allclose(ratios, 4.0, rtol=0.05)  # quadratic: half of e is a quarter of the error


def test_masked_softmax_survives_extreme_scores():
    scores = jnp.array([[[1e4, -1e4, 3e38], [0.0, 0.0, 0.0]]], jnp.float32)
    visible = jnp.array([[[True, True, False], [False, False, False]]])
    np.testing.assert_array_equal(masked_softmax(scores, visible), [[[1, 0, 0], [0, 0, 0]]])
    slope = jax.grad(lambda s: jnp.sum(masked_softmax(s, visible) ** 2))(scores)
    assert bool(jnp.all(jnp.isfinite(slope)))


def test_empty_memories_read_as_zero():
    for name in ("linear", "softmax", "mixture"):
        layer = LAYERS[name]()
        np.testing.assert_array_equal(layer.read(layer.init_state(), tokens(2)), np.zeros((2, 6)))
        np.testing.assert_array_equal(layer.attend(tokens(0), tokens(2)), np.zeros((2, 6)))


def test_cache_overflow_is_an_error():
    layer = SoftmaxSelfAttention(projections(), capacity=4)
    with pytest.raises(ValueError, match="5 tokens do not fit into a cache of capacity 4"):
        layer(tokens(5))
    cache = layer.write(None, tokens(3))
    with pytest.raises(Exception, match="overflows"):
        layer.write(cache, tokens(2))
    with pytest.raises(Exception, match="overflows"):
        jax.block_until_ready(eqx.filter_jit(layer.write)(cache, tokens(2)).keys)


def test_attend_is_not_bounded_by_the_cache():
    small, large = (SoftmaxSelfAttention(projections(), capacity=size) for size in (2, 9))
    np.testing.assert_array_equal(small.attend(tokens(9), tokens(2)), large.attend(tokens(9), tokens(2)))


def test_refusals_name_the_axis():
    layer = LinearSelfAttention(projections())
    with pytest.raises(ValueError, match="width 5, but axis 'd' of the input has size 4"):
        layer(jnp.zeros((3, 4)))
    with pytest.raises(ValueError, match=r"shape \(2, 3, 4\), not \(2, 3, 3\)"):
        layer.read(jnp.zeros((2, 3, 3)), tokens(1))
    with pytest.raises(ValueError, match="chunk_size must be at least 1"):
        LinearSelfAttention(projections(), chunk_size=0)
    with pytest.raises(ValueError, match="capacity must be at least 1"):
        SoftmaxSelfAttention(projections(), capacity=0)
    with pytest.raises(ValueError, match="num_heads must be at least 1"):
        Projections.random(3, 0, 2, key=jax.random.key(0))


@pytest.mark.parametrize("change", ["key", "value", "output"])
def test_projections_that_do_not_fit(change):
    parts = dict(query=(2, 5, 3), key=(2, 5, 3), value=(2, 5, 4), output=(2, 4, 6))
    parts[change] = (3, *parts[change][1:])
    # The shape checker of the test run refuses them as well, with another exception.
    with pytest.raises(Exception, match=r"weights|shape|type|bind"):
        Projections(**{name: jnp.zeros(shape) for name, shape in parts.items()})


def test_random_projections_have_the_stated_variance():
    drawn = Projections.random(100, 4, 25, variance=0.002, key=jax.random.key(0))
    for weight in (drawn.query, drawn.key, drawn.value, drawn.output):
        np.testing.assert_allclose(np.std(weight), np.sqrt(0.002 / 100), rtol=0.02)
    assert float(jnp.max(jnp.abs(drawn.query))) < 2.3 * np.sqrt(0.002 / 100)


def test_bfloat16_weights_keep_a_float32_memory():
    halved = jax.tree.map(lambda weight: weight.astype(jnp.bfloat16), projections())
    layer = LinearSelfAttention(halved, chunk_size=2)
    outputs, memory = layer(tokens(5).astype(jnp.bfloat16))
    assert (outputs.dtype, memory.dtype) == (jnp.bfloat16, jnp.float32)
