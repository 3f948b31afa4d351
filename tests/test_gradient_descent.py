"""The construction, the explicit recursions and the step size: spec 13, tests 1, 2, 3, 6 and 7."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.nn import (
    InContextRegressor,
    LinearSelfAttention,
    ResidualStack,
    candidate_grid,
    gd_construction,
    gd_model,
    in_context_gd,
    line_search,
    optimal_learning_rate,
)
from innerloop.tasks import LinearRegression, to_tokens
from oracles import gradient_descent as oracle

N, D = 7, 4


def problem(outputs, seed=0):
    numbers = np.random.default_rng(seed)
    x, y, queries = (numbers.standard_normal(shape) for shape in ((N, D), (N, outputs), (3, D)))
    return x, y, queries, numbers.standard_normal((outputs, D))


def predict(model, x, y, queries):
    x, y, queries = (jnp.asarray(part, float) for part in (x, y, queries))
    return jnp.stack([model(to_tokens(x, y, query)) for query in queries])


# ---- 1: the construction is gradient descent ---------------------------------------------------------------


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_layers_are_steps_of_gradient_descent(outputs, steps, x64):
    x, y, queries, w0 = problem(outputs)
    wanted = oracle.gradient_descent(x, y, queries, learning_rate=0.3, steps=steps, w0=w0)
    model = gd_model(D, outputs, N, 0.3, steps=steps, w0=jnp.asarray(w0))
    np.testing.assert_allclose(predict(model, x, y, queries), wanted, atol=1e-12)
    given = in_context_gd(*map(jnp.asarray, (x, y, queries)), learning_rate=0.3, steps=steps, w0=jnp.asarray(w0))
    np.testing.assert_allclose(given, wanted, atol=1e-12)


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("steps", [1, 2, 5])
def test_layers_are_steps_of_gradient_descent_in_float32(outputs, steps):
    x, y, queries, w0 = problem(outputs)
    x, y, queries, w0 = 0.3 * x, 0.3 * y, 0.3 * queries, 0.3 * w0
    wanted = oracle.gradient_descent(x, y, queries, learning_rate=0.3, steps=steps, w0=w0)
    model = gd_model(D, outputs, N, 0.3, steps=steps, w0=jnp.asarray(w0, jnp.float32))
    np.testing.assert_allclose(predict(model, x, y, queries), wanted, atol=1e-6)


@pytest.mark.parametrize("steps", [1, 3])
def test_the_start_may_live_in_the_value_weights_of_every_layer(steps, x64):
    """The paper's form: value W0 x - y in each layer, and the query's label starts at -W0 x."""
    x, y, queries, w0 = problem(3)
    layer = gd_construction(D, 3, N, 0.3, w0=jnp.asarray(w0))
    model = InContextRegressor(ResidualStack((layer,), num_repeats=steps), outputs=3)
    given = [model(jnp.asarray(np.block([[x, y], [query[None], -(w0 @ query)[None]]]))) for query in queries]
    wanted = oracle.gradient_descent(x, y, queries, learning_rate=0.3, steps=steps, w0=w0)
    np.testing.assert_allclose(jnp.stack(given), wanted, atol=1e-12)


def test_every_token_is_transformed_as_the_proposition_says(x64):
    x, y, queries, w0 = problem(3)
    layer = gd_construction(D, 3, N, 0.3, w0=jnp.asarray(w0), gamma=0.05)
    tokens = np.block([[x, y], [queries, -queries @ w0.T]])
    moved = tokens + layer.attend(jnp.asarray(tokens[:N]), jnp.asarray(tokens))
    delta = 0.3 / N * sum(np.outer(b - w0 @ a, a) for a, b in zip(x, y, strict=True))
    points = tokens[:, :D]
    np.testing.assert_allclose(moved[:, D:], tokens[:, D:] - points @ delta.T, atol=1e-12)
    np.testing.assert_allclose(moved[:, :D], points - 0.05 * points @ (x.T @ x), atol=1e-12)


def test_the_step_descends_the_stated_loss(x64):
    """The oracle itself, and with it the 1/N, against finite differences of L(W)."""
    x, y, queries, w0 = problem(3)
    descended = w0 - 0.3 * oracle.gradient(lambda w: oracle.loss(w, x, y), w0)
    given = in_context_gd(*map(jnp.asarray, (x, y, queries)), learning_rate=0.3, w0=jnp.asarray(w0))
    np.testing.assert_allclose(given, queries @ descended.T, atol=1e-8)


def test_the_query_is_not_part_of_its_own_context(x64):
    """With its label in the last layer's keys and values, two steps would differ; and the label entry is an input."""
    x, y, queries, _ = problem(1)
    model = gd_model(D, 1, N, 0.3, steps=2)
    tokens = to_tokens(*map(jnp.asarray, (x, y, queries[0])))
    shifted = model(tokens.at[-1, -1].add(0.7))
    np.testing.assert_allclose(shifted, model(tokens) - 0.7, atol=1e-12)


