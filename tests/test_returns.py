"""Returns, advantages and losses against sums; policy gradients against all histories of a small decision process."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.rl.gradient.proximal import shuffled
from innerloop.rl.policy import PolicyOutput
from oracles import returns as oracle

LENGTH = 12


@pytest.fixture
def trajectory(x64):
    """Two ends, two cuts, an end that is also cut, and a trajectory that stops inside an episode."""
    random = np.random.default_rng(0)
    rewards, values, next_values = random.normal(size=(3, LENGTH))
    terminated, truncated = np.zeros((2, LENGTH), bool)
    terminated[[2, 7]] = True
    truncated[[4, 7, 9]] = True
    return rewards, values, next_values, terminated, truncated


def test_rewards_to_go_stop_at_ends_and_are_continued_at_cuts(trajectory):
    rewards, _, next_values, terminated, truncated = trajectory
    ours = il.rewards_to_go(*map(jnp.asarray, (rewards, terminated, truncated, next_values)), discount=0.9)
    expected = oracle.rewards_to_go(rewards, next_values, terminated, truncated, discount=0.9)
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    plain = il.rewards_to_go(jnp.asarray(rewards), discount=1.0)
    np.testing.assert_allclose(plain, np.cumsum(rewards[::-1])[::-1], atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_lambda_returns_are_means_of_n_step_returns(trajectory, decay):
    rewards, _, next_values, terminated, truncated = trajectory
    ours = il.lambda_returns(
        *map(jnp.asarray, (rewards, next_values, terminated, truncated)), discount=0.9, trace_decay=decay
    )
    expected = [
        oracle.lambda_return(t, rewards, next_values, terminated, truncated, discount=0.9, decay=decay)
        for t in range(LENGTH)
    ]
    np.testing.assert_allclose(ours, expected, atol=1e-12)


@pytest.mark.parametrize("decay", [0.0, 0.7, 1.0])
def test_advantages_bootstrap_where_an_episode_is_cut_and_not_where_it_ends(trajectory, decay):
    ours = il.generalised_advantages(*map(jnp.asarray, trajectory), discount=0.9, trace_decay=decay)
    np.testing.assert_allclose(ours, oracle.advantages(*trajectory, discount=0.9, decay=decay), atol=1e-12)


def test_advantages_are_lambda_returns_less_values_where_values_agree(trajectory):
    rewards, values, next_values, terminated, truncated = map(jnp.asarray, trajectory)
    on = ~(terminated | truncated)[:-1]
    next_values = next_values.at[:-1].set(jnp.where(on, values[1:], next_values[:-1]))
    how = dict(discount=0.9, trace_decay=0.8)
    advantages = il.generalised_advantages(rewards, values, next_values, terminated, truncated, **how)
    targets = il.lambda_returns(rewards, next_values, terminated, truncated, **how)
    np.testing.assert_allclose(advantages, targets - values, atol=1e-12)


HORIZON, DISCOUNT = 3, 0.9


@pytest.fixture
def process(x64):
    """A decision process with three states and two actions, and all that can happen in it."""
    random = np.random.default_rng(1)
    transition = random.dirichlet(np.ones(3), size=(3, 2))
    start, reward = random.dirichlet(np.ones(3)), random.normal(size=(3, 2))
    policy = il.TabularPolicy(jnp.asarray(random.normal(size=(3, 2))), jnp.asarray(random.normal(size=3)))
    states, actions, chance = map(np.array, zip(*oracle.histories(start, transition, HORIZON), strict=True))
    return policy, jnp.asarray(states[:, :-1]), jnp.asarray(actions), jnp.asarray(chance), transition, start, reward


def exact_gradient(logits, transition, start, reward):
    """Of the expected discounted return, by propagating the law of the state."""

    def value(logits):
        choose = jax.nn.softmax(logits)
        law, total = jnp.asarray(start), jnp.asarray(0.0)
        for t in range(HORIZON):
            total = total + DISCOUNT**t * jnp.sum(law[:, None] * choose * reward)
            law = jnp.einsum("s,sa,san->n", law, choose, transition)
        return total

    return jax.grad(value)(logits)


@pytest.mark.parametrize("decay", [1.0, 0.6])
def test_expected_gradients_of_all_losses_are_the_policy_gradient(process, decay):
    """Exact with whole returns, whatever the values; with exact values the trace may decay."""
    policy, states, actions, chance, transition, start, reward = process
    rewards = jnp.asarray(reward)[states, actions]
    table = jnp.asarray(np.random.default_rng(2).normal(size=(HORIZON + 1, 3)))
    if decay < 1.0:
        choose, later = np.asarray(jax.nn.softmax(policy.logits)), np.zeros(3)
        exact = [later]
        for _ in range(HORIZON):
            later = np.sum(choose * (reward + DISCOUNT * transition @ later), 1)
            exact.insert(0, later)
        table = jnp.asarray(np.array(exact))
    values = table[jnp.arange(HORIZON)[None], states]
    following = jnp.concatenate([values[:, 1:], jnp.zeros_like(values[:, :1])], 1)
    end = jnp.zeros(HORIZON, bool).at[-1].set(True)
    advantages = jax.vmap(
        lambda r, v, n: il.generalised_advantages(r, v, n, end, discount=DISCOUNT, trace_decay=decay)
    )(rewards, values, following)
    # Losses leave out the discount of the step itself, as everybody does; the exact gradient has it.
    advantages = advantages * jnp.asarray(DISCOUNT ** np.arange(HORIZON))[None]
    probability = chance * jnp.exp(jnp.sum(il.log_probability(policy.logits[states], actions), 1))
    np.testing.assert_allclose(jnp.sum(probability), 1.0, atol=1e-12)

    def expected(loss):
        """The mean over histories of the gradient of each one's loss; losses are means over its steps."""

        def total(logits):
            each = jax.vmap(lambda s, a, adv: loss(PolicyOutput(logits[s], policy.values[s]), a, adv))
            return jnp.sum(jax.lax.stop_gradient(probability) * each(states, actions, advantages))

        return -HORIZON * jax.grad(total)(policy.logits)

    def reinforce(output, actions, advantages):
        return il.reinforce_loss(il.log_probability(output.logits, actions), advantages)

    def actor_critic(output, actions, advantages):
        return il.actor_critic_loss(output, actions, advantages, output.value)[0]

    def proximal(output, actions, advantages):
        old = il.log_probability(output.logits, actions)
        return il.proximal_loss(output, actions, advantages, output.value, old, output.value)[0]

    exact = exact_gradient(policy.logits, transition, start, reward)
    for loss in (reinforce, actor_critic, proximal):
        np.testing.assert_allclose(expected(loss), exact, atol=1e-12)


