"""Iterated matrix games the long way: the law of the joint action, step by step, in float64."""

import numpy as np


def law(first, second, payoffs):
    """Joint action laws after each observation of the first player, and payoffs, from probabilities `[s, a]`."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    tables = np.broadcast_to(np.asarray(payoffs, float), (2, first.shape[1], first.shape[1]))
    actions = range(first.shape[1])
    joint = np.zeros((len(first), len(actions) ** 2))
    rewards = np.zeros((2, len(actions) ** 2))
    for u in actions:
        for v in actions:
            move = len(actions) * u + v
            rewards[:, move] = tables[0, u, v], tables[1, v, u]
            joint[0, move] = first[0, u] * second[0, v]
            for own in actions:
                for other in actions:
                    mine, yours = 1 + len(actions) * own + other, 1 + len(actions) * other + own
                    joint[mine, move] = first[mine, u] * second[yours, v]
    return joint, rewards


def returns(first, second, payoffs, discount, steps=3000):
    """Discounted payoffs of both players, summed over `steps` steps."""
    joint, rewards = law(first, second, payoffs)
    now, total = joint[0], np.zeros(2)
    for step in range(steps):
        total += discount**step * rewards @ now
        now = now @ joint[1:]
    return total


def values(first, second, payoffs, discount, steps=3000):
    """Discounted payoffs `[player, observation]` from every observation of the first player on."""
    joint, rewards = law(first, second, payoffs)
    now, total = joint, np.zeros((2, len(joint)))
    for step in range(steps):
        total += discount**step * rewards @ now.T
        now = now @ joint[1:]
    return total


def long_run(first, second, payoffs, steps=20000):
    """Payoffs per step of both players after very many steps."""
    joint, rewards = law(first, second, payoffs)
    return rewards @ (joint[0] @ np.linalg.matrix_power(joint[1:], steps))


def learn(ego, naive, payoffs, discount, rate, steps, scale=1.0):
    """The logits `[s]` of a naive learner after each of his steps, gradients by central differences."""

    def two(logits):
        first = 1 / (1 + np.exp(-logits))
        return np.stack([first, 1 - first], axis=1)

    def own(policy):
        joint, rewards = law(two(ego), two(policy), payoffs)
        return scale * (np.linalg.solve(np.eye(4) - discount * joint[1:].T, joint[0]) @ rewards[1])

    policies = [np.asarray(naive, float)]
    for _ in range(steps):
        moves = 1e-5 * np.eye(len(naive))
        gradient = [(own(policies[-1] + move) - own(policies[-1] - move)) / 2e-5 for move in moves]
        policies.append(policies[-1] + rate * np.asarray(gradient))
    return np.stack(policies)
