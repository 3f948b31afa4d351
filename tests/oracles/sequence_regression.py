"""Learning along a sequence, one position at a time: gradient descent, least squares, kernel regression, solvers."""

import numpy as np


def pairs(observations, t):
    """The pairs (s_t', s_t'+1) with t' < t, counted from one: what is known when s_t is the last observation."""
    return [(observations[i], observations[i + 1]) for i in range(t - 1)]


def gradient_descent(observations, step_size, start):
    """(Phi_0 - eta grad L_t(Phi_0)) s_t with the summed loss 1/2 sum |s' - Phi s|^2."""
    predictions = []
    for t in range(1, len(observations) + 1):
        gradient = np.zeros_like(start)
        for s, after in pairs(observations, t):
            gradient += np.outer(start @ s - after, s)
        predictions.append((start - step_size * gradient) @ observations[t - 1])
    return np.array(predictions)


def least_squares(observations, ridge, window=1):
    """Ridge regression of the next observation on the last `window` ones; the smallest minimiser for ridge 0."""
    size, predictions = observations.shape[1], []
    stacked = [np.concatenate(observations[i - window + 1 : i + 1]) for i in range(window - 1, len(observations))]
    for t in range(1, len(observations) + 1):
        known = t - window  # complete windows with an observation after them
        if known < 0:
            predictions.append(np.zeros(size))
            continue
        inputs = np.array(stacked[:known]).reshape(known, window * size)
        targets = observations[window : window + known]
        if ridge == 0:
            weights = np.linalg.lstsq(inputs, targets, rcond=1e-10)[0] if known else np.zeros((window * size, size))
        else:
            weights = np.linalg.solve(inputs.T @ inputs + ridge * np.eye(window * size), inputs.T @ targets)
        predictions.append(stacked[known] @ weights)
    return np.array(predictions)


def kernel_regression(observations, sharpness):
    """A softmax-weighted mean of what followed."""
    predictions = []
    for t in range(1, len(observations) + 1):
        known = pairs(observations, t)
        if not known:
            predictions.append(np.zeros(observations.shape[1]))
            continue
        scores = np.array([np.exp(sharpness * s @ observations[t - 1]) for s, _ in known])
        predictions.append(sum(score * after for score, (_, after) in zip(scores, known, strict=True)) / scores.sum())
    return np.array(predictions)


def iterate(matrix, right, start, alphas, betas):
    """All x^K of x^{K+1} = x^K + alpha (right - matrix x^K) + beta (x^K - x^{K-1})."""
    xs = [start]
    for k, (alpha, beta) in enumerate(zip(alphas, betas, strict=True)):
        step = alpha * (right - matrix @ xs[-1])
        xs.append(xs[-1] + step + (beta * (xs[-1] - xs[-2]) if k else 0.0))
    return np.array(xs)
