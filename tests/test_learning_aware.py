"""Agents that learn about learners: exact statements first, then statistics with fixed keys."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import innerloop as il
from innerloop.rl.learning_aware.pool import draw_others, pick
from innerloop.rl.learning_aware.update import unroll_all
from oracles.naive_learners import actor_critic_update, reinforce_update

GAME = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=2)
PRECISE = dict(rtol=0, atol=1e-10)


def tabular(logits, values=None):
    """A policy whose action 0 has these logits, against zero for action 1."""
    logits = jnp.asarray(logits, jnp.float32)
    values = jnp.zeros_like(logits) if values is None else jnp.asarray(values, logits.dtype)
    return il.TabularPolicy(jnp.stack([logits, jnp.zeros_like(logits)], -1), values)


def hawk(key, *, form="recurrent", observation_size=5):
    """A recurrent policy whose heads are not zero, so that its memory matters."""
    policy = il.SequencePolicy.random(
        observation_size, 2, lambda one: il.HawkLayer(8, num_heads=2, key=one), form=form, key=key
    )
    heads = jax.random.normal(jax.random.fold_in(key, 1), (8, 3))
    return eqx.tree_at(lambda p: (p.logits, p.value), policy, (heads[:, :2], heads[:, 2]))


class Counting(il.AbstractPolicy):
    """Counts what it has seen, and does action 0 at even counts and action 1 at odd ones (or the other way round)."""

    sign: jax.Array

    def init_memory(self):
        return jnp.zeros((), jnp.int32)

    def look(self, memory, observation):
        certain = self.sign * jnp.where(memory % 2 == 0, 100.0, -100.0)
        return memory + 1, il.PolicyOutput(jnp.stack([certain, -certain]), memory.astype(jnp.float32))

    def unroll(self, observations, memory=None, *, resets=None):
        start = self.init_memory() if memory is None else memory
        memory, output = jax.lax.scan(lambda memory, one: self.look(memory, one), start, observations)
        return output, memory


class ByEpisode(il.AbstractPolicy):
    """A tabular policy for each inner episode: what the enumerated example of the unbiasedness tests plays."""

    logits: jax.Array  # of action 0: [m s]

    def init_memory(self):
        return jnp.zeros((), jnp.int32)

    def look(self, memory, observation):
        logit = self.logits[memory // GAME.num_steps, observation]
        return memory + 1, il.PolicyOutput(jnp.stack([logit, jnp.zeros_like(logit)]), jnp.zeros_like(logit))

    def unroll(self, observations, memory=None, *, resets=None):
        episode = jnp.arange(observations.shape[0]) // GAME.num_steps
        logits = self.logits[episode, observations]
        return il.PolicyOutput(jnp.stack([logits, jnp.zeros_like(logits)], -1), jnp.zeros_like(logits)), memory


def test_one_pass_is_twenty_chunks_with_the_memory_handed_over():
    policy = hawk(jax.random.key(0), form="parallel")
    seen = jax.random.randint(jax.random.key(1), (200,), 0, 5)

    @eqx.filter_jit
    def run(policy, seen):
        whole, memory = policy.unroll(seen)
        hand_over = lambda memory, chunk: policy.unroll(chunk, memory)[::-1]  # noqa: E731
        handed, chunks = jax.lax.scan(hand_over, policy.init_memory(), seen.reshape(20, 10))
        stepped, steps = jax.lax.scan(lambda memory, one: policy.look(memory, one), policy.init_memory(), seen)
        chunks = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), chunks)
        # Without the convolution's part of the memory the second chunk comes out otherwise.
        forgotten = jax.tree.map(lambda x: jnp.zeros_like(x) if x.ndim == 2 else x, policy.unroll(seen[:10])[1])
        return (whole, memory), (chunks, handed), (steps, stepped), policy.unroll(seen[10:20], forgotten)[0]

    whole, chunks, steps, forgotten = run(policy, seen)
    assert any(x.ndim == 2 for x in jax.tree.leaves(whole[1]))
    for other in (chunks, steps):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, other)
    assert float(jnp.abs(forgotten.logits - whole[0].logits[10:20]).max()) > 1e-3


def test_the_agent_remembers_the_meta_episode_and_the_learner_its_episode():
    game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=3)
    episode = il.MetaEpisode(game, il.NaiveReinforce(learning_rate=0.0), batch_size=4, num_episodes=3)
    ego, other = Counting(jnp.asarray(1.0)), Counting(jnp.asarray(-1.0))
    against_learner, _ = eqx.filter_jit(episode.against_learner)(jax.random.key(0), ego, other)
    against_agent = eqx.filter_jit(episode.against_agent)(jax.random.key(0), ego, other)
    alternating = np.arange(9) % 2
    assert (np.asarray(against_learner.ego.action) == alternating).all()
    assert (np.asarray(against_learner.other.action) == 1 - np.arange(9) % 3 % 2).all()
    assert (np.asarray(against_agent.ego.action) == alternating).all()
    assert (np.asarray(against_agent.other.action) == 1 - alternating).all()
    assert (np.asarray(against_learner.value) == np.arange(9)).all()
    # The world is reset at each boundary, and only there.
    starts = np.asarray(against_learner.ego.observation == 0)
    assert (starts == (np.arange(9) % 3 == 0)).all()
    own, others = against_learner.ego, against_learner.other
    payoff = np.asarray(il.PRISONERS_DILEMMA)
    assert (np.asarray(own.reward) == payoff[own.action, others.action]).all()
    assert (np.asarray(others.reward) == payoff[others.action, own.action]).all()


def test_what_was_said_in_play_is_what_the_loss_unrolls():
    episode = il.MetaEpisode(GAME, il.NaiveReinforce(), batch_size=3, num_episodes=4)
    ego = hawk(jax.random.key(0))
    trajectory, _ = eqx.filter_jit(episode.against_learner)(jax.random.key(1), ego, tabular([0.1, 0.2, 0.3, 0.4, 0.5]))
    output = jax.tree.map(lambda x: x[0], unroll_all(ego, trajectory.ego.observation[None]))
    np.testing.assert_allclose(output.value, trajectory.value, rtol=1e-4, atol=1e-5)
    said = il.log_probability(output.logits, trajectory.ego.action)
    np.testing.assert_allclose(said, trajectory.log_probability, rtol=1e-4, atol=1e-5)
    forgetful = jax.vmap(lambda one: ego.unroll(one, resets=jnp.arange(8) % 2 == 0)[0].value)
    assert float(jnp.abs(forgetful(trajectory.ego.observation) - trajectory.value).max()) > 1e-3


def test_a_learner_that_does_not_learn_is_an_agent():
    episode = il.MetaEpisode(GAME, il.NaiveReinforce(learning_rate=0.0), batch_size=3, num_episodes=4)
    ego, other = hawk(jax.random.key(0)), tabular([0.1, -0.2, 0.3, -0.4, 0.5])
    trajectory, learned = eqx.filter_jit(episode.against_learner)(jax.random.key(1), ego, other)
    assert eqx.tree_equal(learned.policy, other)
    assert eqx.tree_equal(trajectory, eqx.filter_jit(episode.against_agent)(jax.random.key(1), ego, other))
    learning = eqx.tree_at(lambda e: e.learner.learning_rate, episode, 5.0)
    changed, _ = eqx.filter_jit(learning.against_learner)(jax.random.key(1), ego, other)
    # The first episode is played before anything is learned, and the learner's own moves decide about later ones.
    assert (changed.other.action[:, :2] == trajectory.other.action[:, :2]).all()
    assert (changed.other.action != trajectory.other.action).any()


def test_the_learner_learns_from_each_episode_in_turn():
    episode = il.MetaEpisode(GAME, il.NaiveActorCritic(optimiser=optax.adam(0.3)), batch_size=3, num_episodes=3)
    first = tabular([0.1, -0.2, 0.3, -0.4, 0.5])
    trajectory, learned = eqx.filter_jit(episode.against_learner)(jax.random.key(1), tabular(PSI), first)
    state = episode.learner.init(jax.random.key(0), first)
    for m in range(3):
        state = eqx.filter_jit(episode.learner.update)(
            state, il.InnerEpisodes(*(x[:, 2 * m : 2 * m + 2] for x in trajectory.other))
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), state, learned)
    assert float(jnp.abs(learned.policy.logits - first.logits).max()) > 0.31  # more than one step can be


def some_episodes(seed=0, batch=4, steps=6):
    random = np.random.default_rng(seed)
    observation, action = random.integers(0, 5, (batch, steps)), random.integers(0, 2, (batch, steps))
    reward = random.normal(size=(batch, steps))
    return observation, action, reward, random.normal(size=(5, 2)), random.normal(size=5)


@pytest.mark.parametrize("normalise", [False, True])
def test_naive_learners_equal_their_formulas(x64, normalise):
    observation, action, reward, logits, values = some_episodes()
    episodes = il.InnerEpisodes(*map(jnp.asarray, (observation, action, reward)))
    policy = il.TabularPolicy(jnp.asarray(logits), jnp.asarray(values))
    plain = il.NaiveReinforce(learning_rate=0.7, discount=0.9, normalise=normalise)
    learned = plain.update(plain.init(jax.random.key(0), policy), episodes).policy
    expected = reinforce_update(logits, observation, action, reward, rate=0.7, discount=0.9, normalise=normalise)
    np.testing.assert_allclose(learned.logits, expected, **PRECISE)
    critic = il.NaiveActorCritic(
        optimiser=optax.sgd(0.3), discount=0.9, trace_decay=0.8, reward_scale=0.5, normalise=normalise
    )
    learned = critic.update(critic.init(jax.random.key(0), policy), episodes).policy
    expected = actor_critic_update(
        logits, values, observation, action, 0.5 * reward, rate=0.3, discount=0.9, decay=0.8, normalise=normalise
    )
    np.testing.assert_allclose(learned.logits, expected[0], **PRECISE)
    np.testing.assert_allclose(learned.values, expected[1], **PRECISE)


@eqx.filter_jit
def play(episode, ego, other, count):
    """Independent meta-trajectories against learners, in the precision of the test from then on."""
    keys = jax.random.split(jax.random.key(0), count)
    return jax.vmap(lambda one: episode.against_learner(one, ego, other)[0])(keys)


def precise(tree):
    return jax.tree.map(lambda x: x.astype(float) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree)


def update_of(estimator, **options):
    plain = dict(centre=False, value_coefficient=0.0, num_epochs=1, num_minibatches=1)
    plain |= dict(optimiser=optax.sgd(1.0), inner_length=GAME.num_steps)
    return il.LearningAwareUpdate(estimator=estimator, **{**plain, **options})


@eqx.filter_jit
def estimates(estimator, ego, trajectories, **options):
    """Minus the loss's gradient with respect to the logits: what the estimator says."""
    update = update_of(estimator, **options)
    learns = jnp.ones(trajectories.value.shape[0], bool)
    return -update.gradients(ego, update.prepare(trajectories, learns))[0].logits


