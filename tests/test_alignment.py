"""Alignment metrics, interpolation of weight products (spec 13, test 4) and the copy metric."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.nn import (
    InContextRegressor,
    LinearSelfAttention,
    Projections,
    ResidualStack,
    alignment,
    copy_shares,
    gd_construction,
    gd_model,
    interleaved_regressor,
    interpolate_attention,
    one_layer_regressor,
)
from innerloop.nn.in_context.alignment import _copy_norms
from innerloop.tasks import LinearRegression

D, N = 3, 6


def task_tokens(count=20, **settings):
    task = LinearRegression(dim=D, num_context=N, **settings)
    return jax.vmap(lambda key: task.sample(key, "test").inputs)(jax.random.split(jax.random.key(0), count))


def regressor(layer, outputs=1):
    return InContextRegressor(ResidualStack((layer,)), outputs=outputs)


def gauged(layer, seed=1):
    """The same layer in other coordinates of its keys and values."""
    p, size = layer.projections, layer.projections.key_size
    a, b = np.random.default_rng(seed).standard_normal((2, size, size)) + 2 * np.eye(size)
    weights = [p.query @ a, p.key @ np.linalg.inv(a).T, p.value @ b, np.linalg.inv(b) @ p.output]
    return LinearSelfAttention(Projections(*map(jnp.asarray, weights)), scale=layer.scale)


# ---- alignment ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_gauge_does_not_show(outputs, x64):
    layer = gd_construction(D, outputs, N, 2.0)
    measured = alignment(regressor(gauged(layer), outputs), regressor(layer, outputs), task_tokens(outputs=outputs))
    np.testing.assert_allclose(measured[:3], [0.0, 0.0, 1.0], atol=1e-12)
    assert measured.reference_sensitivity > 0.1


def test_metrics_of_two_step_sizes_in_closed_form(x64):
    """One step of size eta is linear in eta: half the step is half the prediction and half the sensitivity."""
    tokens = task_tokens()
    whole, half = gd_model(D, 1, N, 2.0), gd_model(D, 1, N, 1.0)
    measured = alignment(half, whole, tokens)
    x, y = tokens[:, :N, :D], tokens[:, :N, D:]
    weights = 2.0 / N * np.einsum("bnd,bno->bod", x, y)
    predictions = np.einsum("bod,bd->bo", weights, tokens[:, N, :D])
    norms = np.linalg.norm(weights[:, 0], axis=-1)
    np.testing.assert_allclose(
        measured, [np.mean(np.abs(predictions)) / 2, norms.mean() / 2, 1.0, norms.mean()], rtol=1e-12
    )
    opposite = alignment(gd_model(D, 1, N, -2.0), whole, tokens)
    np.testing.assert_allclose(opposite.sensitivity_cosine, -1.0)


def test_only_the_query_input_counts(x64):
    """The label entry of the query token and the context are not what the sensitivity is taken by."""
    tokens = task_tokens()
    measured = alignment(lambda e: e[-1, -1:] + e[0, :1], lambda e: e[-1, :1] * 2.0, tokens)
    np.testing.assert_allclose(measured[1:], [2.0, 0.0, 2.0], atol=1e-12)


def test_interleaved_tokens_have_another_query_size():
    tokens = task_tokens(layout="interleaved")
    measured = alignment(lambda e: e[-1, -1:], lambda e: e[-1, -1:], tokens, query_size=D)
    np.testing.assert_allclose(measured, [0.0, 0.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="query_size must lie between 1 and the token width 3, not 4"):
        alignment(lambda e: e[-1, -1:], lambda e: e[-1, -1:], tokens, query_size=4)


def test_untrained_is_not_aligned():
    model = one_layer_regressor(D, variance=1.0, key=jax.random.key(3))
    measured = alignment(model, gd_model(D, 1, N, 2.0), task_tokens(200))
    assert measured.sensitivity_cosine < 0.9
    assert measured.sensitivity_difference > 0.15 * measured.reference_sensitivity


# ---- interpolation -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("w0", [False, True])
def test_interpolating_with_itself_in_another_gauge_changes_nothing(fraction, w0, x64):
    layer = gd_construction(D, 1, N, 2.0, gamma=0.1, w0=jnp.ones((1, D)) if w0 else None)
    other = gauged(layer)
    tokens = task_tokens()
    # In the raw weights the average is another layer: that is what the products are for.
    raw = jax.tree.map(lambda a, b: 0.5 * a + 0.5 * b, layer, other)
    wanted = jax.vmap(regressor(layer))(tokens)
    assert float(jnp.max(jnp.abs(jax.vmap(regressor(raw))(tokens) - wanted))) > 1e-3
    between = interpolate_attention(layer, other, fraction)
    np.testing.assert_allclose(jax.vmap(regressor(between))(tokens), wanted, atol=1e-12)


def test_normalisation_is_by_the_inputs_and_moves_the_scale(x64):
    """c in the keys and 1/c in the values is a gauge too, and so is the layer's own scale."""
    layer, c = gd_construction(D, 1, N, 2.0), 7.0
    p = layer.projections
    scaled = LinearSelfAttention(Projections(p.query, c * p.key, p.value, p.output), scale=1 / c)
    between = interpolate_attention(scaled, layer)
    np.testing.assert_allclose(between.projections.query[0], np.diag([1.0] * D + [0.0]), atol=1e-12)
    np.testing.assert_allclose(between.projections.value[0, D, D], -2.0 / N, atol=1e-12)


