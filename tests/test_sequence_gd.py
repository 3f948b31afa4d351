"""Learning along a sequence: constructions equal explicit algorithms, predictors equal their oracles."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.nn import (
    Clipped,
    LinearProbes,
    LinearSelfAttention,
    MixedLayer,
    Projections,
    PromptedRegression,
    SequenceRegressor,
    average_products,
    block_means,
    chebyshev_coefficients,
    compress_blocks,
    kernel_regression_predictor,
    least_squares,
    least_squares_predictor,
    preconditioned,
    preconditioned_gd,
    preconditioned_gd_model,
    sequence_gd,
    sequence_gd_layer,
    stack_windows,
)
from innerloop.nn.memory.mesa import mesa_memory
from innerloop.tasks import LinearSystem, RegressionSequence, constructed_tokens
from innerloop.testing import check_sequence_layer
from oracles import sequence_regression as oracle

T, N = 9, 3


def sequence(length=T, size=N, seed=0):
    return np.random.default_rng(seed).standard_normal((length, size))


def system(**settings):
    return np.asarray(LinearSystem(**settings).observe(jax.random.key(0)), np.float64)


# ---- proposition 1: one layer is one step of gradient descent -----------------------------------------------


@pytest.mark.parametrize("from_zero", [True, False])
def test_a_layer_is_a_step_of_gradient_descent(from_zero, x64):
    observations = sequence()
    start = np.zeros((N, N)) if from_zero else sequence(N, N, seed=1)
    given = None if from_zero else jnp.asarray(start)
    wanted = oracle.gradient_descent(observations, 0.07, start)
    explicit = sequence_gd(jnp.asarray(observations), 0.07, start=given)
    np.testing.assert_allclose(explicit, wanted, atol=1e-12)
    tokens = constructed_tokens(jnp.asarray(observations), start=given)
    layer = sequence_gd_layer(N, 0.07, start=given)
    for form in ("recurrent", "chunk", "parallel"):
        outputs = tokens + layer(tokens, form=form)[0]
        np.testing.assert_allclose(outputs[:, :N], wanted, atol=1e-12)
        np.testing.assert_array_equal(outputs[:, N:], tokens[:, N:])
    np.testing.assert_allclose(outputs[0, :N], start @ observations[0], atol=1e-12)


def test_the_gradient_is_a_sum_over_the_context_not_a_mean(x64):
    """Twice the same context moves twice as far."""
    once = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    twice = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    first, second = (sequence_gd(jnp.asarray(part), 0.1)[-1] for part in (once, twice))
    np.testing.assert_allclose(second, 2 * first)


def test_a_clipped_regressor_is_clipped_gradient_descent(x64):
    observations = 2.0 * sequence()
    model = SequenceRegressor.of_layers((sequence_gd_layer(N, jnp.asarray(0.3)),), N, limit=4.0)
    predictions = model(constructed_tokens(jnp.asarray(observations)))
    explicit = np.asarray(sequence_gd(jnp.asarray(observations), 0.3))
    assert np.abs(explicit).max() > 4.0
    np.testing.assert_allclose(predictions, np.clip(explicit, -4.0, 4.0), atol=1e-12)
    assert len(model.hidden_states(constructed_tokens(jnp.asarray(observations)))) == 2


def test_wrapped_layers_conform():
    layer = LinearSelfAttention(Projections.random(8, 2, 3, key=jax.random.key(0)), chunk_size=4)
    mixing = 0.3 * jax.random.normal(jax.random.key(1), (8, 8))
    check_sequence_layer(Clipped(MixedLayer(layer, mixing), 2.0), width=8, lengths=(0, 7))


# ---- proposition 2: preconditioning -------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0.0, 0.5])
def test_iterations_are_those_of_the_matrix(start, x64):
    observations = sequence()
    alphas, betas = np.array([0.1, 0.2, 0.05]), np.array([0.7, 0.3, 0.1])
    given = preconditioned(
        jnp.asarray(observations), jnp.asarray(alphas), jnp.asarray(betas), ridge=0.4, start=start
    )  # fmt: skip
    for t in range(T):
        matrix = observations[:t].T @ observations[:t] + 0.4 * np.eye(N)
        wanted = oracle.iterate(matrix, observations[t], start * observations[t], alphas, betas)
        np.testing.assert_allclose(given[:, t], wanted, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("start", [0.0, 1.0, 0.5])
def test_layers_of_attention_are_the_matrix_recursion(steps, start, x64):
    observations = jnp.asarray(sequence())
    alphas, betas = (jnp.asarray(np.random.default_rng(i).uniform(0.05, 0.3, steps)) for i in (1, 2))
    settings = dict(step_size=0.8, ridge=0.4, start=start)
    model = preconditioned_gd_model(N, alphas, betas, **settings)
    wanted = preconditioned_gd(observations, alphas, betas, **settings)
    for form in ("recurrent", "chunk"):
        hidden, _ = model.stack.hidden_states(constructed_tokens(observations), form=form)
        np.testing.assert_allclose(hidden[-1][:, :N], wanted, atol=1e-12)
    iterates = preconditioned(observations, alphas, betas, ridge=0.4, start=start)
    for x, tokens in zip(iterates[1:], hidden[1:], strict=False):
        np.testing.assert_allclose(tokens[:, N : 2 * N], x, atol=1e-12)
    if steps == 0 and start == 1.0:
        np.testing.assert_allclose(wanted, sequence_gd(observations, 0.8), atol=1e-12)


def test_chebyshev_converges_as_fast_as_the_bound(x64):
    observations = sequence(12)
    moments = [observations[:t].T @ observations[:t] + 0.5 * np.eye(N) for t in range(12)]
    values = np.array([np.linalg.eigvalsh(matrix) for matrix in moments])
    kappa = values.max() / values.min()
    rate = (np.sqrt(kappa) - 1) / (np.sqrt(kappa) + 1)
    alphas, betas = chebyshev_coefficients(float(values.min()), float(values.max()), 30)
    iterates = np.asarray(preconditioned(jnp.asarray(observations), alphas, betas, ridge=0.5, start=0.0))
    errors = []
    for t, matrix in enumerate(moments):
        solution = np.linalg.solve(matrix, observations[t])
        errors.append(np.linalg.norm(iterates[:, t] - solution, axis=-1) / np.linalg.norm(solution))
    worst = np.max(errors, axis=0)
    bound = np.minimum(2 * rate ** np.arange(31), 1.0)
    assert np.all(worst <= bound * (1 + 1e-9))
    assert worst[30] < 1e-2 * worst[3]
    richardson = preconditioned(
        jnp.asarray(observations), jnp.full(30, alphas[0]), jnp.zeros(30), ridge=0.5, start=0.0
    )  # fmt: skip
    slow = [np.linalg.norm(richardson[-1, t] - np.linalg.solve(m, observations[t])) for t, m in enumerate(moments)]
    assert worst[30] < 0.1 * max(slow)


def test_many_steps_are_ridge_regression(x64):
    observations = sequence()
    values = np.linalg.eigvalsh(observations.T @ observations)
    alphas, betas = chebyshev_coefficients(0.5, float(values[-1]) + 0.5, 150)
    given = preconditioned_gd(jnp.asarray(observations), alphas, betas, ridge=0.5)
    np.testing.assert_allclose(given, oracle.least_squares(observations, 0.5), atol=1e-10)


# ---- predictors ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ridge", [0.0, 0.3])
@pytest.mark.parametrize("window", [1, 2])
def test_least_squares(ridge, window, x64):
    observations = sequence()
    given = least_squares_predictor(jnp.asarray(observations), ridge, window=window)
    np.testing.assert_allclose(given, oracle.least_squares(observations, ridge, window), atol=1e-9)


def test_kernel_regression(x64):
    observations = sequence()
    given = kernel_regression_predictor(jnp.asarray(observations), 0.8)
    np.testing.assert_allclose(given, oracle.kernel_regression(observations, 0.8), atol=1e-12)
    np.testing.assert_array_equal(kernel_regression_predictor(jnp.asarray(observations[:1]), 0.8), np.zeros((1, N)))


def mesa(observations, ridge):
    """The mesa layer on constructed tokens: keys are the observations before, queries and values the present ones."""
    keys = np.concatenate([np.zeros_like(observations[:1]), observations[:-1]])
    query, key, value = (jnp.asarray(part)[:, None] for part in (observations, keys, observations))
    return np.asarray(mesa_memory(query, key, value, regulariser=jnp.full((1, query.shape[-1]), ridge))[0][:, 0])


def test_the_mesa_layer_is_least_squares(x64):
    observations = sequence()
    given = least_squares_predictor(jnp.asarray(observations), 0.3)
    np.testing.assert_allclose(mesa(observations, 0.3), given, atol=1e-4)  # conjugate gradients to their tolerance


def test_a_noiseless_system_is_predicted_exactly(x64):
    observations = system(state_size=5, length=14, process_noise=0.0)
    wrong = np.abs(least_squares_predictor(jnp.asarray(observations)) - np.roll(observations, -1, axis=0))[:-1]
    assert wrong[5:].max() < 1e-8 < 0.1 < wrong[:4].max()
    nearly = np.abs(mesa(observations, 1e-12) - np.roll(observations, -1, axis=0))[:-1]
    assert nearly[5:].max() < 1e-8


def test_windows_make_a_partly_observed_system_exact_when_they_are_long_enough(x64):
    size, observed = 6, 2
    observations = system(state_size=size, observed_size=observed, length=24, process_noise=0.0)
    following = np.roll(observations, -1, axis=0)
    for window, exact in ((3, True), (2, False)):  # 3 observations of size 2 see a state of size 6
        predictions = least_squares_predictor(jnp.asarray(observations), window=window)
        wrong = np.abs(predictions - following)[:-1]
        enough = window * observed + window
        assert wrong[enough:].max() < 1e-6 if exact else wrong[enough:].max() > 0.1
    windows = np.asarray(stack_windows(jnp.asarray(observations), 3))
    np.testing.assert_array_equal(windows[:2], np.zeros((2, 6)))
    np.testing.assert_array_equal(windows[2], observations[:3].reshape(-1))


def test_pairs_and_spurious_pairs_are_the_interleaved_sequence(x64):
    pairs = np.asarray(RegressionSequence(N, 6).sample(jax.random.key(0)).inputs)
    x, y = pairs[:, 0], pairs[:, 1]
    prompted = PromptedRegression(lambda observations: least_squares_predictor(observations, 0.3))
    given = np.asarray(prompted(jnp.asarray(pairs)))
    np.testing.assert_allclose(given, mesa(pairs.reshape(-1, N), 0.3)[::2], atol=1e-4)
    for i in range(6):
        inputs = np.concatenate([x[:i], y[:i]])
        targets = np.concatenate([y[:i], x[1 : i + 1]])
        weights = np.linalg.solve(inputs.T @ inputs + 0.3 * np.eye(N), inputs.T @ targets)
        np.testing.assert_allclose(given[i], x[i] @ weights, atol=1e-10)
    clean = least_squares(jnp.asarray(x), jnp.asarray(y), jnp.asarray(x), 0.3)
    assert np.abs(given - np.roll(clean, 1, axis=0))[1:].max() > 0.1


# ---- blocks of weight products ------------------------------------------------------------------------------


def test_the_constructions_are_compressed_without_loss(x64):
    tokens = constructed_tokens(jnp.asarray(sequence()))
    alphas, betas = jnp.asarray([0.1, 0.2]), jnp.asarray([0.0, 0.1])
    model = preconditioned_gd_model(N, alphas, betas, ridge=0.4)
    for layer in model.stack.layers:
        attention = layer.layer
        compressed = compress_blocks(attention, N)
        np.testing.assert_allclose(compressed(tokens)[0], attention(tokens)[0], atol=1e-12)
        halfway = average_products(attention, compressed)
        np.testing.assert_allclose(halfway(tokens)[0], attention(tokens)[0], atol=1e-12)


def test_compression_keeps_the_mean_diagonals_of_the_chosen_blocks(x64):
    layer = LinearSelfAttention(Projections.random(4 * N, 2, 5, key=jax.random.key(0)))
    kept = compress_blocks(layer, N, query_key=((1, 3), (2, 3)), value_output=((2, 0),))
    for before, after, blocks in zip(
        layer.projections.products(), kept.projections.products(), (((1, 3), (2, 3)), ((2, 0),)), strict=True
    ):
        for head in range(2):
            for row in range(4):
                for column in range(4):
                    place = np.s_[row * N : (row + 1) * N, column * N : (column + 1) * N]
                    mean = np.trace(before[head][place]) / N if (row, column) in blocks else 0.0
                    np.testing.assert_allclose(after[head][place], mean * np.eye(N), atol=1e-12)
    assert block_means(layer.projections.products()[0], N).shape == (2, 4, 4)


def test_averages_lie_between_the_products(x64):
    first, second = (LinearSelfAttention(Projections.random(6, 2, 3, key=jax.random.key(i))) for i in (0, 1))
    between = average_products(first, second, 0.25)
    for a, b, c in zip(*(layer.projections.products() for layer in (first, second, between)), strict=True):
        np.testing.assert_allclose(c, 0.75 * a + 0.25 * b, atol=1e-12)


# ---- probes and prompts -------------------------------------------------------------------------------------


def test_probes_are_ridge_regression_at_each_position(x64):
    numbers = np.random.default_rng(0)
    activations, targets = numbers.standard_normal((50, 2, 3)), numbers.standard_normal((50, 2, 4))
    probes = LinearProbes.fit(jnp.asarray(activations), jnp.asarray(targets), ridge=0.1)
    for t in range(2):
        a, y = (part[:, t] - part[:, t].mean(0) for part in (activations, targets))
        covariance = a.T @ a / 50
        wanted = np.linalg.solve(covariance + 0.1 * np.trace(covariance) / 3 * np.eye(3), a.T @ y / 50)
        np.testing.assert_allclose(probes.weights[t], wanted, atol=1e-12)
    fresh = numbers.standard_normal((50, 2, 3)), numbers.standard_normal((50, 2, 4))
    errors = np.asarray(probes.errors(*map(jnp.asarray, fresh)))
    decoded = np.asarray(probes(jnp.asarray(fresh[0])))
    wanted = [np.mean((decoded[:, t] - fresh[1][:, t]) ** 2) / np.mean(np.var(fresh[1][:, t], axis=0)) for t in (0, 1)]
    np.testing.assert_allclose(errors, wanted, atol=1e-12)


def test_probes_find_what_is_there_only_where_it_is():
    keys = jax.random.split(jax.random.key(0), 3)
    activations = jax.random.normal(keys[0], (800, 3, 4))
    weights = jax.random.normal(keys[1], (2, 4, 2))  # written differently at each of the first two positions
    targets = jnp.einsum("btd,tdk->btk", activations[:, :2], weights)
    targets = jnp.concatenate([targets, jax.random.normal(keys[2], (800, 1, 2))], axis=1)
    activations = jnp.concatenate([activations, jnp.ones((800, 3, 1))], axis=-1)  # what is constant does no harm
    errors = LinearProbes.fit(activations[:400], targets[:400]).errors(activations[400:], targets[400:])
    assert np.all(np.asarray(errors[:2]) < 1e-3) and 0.9 < float(errors[2]) < 1.2


def test_prompts_are_learned_and_the_model_is_not():
    weights = jax.random.normal(jax.random.key(2), (N, N))
    prompted = PromptedRegression.random(
        _Linear(weights), N, prefix=2, separator=True, key=jax.random.key(0)
    )  # fmt: skip
    pairs = RegressionSequence(N, 4).sample(jax.random.key(1)).inputs
    tokens = np.asarray(prompted.tokens(pairs))
    assert tokens.shape == (2 + 3 * 4, N)
    np.testing.assert_array_equal(tokens[2::3], pairs[:, 0])
    np.testing.assert_array_equal(tokens[3::3], pairs[:, 1])
    np.testing.assert_array_equal(tokens[4::3], np.broadcast_to(prompted.separator, (4, N)))
    gradient = eqx.filter_grad(lambda prompted: jnp.sum(prompted(pairs) ** 2))(prompted)
    np.testing.assert_array_equal(gradient.model.weights, np.zeros((N, N)))
    assert np.abs(np.asarray(gradient.separator)).max() > 0 and np.abs(np.asarray(gradient.prefix)).max() > 0
    plain = PromptedRegression(_Linear(weights))
    np.testing.assert_array_equal(plain.tokens(pairs), np.asarray(pairs).reshape(-1, N))


class _Linear(eqx.Module):
    """Each prediction is a linear map of the sum of all observations so far."""

    weights: jax.Array

    def __call__(self, observations):
        return jnp.cumsum(observations, axis=0) @ self.weights


@pytest.mark.parametrize(
    ("match", "make"),
    [
        ("size must be at least 1", lambda: sequence_gd_layer(0, 0.1)),
        ("start must have shape", lambda: sequence_gd_layer(2, 0.1, start=jnp.zeros((3, 3)))),
        ("limit must be above 0", lambda: Clipped(sequence_gd_layer(2, 0.1), 0.0)),
        ("outputs must lie between", lambda: SequenceRegressor.of_layers((sequence_gd_layer(2, 0.1),), 9)),
        ("0 < smallest < largest", lambda: chebyshev_coefficients(2.0, 1.0, 3)),
        ("window must be at least 1", lambda: stack_windows(jnp.zeros((4, 2)), 0)),
        ("ridge must not be negative", lambda: least_squares_predictor(jnp.zeros((4, 2)), -1.0)),
        ("no whole blocks", lambda: compress_blocks(sequence_gd_layer(2, 0.1), 3)),
        ("different shapes", lambda: average_products(sequence_gd_layer(2, 0.1), sequence_gd_layer(3, 0.1))),
        ("too few", lambda: LinearProbes.fit(jnp.zeros((5, 2, 3)), jnp.zeros((5, 2, 1)))),
        ("the mixing has shape", lambda: MixedLayer(sequence_gd_layer(2, 0.1), jnp.eye(3))),
    ],
)
def test_bad_input_is_refused(match, make):
    with pytest.raises(ValueError, match=match):
        make()
