"""Co-player inference: identities in float64, posteriors against counting, plans against recursion, roll-outs."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
import scipy.stats

import innerloop as il
from innerloop.rl.coplayer import (
    BetaPosterior,
    GameModel,
    TabularPool,
    action_values,
    best_response,
    boltzmann_tilt,
    chain_rewards,
    exact_action_values,
    expected_loss_at_visit,
    log_sequence_probability,
    loss_floor,
    predictive_losses,
    random_games,
    repeated_tilt,
    tilt_objective,
)
from oracles import coplayer as oracle

TIT_FOR_TAT, ALL_C, ALL_D, GRIM = ([1, 1, 0, 1, 0], [1] * 5, [0] * 5, [1, 1, 0, 0, 0])
PAVLOV = [1, 1, 0, 0, 1]
GAME = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=6)


def table(entries):
    return jnp.asarray(entries, jnp.zeros(()).dtype)


# ---- the tilt ----


def test_tilt_is_the_argmax_of_its_objective(x64):
    rng = np.random.default_rng(0)
    for beta in (0.1, 1.0, 5.0):
        prior, values = np.log(rng.dirichlet(np.ones(3))), rng.normal(size=3)
        tilted = np.asarray(boltzmann_tilt(jnp.asarray(prior), jnp.asarray(values), beta))

        def loss(x, prior=prior, values=values, beta=beta):
            policy = x - np.log(np.exp(x).sum())
            return -float(np.exp(policy) @ (values - (policy - prior) / beta))

        found = scipy.optimize.minimize(loss, np.zeros(3), method="BFGS", options=dict(gtol=1e-10)).x
        np.testing.assert_allclose(np.exp(tilted), np.exp(found) / np.exp(found).sum(), atol=1e-6)
        best = float(tilt_objective(jnp.asarray(tilted), jnp.asarray(prior), jnp.asarray(values), beta))
        assert best == pytest.approx(-loss(found), abs=1e-8) and best >= -loss(found) - 1e-12


def test_tilt_of_two_actions_is_a_sigmoid_and_ignores_constants(x64):
    logits, gap = jnp.zeros(2), 1.7
    tilted = boltzmann_tilt(logits, jnp.asarray([gap, 0.0]), 0.6)
    np.testing.assert_allclose(np.exp(tilted[0]), 1 / (1 + np.exp(-0.6 * gap)), atol=1e-12)
    prior = jnp.log(jnp.asarray([0.3, 0.7]))
    np.testing.assert_allclose(boltzmann_tilt(prior, jnp.asarray([5.0, -2.0]), 0.0), prior, atol=1e-12)
    shifted = [boltzmann_tilt(prior, jnp.asarray([5.0, -2.0]) + c, 0.4) for c in (0.0, 1000.0)]
    np.testing.assert_allclose(*shifted, atol=1e-10)


def test_exact_distillations_add_up(x64):
    prior, values = jnp.log(jnp.asarray([0.8, 0.2])), jnp.asarray([1.0, 1.3])
    for times in (0, 1, 7):
        after = repeated_tilt(prior, values, 0.25, times=times)
        expected = (prior[0] - prior[1]) + times * 0.25 * (values[0] - values[1])
        np.testing.assert_allclose(after[0] - after[1], expected, atol=1e-12)


# ---- posteriors ----

VISITS = {1: 0.69315, 2: 0.63651, 3: 0.60594, 4: 0.58671, 5: 0.57346, 10: 0.54184, 50: 0.50955, 100: 0.50487}


def test_laplace_mixture(x64):
    n, k = 6, np.arange(7)
    actions = jnp.asarray(np.arange(n)[None] >= k[:, None], jnp.int32)
    losses = jax.jit(jax.vmap(lambda some: predictive_losses(jnp.zeros(n, jnp.int32), some)))(actions)
    expected = [oracle.sequence_probability(int(some), n) for some in k]
    np.testing.assert_allclose(np.exp(-losses.sum(axis=1)), expected, rtol=1e-10)
    found = log_sequence_probability(jnp.asarray(k, float), jnp.full(7, float(n)))
    np.testing.assert_allclose(np.exp(found), expected, rtol=1e-10)
    for visit, loss in VISITS.items():
        assert expected_loss_at_visit(visit) == pytest.approx(loss, abs=6e-6)


def test_predictions_are_those_of_counting(x64):
    games = random_games(jax.random.key(0), TabularPool(1.0), num_games=1, num_rounds=40)
    for player in (0, 1):
        views, actions = games.views[0, :, player], games.actions[0, :, player]
        found = predictive_losses(views, actions)
        np.testing.assert_allclose(found, oracle.laplace_losses(views.tolist(), actions.tolist()), atol=1e-12)


def test_loss_floor():
    """0.5400 +- 0.0003 from 60,000 games; 0.537 +- 0.002 (one standard error), from 3000 games, agrees with that."""
    found = np.asarray(jax.jit(lambda key: loss_floor(key, TabularPool(1.0), num_games=6000))(jax.random.key(0)))
    assert found.shape == (6000, 2)
    error = found.mean(axis=1).std() / np.sqrt(len(found))
    assert error < 0.0014
    np.testing.assert_allclose(found.mean(), 0.5400, atol=3 * error)
    np.testing.assert_allclose(found.mean(axis=0), 0.537, atol=2 * 0.002 + 0.003)


def test_posteriors_cover_the_truth():
    """The truth's place in its posterior, given what was seen, is uniform."""
    games = random_games(jax.random.key(1), TabularPool(0.5), num_games=400, num_rounds=30)

    def learn(views, actions):
        prior = BetaPosterior.prior(0.5)
        return jax.lax.scan(lambda posterior, seen: (posterior.update(*seen), None), prior, (views, actions))[0]

    posterior = jax.jit(jax.vmap(learn))(games.views[..., 1], games.actions[..., 1])
    places = scipy.stats.beta.cdf(games.cooperation[:, 1], *(np.asarray(counts) for counts in posterior))
    assert abs(places.mean() - 0.5) < 4 * np.sqrt(1 / 12 / places.size)
    assert np.mean((places > 0.05) & (places < 0.95)) == pytest.approx(0.9, abs=4 * np.sqrt(0.09 / places.size))


