"""Gradient descent on the loss of a linear model, and GD++, one example at a time."""

import numpy as np


def loss(w, x, y):
    """L(W) = 1/(2N) sum_j |W x_j - y_j|^2."""
    return sum(np.sum((w @ a - b) ** 2) for a, b in zip(x, y, strict=True)) / (2 * len(x))


def gradient(function, w, step=1e-6):
    """Central differences: needs no derivative by hand."""
    result = np.zeros_like(w)
    for place in np.ndindex(w.shape):
        move = np.zeros_like(w)
        move[place] = step
        result[place] = (function(w + move) - function(w - move)) / (2 * step)
    return result


def gradient_descent(x, y, queries, *, learning_rate, steps, w0):
    """Predictions after explicit steps in weight space."""
    w = np.array(w0, np.float64)
    for _ in range(steps):
        descent = np.zeros_like(w)
        for a, b in zip(x, y, strict=True):
            descent += np.outer(w @ a - b, a) / len(x)
        w = w - learning_rate * descent
    return np.array([w @ query for query in queries])


def gd_plus_plus(x, y, queries, *, learning_rate, gamma, steps, w0=None):
    """Predictions by the recursion on tokens: residuals and inputs change simultaneously."""
    w0 = np.zeros((y.shape[1], x.shape[1])) if w0 is None else w0
    n, size = x.shape
    points = [np.array(point, np.float64) for point in [*x, *queries]]
    residuals = [b - w0 @ a for a, b in zip(x, y, strict=True)] + [np.zeros(y.shape[1]) for _ in queries]
    for _ in range(steps):
        second_moment = sum((np.outer(points[j], points[j]) for j in range(n)), np.zeros((size, size)))
        new_residuals = [
            residuals[i] - learning_rate / n * sum(points[i] @ points[j] * residuals[j] for j in range(n))
            for i in range(len(points))
        ]
        points = [(np.eye(size) - gamma * second_moment) @ point for point in points]
        residuals = new_residuals
    return np.array([w0 @ query - residual for query, residual in zip(queries, residuals[n:], strict=True)])
