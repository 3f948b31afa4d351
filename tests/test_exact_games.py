"""Exact iterated games: closed forms against step-by-step laws and samples, shaping, look-ahead, extortion."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.envs import CHICKEN, MATCHING_PENNIES, PRISONERS_DILEMMA, STAG_HUNT
from innerloop.rl import MemoryOne, action_probabilities, mixed_gradient, zero_determinant
from oracles import matrix_games as oracle

# Compiled whole: operation by operation these little functions take longer to compile than to understand.
discounted_returns = jax.jit(il.rl.discounted_returns, static_argnames="normalised")
state_values = jax.jit(il.rl.state_values)
stationary_rewards = jax.jit(il.rl.stationary_rewards)
naive_gradient = jax.jit(il.rl.naive_gradient, static_argnames="normalised")
naive_trajectory = jax.jit(il.rl.naive_trajectory, static_argnames=("num_steps", "normalised"))
look_ahead_objective = jax.jit(il.rl.look_ahead_objective, static_argnames=("look_aheads", "normalised"))
shaping_objective = jax.jit(il.rl.shaping_objective, static_argnames=("num_steps", "normalised"))
fit_zero_determinant = jax.jit(il.rl.fit_zero_determinant)

DISCOUNT = 0.95
FIRST = [0.3, 1.2, -0.7, 0.4, -1.1]
SECOND = [-0.2, 0.8, 0.1, -0.5, -0.9]
GAMES = {"dilemma": PRISONERS_DILEMMA, "chicken": CHICKEN, "stag hunt": STAG_HUNT, "pennies": MATCHING_PENNIES}
OF_FIRST = [-0.2022393708, -0.6759407523, -0.7957681252, -0.7796629670, -0.9496778278]
OF_SECOND = [-0.0517088641, -0.1753495456, -0.2018972878, -0.2563818750, -0.3318148039]


def slope_of(function):
    return jax.jit(jax.grad(function))


def double(values):
    return jnp.asarray(values, jnp.float64)


def pair():
    return double(FIRST), double(SECOND)


def strategy(name):
    """A named strategy with the sharpest logits that are finite in float64."""
    return MemoryOne(double(getattr(MemoryOne, name)().cooperation)).logits(least=1e-15)


def of_first(first, second, discount=DISCOUNT):
    return discounted_returns(first, second, PRISONERS_DILEMMA, discount)[0]


# ---- closed forms ----


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("tit_for_tat", "tit_for_tat", (1, 1)),
        ("always_defect", "always_cooperate", (2, -1)),
        ("tit_for_tat", "always_defect", (-0.05, 0.10)),
        ("grim", "grim", (1, 1)),
        ("win_stay_lose_shift", "win_stay_lose_shift", (1, 1)),
    ],
)
def test_known_pairs(x64, first, second, expected):
    earned = discounted_returns(strategy(first), strategy(second), PRISONERS_DILEMMA, DISCOUNT, normalised=True)
    np.testing.assert_allclose(earned, expected, atol=1e-10)


def test_known_returns_and_gradients(x64):
    first, second = pair()
    per_step = discounted_returns(first, second, PRISONERS_DILEMMA, DISCOUNT, normalised=True)
    np.testing.assert_allclose(per_step, [0.4400366505, 0.4934150492], atol=1e-10)
    np.testing.assert_allclose(
        discounted_returns(first, second, PRISONERS_DILEMMA, DISCOUNT), np.asarray(per_step) * 20, rtol=1e-12
    )
    long = discounted_returns(first, second, PRISONERS_DILEMMA, 0.999, normalised=True)
    np.testing.assert_allclose(long, [0.4452841499, 0.4821784833], atol=1e-10)
    np.testing.assert_allclose(slope_of(of_first)(first, second), OF_FIRST, atol=1e-10)
    of_second = slope_of(lambda second: discounted_returns(first, second, PRISONERS_DILEMMA, DISCOUNT)[1])(second)
    np.testing.assert_allclose(of_second, OF_SECOND, atol=1e-10)
    np.testing.assert_allclose(naive_gradient(first, second, PRISONERS_DILEMMA, DISCOUNT), OF_FIRST, atol=1e-10)
    np.testing.assert_allclose(naive_gradient(second, first, PRISONERS_DILEMMA, DISCOUNT), OF_SECOND, atol=1e-10)
    uniform = double(np.zeros(5))
    np.testing.assert_allclose(
        discounted_returns(uniform, uniform, PRISONERS_DILEMMA, DISCOUNT, normalised=True), [0.5, 0.5], atol=1e-12
    )


def test_exchanging_the_players_exchanges_the_returns(x64):
    for key in jax.random.split(jax.random.key(0), 20):
        first, second = jax.random.normal(key, (2, 5), jnp.float64)
        forward = discounted_returns(first, second, PRISONERS_DILEMMA, DISCOUNT)
        backward = discounted_returns(second, first, PRISONERS_DILEMMA, DISCOUNT)
        np.testing.assert_allclose(forward, backward[::-1], atol=1e-12)


def drawn(num_actions, seed=0):
    rows = 1 + num_actions**2
    return jax.random.normal(jax.random.key(seed), (2, rows, num_actions), jnp.float64)


@pytest.mark.parametrize("name", GAMES)
def test_returns_values_and_long_run_against_the_law_of_every_step(x64, name):
    logits = drawn(2)
    probabilities = jax.nn.softmax(logits, axis=2)
    game = (*logits, GAMES[name], DISCOUNT)
    expected = oracle.returns(*probabilities, GAMES[name], DISCOUNT)
    np.testing.assert_allclose(discounted_returns(*game), expected, atol=1e-10)
    values = state_values(*game)
    np.testing.assert_allclose(values, oracle.values(*probabilities, GAMES[name], DISCOUNT), atol=1e-10)
    np.testing.assert_allclose(values[:, 0], expected, atol=1e-10)
    np.testing.assert_allclose(
        stationary_rewards(*logits, GAMES[name]), oracle.long_run(*probabilities, GAMES[name]), atol=1e-10
    )


def test_three_actions_and_two_tables(x64):
    logits, payoffs = drawn(3), np.random.default_rng(0).normal(size=(2, 3, 3))
    expected = oracle.returns(*jax.nn.softmax(logits, axis=2), payoffs, DISCOUNT)
    np.testing.assert_allclose(discounted_returns(*logits, payoffs, DISCOUNT), expected, atol=1e-10)
    by_hand = naive_gradient(*logits, payoffs, DISCOUNT, normalised=True)
    by_machine = slope_of(lambda first: 0.05 * discounted_returns(first, logits[1], payoffs, DISCOUNT)[0])(logits[0])
    np.testing.assert_allclose(by_hand, by_machine, atol=1e-12)
    # The learner is the second player: his gradient is that of the mirrored game.
    by_machine = slope_of(lambda second: discounted_returns(logits[0], second, payoffs, DISCOUNT)[1])(logits[1])
    way = naive_trajectory(*logits, payoffs, DISCOUNT, num_steps=1, rate=1.0, normalised=False)
    np.testing.assert_allclose(way.policies[1] - logits[1], by_machine, atol=1e-12)


def test_samples_agree_with_the_closed_form():
    steps, count = 120, 4000
    game = il.IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=steps)
    first, second = jnp.asarray(FIRST), jnp.asarray(SECOND)
    agents = (MemoryOne.from_logits(first), MemoryOne.from_logits(second))
    run = jax.jit(jax.vmap(lambda key: il.rollout(game, agents, key, steps)[0].reward))
    rewards = np.asarray(run(jax.random.split(jax.random.key(0), count)), float)
    sampled = (rewards * 0.9 ** np.arange(steps)[:, None]).sum(axis=1)
    error = sampled.std(axis=0, ddof=1) / count**0.5
    expected = np.asarray(discounted_returns(first, second, PRISONERS_DILEMMA, 0.9))
    assert np.all(np.abs(sampled.mean(axis=0) - expected) < 4 * error)
    assert np.all(error < 0.1)


def test_float32_agrees_with_float64():
    first, second = jnp.asarray(FIRST, jnp.float32), jnp.asarray(SECOND, jnp.float32)
    earned = discounted_returns(first, second, PRISONERS_DILEMMA, DISCOUNT, normalised=True)
    np.testing.assert_allclose(earned, [0.4400366505, 0.4934150492], rtol=1e-5)
    assert earned.dtype == jnp.float32


# ---- shaping and look-ahead ----


@pytest.mark.parametrize(
    ("look_aheads", "value", "gradient"),
    [
        (1, 7.5948501190, [-0.1909218654, 1.4002454032, -1.6308938936, 0.6214259004, -3.1602135424]),
        (3, 5.2210481368, [-0.1721340031, 4.7179632881, -2.7909176739, 3.3710457623, -7.2358589206]),
    ],
)
def test_known_look_aheads(x64, look_aheads, value, gradient):
    def objective(first):
        second = double(SECOND)
        return look_ahead_objective(first, second, PRISONERS_DILEMMA, DISCOUNT, look_aheads=look_aheads, rate=0.5)

    found, slope = jax.jit(jax.value_and_grad(objective))(double(FIRST))
    assert float(found) == pytest.approx(value, abs=1e-9)
    np.testing.assert_allclose(slope, gradient, atol=1e-9)


def test_looking_ahead_of_no_step_is_the_partial_gradient(x64):
    first, second = pair()
    for options in (dict(look_aheads=3, rate=0.0), dict(look_aheads=0, rate=0.5)):
        slope = slope_of(
            lambda first, options=options: look_ahead_objective(first, second, PRISONERS_DILEMMA, DISCOUNT, **options)
        )(first)
        np.testing.assert_allclose(slope, OF_FIRST, atol=1e-10)


def test_known_shaping(x64):
    def objective(ego):
        game = (double(SECOND), PRISONERS_DILEMMA, DISCOUNT)
        return shaping_objective(ego, *game, num_steps=3, rate=0.5, normalised=False)

    found, slope = jax.jit(jax.value_and_grad(objective))(double(FIRST))
    assert float(found) == pytest.approx(28.0064354785, abs=1e-9)
    expected = [-0.7457916242, 8.6803484204, -7.5214371439, 5.2648648922, -16.6614791657]
    np.testing.assert_allclose(slope, expected, atol=1e-9)


@pytest.mark.parametrize("normalised", [False, True])
def test_naive_learning_against_central_differences(x64, normalised):
    first, second = pair()
    way = naive_trajectory(first, second, PRISONERS_DILEMMA, DISCOUNT, num_steps=4, rate=0.7, normalised=normalised)
    scale = 1 - DISCOUNT if normalised else 1.0
    expected = oracle.learn(np.asarray(FIRST), np.asarray(SECOND), PRISONERS_DILEMMA, DISCOUNT, 0.7, 4, scale)
    np.testing.assert_allclose(way.policies, expected, atol=1e-7)
    for policy, earned in zip(way.policies, way.returns, strict=True):
        direct = discounted_returns(first, policy, PRISONERS_DILEMMA, DISCOUNT, normalised=normalised)
        np.testing.assert_allclose(earned, direct, atol=1e-12)


def test_a_scaled_step_is_a_shorter_raw_step(x64):
    first, second = pair()
    game = (first, second, PRISONERS_DILEMMA, DISCOUNT)
    scaled = naive_trajectory(*game, num_steps=3, rate=2.0, normalised=True)
    raw = naive_trajectory(*game, num_steps=3, rate=0.1, normalised=False)
    np.testing.assert_allclose(scaled.policies, raw.policies, atol=1e-12)


def test_mixtures_are_convex():
    shaping, partial = jnp.asarray([1.0, 2.0]), jnp.asarray([3.0, -2.0])
    np.testing.assert_allclose(mixed_gradient(shaping, partial, 0.25), [2.5, -1.0])
    with pytest.raises(ValueError, match=r"between 0 and 1, not at 1\.5"):
        mixed_gradient(shaping, partial, 1.5)


def test_gradients_at_pure_defection(x64):
    """Nobody gains by changing against a defector; shaping a naive learner asks to answer his cooperation."""
    defector = strategy("always_defect")

    def by_probability(objective):
        slope = slope_of(objective)(defector)
        chance = jax.nn.sigmoid(defector)
        return np.asarray(slope / (chance * (1 - chance)))

    partial = by_probability(lambda first: of_first(first, defector))
    assert np.all(partial <= 1e-9) and partial[0] < -0.5 and partial[4] < -0.5
    np.testing.assert_allclose(partial[1:3], 0, atol=1e-9)
    learners = jax.random.normal(jax.random.key(0), (64, 5), jnp.float64)

    def shaped(first):
        game = (PRISONERS_DILEMMA, DISCOUNT)
        one = lambda naive: shaping_objective(first, naive, *game, num_steps=20, rate=5.0, normalised=True)  # noqa: E731
        return jax.vmap(one)(learners).mean()

    shaping = by_probability(shaped)
    assert shaping[3] > 0 and np.all(shaping[[0, 4]] < 0) and np.all(shaping[1:3] <= 1e-9)


# ---- zero-determinant strategies ----


@pytest.mark.parametrize(("chi", "phi"), [(1.0, 1 / 3), (3.0, 0.1), (2.0, 0.2)])
def test_zero_determinant_strategies_force_a_line(x64, chi, phi):
    strategy = zero_determinant(chi, phi)
    for key in jax.random.split(jax.random.key(0), 10):
        other = jax.random.uniform(key, (5,), jnp.float64, 0.05, 0.95)
        logits = jax.scipy.special.logit(other)
        own, others = stationary_rewards(jax.scipy.special.logit(strategy), logits, PRISONERS_DILEMMA)
        assert float(own) == pytest.approx(chi * float(others), abs=1e-10)
        assert abs(float(own)) > 1e-3 or chi == 1


def test_zero_determinant_strategies_of_another_dilemma(x64):
    """Press and Dyson's payoffs 3, 0, 5, 1: what is forced is the surplus over mutual defection."""
    payoffs = np.asarray([[3.0, 0.0], [5.0, 1.0]])
    strategy = zero_determinant(3.0, 1 / 26, payoffs)
    np.testing.assert_allclose(strategy, [0, 11 / 13, 1 / 2, 7 / 26, 0], atol=1e-7)
    own, other = stationary_rewards(jax.scipy.special.logit(strategy), double(SECOND), payoffs)
    assert float(own) - 1 == pytest.approx(3 * (float(other) - 1), abs=1e-10)