# Enumerated over all joint action sequences in float64: B = M = T = 2, the true gradient of the mean return.
THETA = [[0.2, -0.3, 0.5, -0.1, 0.4], [-0.6, 0.1, 0.3, -0.2, 0.7]]
PSI = [0.1, 0.4, -0.2, 0.3, -0.5]
TRUE = [
    [-0.1513429539, -0.0225399186, -0.1014506142, -0.0191845562, -0.0919026154],
    [-0.1495896636, -0.0367392120, -0.0506075513, -0.0664440482, -0.0836330846],
]
UNAWARE = [[-0.1551636903, -0.0465515769, -0.0814147465, -0.0390595214, -0.0716397728], TRUE[1]]


def test_the_whole_way_from_play_to_gradient_is_unbiased():
    # A step of 1.5 on the logit of action 0 is one of 0.75 on the logits of both.
    episode = il.MetaEpisode(GAME, il.NaiveReinforce(learning_rate=0.75, normalise=False), batch_size=2, num_episodes=2)
    ego, naive = ByEpisode(jnp.asarray(THETA)), tabular(PSI)

    @eqx.filter_jit
    def measure(key):
        keys = jax.random.split(key, 40_000)
        trajectories = jax.vmap(lambda one: episode.against_learner(one, ego, naive)[0])(keys)
        return [estimates(e, ego, trajectories) for e in il.ShapingEstimator], jnp.mean(trajectories.ego.reward)

    runs = [measure(key) for key in jax.random.split(jax.random.key(0), 40)]
    coala, m_fos, unaware = (np.stack([run[0][i] for run in runs]) for i in range(3))

    def deviation(samples, expected):
        return (samples.mean(0) - np.asarray(expected)) / (samples.std(0, ddof=1) / np.sqrt(len(samples)))

    assert np.abs(deviation(coala, TRUE)).max() < 4
    assert np.abs(deviation(unaware, UNAWARE)).max() < 4
    assert np.abs(deviation(m_fos, 2 * np.asarray(UNAWARE))).max() < 4  # B times the batch-unaware one
    assert np.abs(deviation(unaware, TRUE)).max() > 8  # the samples suffice to see the bias
    returns = 4 * np.asarray([run[1] for run in runs])
    assert abs(returns.mean() - 1.7950214106) < 4 * returns.std(ddof=1) / np.sqrt(len(returns))


