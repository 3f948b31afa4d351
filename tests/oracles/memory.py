"""Matrix memories by a loop over tokens and heads, in NumPy."""

import numpy as np


def _loop(query, key, value, log_gate, strength, state, write):
    """Per token and head: fade, write, then read. `log_gate` has axes `t h` or `t h k`."""
    length, heads, key_size = key.shape
    memory = np.zeros((heads, key_size, value.shape[-1])) if state is None else np.array(state, np.float64)
    outputs = np.zeros(value.shape)
    for t in range(length):
        for h in range(heads):
            gate = 1.0 if log_gate is None else np.exp(log_gate[t, h])
            beta = 1.0 if strength is None else strength[t, h]
            faded = np.broadcast_to(gate, key_size)[:, None] * memory[h]
            memory[h] = faded + write(faded, key[t, h], value[t, h], beta)
            outputs[t, h] = query[t, h] @ memory[h]
    return outputs, memory


def additive(query, key, value, log_gate=None, strength=None, state=None):
    """S = gamma S + beta k v^T, with one gate per head or one per key channel."""
    return _loop(query, key, value, log_gate, strength, state, lambda _, k, v, beta: beta * np.outer(k, v))


def delta(query, key, value, log_gate=None, strength=None, state=None):
    """S = (I - beta k k^T) gamma S + beta k v^T."""

    def write(faded, k, v, beta):
        return -beta * np.outer(k, k) @ faded + beta * np.outer(k, v)

    return _loop(query, key, value, log_gate, strength, state, write)


def mlstm(query, key, value, log_gate=None, strength=None, log_strength=None, state=None):
    """S = f S + i k v^T, z = f z + i k, o = S^T q / max(|z.q|, 1), without a stabiliser: only for mild gates.

    The state is `(S, z)` at its true scale.
    """
    length, heads, key_size = key.shape
    memory, normaliser = (np.zeros((heads, key_size, value.shape[-1])), np.zeros((heads, key_size)))
    if state is not None:
        memory, normaliser = (np.array(part, np.float64) for part in state)
    outputs = np.zeros(value.shape)
    for t in range(length):
        for h in range(heads):
            gate = 1.0 if log_gate is None else np.exp(log_gate[t, h])
            written = 1.0 if strength is None else strength[t, h]
            written = written if log_strength is None else written * np.exp(log_strength[t, h])
            memory[h] = gate * memory[h] + written * np.outer(key[t, h], value[t, h])
            normaliser[h] = gate * normaliser[h] + written * key[t, h]
            outputs[t, h] = query[t, h] @ memory[h] / max(abs(normaliser[h] @ query[t, h]), 1.0)
    return outputs, (memory, normaliser)
