"""DiCE and LOLA-DiCE against exact derivatives of a game of a few steps; advantage alignment against its sum."""

import functools
import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import innerloop as il

STEPS, DISCOUNT, RATE = 3, 0.9, 0.5
GAME = il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=STEPS)
SWAP = jnp.asarray([0, 1, 3, 2, 4])  # from one player's view of the last joint action to the other's


def exact_return(first, second, whose):
    """The discounted return of a player: the law of the joint state, carried on for a few steps."""
    p, q = jax.nn.softmax(first.logits)[:, 0], jax.nn.softmax(second.logits)[SWAP, 0]
    moves = jnp.stack([p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)], axis=1)  # [state, joint action]
    rewards = jnp.asarray([1.0, -1.0, 2.0, 0.0] if whose == 0 else [1.0, 2.0, -1.0, 0.0])
    law, total = jnp.zeros(5).at[0].set(1.0), jnp.asarray(0.0)
    for t in range(STEPS):
        joint = law @ moves
        total = total + DISCOUNT**t * joint @ rewards
        law = jnp.concatenate([jnp.zeros(1), joint])
    return total


def exact_look_ahead(policies, player, num_look_aheads):
    """The return of a player after the other has made exact steps."""
    me, other = policies[player], policies[1 - player]

    def value(me, other, whose):
        return exact_return(*((me, other) if player == 0 else (other, me)), whose)

    for _ in range(num_look_aheads):
        step = jax.grad(value, argnums=1)(me, other, 1 - player)
        other = jax.tree.map(lambda x, dx: x + RATE * dx, other, step)
    return value(me, other, player)


def every_play(key, policies):
    """All joint action sequences, each with its probability as its weight."""
    joint = np.array(list(itertools.product((0, 1), repeat=2 * STEPS))).reshape(-1, STEPS, 2)
    seen = np.zeros_like(joint)
    seen[:, 1:] = 1 + 2 * joint[:, :-1] + joint[:, :-1, ::-1]
    action, observation = jnp.asarray(joint, jnp.int32), jnp.asarray(seen, jnp.int32)
    reward = GAME.payoffs.astype(float)[0][action, action[:, :, ::-1]]
    log_weight = sum(
        jnp.sum(il.log_probability(policies[i].logits[observation[:, :, i]], action[:, :, i]), 1) for i in (0, 1)
    )
    return il.Plays(observation, action, reward, jnp.exp(log_weight))


@pytest.fixture
def policies(x64):
    random = np.random.default_rng(0)
    return tuple(
        il.TabularPolicy(jnp.asarray(random.normal(size=(5, 2))), jnp.asarray(random.normal(size=5))) for _ in range(2)
    )


@pytest.mark.parametrize("baseline", [False, True])
def test_derivatives_of_the_dice_objective_are_those_of_the_return(policies, baseline):
    """Value, gradient and the whole Hessian in the parameters of both players."""
    plays = every_play(None, policies)
    flat, build = jax.flatten_util.ravel_pytree((policies[0].logits, policies[1].logits))
    values = policies[0].values[plays.observation[:, :, 0]] if baseline else None

    def pair(flat):
        return [il.TabularPolicy(logits, jnp.zeros(5)) for logits in build(flat)]

    def dice(flat):
        log_probabilities = sum(
            il.log_probability(policy.logits[plays.observation[:, :, i]], plays.action[:, :, i])
            for i, policy in enumerate(pair(flat))
        )
        one = functools.partial(il.dice_objective, discount=DISCOUNT)
        return jnp.sum(plays.weight * jax.vmap(one)(log_probabilities, plays.reward[:, :, 0], values))

    def exact(flat):
        return exact_return(*pair(flat), 0)

    np.testing.assert_allclose(jnp.sum(plays.weight), 1, atol=1e-12)
    np.testing.assert_allclose(dice(flat), exact(flat), atol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.grad(dice))(flat), jax.jit(jax.grad(exact))(flat), atol=1e-12)
    np.testing.assert_allclose(jax.jit(jax.hessian(dice))(flat), jax.jit(jax.hessian(exact))(flat), atol=1e-12)


@functools.partial(eqx.filter_jit)
def look_ahead_gradient(policies, key, player, play, num_look_aheads):
    def loss(me):
        pair = (me, policies[1]) if player == 0 else (policies[0], me)
        return il.lola_dice_loss(
            key,
            pair,
            player=player,
            play=play,
            num_look_aheads=num_look_aheads,
            look_ahead_rate=RATE,
            discount=DISCOUNT,
            value_coefficient=0.0,
        )

    return eqx.filter_grad(loss, has_aux=True)(policies[player])