# ---- best responses and chains ----


def test_best_responses_to_famous_players(x64):
    for rounds in (2, 3, 10):
        for player, expected in ((TIT_FOR_TAT, rounds + 1), (GRIM, rounds + 1), (ALL_C, 2 * rounds), (ALL_D, 0)):
            plan = best_response(table(player), rounds)
            assert float(plan.values[-1, 0]) == expected
        cooperate = best_response(table(TIT_FOR_TAT), rounds).actions[:, 1].tolist()
        assert cooperate == [1] + [0] * (rounds - 1)  # the first entry is the plan for the last round
        always = chain_rewards(table(ALL_D), table(TIT_FOR_TAT), rounds)
        assert float(always[:, 0].sum()) == 2


def test_plans_are_those_of_recursion(x64):
    rng = np.random.default_rng(1)
    plan = jax.jit(lambda q: best_response(q, 7).values)
    for q in rng.uniform(size=(20, 5)):
        values = plan(jnp.asarray(q))
        for rounds in (1, 4, 7):
            for view in (0, 2, 3):
                expected = oracle.best_return(q, rounds, view)
                assert float(values[rounds - 1, view]) == pytest.approx(expected, abs=1e-12)


def test_chain_values_are_matrix_powers(x64):
    rng = np.random.default_rng(2)
    for p, q in rng.uniform(size=(10, 2, 5)):
        found = chain_rewards(jnp.asarray(p), jnp.asarray(q), 9, start=2).sum(axis=0)
        np.testing.assert_allclose(found, oracle.chain_returns(p, q, 9, view=2), atol=1e-12)


def test_model_roll_outs_converge_to_the_chain():
    rng = np.random.default_rng(3)
    p, q = rng.uniform(size=(2, 5))
    model = GameModel(table(p), table(q))
    horizon, count = 6, 4000

    def one(key):
        return action_values(model, key, jnp.asarray(3, jnp.int32), horizon=horizon, num_samples=1)

    returns = np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), count)))
    for action in (0, 1):
        first = p.copy()
        first[3] = 1.0 - action
        # Only the first action is forced: one round by hand, the rest by the chain.
        b = q[oracle.other_view(3)]
        exact = sum(
            weight * (oracle.REWARD[action, v] + oracle.chain_returns(p, q, horizon - 1, 1 + 2 * action + v)[0])
            for v, weight in ((0, b), (1, 1 - b))
        )
        error = returns[:, action].std() / np.sqrt(count)
        assert abs(returns[:, action].mean() - exact) < 4 * error
        found = exact_action_values(model, jnp.asarray(3, jnp.int32), horizon=horizon)[action] if horizon < 4 else exact
        assert float(found) == pytest.approx(exact, abs=1e-5)