@pytest.mark.parametrize(("batch_size", "num_episodes"), [(1, 3), (3, 1)])
def test_estimators_agree_where_there_is_one_copy_or_one_episode(x64, batch_size, num_episodes):
    episode = il.MetaEpisode(GAME, il.NaiveReinforce(), batch_size=batch_size, num_episodes=num_episodes)
    ego = tabular([0.3, -0.2, 0.1, 0.5, -0.4], [0.1, 0.2, 0.3, 0.4, 0.5])
    trajectories = precise(play(episode, ego, tabular(PSI), 5))
    coala, m_fos, unaware = (estimates(e, precise(ego), trajectories) for e in il.ShapingEstimator)
    np.testing.assert_allclose(coala, unaware, **PRECISE)
    np.testing.assert_allclose(m_fos, batch_size * unaware, **PRECISE)
    assert float(jnp.abs(coala).max()) > 1e-3


def test_learners_and_agents_are_centred_apart(x64):
    episode = il.MetaEpisode(GAME, il.NaiveReinforce(), batch_size=2, num_episodes=3)
    trajectories = precise(play(episode, tabular(PSI), tabular(PSI), 6))
    learns = jnp.arange(6) < 4
    centred = update_of(il.ShapingEstimator.COALA, centre=True, scale=True, reward_scale=0.5)
    advantages = eqx.filter_jit(lambda update, trajectories: update.prepare(trajectories, learns).advantage)
    advantage = advantages(centred, trajectories)
    louder = trajectories._replace(
        ego=trajectories.ego._replace(reward=trajectories.ego.reward * jnp.where(learns, 1, 50)[:, None, None])
    )
    # However loud the games against agents are, what is learned against learners stays.
    np.testing.assert_allclose(advantages(centred, louder)[:4], advantage[:4], **PRECISE)
    np.testing.assert_allclose(advantage[:4].mean((0, 1)), 0, **PRECISE)
    np.testing.assert_allclose(advantage[4:].mean((0, 1)), 0, **PRECISE)
    # Against agents it is the ordinary gradient, and targets are own returns in scaled rewards.
    plain = advantages(update_of(il.ShapingEstimator.COALA), trajectories)
    ordinary = advantages(update_of(il.ShapingEstimator.BATCH_UNAWARE), trajectories)
    np.testing.assert_allclose(plain[4:], ordinary[4:], **PRECISE)
    assert float(jnp.abs(plain[:4] - ordinary[:4]).max()) > 1e-2
    to_go = np.cumsum(0.5 * np.asarray(trajectories.ego.reward)[..., ::-1], -1)[..., ::-1]
    np.testing.assert_allclose(centred.prepare(trajectories, learns).target, to_go, **PRECISE)


