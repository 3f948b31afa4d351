"""Small chances out of two random words: on a CPU, the random generator is much of what a small world costs."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

_SMALLEST = 2.0**-24  # the distance of two chances


def two_words(key: Key[Array, ""]) -> tuple[UInt32[Array, ""], UInt32[Array, ""]]:
    """Two random words of 32 bits; with JAX's usual keys for the price of one, as the data of a key derived from it."""
    if jax.random.key_impl(key) == "threefry2x32":
        data = jax.random.key_data(jax.random.fold_in(key, 0))
    else:
        data = jax.random.bits(key, (2,), jnp.uint32)  # the data of other kinds of keys repeat themselves
    return data[0], data[1]


def draw(word: UInt32[Array, ""], size: int | Int[Array, ""]) -> tuple[Int[Array, ""], UInt32[Array, ""]]:
    r"""An integer uniform below `size`, $\lfloor \text{size} \cdot \text{word} / 2^{32} \rfloor$, and what is left.

    What is left, $\text{size} \cdot \text{word} \bmod 2^{32}$, is a uniform word again, as long as the product of all
    sizes drawn from one word is small: no result's probability is off by more than that product over $2^{32}$, as a
    share of itself.
    """
    number = jnp.asarray(size).astype(jnp.uint32)
    low = (word & 0xFFFF) * number
    high = (word >> 16) * number + (low >> 16)
    return (high >> 16).astype(jnp.int32), word * number


def unit(word: UInt32[Array, "*shape"]) -> Float[Array, "*shape"]:
    """A number uniform in $[0, 1)$, of the upper 24 bits: with more, float32 would round some up to 1."""
    return (word >> 8).astype(jnp.float32) * _SMALLEST


def one_bit(
    bits: Int[Array, ""], most: int, probability: Float[Array, ""], chance: Float[Array, ""]
) -> tuple[Int[Array, ""], Float[Array, ""]]:
    """With some probability one of the bits that are set, each as likely; otherwise none. And what is left.

    The k-th of n bits has the piece from k p / n to (k + 1) p / n of the unit interval for its own; where in its
    piece `chance` fell is a uniform number again.

    **Arguments:**

    - `bits`: to choose from.
    - `most`: how many of them can be set.
    - `probability`: of choosing one.
    - `chance`: uniform in $[0, 1)$.
    """
    count = jax.lax.population_count(bits)
    probability = jnp.where(count > 0, probability, 0.0)
    happens = chance < probability
    place = chance / jnp.maximum(probability, _SMALLEST) * count.astype(jnp.float32)
    number = jnp.minimum(place.astype(jnp.int32), count - 1)
    left_out = (chance - probability) / jnp.maximum(1.0 - probability, _SMALLEST)
    for earlier in range(most - 1):
        bits = jnp.where(number > earlier, bits & (bits - 1), bits)  # without its lowest bit
    rest = jnp.where(happens, place - jnp.floor(place), left_out)
    return jnp.where(happens, bits & -bits, 0), rest