def test_formula_of_the_dilemma(x64):
    chi, phi = 2.0, 0.15
    expected = [0.3, 1 - phi * (chi - 1), 1 - phi * (1 + 2 * chi), phi * (chi + 2), 0]
    np.testing.assert_allclose(zero_determinant(chi, phi, start=0.3), expected, atol=1e-12)
    np.testing.assert_allclose(zero_determinant(1.0, 1 / 3, start=1.0), MemoryOne.tit_for_tat().cooperation, atol=1e-12)


@pytest.mark.parametrize(
    ("chi", "phi", "message"),
    [
        (0.5, 0.1, "at least 1"),
        (3.0, 0.2, r"at most 0\.142857, not 0\.2"),
        (3.0, 0.0, "above 0"),
        (3.0, -0.1, "above 0"),
    ],
)
def test_numbers_that_give_no_probabilities_are_refused(chi, phi, message):
    with pytest.raises(ValueError, match=message):
        zero_determinant(chi, phi)


def test_fit_finds_what_was_made(x64):
    for chi, phi in ((1.0, 0.3), (3.0, 0.1), (2.0, 0.2), (10.0, 0.04)):
        found = fit_zero_determinant(jax.scipy.special.logit(jnp.clip(zero_determinant(chi, phi), 1e-12, 1 - 1e-12)))
        np.testing.assert_allclose([found.chi, found.phi, found.loss], [chi, phi, 0], atol=1e-8)


