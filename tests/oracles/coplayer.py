"""Co-player inference, the shortest way: sums over players and futures written out."""

from math import factorial, log

import numpy as np

VIEWS = ((0, 0), (0, 1), (1, 0), (1, 1))  # 1 + 2 own + other
REWARD = np.asarray([[1.0, -1.0], [2.0, 0.0]])


def other_view(view):
    """What the other player sees."""
    return 0 if view == 0 else 1 + VIEWS.index(VIEWS[view - 1][::-1])


def laplace_losses(views, actions):
    """The loss at each action of the ideal predictor under the uniform law: counts in a dictionary."""
    counts, losses = {}, []
    for view, action in zip(views, actions, strict=True):
        c, n = counts.get(view, (0, 0))
        p = (c + 1) / (n + 2)
        losses.append(-log(p if action == 0 else 1 - p))
        counts[view] = (c + (action == 0), n + 1)
    return np.asarray(losses)


def sequence_probability(k, n):
    """Of a given order of k cooperations in n visits, the table entry integrated out."""
    return factorial(k) * factorial(n - k) / factorial(n + 1)


def best_return(q, rounds, view=0):
    """The best expected return against a memory-one player, by recursion over views."""
    values = np.zeros(5)
    for _ in range(rounds):
        new = np.zeros(5)
        for s in range(5):
            p = q[other_view(s)]
            worth = [
                p * (REWARD[u, 0] + values[1 + 2 * u]) + (1 - p) * (REWARD[u, 1] + values[2 + 2 * u]) for u in (0, 1)
            ]
            new[s] = max(worth)
        values = new
    return values[view]


def chain_returns(p, q, rounds, view=0):
    """Expected returns of both players: the transition matrix entry by entry, and its powers."""
    matrix, reward = np.zeros((5, 5)), np.zeros((5, 2))
    for s in range(5):
        a, b = p[s], q[other_view(s)]
        for i, (u, v) in enumerate(VIEWS):
            weight = (a if u == 0 else 1 - a) * (b if v == 0 else 1 - b)
            matrix[s, 1 + i] += weight
            reward[s] += weight * np.asarray([REWARD[u, v], REWARD[v, u]])
    return sum(np.linalg.matrix_power(matrix, t)[view] @ reward for t in range(rounds))
