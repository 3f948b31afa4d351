"""Blocks, stacks and models of sequences: what they compute, and that their states can be handed over."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.testing import check_sequence_layer


def make_layer(key):
    gates = il.SigmoidGates(6, 2, key=key)
    return il.MultiHeadMemory(6, num_heads=2, key_size=4, rule=il.AdditiveMemory(4), gates=gates, key=key)


@pytest.fixture(scope="module")
def model():
    return eqx.filter_jit(lambda key: il.LanguageModel(9, 6, 2, make_layer, key=key))(jax.random.key(0))


TOKENS = jnp.asarray(np.random.default_rng(0).integers(0, 9, 11), jnp.int32)


def test_a_block_is_a_layer_and_a_perceptron_on_top():
    block = il.Block.random(make_layer(jax.random.key(1)), key=jax.random.key(2))
    xs = jax.random.normal(jax.random.key(3), (5, 6))
    outputs, _ = block(xs)
    wanted = xs + block.layer(block.norm(xs))[0]
    hidden = block.perceptron_norm(wanted)
    gated = np.asarray(hidden @ block.perceptron.gate, np.float64)
    gated = gated / (1 + np.exp(-gated)) * np.asarray(hidden @ block.perceptron.hidden)
    np.testing.assert_allclose(outputs, wanted + gated @ np.asarray(block.perceptron.output), atol=1e-5)


def test_the_norm_is_the_root_mean_square():
    xs = np.random.default_rng(0).standard_normal((3, 6))
    norm = eqx.tree_at(lambda norm: norm.scale, il.RootMeanSquareNorm(6), jnp.arange(6.0))
    wanted = np.arange(6) * xs / np.sqrt((xs**2).mean(-1, keepdims=True))
    np.testing.assert_allclose(norm(jnp.asarray(xs, float)), wanted, rtol=1e-5)


@pytest.mark.slow
def test_battery_of_a_stack():
    stack = il.make_blocks(make_layer, 2, key=jax.random.key(0))
    check_sequence_layer(stack, width=6, lengths=(0, 1, 9))


def test_states_of_a_model_are_handed_over(x64):
    model = il.LanguageModel(9, 6, 2, make_layer, key=jax.random.key(0))
    run = eqx.filter_jit(lambda model, tokens, state: model(tokens, state))
    logits, state = run(model, TOKENS, None)
    first, between = run(model, TOKENS[:4], None)
    second, last = run(model, TOKENS[4:], between)
    np.testing.assert_allclose(jnp.concatenate([first, second]), logits, atol=1e-10)
    for a, b in zip(jax.tree.leaves(last), jax.tree.leaves(state), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-10)
    step = eqx.filter_jit(lambda model, state, token: model.step(state, token))
    going = model.init_state()
    for token, wanted in zip(TOKENS, logits, strict=True):
        going, given = step(model, going, token)
        np.testing.assert_allclose(given, wanted, atol=1e-10)


def test_segments_of_a_model_are_apart(model):
    resets = jnp.arange(11) == 4
    logits, _ = model(TOKENS, resets=resets)
    np.testing.assert_allclose(logits[4:], model(TOKENS[4:])[0], atol=1e-5)


def test_logits_are_capped_and_tied(model):
    hidden, _ = model.hidden_states(TOKENS)
    assert len(hidden) == 3
    raw = np.asarray(model.norm(hidden[-1]) @ model.embedding.T)
    np.testing.assert_allclose(model(TOKENS)[0], 30 * np.tanh(raw / 30), atol=1e-5)
    np.testing.assert_array_equal(hidden[0], model.embedding[TOKENS])
    loud = eqx.tree_at(lambda model: model.embedding, model, 100 * model.embedding)
    assert float(jnp.abs(loud(TOKENS)[0]).max()) <= 30


def test_vectors_in_vectors_out():
    model = il.VectorSequenceModel.random(3, 6, 2, 1, make_layer, key=jax.random.key(0))
    outputs, state = model(jnp.ones((5, 3)))
    assert outputs.shape == (5, 2)
    assert len(state) == 1
    np.testing.assert_array_equal(il.OutputsOnly(model)(jnp.ones((5, 3))), outputs)


def test_checked_layers_refuse_inside_jit():
    layer = il.Checked(make_layer(jax.random.key(0)))
    run = eqx.filter_jit(lambda layer, xs: layer(xs))
    xs = jnp.ones((5, 6))
    np.testing.assert_allclose(run(layer, xs)[0], layer.layer(xs)[0], atol=1e-6)
    with pytest.raises(Exception, match=r"a token \(axes 't d'\) is not finite"):
        run(layer, xs.at[2, 3].set(jnp.inf))


def test_refusals(model):
    with pytest.raises(ValueError, match="at least one layer"):
        il.Stack(())
    with pytest.raises(ValueError, match="6 wide, not 7"):
        il.LanguageModel(9, 7, 1, make_layer, key=jax.random.key(0))
    with pytest.raises(ValueError, match="state of structure"):
        model(TOKENS, (None, None))
    with pytest.raises(ValueError, match="0 to 8, but 9 at t=3"):
        model(TOKENS.at[3].set(9))