def test_fit_stays_finite_where_everything_is_kept(x64):
    """With phi at zero the distance is (1/2 - y)^2 + (1 - 2y)^2 + y^2, which is least at y = phi chi = 5/12."""
    found = fit_zero_determinant(jax.scipy.special.logit(double([0.5, 0.5, 1e-9, 1e-9, 1e-9])))
    assert float(found.chi) > 1e6 and float(found.phi * found.chi) == pytest.approx(5 / 12, abs=1e-6)
    assert float(found.loss) == pytest.approx(5 / 24, abs=1e-6)


def test_fit_is_the_best_on_a_fine_grid(x64):
    x, y = np.meshgrid(np.linspace(1e-6, 1 / 3, 400), np.linspace(1e-6, 0.5, 600))
    allowed = (y >= x) & (x + 2 * y <= 1)
    x, y = x[allowed], y[allowed]
    made = np.stack([1 - (y - x), 1 - x - 2 * y, 2 * x + y, 0 * x])
    drawn = [jax.random.normal(jax.random.key(seed), (5,), jnp.float64) * 2 for seed in range(10)]
    # Too generous for chi of one, and too strong for a probability after CD: both best on a side of the polygon.
    outside = [[0.5, 1 - 1e-9, 0.7, 0.45, 1e-9], [0.5, 0.75, 1e-9, 1 - 1e-9, 1e-9]]
    for policy in (*drawn, *(jax.scipy.special.logit(double(one)) for one in outside)):
        target = np.asarray(jax.nn.sigmoid(policy))[1:]
        found = fit_zero_determinant(policy)
        best = ((made - target[:, None]) ** 2).sum(axis=0).min()
        assert best - 0.01 <= float(found.loss) <= best + 1e-9
        if not found.phi > 1e-6:
            continue  # the best gives everything to itself: no finite chi
        made_again = zero_determinant(max(1.0, float(found.chi)), float(found.phi) * (1 - 1e-9))
        assert float(((made_again[1:] - target) ** 2).sum()) == pytest.approx(float(found.loss), abs=1e-6)


