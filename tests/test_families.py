"""Every family of layers: the public battery, packed and half-precise sequences, what makes it that family."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.testing import check_sequence_layer

WIDTH = 6
SIZES = dict(num_heads=2, key_size=4, chunk_size=5, key=jax.random.key(0))
LAYERS = {
    "linear attention": lambda: il.linear_attention_layer(WIDTH, **SIZES),
    "RetNet": lambda: il.retention_layer(WIDTH, **SIZES),
    "Mamba-2": lambda: il.mamba2_layer(WIDTH, **SIZES),
    "GLA": lambda: il.gated_linear_attention_layer(WIDTH, **SIZES),
    "GLA, gates per head": lambda: il.gated_linear_attention_layer(WIDTH, channel_gates=False, value_size=3, **SIZES),
    "DeltaNet": lambda: il.delta_net_layer(WIDTH, **SIZES),
    "gated DeltaNet": lambda: il.gated_delta_net_layer(WIDTH, output_gate=True, **SIZES),
    "mLSTM": lambda: il.mlstm_layer(WIDTH, **SIZES),
    "mesa": lambda: il.mesa_layer(WIDTH, **SIZES),
    "mesa without convolution": lambda: il.mesa_layer(WIDTH, convolution=None, **SIZES),
    "softmax": lambda: il.softmax_attention_layer(WIDTH, capacity=32, **SIZES),
}
# What an mLSTM reads is divided by a sum of products of both signs, which may nearly cancel.
GAPS = {"mLSTM": {"gradients_agree": "by the initial normaliser to 1.1e-5 in float32 (to 1e-10 in float64)"}}
# These in every run; all, and in float64, in the slow ones.
QUICK = ("gated DeltaNet", "mesa")


@pytest.mark.parametrize("name", QUICK)
def test_battery(name):
    check_sequence_layer(LAYERS[name](), width=WIDTH)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in LAYERS if name not in QUICK])
def test_battery_of_all(name):
    check_sequence_layer(LAYERS[name](), width=WIDTH, expected_failures=GAPS.get(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["GLA", "gated DeltaNet", "mLSTM", "mesa"])
def test_battery_in_float64(name, x64):
    layer = LAYERS[name]()
    if name == "mesa":  # the forms agree as far as the regression is solved
        layer = il.mesa_layer(WIDTH, solver=il.ConjugateGradients(max_steps=100, tolerance=1e-13), **SIZES)
    check_sequence_layer(layer, width=WIDTH)


def heads(layer, xs):
    """What the heads read, before norm and output map: the rule on what the layer gives it."""
    return np.asarray(layer.rule(layer.inputs(xs))[0], np.float64)


def test_gates_make_the_family(x64):
    """Retention is linear attention whose pairs fade by a power of their distance."""
    xs = jax.random.normal(jax.random.key(1), (7, WIDTH))
    layer = LAYERS["RetNet"]()
    q, k, v = (np.asarray(part) for part in layer.inputs(xs)[:3])
    gates = 1 - 2.0 ** -(5 + np.arange(2))
    distance = np.arange(7)[:, None] - np.arange(7)[None]
    fade = np.where(distance >= 0, gates[:, None, None] ** np.maximum(distance, 0), 0)
    wanted = np.einsum("hts,thk,shk,shv->thv", fade, q, k, v)
    np.testing.assert_allclose(heads(layer, xs), wanted, atol=1e-12)
    # The scale of the queries is the inverse root of the key size, on top of their length one.
    np.testing.assert_allclose(np.linalg.norm(q, axis=-1), 0.5, atol=1e-10)


def test_the_pipeline_is_the_documented_one(x64):
    layer = il.delta_net_layer(WIDTH, output_gate=True, **SIZES)
    xs = np.asarray(jax.random.normal(jax.random.key(1), (7, WIDTH)))
    p = layer.projections

    def silu(x):
        return x / (1 + np.exp(-x))

    flat = np.concatenate([np.einsum("td,hdk->thk", xs, np.asarray(w)).reshape(7, -1) for w in (p.query, p.key)], -1)
    padded = np.concatenate([np.zeros((3, flat.shape[1])), flat])
    filters = np.asarray(layer.convolution.weight)
    convolved = silu(sum(filters[j] * padded[j : j + 7] for j in range(4))).reshape(7, 2, 2, 4)
    unit = convolved / np.linalg.norm(convolved, axis=-1, keepdims=True)
    inputs = layer.inputs(jnp.asarray(xs))
    np.testing.assert_allclose(inputs.query, unit[:, 0], atol=1e-9)
    np.testing.assert_allclose(inputs.key, unit[:, 1], atol=1e-9)
    np.testing.assert_allclose(inputs.strength, 1 / (1 + np.exp(-xs @ np.asarray(layer.gates.write))), atol=1e-12)
    assert inputs.log_gate is None
    read = heads(layer, jnp.asarray(xs))
    read = read / np.sqrt((read**2).mean(-1, keepdims=True) + 1e-6)
    read = read * silu(np.einsum("td,dhv->thv", xs, np.asarray(layer.output_gate)))
    wanted = np.einsum("thv,hve->te", read, np.asarray(p.output))
    np.testing.assert_allclose(layer(jnp.asarray(xs))[0], wanted, atol=1e-9)


def test_time_steps_start_where_mamba_has_them():
    gates = il.TimeStepGates(3, 500, key=jax.random.key(0))(jnp.zeros((1, 3)))
    assert 1e-3 <= float(gates.strength.min()) < 2e-3
    assert 0.05 < float(gates.strength.max()) <= 0.1001
    assert float((gates.log_gate / gates.strength).min()) >= -16.001


def test_rotary_scores_depend_on_the_distance_alone(x64):
    layer = LAYERS["softmax"]()
    xs = jax.random.normal(jax.random.key(1), (9, WIDTH))
    later = layer(xs, resets=jnp.arange(9) == 4)[0][4:]
    np.testing.assert_allclose(later, layer(xs[4:])[0], atol=1e-12)
    fixed = il.softmax_attention_layer(WIDTH, capacity=32, rotary_base=None, **SIZES)
    swapped = xs[jnp.asarray([1, 0, 2])]
    np.testing.assert_allclose(fixed(swapped)[0][2], fixed(xs[:3])[0][2], atol=1e-12)
    assert not np.allclose(layer(swapped)[0][2], layer(xs[:3])[0][2], atol=1e-3)


def test_refusals():
    with pytest.raises(ValueError, match="even key size"):
        il.softmax_attention_layer(WIDTH, num_heads=2, key_size=3, capacity=4, key=jax.random.key(0))
    with pytest.raises(ValueError, match="at most 0"):
        il.FixedGates((0.5,))
    with pytest.raises(ValueError, match="convolution"):
        il.linear_attention_layer(WIDTH, convolution=0, **SIZES)
    with pytest.raises(ValueError, match="are none"):
        il.SigmoidGates(3, 2, forget=False, write=False, key=jax.random.key(0))
    mesa, delta = LAYERS["mesa"](), LAYERS["DeltaNet"]()
    with pytest.raises(ValueError, match="has a state of structure"):
        delta(jnp.ones((2, WIDTH)), mesa.init_state())