def test_between_two_step_sizes_is_the_mean_step_size(x64):
    between = interpolate_attention(gauged(gd_construction(D, 1, N, 1.0)), gd_construction(D, 1, N, 3.0), 0.25)
    tokens = task_tokens()
    wanted = jax.vmap(gd_model(D, 1, N, 1.5))(tokens)
    np.testing.assert_allclose(jax.vmap(regressor(between))(tokens), wanted, atol=1e-12)


def test_interpolation_refuses_heads_and_biases():
    layer = gd_construction(D, 1, N, 1.0)
    two = LinearSelfAttention(Projections.random(D + 1, 2, 4, key=jax.random.key(0)))
    biased = LinearSelfAttention(Projections.random(D + 1, 1, 4, use_bias=True, key=jax.random.key(0)))
    with pytest.raises(ValueError, match="layers of one head, not of 2"):
        interpolate_attention(two, layer)
    with pytest.raises(ValueError, match="without biases"):
        interpolate_attention(layer, biased)
    with pytest.raises(ValueError, match="different widths, 4 and 5"):
        interpolate_attention(layer, gd_construction(D + 1, 1, N, 1.0))


# ---- copying -----------------------------------------------------------------------------------------------


class _CopiesNext(eqx.Module):
    """Each token becomes itself, half of the next one and a tenth of the one before the last."""

    def hidden_states(self, tokens):
        others = 0.5 * jnp.roll(tokens, -1, axis=0) + 0.1 * jnp.roll(tokens, 2, axis=0)
        return jnp.stack([tokens, tokens + others])


def test_copy_norms_of_a_layer_that_copies(x64):
    norms = _copy_norms(_CopiesNext(), task_tokens(4, layout="interleaved"))
    np.testing.assert_allclose(norms, np.sqrt(D) * np.array([1.0, 0.5, 0.1]), atol=1e-12)


def test_copy_shares_of_an_untrained_model_are_its_own():
    model = interleaved_regressor(D, N, position_size=4, key_size=5, key=jax.random.key(0))
    shares = copy_shares(model, task_tokens(40, layout="interleaved"))
    np.testing.assert_allclose(sum(shares), 1.0, rtol=1e-5)
    assert shares.own > 0.9 and shares.following < 0.05
    with pytest.raises(ValueError, match="interleaved tokens"):
        copy_shares(model, jnp.zeros((2, 4, D)))


def test_copy_shares_are_finite_differences(x64):
    model = interleaved_regressor(D, N, position_size=4, key_size=5, variance=3.0, key=jax.random.key(0))
    tokens = task_tokens(2, layout="interleaved")
    blocks = np.zeros((2, 2 * N + 1, 2 * N + 1))
    first_layer = jax.jit(lambda e: model.hidden_states(e)[1])
    for b in range(2):
        for i in range(2 * N + 1):
            squares = 0.0
            for w in range(D):
                ends = [first_layer(tokens[b].at[i, w].add(step)) for step in (1e-6, -1e-6)]
                squares += np.sum(((ends[0] - ends[1]) / 2e-6) ** 2, axis=-1)
            blocks[b, :, i] = np.sqrt(squares)
    rows = [(b, k) for b in range(2) for k in range(0, 2 * N, 2)]
    own, following = (np.mean([blocks[b, k, k + ahead] for b, k in rows]) for ahead in (0, 1))
    total = np.mean([blocks[b, k].sum() for b, k in rows])
    shares = copy_shares(model, tokens)
    np.testing.assert_allclose(shares, [own / total, following / total, 1 - (own + following) / total], rtol=1e-6)
    assert shares.following > 0.01