def test_epochs_of_minibatches_use_every_trajectory_and_move_on():
    episode = il.MetaEpisode(GAME, il.NaiveReinforce(), batch_size=2, num_episodes=3)
    ego = tabular(PSI)
    trajectories = play(episode, ego, ego, 4)
    learns = jnp.ones(4, bool)

    @eqx.filter_jit
    def moved(update):
        after, _, _ = update(jax.random.key(1), ego, update.init(ego), trajectories, learns)
        return (after.logits - ego.logits) / rate

    def updates(**options):
        return update_of(il.ShapingEstimator.COALA, optimiser=optax.sgd(rate), **options)

    # With steps so small that later minibatches see nearly the same policy, four halves are twice the whole.
    rate = 1e-4
    np.testing.assert_allclose(
        moved(updates(num_epochs=2, num_minibatches=2)), 4 * moved(updates()), atol=0.05, rtol=0.02
    )
    # Where the policy has moved far, nothing pushes it further.
    rate = 10.0
    first = moved(updates())
    assert float(jnp.abs(moved(updates(num_epochs=3)) - first).max()) < float(jnp.abs(first).max())
    with pytest.raises(ValueError, match="4 co-players cannot be parted into 3"):
        moved(updates(num_minibatches=3))


def test_pools_draw_anybody_but_oneself():
    drawn = np.asarray(jax.vmap(lambda i: draw_others(jax.random.key(0), i, 4, 3000))(jnp.arange(4)))
    for index, row in enumerate(drawn):
        counts = np.bincount(row, minlength=4)
        assert counts[index] == 0
        assert np.abs(np.delete(counts, index) - 1000).max() < 150


