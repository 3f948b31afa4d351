"""The auto-encoder of the compression task, against numpy and by what it may see."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.nn.language.reconstruction import sinusoidal_positions


def test_positions():
    positions = np.asarray(sinusoidal_positions(5, 6))
    for t in range(5):
        for i, frequency in enumerate([1.0, 1e-2, 1e-4]):
            assert positions[t, i] == pytest.approx(np.sin(frequency * t), abs=1e-6)
            assert positions[t, 3 + i] == pytest.approx(np.cos(frequency * t), abs=1e-6)


def test_the_head_against_numpy(x64):
    head = il.Reconstruction(6, 3, key=jax.random.key(0))
    leaves, structure = jax.tree.flatten(head)
    rng = np.random.default_rng(0)
    head = jax.tree.unflatten(structure, [jnp.asarray(rng.normal(size=leaf.shape)) for leaf in leaves])
    hidden = rng.normal(size=6)
    z = hidden + np.asarray(sinusoidal_positions(4, 6))
    for layer in range(3):
        z = z / np.sqrt((z**2).mean(1, keepdims=True) + 1e-6) * np.asarray(head.norms[layer].scale)
        z = z @ np.asarray(head.weights[layer]) + np.asarray(head.biases[layer])
        if layer < 2:
            z = 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3)))
    np.testing.assert_allclose(head(jnp.asarray(hidden), 4), z, rtol=1e-10)


def test_all_logits_come_from_the_last_hidden_state():
    first, second = jax.random.split(jax.random.key(0))
    model = il.LanguageModel(
        8, 8, 1, lambda key: il.linear_attention_layer(8, num_heads=2, key_size=4, key=key), key=first
    )
    coder = il.AutoEncoder(model, il.Reconstruction(8, 8, key=second))
    task = il.tasks.Compression(vocabulary=8, length=6)
    example = task.sample(jax.random.key(1))
    logits, state = eqx.filter_jit(lambda coder, tokens: coder(tokens))(coder, example.inputs)
    hidden, expected = eqx.filter_jit(lambda model, tokens: model.hidden_states(tokens))(model, example.inputs)
    error = np.asarray(logits - coder.head(hidden[-1][-1], 6))
    assert np.sqrt(np.mean(error**2)) < 1e-5 * np.sqrt(np.mean(np.asarray(logits) ** 2))  # compiled against not
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    assert np.isfinite(float(task.loss(logits, example)))


def test_sizes_are_refused():
    with pytest.raises(ValueError, match="width must be even and at least 4, not 5"):
        il.Reconstruction(5, 3, key=jax.random.key(0))
