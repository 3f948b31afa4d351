"""The predictor of key-value skills that cannot be beaten: it counts."""

import numpy as np


def count_based_loss(tokens, num_keys, num_values):
    """Mean cross-entropy over the pairs of one sequence of keys and values."""
    seen, losses = set(), []
    for key in np.asarray(tokens)[::2]:
        losses.append(0.0 if int(key) in seen else np.log(num_values))
        seen.add(int(key))
    return np.mean(losses)
