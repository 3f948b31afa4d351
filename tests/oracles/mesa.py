"""The mesa memory by a loop with a dense solve, and the inverses of recursive least squares, in NumPy."""

import numpy as np


def mesa(query, key, value, log_gate=None, strength=None, regulariser=1.0, negative=None, state=None):
    """G = gamma G + beta k v^T, H = gamma H + beta k k^T, o^T = q^T (H + Lambda)^-1 G; the state is `(G, H)`."""
    length, heads, size = key.shape
    regulariser = np.broadcast_to(regulariser, (heads, size))
    both = (np.zeros((heads, size, value.shape[-1])), np.zeros((heads, size, size))) if state is None else state
    key_value, key_key = (np.array(part, np.float64) for part in both)
    outputs = np.zeros(value.shape)
    for t in range(length):
        for h in range(heads):
            gate = 1.0 if log_gate is None else np.exp(log_gate[t, h])
            gate = gate if negative is None or not negative[t, h] else -gate
            beta = 1.0 if strength is None else strength[t, h]
            key_value[h] = gate * key_value[h] + beta * np.outer(key[t, h], value[t, h])
            key_key[h] = gate * key_key[h] + beta * np.outer(key[t, h], key[t, h])
            system = key_key[h] + np.diag(regulariser[h])
            outputs[t, h] = np.linalg.solve(system.T, query[t, h]) @ key_value[h]
    return outputs, (key_value, key_key)


def inverses(key, regulariser, gate=None):
    """The inverse of each prefix's weighted covariance, whose regulariser fades like the tokens."""
    covariance, found = np.diag(regulariser), []
    for t, k in enumerate(key):
        covariance = (1.0 if gate is None else gate[t]) * covariance + np.outer(k, k)
        found.append(np.linalg.inv(covariance))
    return np.array(found)