# ---- 2: GD++ -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("start", [False, True])
@pytest.mark.parametrize("outputs", [1, 3])
def test_gd_plus_plus_is_the_explicit_recursion(outputs, start, x64):
    x, y, queries, w0 = problem(outputs)
    settings = dict(learning_rate=0.3, gamma=0.04, steps=4)
    wanted = oracle.gd_plus_plus(x, y, queries, w0=w0 if start else None, **settings)
    w0 = jnp.asarray(w0) if start else None
    given = in_context_gd(*map(jnp.asarray, (x, y, queries)), w0=w0, **settings)
    np.testing.assert_allclose(given, wanted, atol=1e-12)
    model = gd_model(D, outputs, N, 0.3, steps=4, gamma=0.04, w0=w0)
    np.testing.assert_allclose(predict(model, x, y, queries), wanted, atol=1e-12)


def test_one_step_of_gd_plus_plus_is_one_step_of_gradient_descent(x64):
    parts = list(map(jnp.asarray, problem(1)[:3]))
    one, two = (
        [in_context_gd(*parts, learning_rate=0.3, steps=steps, gamma=gamma) for gamma in (0.0, 0.04)]
        for steps in (1, 2)
    )
    np.testing.assert_allclose(one[0], one[1], atol=1e-12)
    assert float(jnp.max(jnp.abs(two[0] - two[1]))) > 1e-3


def test_step_size_and_transformation_are_learned_by_gradient(x64):
    x, y, queries, _ = problem(1)

    def loss(numbers):
        return jnp.sum(predict(gd_model(D, 1, N, numbers[0], steps=3, gamma=numbers[1]), x, y, queries) ** 2)

    def loop_loss(numbers):
        return np.sum(oracle.gd_plus_plus(x, y, queries, learning_rate=numbers[0], gamma=numbers[1], steps=3) ** 2)

    start = np.array([0.3, 0.04])
    slopes = [(loop_loss(start + step) - loop_loss(start - step)) / 2e-6 for step in 1e-6 * np.eye(2)]
    np.testing.assert_allclose(jax.jit(jax.grad(loss))(jnp.asarray(start)), slopes, rtol=1e-6)


def test_construction_sweeps_by_vmap():
    rates = jnp.array([0.1, 0.2])
    layers = eqx.filter_vmap(lambda rate: gd_construction(D, 1, N, rate))(rates)
    assert layers.projections.output.shape == (2, 1, D + 1, D + 1)
    np.testing.assert_allclose(layers.projections.output[:, 0, D, D], rates / N)


# ---- weights of examples -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.04])
def test_a_weight_of_two_is_the_example_twice(gamma, x64):
    x, y, queries, _ = map(jnp.asarray, problem(1))
    weights = jnp.ones(N).at[2].set(2.0).at[4].set(0.0)
    given = in_context_gd(x, y, queries, learning_rate=0.3, steps=3, gamma=gamma, weights=weights)
    chosen = jnp.array([0, 1, 2, 2, 3, 5, 6])
    wanted = in_context_gd(x[chosen], y[chosen], queries, learning_rate=0.3, steps=3, gamma=gamma)
    np.testing.assert_allclose(given, wanted, atol=1e-12)


# ---- 3: the best step size ---------------------------------------------------------------------------------


