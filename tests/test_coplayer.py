"""Co-player inference: identities in float64, posteriors against counting, plans against recursion, roll-outs."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.optimize

import innerloop as il
from innerloop.rl.coplayer import (
    BayesPlanner,
    BetaPosterior,
    GameModel,
    MixedPool,
    MixtureModel,
    Planning,
    PredictivePolicy,
    PredictivePolicyImprovement,
    SequenceModel,
    TabularPool,
    action_values,
    best_response,
    boltzmann_tilt,
    chain_rewards,
    exact_action_values,
    expected_loss_at_visit,
    identity_vector,
    log_sequence_probability,
    loss_floor,
    predictive_losses,
    random_games,
    repeated_tilt,
    swap_view,
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
    for k, n in itertools.product(range(5), range(4, 9)):
        actions = [0] * k + [1] * (n - k)
        total = predictive_losses(jnp.zeros(n, jnp.int32), jnp.asarray(actions, jnp.int32)).sum()
        expected = oracle.sequence_probability(k, n)
        np.testing.assert_allclose(np.exp(-total), expected, rtol=1e-10)
        found = log_sequence_probability(jnp.asarray(float(k)), jnp.asarray(float(n)))
        np.testing.assert_allclose(np.exp(found), expected, rtol=1e-10)
    for visit, loss in VISITS.items():
        assert float(expected_loss_at_visit(visit)) == pytest.approx(loss, abs=6e-6)


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
    """The law of the table entries given what was seen: ranks of the truth among draws are uniform."""
    games = random_games(jax.random.key(1), TabularPool(0.5), num_games=400, num_rounds=30)

    def rank(views, actions, q, key):
        def advance(posterior, seen):
            return posterior.update(*seen), None

        posterior, _ = jax.lax.scan(advance, BetaPosterior.prior(0.5), (views, actions))
        draws = jax.vmap(posterior.sample)(jax.random.split(key, 50))
        return jnp.mean(jnp.where(draws < q[None], 1.0, 0.0), axis=0)

    keys = jax.random.split(jax.random.key(2), 400)
    ranks = np.asarray(
        jax.jit(jax.vmap(rank))(games.views[..., 1], games.actions[..., 1], games.cooperation[:, 1], keys)
    )
    assert abs(ranks.mean() - 0.5) < 4 * np.sqrt(1 / 12 / ranks.size)
    assert np.mean((ranks > 0.05) & (ranks < 0.95)) == pytest.approx(0.9, abs=0.04)


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
    np.testing.assert_allclose(true(prior), surrogate(prior), atol=1e-12)
    gradients = jax.grad(true)(prior), jax.grad(surrogate)(prior)
    np.testing.assert_allclose(*gradients, atol=1e-10)
    assert float(jnp.abs(gradients[0]).max()) > 1e-2
    second = jax.hessian(true)(prior), jax.hessian(surrogate)(prior)
    assert float(jnp.abs(second[0] - second[1]).max()) > 1e-3
    # The surrogate's maximiser is the tilt by the values under the prior.
    tilted = jnp.stack([boltzmann_tilt(prior[view], exact_from(prior, q, view), beta) for view in range(5)])
    assert float(jnp.abs(jax.grad(surrogate)(tilted)).max()) < 1e-10


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


# ---- views and pools ----


def test_views_of_both_sides_agree():
    assert swap_view(jnp.arange(5)).tolist() == [oracle.other_view(s) for s in range(5)] == [0, 1, 3, 2, 4]
    agents = tuple(il.MemoryOne(table([0.5] * 5)) for _ in range(2))
    trajectory, _ = il.rollout(GAME, agents, jax.random.key(0), 12)
    views, actions = np.asarray(trajectory.next_observation), np.asarray(trajectory.action)
    np.testing.assert_array_equal(swap_view(jnp.asarray(views[:, 0])), views[:, 1])
    for player in (0, 1):
        expected = [oracle.REWARD[tuple(oracle.VIEWS[view - 1])] for view in views[:, player]]
        np.testing.assert_array_equal(trajectory.reward[:, player], expected)
        np.testing.assert_array_equal((views[:, player] - 1) // 2, actions[:, player])


def test_identity_vectors():
    vector = identity_vector(table([0.0, 0.3, 0.5, 0.9, 1.0]))
    assert vector.shape == (10,)
    np.testing.assert_allclose(np.exp(np.asarray(vector)).reshape(5, 2).sum(axis=1), 1, atol=1e-6)
    assert float(jnp.exp(vector[2])) == pytest.approx(0.3, abs=1e-6)


def test_a_mixed_pool_deals_the_episodes_it_says():
    pool = MixedPool(GAME, TabularPool(1.0), against_tabular=3, against_learners=2)
    always = il.MemoryOne(table(ALL_C))
    episodes = jax.jit(lambda key: pool.play(key, (lambda _: always, lambda _: il.MemoryOne(table(ALL_D)))))(
        jax.random.key(0)
    )
    assert episodes.observations.shape == (2, 5, 7) and episodes.actions.shape == (2, 5, 6)
    assert episodes.with_learner.tolist() == [[False] * 3 + [True] * 2] * 2
    assert not np.any(np.asarray(episodes.identity)[:, 3:]) and np.all(np.asarray(episodes.identity)[:, :3] < 0)
    np.testing.assert_array_equal(episodes.actions[0], 0)
    np.testing.assert_array_equal(episodes.rewards[:, 3:].mean(axis=(1, 2)), [-1.0, 2.0])
    # The stream of the loser and of the winner of one game are two views of it.
    np.testing.assert_array_equal(swap_view(episodes.observations[0, 3:]), episodes.observations[1, 3:])
    for observations, rewards in zip(episodes.observations[0], episodes.rewards[0], strict=True):
        expected = [oracle.REWARD[tuple(oracle.VIEWS[view - 1])] for view in observations[1:].tolist()]
        np.testing.assert_array_equal(rewards, expected)
    first = jax.jit(lambda key: pool.random_episodes(key, 400, uniform=True))(jax.random.key(1))
    assert np.asarray(first.actions).mean() == pytest.approx(0.5, abs=0.05) and not np.any(first.identity)


def test_bad_pools_are_refused():
    with pytest.raises(ValueError, match="nobody to play with"):
        MixedPool(GAME, TabularPool(1.0), 0, 0)
    with pytest.raises(ValueError, match="concentration must be above 0"):
        TabularPool(0.0)
    with pytest.raises(ValueError, match="two are needed"):
        MixedPool(GAME, TabularPool(1.0), 0, 2).play(jax.random.key(0), (lambda _: il.MemoryOne(table(ALL_C)),))
    with pytest.raises(ValueError, match="horizon must be at least 1"):
        BayesPlanner(horizon=0)


# ---- agents ----


def late_cooperation(agent, *players, rounds=60):
    game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=rounds)

    def play(player, key):
        return il.rollout(game, (agent, il.MemoryOne(player)), key, rounds)[0].action[-15:, 0]

    keys = jax.random.split(jax.random.key(0), (len(players), 40))
    actions = jax.jit(jax.vmap(lambda player, some: jax.vmap(lambda key: play(player, key))(some)))(
        table(players), keys
    )
    return np.mean(np.asarray(actions) == 0, axis=(1, 2)).tolist()


def test_a_bayesian_planner_answers_best_to_whom_it_meets():
    agent = BayesPlanner(concentration=0.25, planning=Planning.THOMPSON, commitment=5)
    tit_for_tat, all_d, all_c = late_cooperation(agent, TIT_FOR_TAT, ALL_D, ALL_C)
    assert tit_for_tat > 0.8 and all_d < 0.2 and all_c < 0.2
    assert late_cooperation(BayesPlanner(1.0, learns=False), TIT_FOR_TAT) == [0.0]


def test_the_mixture_model_predicts_as_the_posterior_does(x64):
    games = random_games(jax.random.key(3), TabularPool(1.0), num_games=1, num_rounds=12)
    model, memory = MixtureModel(), MixtureModel().init_memory()
    expected = [predictive_losses(games.views[0, :, i], games.actions[0, :, i]) for i in (0, 1)]
    for time in range(12):
        own, other = games.actions[0, time, 0], games.actions[0, time, 1]
        memory, logits, _ = model.see(memory, games.views[0, time, 0])
        np.testing.assert_allclose(-jax.nn.log_softmax(logits)[own], expected[0][time], atol=1e-10)
        memory, logits = model.do(memory, own)
        np.testing.assert_allclose(-jax.nn.log_softmax(logits)[1 + 2 * own + other], expected[1][time], atol=1e-10)


@pytest.fixture(scope="module")
def model():
    return SequenceModel.random(5, 2, width=6, identity_size=10, key=jax.random.key(0))


def test_a_sequence_model_says_the_same_in_one_go_and_step_by_step(model):
    observations, actions = jnp.asarray([0, 1, 4, 2]), jnp.asarray([0, 1, 0])
    rewards, identity = jnp.asarray([1.0, 0.0, -1.0]), jnp.linspace(-1.0, 1.0, 10)
    losses = eqx.filter_jit(lambda m: m.losses(observations, actions, rewards, identity))(model)
    see, do = eqx.filter_jit(model.see), eqx.filter_jit(model.do)
    memory, logits, _ = see(model.init_memory(), observations[0], identity)
    for time in range(3):
        assert float(-jax.nn.log_softmax(logits)[actions[time]]) == pytest.approx(float(losses.action[time]), abs=1e-5)
        memory, next_logits = do(memory, actions[time])
        found = -jax.nn.log_softmax(next_logits)[observations[time + 1]]
        assert float(found) == pytest.approx(float(losses.observation[time]), abs=1e-5)
        memory, logits, reward = see(memory, observations[time + 1], identity)
        assert float((reward - rewards[time]) ** 2) == pytest.approx(float(losses.reward[time]), abs=1e-5)


def test_who_it_is_reaches_the_policy_at_every_step(model):
    observations, actions, rewards = jnp.asarray([0, 1, 4, 2]), jnp.asarray([0, 1, 0]), jnp.zeros(3)
    run = eqx.filter_jit(lambda m, z: m.losses(observations, actions, rewards, z).action)
    difference = np.abs(np.asarray(run(model, jnp.ones(10)) - run(model, jnp.zeros(10))))
    assert np.all(difference > 1e-6)


# ---- the phase loop ----


def improvement(**changes):
    settings = dict(num_first=12, num_phases=3, epochs=1, batch_size=6)
    pool = MixedPool(GAME, TabularPool(0.25), against_tabular=3, against_learners=3)
    return PredictivePolicyImprovement(
        pool,
        lambda key: SequenceModel.random(5, 2, width=4, key=key),
        lambda model: PredictivePolicy(model, beta=0.5, horizon=2, num_samples=2),
        optax.adam(1e-2),
        **{**settings, **changes},
    )


def test_phases_play_keep_everything_and_start_afresh():
    step = improvement()
    assert step.starts.tolist() == [0, 2, 5, 9] and step.num_steps == 9
    state = eqx.filter_jit(step.init)(jax.random.key(0))
    seen = [(int(state.count), np.asarray(state.models.action_embedding))]
    run = eqx.filter_jit(step)
    first = np.asarray(state.episodes.actions[:, :12])
    assert not np.any(np.asarray(state.episodes.with_learner))
    for number in range(step.num_steps):
        state, info = run(jax.random.fold_in(jax.random.key(1), number), state)
        seen.append((int(state.count), np.asarray(state.models.action_embedding)))
    counts = [count for count, _ in seen]
    assert counts == [12, 12, 12, 18, 18, 18, 24, 24, 24, 24]
    np.testing.assert_array_equal(first, state.episodes.actions[:, :12])
    np.testing.assert_array_equal(state.episodes.with_learner[0], [False] * 15 + [True] * 3 + [False] * 3 + [True] * 3)
    assert np.all(np.asarray(state.episodes.observations[:, 12:, 1:]) > 0)  # no room is left empty
    # Two learners, of one law but not of one mind; within a phase the model moves little, between phases it is another.
    assert np.abs(seen[0][1][0] - seen[0][1][1]).max() > 0.1
    moves = [np.abs(after - before).max() for (_, before), (_, after) in itertools.pairwise(seen)]
    assert min(moves[2], moves[5]) > 5 * max(moves[i] for i in (0, 1, 3, 4, 6, 7, 8))
    assert float(info["mutual_reward"]) != 0.0 and np.isfinite(float(info["action_loss"]))


def test_what_plays_is_the_tilted_policy_and_not_the_prediction():
    """Against a model that believes in an unconditional co-player, the tilt defects whatever the prediction."""
    model = GameModel(table([0.9] * 5), table([0.5] * 5))
    game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=40)

    def cooperation(beta):
        agent = PredictivePolicy(model, beta=beta, horizon=1, num_samples=8)
        trajectory, _ = il.rollout(game, (agent, il.MemoryOne(table([0.5] * 5))), jax.random.key(0), 40)
        return float(np.mean(np.asarray(trajectory.action[:, 0]) == 0))

    assert cooperation(0.0) > 0.75 and cooperation(20.0) < 0.15