def small_step(updates=None, **options):
    episode = il.MetaEpisode(GAME, il.NaiveReinforce(), batch_size=2, num_episodes=2)
    update = il.LearningAwareUpdate(optax.adam(0.02), inner_length=2, num_minibatches=2, num_epochs=1)
    return il.PopulationStep(episode, updates or update, **{**dict(num_opponents=4, naive_fraction=0.5), **options})


ONE = il.stack_policies([tabular(PSI)])
TWO = il.stack_policies([tabular(PSI), tabular(THETA[0])])
THREE = il.stack_policies([tabular(row) for row in (*THETA, PSI)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: small_step(naive_fraction=0.3), "a fraction of 0.3 of 4 co-players is 1.2"),
        (
            lambda: small_step().init(il.Pool(ONE, TWO)),
            "nobody to play.*do not play themselves",
        ),
        (lambda: small_step().init(il.Pool(TWO, pick(TWO, jnp.zeros(0, int)))), "nobody to play.*there are none"),
        (
            lambda: small_step((small_step().updates,) * 3).init(il.Pool(TWO, THREE)),
            "3 updates were given for 2 agents",
        ),
        (lambda: il.stack_policies([tabular(PSI), hawk(jax.random.key(0))]), "one architecture"),
        (lambda: il.stack_policies([tabular(PSI), tabular([0.0])]), "one architecture"),
        (
            lambda: il.MetaEpisode(GAME, il.NaiveReinforce(batch_size=8), batch_size=4, num_episodes=2),
            "learns from minibatches of 8 episodes, but batch_size=4",
        ),
        (
            lambda: il.MetaEpisode(GAME, il.NaiveReinforce(), batch_size=4, num_episodes=2, num_steps=3),
            "would go on after the end of IteratedMatrixGame, which has 2",
        ),
        (
            lambda: il.MetaEpisode(il.DelayedCue(delay=0), il.NaiveReinforce(), batch_size=4, num_episodes=2),
            "a game of two, but DelayedCue has 1 agents",
        ),
    ],
)
def test_what_cannot_be_played_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_lost_future_is_warned_of():
    game = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=10)
    episode = il.MetaEpisode(game, il.NaiveReinforce(), batch_size=2, num_episodes=20)
    trajectories = play(episode, tabular(PSI), tabular(PSI), 2)
    update = il.LearningAwareUpdate(optax.sgd(1.0), inner_length=10, discount=0.95, trace_decay=0.96)
    with pytest.warns(UserWarning, match="last inner episode weighs"):
        update.prepare(trajectories, jnp.ones(2, bool))


