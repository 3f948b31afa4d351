"""Naive learners of the simplest kind in numpy: tabular policies, one loop over everything that was done."""

import numpy as np


def _probabilities(logits):
    exponentials = np.exp(logits - logits.max())
    return exponentials / exponentials.sum()


def reinforce_update(logits, observation, action, reward, *, rate, discount, normalise):
    """`logits + rate / B * sum over b, t of grad log pi * return-to-go`."""
    batch, steps = reward.shape
    returns = np.zeros((batch, steps))
    for t in range(steps):
        for k in range(t, steps):
            returns[:, t] += discount ** (k - t) * reward[:, k]
    if normalise:
        returns = returns - returns.mean(axis=0)
        returns = returns / (returns.std() + 1e-8)
    step = np.zeros_like(logits)
    for b in range(batch):
        for t in range(steps):
            row = observation[b, t]
            step[row] += returns[b, t] * (np.eye(logits.shape[1])[action[b, t]] - _probabilities(logits[row]))
    return logits + rate * step / batch


def actor_critic_update(logits, values, observation, action, reward, *, rate, discount, decay, normalise):
    """One step of gradient descent on the mean of `-A log pi + 0.5 * 0.5 * (V - target)^2`."""
    batch, steps = reward.shape
    targets = np.zeros((batch, steps))
    for b in range(batch):
        later = 0.0
        for t in reversed(range(steps)):
            following = values[observation[b, t + 1]] if t + 1 < steps else 0.0
            later = reward[b, t] + discount * ((1 - decay) * following + decay * later)
            targets[b, t] = later
    advantages = targets - values[observation]
    if normalise:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    logit_step, value_step = np.zeros_like(logits), np.zeros_like(values)
    for b in range(batch):
        for t in range(steps):
            row = observation[b, t]
            score = np.eye(logits.shape[1])[action[b, t]] - _probabilities(logits[row])
            logit_step[row] += advantages[b, t] * score
            value_step[row] += 0.5 * (targets[b, t] - values[row])
    count = batch * steps
    return logits + rate * logit_step / count, values + rate * value_step / count
