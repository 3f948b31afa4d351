"""Shaping estimators: their expectations over all histories of a small game, Algorithm 1, and what must be equal."""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop import ShapingEstimator
from oracles import shaping as oracle

THETA = np.array([[0.2, -0.3, 0.5, -0.1, 0.4], [-0.6, 0.1, 0.3, -0.2, 0.7]])
PSI0 = np.array([0.1, 0.4, -0.2, 0.3, -0.5])
TRUE_GRADIENT = [
    [-0.1513429539, -0.0225399186, -0.1014506142, -0.0191845562, -0.0919026154],
    [-0.1495896636, -0.0367392120, -0.0506075513, -0.0664440482, -0.0836330846],
]
UNAWARE_FIRST_ROW = [-0.1551636903, -0.0465515769, -0.0814147465, -0.0390595214, -0.0716397728]
STEPS = 2  # of an inner episode
EXACT = dict(rtol=0, atol=1e-13)


@functools.cache
def games(rate):
    return oracle.enumerate_games(
        lambda m, before, observation: THETA[m, observation], PSI0, copies=2, episodes=2, steps=STEPS, rate=rate
    )


@functools.cache
def games_of_one_who_remembers():
    """The ego's logits depend on what it saw last in the episode before."""
    table = np.random.default_rng(0).normal(size=(2, 5, 5))
    return table, oracle.enumerate_games(
        lambda m, before, observation: table[m, before, observation], PSI0, copies=2, episodes=2, steps=STEPS, rate=1.5
    )