def test_best_step_size_in_closed_form():
    best = optimal_learning_rate(10, 10, 1.0)
    np.testing.assert_allclose(best.learning_rate, 6.0606, rtol=1e-5)
    np.testing.assert_allclose(best.loss, 0.20623, rtol=2e-5)
    # Inputs twice as wide: a quarter of the step, four times the loss.
    wide = optimal_learning_rate(10, 10, 2.0)
    np.testing.assert_allclose([wide.learning_rate, wide.loss], [6.0606 / 4, 0.20623 * 4], rtol=2e-5)


@pytest.mark.parametrize(("dim", "num_context", "input_range"), [(10, 10, 1.0), (3, 5, 2.0)])
def test_best_step_size_by_sampling(dim, num_context, input_range):
    task = LinearRegression(dim=dim, num_context=num_context, input_range=input_range)
    best = optimal_learning_rate(dim, num_context, input_range)

    @jax.jit
    def mean_losses(rates):
        keys = jax.random.split(jax.random.key(0), 100_000)
        examples = jax.vmap(lambda key: task.sample(key, "test"))(keys)

        def mean_loss(rate):
            model = gd_model(dim, 1, num_context, rate)
            return jnp.mean(jax.vmap(lambda example: task.loss(model(example.inputs), example))(examples))

        return jax.lax.map(mean_loss, rates)

    factors = jnp.array([0.9, 1.0, 1.1])
    losses = mean_losses(best.learning_rate * factors)
    np.testing.assert_allclose(losses[1], best.loss, rtol=0.01)
    # The three losses share their tasks: the vertex of the parabola through them is the best step size.
    a, b, _ = np.polyfit(np.asarray(factors), np.asarray(losses), 2)
    np.testing.assert_allclose(-b / (2 * a), 1.0, rtol=0.01)


def test_line_search_rejects_what_is_not_finite():
    found = line_search(
        lambda c: jnp.where(c[0] > 2.0, jnp.nan, jnp.where(c[0] < 0.0, jnp.inf, -c[0] + c[1])),
        candidate_grid(jnp.array([-1.0, 1.0, 2.0, 3.0]), jnp.array([5.0, 4.0])),
    )
    assert [float(value) for value in found.best] == [2.0, 4.0]
    assert float(found.loss) == 2.0
    assert np.isinf(np.asarray(found.losses)).sum() == 4
    with pytest.raises(Exception, match="no candidate of the line search has a finite loss"):
        line_search(lambda rate: jnp.log(-rate), jnp.array([1.0, 2.0]))


# ---- 6 and 7: laws -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.0, 0.04])
def test_order_of_the_context_does_not_matter(gamma, x64):
    x, y, queries, _ = problem(1)
    order = np.random.default_rng(1).permutation(N)
    model = gd_model(D, 1, N, 0.3, steps=3, gamma=gamma)
    np.testing.assert_allclose(predict(model, x[order], y[order], queries), predict(model, x, y, queries), atol=1e-12)


def test_orthogonal_inputs_are_solved_in_one_step(x64):
    """If X^T X = c I, one step of size N / c has no error."""
    numbers = np.random.default_rng(0)
    basis, _ = np.linalg.qr(numbers.standard_normal((N, D)))
    c, w, queries = 2.5, numbers.standard_normal((3, D)), numbers.standard_normal((3, D))
    x = np.sqrt(c) * basis
    model = gd_model(D, 3, N, N / c)
    np.testing.assert_allclose(predict(model, x, x @ w.T, queries), queries @ w.T, atol=1e-12)


# ---- refusals ----------------------------------------------------------------------------------------------


def test_refusals():
    with pytest.raises(ValueError, match=r"w0 must have shape \(1, 4\) \[o d\], not \(4, 1\)"):
        gd_construction(D, 1, N, 0.1, w0=jnp.zeros((4, 1)))
    with pytest.raises(ValueError, match="num_context must be at least 1"):
        gd_construction(D, 1, 0, 0.1)
    with pytest.raises(ValueError, match="steps must be at least 1"):
        gd_model(D, 1, N, 0.1, steps=0)


def test_construction_has_the_paper_sizes():
    layer = gd_construction(10, 1, 10, 6.0)
    assert isinstance(layer, LinearSelfAttention)
    assert layer.projections.query.shape == (1, 11, 11)