@pytest.mark.parametrize("dynamic", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_killed_population_resumes_bit_for_bit_with_its_whole_pool(tmp_path, dynamic):
    coala = small_step().updates
    m_fos = il.LearningAwareUpdate(
        optax.sgd(0.1), inner_length=2, estimator=il.ShapingEstimator.M_FOS, num_epochs=1, num_minibatches=1
    )
    step = small_step((coala, m_fos), dynamic_naive=dynamic)
    start = step.init(il.Pool(TWO, THREE))
    whole = il.fit(step, start, steps=6, chunk_seconds=0.01)
    asked = iter([False, True])
    folder = il.Checkpoints(tmp_path / "half")
    half = il.fit(step, start, steps=6, chunk_seconds=0.01, checkpoints=folder, pause=lambda: next(asked))
    folder.close()
    assert half.ended == "paused" and 0 < half.step < 6
    folder = il.Checkpoints(tmp_path / "half")
    resumed = il.fit(step, start, steps=6, checkpoints=folder)
    folder.close()
    assert resumed.step == 6
    for a, b in zip(jax.tree.leaves(whole.carry), jax.tree.leaves(resumed.carry), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()
    for earlier, later in ((start, half), (half, whole)):
        earlier, later = (getattr(one, "carry", one).pool.agents.logits for one in (earlier, later))
        assert (np.asarray(earlier) != np.asarray(later)).any(axis=(1, 2)).all()  # both agents learn all the time
    assert int(optax.tree.get(whole.carry.optimiser_states[0], "count")) == 6 * coala.num_minibatches
    naive = np.asarray(whole.carry.pool.naive.logits)
    if dynamic:  # naive learners begin as agents, and the pool that is carried says so
        assert (naive != np.asarray(THREE.logits)).any()
    else:
        assert (naive == np.asarray(THREE.logits)).all()


@pytest.mark.slow
def test_agents_with_one_update_for_all_learn_as_with_one_each():
    update = small_step().updates
    together, apart = small_step(update), small_step((update, update))
    pool = il.Pool(TWO, THREE)
    one, info = eqx.filter_jit(together)(jax.random.key(0), together.init(pool))
    other, same = eqx.filter_jit(apart)(jax.random.key(0), apart.init(pool))
    np.testing.assert_allclose(one.pool.agents.logits, other.pool.agents.logits, rtol=1e-5, atol=1e-6)
    assert sorted(info) == sorted(same)
    for name in info:
        np.testing.assert_allclose(info[name], same[name], rtol=1e-4, atol=1e-5)


def test_evolution_learns_to_exploit_who_never_learns():
    episode = il.MetaEpisode(GAME, il.NaiveReinforce(learning_rate=0.0), batch_size=4, num_episodes=2)
    step = il.EvolutionStrategy(episode, optax.adam(0.3), num_pairs=16, num_opponents=2, deviation=0.5)
    generous = il.stack_policies([tabular([5.0] * 5)])
    result = il.fit(step, step.init(tabular([1.0] * 5), generous), steps=12, record_every=3)
    history = result.history("train", "reward_against_learners")
    assert history[0] < 1.6 and history[-1] > 1.75
    ranks = np.asarray(il.centred_ranks(jnp.asarray([2.0, 9.0, -1.0, 3.0])))
    np.testing.assert_allclose(ranks, [-1 / 6, 0.5, -0.5, 1 / 6], atol=1e-6)


def memory_of(batch_size, num_episodes, num_opponents):
    episode = il.MetaEpisode(GAME, il.NaiveReinforce(), batch_size=batch_size, num_episodes=num_episodes)
    update = il.LearningAwareUpdate(optax.adam(0.02), inner_length=2, num_epochs=1, num_minibatches=1)
    step = il.PopulationStep(episode, update, num_opponents=num_opponents)
    carry, static = eqx.partition(step.init(il.Pool(ONE, TWO)), eqx.is_array)
    once = lambda key, carry: eqx.filter(step(key, eqx.combine(carry, static)), eqx.is_array)  # noqa: E731
    return jax.jit(once).lower(jax.random.key(0), carry).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.slow
def test_memory_is_linear_in_copies_episodes_and_co_players():
    base = memory_of(32, 32, 32)
    for sizes in ((64, 32, 32), (32, 64, 32), (32, 32, 64)):
        assert 1.5 < memory_of(*sizes) / base < 2.2, sizes
