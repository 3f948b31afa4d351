"""Attention by loops over heads, tokens and pairs."""

import numpy as np


def attend(weights, context, tokens, *, score):
    """What each token reads from the context: for all pairs, one number times one value."""
    outputs = np.zeros((len(tokens), weights["output"].shape[2]))
    for head in range(len(weights["query"])):
        query, key, value, output = (weights[name][head] for name in ("query", "key", "value", "output"))
        biases = {name: weights[name][head] if name in weights else 0.0 for name in BIASES}
        for i, token in enumerate(tokens):
            q = token @ query + biases["query_bias"]
            scores = np.array([q @ (other @ key + biases["key_bias"]) for other in context])
            shares = score(scores)
            for j, other in enumerate(context):
                outputs[i] += shares[j] * (other @ value + biases["value_bias"]) @ output
    return outputs + weights.get("output_bias", 0.0)


BIASES = ("query_bias", "key_bias", "value_bias")


def causal(weights, tokens, *, score):
    """Each token reads from itself and all earlier ones."""
    rows = [attend(weights, tokens[: i + 1], tokens[i : i + 1], score=score)[0] for i in range(len(tokens))]
    return np.array(rows).reshape(len(tokens), weights["output"].shape[2])


def linear(scale):
    return lambda scores: scale * scores


def softmax(scale):
    def score(scores):
        exponentials = np.exp(scale * scores - np.max(scale * scores)) if len(scores) else scores
        return exponentials / max(np.sum(exponentials), 1e-300)

    return score


def mixture(scale, logit):
    share = 1 / (1 + np.exp(-logit))
    return lambda scores: share * softmax(scale)(scores) + (1 - share) * scores