# ---- strategies as agents ----


def test_strategies_play_as_they_are_called():
    game = il.IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=6)
    names = ("always_cooperate", "always_defect", "tit_for_tat", "win_stay_lose_shift", "grim")
    table = jnp.stack([getattr(MemoryOne, name)().cooperation for name in names])
    rebel = MemoryOne([1.0, 0.0, 0.0, 1.0, 1.0])  # defects once after mutual cooperation, then makes up for it

    @jax.jit
    @jax.vmap
    def play(cooperation):
        return il.rollout(game, (MemoryOne(cooperation), rebel), jax.random.key(0), 6)[0].action

    found = {name: np.asarray(moves)[:, 0].tolist() for name, moves in zip(names, play(table), strict=True)}
    assert found["always_cooperate"] == [0] * 6 and found["always_defect"] == [1] * 6
    assert found["tit_for_tat"] == [0, 0, 1, 0, 1, 0] or found["tit_for_tat"][:3] == [0, 0, 1]
    assert found["grim"] == [0, 0, 1, 1, 1, 1]
    moves = np.asarray(play(table))[2]
    assert moves[1:, 0].tolist() == moves[:-1, 1].tolist()  # tit-for-tat repeats the other
    own, other = np.asarray(play(table))[3].T
    assert own[1:].tolist() == [a if b == 0 else 1 - a for a, b in zip(own[:-1], other[:-1], strict=True)]


