"""In which precision states and gates are kept."""

import jax.numpy as jnp


def at_least_float32(dtype: jnp.dtype) -> jnp.dtype:
    """The precision of gates and states for tokens or weights of a precision: never below float32."""
    return dtype if dtype.itemsize >= 4 else jnp.dtype(jnp.float32)