@pytest.mark.parametrize(("player", "num_look_aheads"), [pytest.param(0, 0, marks=pytest.mark.slow), (0, 1), (1, 3)])
def test_look_aheads_over_all_plays_are_exact_lola(policies, player, num_look_aheads):
    ours, info = look_ahead_gradient(policies, jax.random.key(0), player, every_play, num_look_aheads)

    def exact(me):
        pair = (me, policies[1]) if player == 0 else (policies[0], me)
        return exact_look_ahead(pair, player, num_look_aheads)

    value, gradient = jax.jit(jax.value_and_grad(exact))(policies[player])
    np.testing.assert_allclose(info["discounted_return"], value, atol=1e-12)
    np.testing.assert_allclose(ours.logits, -gradient.logits, atol=1e-12)
    naive = jax.grad(lambda me: exact_return(*((me, policies[1]) if player == 0 else (policies[0], me)), player))
    shaped = np.max(np.abs(gradient.logits - naive(policies[player]).logits))
    assert shaped < 1e-12 if num_look_aheads == 0 else shaped > 1e-3


def test_sampled_look_aheads_agree_with_exact_ones_on_average():
    random = np.random.default_rng(0)
    policies = tuple(
        il.TabularPolicy(jnp.asarray(random.normal(size=(5, 2)), jnp.float32), jnp.zeros(5)) for _ in range(2)
    )
    play = il.SampledPlays(GAME, batch_size=512, num_steps=STEPS)
    keys = jax.random.split(jax.random.key(1), 32)
    gradients = jax.lax.map(lambda key: look_ahead_gradient(policies, key, 0, play, 1)[0].logits, keys)
    exact = jax.grad(lambda me: exact_look_ahead((me, policies[1]), 0, 1))(policies[0]).logits
    error = np.std(gradients, 0) / np.sqrt(len(keys))
    assert np.all(np.abs(np.mean(gradients, 0) + exact) < 4 * error + 1e-6)


@pytest.mark.slow
def test_both_players_learn_at_once():
    play = il.SampledPlays(GAME, batch_size=64, num_steps=STEPS)
    step = il.LolaDice(play, optax.sgd(0.3), num_look_aheads=1, look_ahead_rate=RATE, discount=DISCOUNT)
    start = step.init((il.TabularPolicy.uniform(5, 2), il.TabularPolicy.uniform(5, 2)))
    result = il.fit(step, start, steps=20)
    (first, second), _ = result.carry
    for policy in (first, second):
        assert np.abs(policy.logits).max() > 0.05 and np.abs(policy.values).max() > 0.05
    assert result.history("train", "value_loss_1")[-5:].mean() < result.history("train", "value_loss_1")[0]


def test_what_cannot_look_ahead_is_refused():
    with pytest.raises(ValueError, match="DelayedCue has 1 agents"):
        il.SampledPlays(il.DelayedCue(delay=1), 4, 4)
    pair = (il.TabularPolicy.uniform(5, 2),) * 2
    how = dict(play=il.SampledPlays(GAME, 4, STEPS), look_ahead_rate=0.1, discount=0.9)
    with pytest.raises(ValueError, match="player is 0 or 1, not 2"):
        il.lola_dice_loss(jax.random.key(0), pair, player=2, num_look_aheads=1, **how)
    with pytest.raises(ValueError, match="num_look_aheads must not be negative"):
        il.lola_dice_loss(jax.random.key(0), pair, player=0, num_look_aheads=-1, **how)


def aligned(own, others, first, discount, alignment):
    """By the formula, with three agents' advantages, episode by episode."""
    result = np.zeros(len(own))
    for t in range(len(own)):
        start = max(k for k in range(t + 1) if first[k])
        past = sum(discount ** (t - k) * own[k] for k in range(start, t))
        result[t] = own[t] + alignment * discount * past * others[t].sum()
    return result


def test_aligned_advantages_are_their_formula(x64):
    random = np.random.default_rng(2)
    own, others = random.normal(size=10), random.normal(size=(10, 2))
    first = np.zeros(10, bool)
    first[[0, 4, 9]] = True
    ours = il.aligned_advantages(*map(jnp.asarray, (own, others, first)), discount=0.9, alignment=0.7)
    np.testing.assert_allclose(ours, aligned(own, others, first, 0.9, 0.7), atol=1e-12)
    whole = il.aligned_advantages(jnp.asarray(own), jnp.asarray(others), discount=0.9, alignment=0.7)
    np.testing.assert_allclose(whole, aligned(own, others, np.arange(10) == 0, 0.9, 0.7), atol=1e-12)
    ordinary = il.aligned_advantages(*map(jnp.asarray, (own, others, first)), discount=0.9, alignment=0.0)
    np.testing.assert_array_equal(ordinary, own)