def log_probabilities(table, games):
    """Of the ego's actions; `table[episode, before, observation]`."""
    episode = jnp.broadcast_to(jnp.arange(4) // STEPS, games["action"].shape)
    logit = table[episode, games["before"], games["observation"]]
    return jax.nn.log_sigmoid(jnp.where(games["action"] == 0, logit, -logit))


@functools.partial(jax.jit, static_argnames="estimator")
def expected_gradient(table, games, values, estimator):
    """The expectation of the gradient of our loss with our advantages, one meta-trajectory at a time."""

    def advantages(rewards, values):
        return il.shaping_advantages(
            rewards, values, discount=1.0, trace_decay=1.0, inner_length=STEPS, estimator=estimator
        )

    each = jax.vmap(advantages)(games["rewards"], values)

    def loss(table):
        def one(log_probability, advantage):
            return il.shaping_policy_gradient_loss(log_probability[None], advantage[None], estimator=estimator)

        return jnp.sum(games["probability"] * jax.vmap(one)(log_probabilities(table, games), each))

    return -jax.grad(loss)(table)


@jax.jit
def true_gradient(table, games):
    """The score of a whole history times its objective."""

    def surrogate(table):
        total = jnp.sum(log_probabilities(table, games), (1, 2))
        return jnp.sum(games["probability"] * total * jnp.mean(jnp.sum(games["rewards"], 2), 1))

    return jax.grad(surrogate)(table)


def own_history_values(games):
    """A random value for every own history: what was done and seen before each action."""
    joint = 2 * games["action"] + games["other"]
    random = np.random.default_rng(5)
    history, values = np.zeros_like(joint[:, :, 0]), []
    for l in range(joint.shape[2]):
        values.append(random.normal(size=4**l)[history])
        history = 4 * history + joint[:, :, l]
    return np.stack(values, 2)


def spread(theta):
    """A policy that forgets, as a table over what it saw in the episode before."""
    return jnp.broadcast_to(jnp.asarray(theta)[:, None], (2, 5, 5))


def arrays(games):
    return {name: jnp.asarray(value) for name, value in games.items()}


def test_only_the_learning_aware_estimator_is_unbiased(x64):
    data, table = arrays(games(1.5)), spread(THETA)
    np.testing.assert_allclose(oracle.objective(games(1.5)), 1.7950214106, atol=1e-10)
    exact = true_gradient(table, data)
    nothing = jnp.zeros_like(data["rewards"])
    coala, m_fos, unaware = (expected_gradient(table, data, nothing, kind) for kind in ShapingEstimator)
    np.testing.assert_allclose(exact.sum(1), TRUE_GRADIENT, rtol=0, atol=1e-10)
    np.testing.assert_allclose(coala, exact, **EXACT)
    np.testing.assert_allclose(unaware.sum(1)[0], UNAWARE_FIRST_ROW, rtol=0, atol=1e-10)
    # In the last inner episode nobody learns any more.
    np.testing.assert_allclose(unaware[1], exact[1], **EXACT)
    # An ego that forgets cannot see the difference between the mean future and its own.
    np.testing.assert_allclose(m_fos, 2 * unaware, **EXACT)


def test_any_value_of_the_own_history_is_a_baseline(x64):
    values = own_history_values(games(1.5))
    data, table = arrays(games(1.5)), spread(THETA)
    coala = expected_gradient(table, data, jnp.asarray(values), ShapingEstimator.COALA)
    np.testing.assert_allclose(coala, true_gradient(table, data), **EXACT)
    unaware = expected_gradient(table, data, jnp.asarray(values), ShapingEstimator.BATCH_UNAWARE)
    np.testing.assert_allclose(unaware.sum(1)[0], UNAWARE_FIRST_ROW, rtol=0, atol=1e-10)


def test_it_is_unbiased_for_an_ego_that_remembers(x64):
    """There M-FOS is not a multiple of the batch-unaware estimator."""
    table, all_games = games_of_one_who_remembers()
    data, table = arrays(all_games), jnp.asarray(table)
    values = jnp.asarray(own_history_values(all_games))
    exact = true_gradient(table, data)
    coala, m_fos, unaware = (expected_gradient(table, data, values, kind) for kind in ShapingEstimator)
    np.testing.assert_allclose(coala, exact, **EXACT)
    assert np.max(np.abs(m_fos / 2 - exact)) > 1e-3
    assert np.max(np.abs(unaware - exact)) > 1e-3
    assert np.max(np.abs(m_fos - 2 * unaware)) > 1e-3


def test_all_agree_if_the_co_player_does_not_learn(x64):
    data, table = arrays(games(0.0)), spread(THETA)
    exact = true_gradient(table, data)
    nothing = jnp.zeros_like(data["rewards"])
    coala, m_fos, unaware = (expected_gradient(table, data, nothing, kind) for kind in ShapingEstimator)
    np.testing.assert_allclose(coala, exact, **EXACT)
    np.testing.assert_allclose(unaware, exact, **EXACT)
    np.testing.assert_allclose(m_fos / 2, exact, **EXACT)


@pytest.fixture
def meta_trajectory(x64):
    rewards, values = np.random.default_rng(1).normal(size=(2, 3, 12))
    return rewards, values


def advantages(rewards, values, estimator, *, inner_length, discount=1.0, trace_decay=1.0):
    return il.shaping_advantages(
        jnp.asarray(rewards),
        jnp.asarray(values),
        discount=discount,
        trace_decay=trace_decay,
        inner_length=inner_length,
        estimator=estimator,
    )


def test_one_copy_makes_all_estimators_one(meta_trajectory):
    rewards, values = (each[:1] for each in meta_trajectory)
    coala, m_fos, unaware = (advantages(rewards, values, kind, inner_length=4) for kind in ShapingEstimator)
    np.testing.assert_allclose(coala, m_fos, atol=1e-12)
    np.testing.assert_allclose(coala, unaware, atol=1e-12)


def test_one_episode_makes_the_aware_advantage_an_ordinary_one_divided_by_the_batch(meta_trajectory):
    rewards, values = meta_trajectory
    ours = advantages(rewards, values, ShapingEstimator.COALA, inner_length=12, discount=0.9, trace_decay=0.95)
    following = np.concatenate([values[:, 1:], np.zeros((3, 1))], 1)
    ordinary = jax.vmap(lambda r, v, n: il.generalised_advantages(r, v, n, discount=0.9, trace_decay=0.95))(
        *map(jnp.asarray, (rewards, values, following))
    )
    np.testing.assert_allclose(ours, ordinary / 3, atol=1e-12)


def test_advantages_are_the_sums_that_define_them(meta_trajectory):
    rewards, values = meta_trajectory
    for kind in ShapingEstimator:
        ours = advantages(rewards, np.zeros_like(values), kind, inner_length=4) * kind.weight(3)
        np.testing.assert_allclose(ours, oracle.weights(rewards, 4, kind.name), atol=1e-12)
    ours = advantages(rewards, values, ShapingEstimator.COALA, inner_length=4)
    np.testing.assert_allclose(ours, oracle.coala_advantages(rewards, values, 4), atol=1e-12)


@pytest.mark.parametrize("average", [True, False])
@pytest.mark.parametrize("normalise", [True, False])
def test_batch_lambda_returns_are_algorithm_1(meta_trajectory, average, normalise):
    rewards, values = meta_trajectory
    bootstrap = np.array([0.3, -0.7, 1.1])
    ours = il.batch_lambda_returns(
        jnp.asarray(rewards),
        jnp.asarray(values),
        discount=0.9,
        trace_decay=0.8,
        inner_length=4,
        average_future=average,
        normalise_current=normalise,
        bootstrap=jnp.asarray(bootstrap),
    )
    expected = oracle.batch_lambda_returns(
        rewards, values, discount=0.9, decay=0.8, steps=4, average=average, normalise=normalise, bootstrap=bootstrap
    )
    np.testing.assert_allclose(ours, expected, atol=1e-12)


R = [[1.0, 0.0, -1.0, 2.0], [2.0, -1.0, 1.0, 0.0]]
V = [[0.5, 0.25, -0.5, 1.0], [0.0, 1.0, 0.5, -0.25]]
VECTORS = [
    (ShapingEstimator.COALA, 1.0, [[0.893046875, 0.5453125, 0.725, 0.5], [1.661796875, 0.1703125, 0.24375, 0.125]]),
    (ShapingEstimator.M_FOS, 1.0, [[0.911796875, 0.1703125, 1.45, 1], [2.449296875, -0.5796875, 0.4875, 0.25]]),
    (ShapingEstimator.BATCH_UNAWARE, 1.0, [[1.346125, 0.6275, 1.45, 1], [2.01496875, -1.036875, 0.4875, 0.25]]),
    (
        ShapingEstimator.COALA,
        0.9,
        [[0.700612421875, 0.395453125, 0.6275, 0.5], [1.424737421875, -0.029546875, 0.244375, 0.125]],
    ),
]


@pytest.mark.parametrize(("estimator", "discount", "expected"), VECTORS)
def test_advantages_of_the_worked_example(x64, estimator, discount, expected):
    ours = advantages(np.array(R), np.array(V), estimator, inner_length=2, discount=discount, trace_decay=0.95)
    np.testing.assert_allclose(ours, expected, atol=1e-12)


def test_targets_and_returns_of_the_worked_example(x64):
    targets = il.shaping_value_targets(jnp.asarray(R), jnp.asarray(V), discount=1.0, trace_decay=0.95)
    np.testing.assert_allclose(targets, [[1.846125, 0.8775, 0.95, 2], [2.01496875, -0.036875, 0.9875, 0]], atol=1e-12)
    plain = advantages(np.array(R), np.zeros((2, 4)), ShapingEstimator.COALA, inner_length=2)
    np.testing.assert_allclose(plain, [[1.5, 1, 0.5, 1], [1.5, 0.5, 0.5, 0]], atol=1e-12)


def test_losses_sum_over_the_batch_and_average_over_co_players(x64):
    log_probabilities, shift, weights = map(jnp.asarray, np.random.default_rng(6).normal(size=(3, 2, 3, 4)))
    loss = il.shaping_policy_gradient_loss(log_probabilities, weights)
    np.testing.assert_allclose(loss, -np.sum(log_probabilities * weights) / 2, atol=1e-12)
    unaware = il.shaping_policy_gradient_loss(log_probabilities, weights, estimator=ShapingEstimator.BATCH_UNAWARE)
    np.testing.assert_allclose(unaware, loss / 3, atol=1e-12)
    for kind in ShapingEstimator:
        first = jax.grad(lambda x, k=kind: il.shaping_proximal_loss(x, log_probabilities, weights, estimator=k))
        plain = jax.grad(lambda x, k=kind: il.shaping_policy_gradient_loss(x, weights, estimator=k))
        np.testing.assert_allclose(first(log_probabilities), plain(log_probabilities), atol=1e-12)
    moved = jax.grad(lambda x: il.shaping_proximal_loss(x, log_probabilities, weights))(log_probabilities + shift)
    ratio = np.exp(shift)
    stuck = np.where(weights > 0, ratio > 1.2, ratio < 0.8)
    np.testing.assert_allclose(moved, np.where(stuck, 0, -ratio * weights / 2), atol=1e-12)


def test_forgotten_shaping_is_warned_of():
    zeros = np.zeros((2, 200), np.float32)
    with pytest.warns(UserWarning, match=r"0\.912.*200 steps.*2.5e-08"):
        advantages(zeros, zeros, ShapingEstimator.COALA, inner_length=10, discount=0.96, trace_decay=0.95)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        il.warn_of_lost_shaping(1.0, 1.0, 10_000, 10)
        il.warn_of_lost_shaping(0.9, 0.9, 10, 10)  # one episode: nobody is shaped
        jax.jit(lambda discount: il.warn_of_lost_shaping(discount, 1.0, 200, 10))(0.9)


def test_half_an_episode_is_refused():
    with pytest.raises(ValueError, match="its length 12 is not a multiple of 5"):
        advantages(np.zeros((2, 12), np.float32), np.zeros((2, 12), np.float32), ShapingEstimator.COALA, inner_length=5)
