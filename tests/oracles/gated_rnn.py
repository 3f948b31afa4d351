"""Gated linear recurrent networks and attention, as loops and sums in float64."""

import numpy as np


def attention(x, query, key, value, *, decay=1.0):
    """Causal linear self-attention, the token itself included, as a double sum."""
    outputs = np.zeros((len(x), value.shape[1]))
    for t in range(len(x)):
        for s in range(t + 1):
            outputs[t] += decay ** (t - s) * ((x[t] @ query) @ (x[s] @ key)) * (x[s] @ value)
    return outputs


def gated_rnn(x, multipliers, input, input_gate, output, output_gate, readout):
    """The kernel sum h_t = sum_s lambda^(t-s) u_s over all pairs of tokens."""
    augmented = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    u = augmented @ input.T
    if input_gate is not None:
        u = u * (augmented @ input_gate.T)
    outputs = []
    for t in range(len(x)):
        h = sum((multipliers ** (t - s) * u[s] for s in range(t + 1)), np.zeros(len(multipliers)))
        h = np.concatenate([h.real, h.imag]) if np.iscomplexobj(multipliers) else h
        y = output @ h
        outputs.append(readout @ (y if output_gate is None else y * (output_gate @ h)))
    return np.asarray(outputs).reshape(len(x), len(readout))


def lstm_as_attention(x, query, key, value, epsilon):
    """An LSTM in the limit of small weights, minus what it would do without the products.

    Gates sigma(eps a) = 1/2 + eps a / 4 and tanh(eps a) = eps a, and a forget gate of one: one cell per entry
    of the memory and one for each entry that is read, the affine parts known and taken away.
    """

    def sigmoid(a):
        return 1.0 / (1.0 + np.exp(-a))

    keys, values, queries = x @ key, x @ value, x @ query
    outputs = np.zeros((len(x), value.shape[1]))
    cells, plain = np.zeros((value.shape[1], key.shape[1])), np.zeros((value.shape[1], 1))
    for t in range(len(x)):
        candidate = np.tanh(epsilon * values[t])[:, None]
        cells = cells + sigmoid(epsilon * keys[t])[None] * candidate
        plain = plain + sigmoid(0.0) * candidate  # a cell whose input gate sees nothing: the affine part
        small = epsilon**2  # cells are read on the scale of their content, or tanh would not be linear
        content, affine = np.tanh(small * cells) / small, np.tanh(small * plain) / small
        gates = sigmoid(epsilon * queries[t])[None]
        # (o - 1/2)(c - c_affine): the four products of cells with and without the gates' inputs.
        outputs[t] = np.sum(gates * content - 0.5 * content - gates * affine + 0.5 * affine, axis=1)
    return outputs * 16 / epsilon**3