def test_losses_have_the_values_and_parts_that_they_say(x64):
    random = np.random.default_rng(3)
    logits, values = jnp.asarray(random.normal(size=(5, 3))), jnp.asarray(random.normal(size=5))
    advantages, targets, old_values, shift = map(jnp.asarray, random.normal(size=(4, 5)))
    actions = jnp.asarray([0, 2, 1, 1, 0])
    log_probabilities = jax.nn.log_softmax(logits)[jnp.arange(5), actions]
    old = log_probabilities + shift
    output = PolicyOutput(logits, values)
    loss, info = il.proximal_loss(
        output, actions, advantages, targets, old, old_values, clip=0.2, value_clip=0.1, entropy_coefficient=0.01
    )
    ratio = np.exp(-np.asarray(shift))
    policy_loss = -np.mean(np.minimum(ratio * advantages, np.clip(ratio, 0.8, 1.2) * advantages))
    held = old_values + np.clip(values - old_values, -0.1, 0.1)
    value_loss = 0.5 * np.mean(np.maximum((values - targets) ** 2, (held - targets) ** 2))
    chances = np.asarray(jax.nn.softmax(logits))
    entropy = -np.mean(np.sum(chances * np.log(chances), axis=-1))
    expected = dict(policy_loss=policy_loss, value_loss=value_loss, entropy=entropy)
    for name, value in expected.items():
        np.testing.assert_allclose(info[name], value, atol=1e-12)
    np.testing.assert_allclose(loss, policy_loss + 0.5 * value_loss - 0.01 * entropy, atol=1e-12)
    gain = jax.grad(lambda lp: jnp.sum(il.clipped_surrogate(lp, old, advantages, clip=0.2)))(log_probabilities)
    stuck = np.where(advantages > 0, ratio > 1.2, ratio < 0.8)  # further away would not pay
    np.testing.assert_array_equal(np.asarray(gain) == 0, stuck)
    assert stuck.any() and not stuck.all()


def test_advantages_are_normalised_in_each_group_for_itself(x64):
    advantages = jnp.asarray(
        np.random.default_rng(4).normal(size=(6, 2, 5)) * np.array([1, 9, 1, 9, 1, 9])[:, None, None]
    )
    groups = jnp.asarray([0, 2, 0, 2, 0, 2])
    ours = il.normalise_advantages(advantages, groups, 3)
    for group in (0, 2):
        rows = np.asarray(advantages)[np.asarray(groups) == group]
        np.testing.assert_allclose(ours[np.asarray(groups) == group], (rows - rows.mean()) / rows.std(), atol=1e-6)
    centred = il.normalise_advantages(advantages, groups, 3, scale=False)
    np.testing.assert_allclose(centred[::2], advantages[::2] - np.mean(advantages[::2]), atol=1e-12)
    together = il.normalise_advantages(advantages)
    np.testing.assert_allclose(together, (advantages - np.mean(advantages)) / np.std(advantages), atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 1000])
def test_shuffling_is_a_permutation(size):
    order = jax.jit(shuffled, static_argnums=1)(jax.random.key(0), size)
    assert sorted(order.tolist()) == list(range(size))


def test_who_is_in_one_minibatch_with_whom_is_random():
    """Of 32 numbers in 4 minibatches, two meet with probability 7/31: all pairs, near and far, the same."""
    orders = jax.jit(jax.vmap(lambda key: shuffled(key, 32)))(jax.random.split(jax.random.key(1), 20_000))
    places = np.argsort(np.asarray(orders), axis=1) // 8
    met = np.mean(places[:, :, None] == places[:, None, :], axis=0)[np.triu_indices(32, 1)]
    deviation = np.sqrt(7 / 31 * 24 / 31 / 20_000)
    assert np.all(np.abs(met - 7 / 31) < 5 * deviation)
