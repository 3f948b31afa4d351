"""Shaping of a naive learner: every joint history of a small game, and the estimators as the sums that define them."""

import itertools

import numpy as np

PAYOFFS = np.array([[1.0, -1.0], [2.0, 0.0]])  # own action, other's action; 0 cooperates


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def enumerate_games(logit, psi0, *, copies, episodes, steps, rate):
    """All joint action sequences of an ego and a naive learner in several copies of the prisoner's dilemma.

    `logit(m, before, observation)` is the ego's logit of cooperating, `before` what it saw last in the episode
    before. The naive learner's logits move after each episode by `rate / copies` times the sum over copies and steps
    of its score times its reward to the end of the episode. Leading axis of all results: sequences.
    """
    length = episodes * steps
    bits = np.array(list(itertools.product((0, 1), repeat=2 * copies * length)))
    own, other = np.moveaxis(bits.reshape(-1, copies, length, 2), 3, 0)  # [sequences, copies, length]
    psi = np.broadcast_to(psi0, (len(bits), 5)).copy()
    probability = np.ones(len(bits))
    observation, before = np.zeros_like(own), np.zeros_like(own)
    rewards = PAYOFFS[own, other]
    for m in range(episodes):
        scores = []
        for t in range(steps):
            l = m * steps + t
            mine = np.zeros_like(own[:, :, 0]) if t == 0 else 1 + 2 * own[:, :, l - 1] + other[:, :, l - 1]
            theirs = np.zeros_like(mine) if t == 0 else 1 + 2 * other[:, :, l - 1] + own[:, :, l - 1]
            last = np.zeros_like(mine) if m == 0 else 1 + 2 * own[:, :, m * steps - 1] + other[:, :, m * steps - 1]
            observation[:, :, l], before[:, :, l] = mine, last
            p = sigmoid(logit(m, last, mine))
            q = sigmoid(np.take_along_axis(psi, theirs, 1))
            probability *= np.prod(np.where(own[:, :, l] == 0, p, 1 - p), 1)
            probability *= np.prod(np.where(other[:, :, l] == 0, q, 1 - q), 1)
            scores.append((theirs, (other[:, :, l] == 0) - q))
        earned = PAYOFFS[other, own][:, :, m * steps : (m + 1) * steps]
        for t, (where, score) in enumerate(scores):
            for b in range(copies):
                np.add.at(
                    psi,
                    (np.arange(len(bits)), where[:, b]),
                    rate / copies * score[:, b] * earned[:, b, t:].sum(1),
                )
    return dict(
        probability=probability, action=own, observation=observation, before=before, rewards=rewards, other=other
    )


def objective(games):
    """The expectation of the mean over copies of the sum of the ego's rewards."""
    return np.sum(games["probability"] * games["rewards"].sum(2).mean(1))


def weights(rewards, steps, name):
    """What multiplies each score, as the paper's table has it: current and later episodes, over one meta-trajectory."""
    copies, length = rewards.shape
    result = np.zeros_like(rewards)
    for b in range(copies):
        for l in range(length):
            end = (l // steps + 1) * steps
            current = rewards[b, l:end].sum()
            future, mean = rewards[b, end:].sum(), rewards[:, end:].sum() / copies
            result[b, l] = {
                "COALA": current / copies + mean,
                "M_FOS": current + mean,
                "BATCH_UNAWARE": (current + future) / copies,
            }[name]
    return result


def coala_advantages(rewards, values, steps):
    """The closed form without discount: a baseline for the own episode, and those of the others at the next one."""
    copies, length = rewards.shape
    result = np.zeros_like(rewards)
    for b in range(copies):
        for l in range(length):
            end = (l // steps + 1) * steps
            result[b, l] = (rewards[b, l:end].sum() - values[b, l]) / copies + rewards[:, end:].sum() / copies
            if end < length:
                result[b, l] -= sum(values[c, end] for c in range(copies) if c != b) / copies
    return result


def batch_lambda_returns(r, v, *, discount, decay, steps, average, normalise, bootstrap):
    """Algorithm 1, line by line."""
    copies, length = r.shape
    own, mean = np.array(bootstrap, float), np.mean(bootstrap)
    out = np.zeros_like(r)
    for t in reversed(range(length)):
        if average and t % steps == steps - 1:
            own = np.full(copies, mean)
        own, mean = (
            r[:, t] / (copies if normalise else 1) + discount * ((1 - decay) * v[:, t] + decay * own),
            np.mean(r[:, t] + discount * ((1 - decay) * v[:, t] + decay * mean)),
        )
        out[:, t] = own
    return out
