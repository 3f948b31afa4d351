"""Returns and advantages as sums over the rest of an episode, and a small decision process, all its histories."""

import itertools

import numpy as np


def rest_of_episode(t, terminated, truncated):
    """The steps from `t` to the end of its episode, or of the trajectory."""
    end = next((k for k in range(t, len(terminated)) if terminated[k] or truncated[k]), len(terminated) - 1)
    return range(t, end + 1)


def rewards_to_go(rewards, next_values, terminated, truncated, *, discount):
    result = []
    for t in range(len(rewards)):
        steps = rest_of_episode(t, terminated, truncated)
        last = steps[-1]
        total = sum(discount ** (k - t) * rewards[k] for k in steps)
        result.append(total + (0 if terminated[last] else discount ** (last + 1 - t) * next_values[last]))
    return np.array(result)


def advantages(rewards, values, next_values, terminated, truncated, *, discount, decay):
    differences = [
        rewards[k] + (0 if terminated[k] else discount * next_values[k]) - values[k] for k in range(len(rewards))
    ]
    return np.array(
        [
            sum((discount * decay) ** (k - t) * differences[k] for k in rest_of_episode(t, terminated, truncated))
            for t in range(len(rewards))
        ]
    )


def lambda_return(t, rewards, next_values, terminated, truncated, *, discount, decay):
    """The mean of all n-step returns, the n-th weighed by (1 - decay) decay^(n - 1), the last by what is left."""
    steps = list(rest_of_episode(t, terminated, truncated))
    total = 0.0
    for n, last in enumerate(steps, start=1):
        value = 0.0 if terminated[last] else next_values[last]
        n_step = sum(discount ** (k - t) * rewards[k] for k in steps[:n]) + discount**n * value
        total += n_step * (decay ** (n - 1) if n == len(steps) else (1 - decay) * decay ** (n - 1))
    return total


def histories(start, transition, horizon):
    """Every (states, actions) of a decision process, with the probability of its states given its actions."""
    num_states, num_actions = transition.shape[:2]
    for states in itertools.product(range(num_states), repeat=horizon + 1):
        for actions in itertools.product(range(num_actions), repeat=horizon):
            steps = zip(states[:-1], actions, states[1:], strict=True)
            yield states, actions, start[states[0]] * np.prod([transition[s, a, n] for s, a, n in steps])
