"""How exact the constructions are: in float64, against attention written as the sum that it is."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ...core.rng import named_key
from ...nn.recurrent.attention_construction import gated_rnn_from_attention

CONSTRUCTIONS = {"compressed": True, "generic": False}
FADING = 0.99  # the multiplier of the control: nearly one


def construction_errors(seeds: Sequence[int], dims: Sequence[int], length: int) -> dict[str, np.ndarray]:
    """The largest errors `[seeds, dims]` of both constructions and of the fading control, relative to the target.

    Queries, keys and values have weights drawn apart, with entries N(0, 1/d).
    """

    def errors(key: Key[Array, ""]) -> dict[str, Float[Array, "dims"]]:
        found: dict[str, list[Array]] = {name: [] for name in (*CONSTRUCTIONS, "fading")}
        for dim in dims:
            token_key, weight_key = jax.random.split(named_key(key, "dim", dim))
            xs = jax.random.normal(token_key, (length, dim), jnp.float64)
            weights = jax.random.normal(weight_key, (3, dim, dim), jnp.float64) / dim**0.5
            query, keys, values = (xs @ weight for weight in weights)
            wanted = jnp.tril(query @ keys.T) @ values
            for name, compressed in CONSTRUCTIONS.items():
                layer = gated_rnn_from_attention(*weights, compressed=compressed)
                found[name].append(_error(layer(xs, form="recurrent")[0], wanted))
            fading = gated_rnn_from_attention(*weights, decay=FADING)
            found["fading"].append(_error(fading(xs, form="recurrent")[0], wanted))
        return {name: jnp.stack(values) for name, values in found.items()}

    with jax.enable_x64(True):
        keys = jax.vmap(lambda seed: named_key(seed, "construction"))(jnp.asarray(seeds, jnp.uint32))
        return {name: np.asarray(values) for name, values in jax.jit(jax.vmap(errors))(keys).items()}


def _error(given: Float[Array, "t d"], wanted: Float[Array, "t d"]) -> Float[Array, ""]:
    return jnp.max(jnp.abs(given - wanted)) / jnp.max(jnp.abs(wanted))
