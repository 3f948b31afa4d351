"""Named random keys: every key is a function of (seed, name, step), so no random stream is ever stored."""

import hashlib

import jax
import jax.numpy as jnp
from jaxtyping import Array, Integer, Key


def name_to_integer(name: str) -> int:
    """A stable 32-bit integer for a name, the same in every process and on every platform."""
    return int.from_bytes(hashlib.blake2s(name.encode(), digest_size=4).digest(), "little")


def named_key(
    seed: int | Integer[Array, ""] | Key[Array, ""], name: str, step: int | Integer[Array, ""] | None = None
) -> Key[Array, ""]:
    """The key of `name` at `step` under `seed`.

    **Arguments:**

    - `seed`: an integer (traced or not), or a typed key that plays its part.
    - `name`: what the randomness is for, such as `"train"` or `"init"`.
    - `step`: an optional counter.

    ```python
    >>> import jax
    >>> from innerloop import named_key
    >>> bool((named_key(0, "train", 3) == named_key(0, "train", 3)).all())
    True
    >>> bool((named_key(0, "train", 3) == named_key(0, "test", 3)).all())
    False

    ```
    """
    is_key = isinstance(seed, jax.Array) and jnp.issubdtype(seed.dtype, jax.dtypes.prng_key)
    key = seed if is_key else jax.random.key(seed)
    key = jax.random.fold_in(key, name_to_integer(name))
    return key if step is None else jax.random.fold_in(key, step)