def test_enumerated_futures_are_exact(x64):
    rng = np.random.default_rng(4)
    p, q = rng.uniform(size=(2, 5))
    found = exact_action_values(GameModel(table(p), table(q)), jnp.asarray(0, jnp.int32), horizon=3)
    for action in (0, 1):
        exact = sum(
            weight * (oracle.REWARD[action, v] + oracle.chain_returns(p, q, 2, 1 + 2 * action + v)[0])
            for v, weight in ((0, q[0]), (1, 1 - q[0]))
        )
        assert float(found[action]) == pytest.approx(exact, abs=1e-10)


# ---- the lemma and its equilibrium ----


def two_step_values(policy_logits, prior_logits, q, beta, *, histories):
    """J and its surrogate in a game of two rounds, by enumeration; histories by the policy or by the prior."""
    policy, prior = jax.nn.log_softmax(policy_logits), jax.nn.log_softmax(prior_logits)
    reach = policy if histories == "policy" else prior
    total = tilt_objective(policy[0], prior[0], jnp.zeros(2), beta)
    for u, v in itertools.product((0, 1), (0, 1)):
        view = 1 + 2 * u + v
        weight = jnp.where(v == 0, q[0], 1 - q[0])
        reward = oracle.REWARD[u, v]
        other = q[oracle.other_view(view)]
        expected = jnp.asarray([other * oracle.REWARD[a, 0] + (1 - other) * oracle.REWARD[a, 1] for a in (0, 1)])
        later = tilt_objective(policy[view], prior[view], expected, beta)
        total = total + jnp.exp(policy[0, u]) * weight * reward + jnp.exp(reach[0, u]) * weight * later
        if histories == "prior":
            # The return of the first action is that of the future drawn from the prior.
            value = jnp.exp(prior[view]) @ expected
            total = total + (jnp.exp(policy[0, u]) - jnp.exp(prior[0, u])) * weight * value
    return total


def test_value_and_surrogate_agree_to_first_order_only(x64):
    rng = np.random.default_rng(5)
    prior, q, beta = jnp.asarray(rng.normal(size=(5, 2))), jnp.asarray(rng.uniform(size=5)), 0.7
    true = lambda x: two_step_values(x, prior, q, beta, histories="policy")  # noqa: E731
    surrogate = lambda x: two_step_values(x, prior, q, beta, histories="prior")  # noqa: E731
    see = jax.jit(lambda x: [(f(x), jax.grad(f)(x), jax.hessian(f)(x)) for f in (true, surrogate)])
    (value, gradient, curvature), (other_value, other_gradient, other_curvature) = see(prior)
    np.testing.assert_allclose(value, other_value, atol=1e-12)
    np.testing.assert_allclose(gradient, other_gradient, atol=1e-10)
    assert float(jnp.abs(gradient).max()) > 1e-2
    assert float(jnp.abs(curvature - other_curvature).max()) > 1e-3
    # The surrogate's maximiser is the tilt by the values under the prior.
    tilted = jnp.stack([boltzmann_tilt(prior[view], exact_from(prior, q, view), beta) for view in range(5)])
    assert float(jnp.abs(see(tilted)[1][1]).max()) < 1e-10


def exact_from(prior, q, view):
    """The values at a view under the prior, with two rounds to go at the start and one later."""
    own = jnp.exp(jax.nn.log_softmax(prior)[:, 0])
    return exact_action_values(GameModel(own, q), jnp.asarray(view, jnp.int32), horizon=2 if view == 0 else 1)


def test_a_policy_that_is_its_own_tilt_earns_the_same_with_every_action(x64):
    """Stag hunt with the other's stags at the right rate: only with equal values is the tilt the prior."""
    prior = jnp.log(jnp.asarray([0.35, 0.65]))
    payoffs = jnp.asarray(il.STAG_HUNT)

    def values(p):
        return payoffs @ jnp.stack([p, 1 - p])

    # The share of stags at which both actions earn the same: 4p = 3p + 2(1 - p).
    fixed = values(jnp.asarray(2 / 3))
    np.testing.assert_allclose(boltzmann_tilt(prior, fixed, 0.8), prior, atol=1e-12)
    assert abs(float(fixed[0] - fixed[1])) < 1e-10
    for p in (0.2, 0.5, 0.9):
        moved = boltzmann_tilt(prior, values(jnp.asarray(p)), 0.8)
        gap = float(values(jnp.asarray(p))[0] - values(jnp.asarray(p))[1])
        np.testing.assert_allclose((moved - prior)[0] - (moved - prior)[1], 0.8 * gap, atol=1e-12)