def test_strategies_convert_to_logits_and_back():
    shifted = MemoryOne.win_stay_lose_shift().logits(least=0.01)
    np.testing.assert_allclose(jax.nn.sigmoid(shifted), [0.99, 0.99, 0.01, 0.01, 0.99], rtol=1e-5)
    drawn = MemoryOne.random(jax.random.key(1))
    np.testing.assert_allclose(MemoryOne.from_logits(drawn.logits()).cooperation, drawn.cooperation, rtol=1e-5)
    assert MemoryOne.zero_determinant(3.0, 0.1, start=0.5).cooperation[0] == 0.5


def test_bad_input_is_refused():
    logits = jnp.zeros(5)
    with pytest.raises(ValueError, match=r"\[0, 1\): a game without end"):
        il.rl.discounted_returns(logits, logits, PRISONERS_DILEMMA, 1.0)
    with pytest.raises(ValueError, match=r"not of shape \(3, 3\)"):
        discounted_returns(logits, logits, np.zeros((3, 3)), 0.9)
    with pytest.raises(ValueError, match="for the first player"):
        discounted_returns(jnp.zeros(4), jnp.zeros(4), PRISONERS_DILEMMA, 0.9)
    with pytest.raises(ValueError, match="must not be negative"):
        look_ahead_objective(logits, logits, PRISONERS_DILEMMA, 0.9, look_aheads=-1, rate=1.0)
    with pytest.raises(ValueError, match="five probabilities"):
        MemoryOne([0.5, 0.5])
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        MemoryOne([0.5, 0.5, 0.5, 0.5, 1.5])
    with pytest.raises(ValueError, match=r"between 0 and 0\.5"):
        MemoryOne.grim().logits(least=0.0)
    with pytest.raises(ValueError, match="two actions"):
        zero_determinant(2.0, 0.1, np.zeros((3, 3)))


def test_probabilities_of_both_forms_agree():
    logits = jnp.asarray(FIRST)
    both = jnp.stack([logits, jnp.zeros(5)], axis=1)
    np.testing.assert_allclose(action_probabilities(logits), action_probabilities(both), atol=1e-6)
