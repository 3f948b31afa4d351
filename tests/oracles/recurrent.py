"""Recurrent layers by loops over tokens; weights are dictionaries of float64 arrays."""

import itertools

import numpy as np


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log1p(np.exp(x))


def silu(x):
    return x * sigmoid(x)


def gelu(x):
    """The tanh form."""
    return x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def diagonal(multipliers, inputs, state, resets=None):
    states = []
    for t, added in enumerate(inputs):
        multiplier = multipliers if multipliers.ndim < inputs.ndim else multipliers[t]
        state = added if resets is not None and resets[t] else multiplier * state + added
        states.append(state)
    return np.array(states).reshape(inputs.shape), state


def convolution(weight, bias, xs, tail):
    """Outputs and tail of one segment."""
    size, outputs, seen = len(weight), [], [*tail, *xs]
    for t in range(len(xs)):
        outputs.append(bias + sum(weight[j] * seen[t + j] for j in range(size)))
    return np.array(outputs).reshape(xs.shape), np.array(seen[len(seen) - size + 1 :]).reshape(tail.shape)


def real_gated_lru(w, xs, state):
    heads, size, _ = w["recurrence_gate"].shape
    outputs = []
    for x in xs:
        block = x.reshape(heads, size)
        r, i = (
            sigmoid(np.concatenate([block[h] @ w[f"{name}_gate"][h] for h in range(heads)]) + w[f"{name}_bias"])
            for name in ("recurrence", "input")
        )
        a = np.exp(-8 * softplus(w["decay"]) * r)
        state = a * state + np.sqrt(1 - a**2) * i * x
        outputs.append(state)
    return np.array(outputs).reshape(xs.shape), state


def hawk(w, xs, state):
    tail, neurons = state
    inputs, tail = convolution(w["convolution.weight"], w["convolution.bias"], xs @ w["input"], tail)
    inner = {name.removeprefix("recurrence."): value for name, value in w.items() if name.startswith("recurrence.")}
    hidden, neurons = real_gated_lru(inner, inputs, neurons)
    return (gelu(xs @ w["gate"]) * hidden) @ w["output"], (tail, neurons)


def lru(w, xs, state):
    multiplier = np.exp(-np.exp(w["log_decay_rate"]) + 1j * np.exp(w["log_phase"]))
    read, write = w["output_real"] + 1j * w["output_imaginary"], w["input_real"] + 1j * w["input_imaginary"]
    h, outputs = state[0] + 1j * state[1], []
    for x in xs:
        h = multiplier * h + np.exp(w["log_gain"]) * (x @ write)
        outputs.append(np.real(h @ read) + w["skip"] * x)
    return np.array(outputs).reshape(xs.shape), np.array([h.real, h.imag])


def selective(w, xs, state):
    tail, h = state
    convolved, tail = convolution(w["convolution.weight"], w["convolution.bias"], xs @ w["input"], tail)
    outputs = []
    for x, u in zip(xs, silu(convolved), strict=True):
        step = softplus(u @ w["step_down"] @ w["step_up"] + w["step_bias"])
        h = np.exp(step[:, None] * -np.exp(w["log_rate"])) * h + np.outer(step * u, u @ w["write"])
        outputs.append(((h @ (u @ w["read"]) + w["skip"] * u) * silu(x @ w["gate"])) @ w["output"])
    return np.array(outputs).reshape(xs.shape), (tail, h)


def lstm(w, xs, state):
    (h, c), outputs = state, []
    for x in xs:
        i, f, z, o = np.split(x @ w["input"] + h @ w["recurrent"] + w["bias"], 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(z)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    outputs = np.array(outputs).reshape(len(xs), len(h))
    return (outputs @ w["output"] if "output" in w else outputs), (h, c)


def gru(w, xs, state):
    h, outputs, size = state, [], len(state)
    parts = [slice(k * size, (k + 1) * size) for k in range(3)]
    for x in xs:
        r, z = (sigmoid((x @ w["input"] + h @ w["recurrent"] + w["bias"])[p]) for p in parts[:2])
        new = parts[2]
        inner = h @ w["recurrent"][:, new] + w["inner_bias"]
        n = np.tanh(x @ w["input"][:, new] + w["bias"][new] + r * inner)
        h = (1 - z) * h + z * n
        outputs.append(h)
    outputs = np.array(outputs).reshape(len(xs), len(h))
    return (outputs @ w["output"] if "output" in w else outputs), h


def segments(run, xs, resets, state, empty):
    """Every segment on its own, one after the other: only the first goes on from the state."""
    cuts, outputs = [0, *np.flatnonzero(resets), len(xs)], []
    for number, (start, stop) in enumerate(itertools.pairwise(cuts)):
        ys, state = run(xs[start:stop], state if number == 0 else empty)
        outputs.append(ys)
    return np.concatenate(outputs), state
