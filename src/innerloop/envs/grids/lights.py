"""Observations of zeros and ones, and joint actions, in the form in which many small worlds side by side are fast.

A compiler turns arithmetic on one number per world into loops over worlds that use all of a processor's width.
Arrays of two or of a few cells per world break those loops up. So the worlds compute with single numbers, hold their
cells as bits, and come to arrays only here, which makes them several times faster.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

_BITS = 31  # of a word, whose sign is left alone
_Of = TypeVar("_Of")


def both(of: Callable[[int], _Of]) -> tuple[_Of, _Of]:
    """The same for player 0 and for player 1."""
    return of(0), of(1)


class Field(NamedTuple):
    """Some bits next to each other."""

    value: Int[Array, ""]
    width: int  # at most 31


def two_actions(action: Int[Array, "2"]) -> tuple[Int[Array, ""], Int[Array, ""]]:
    """Both actions as single numbers, each below 256: by way of a sum, which compilers do not merge with what follows.

    Reading every other number of an array, which is what `action[0]` is over many worlds, would break up all loops
    into which it is merged.
    """
    joint = jnp.sum(action.astype(jnp.int32) * jnp.asarray([256, 1], jnp.int32))
    return joint >> 8, joint & 255


def place(cell: Int[Array, ""], size: int) -> list[Field]:
    """One bit per cell, of which the one at `cell` is set; none for a cell outside."""
    fields = []
    for first in range(0, size, _BITS):
        there = cell - first
        inside = (there >= 0) & (there < min(_BITS, size - first))
        value = jnp.where(inside, jnp.asarray(1, jnp.int32) << jnp.clip(there, 0, _BITS - 1), 0)
        fields.append(Field(value, min(_BITS, size - first)))
    return fields


def light(fields: Sequence[Field], wires: Int[np.ndarray, "*shape"]) -> Float[Array, "*shape"]:
    """Zeros and ones: entry i is bit `wires[i]` of all fields in a row."""
    words, masks = [], []
    used, first = _BITS, 0
    for value, width in fields:
        if used + width > _BITS:
            words.append(jnp.asarray(0, jnp.int32))
            masks.append(np.zeros(wires.shape, np.int32))
            used = 0
        words[-1] = words[-1] | (value << used)
        mine = (wires >= first) & (wires < first + width)
        masks[-1] += np.where(mine, np.int32(1) << np.where(mine, wires - first + used, 0), 0).astype(np.int32)
        used, first = used + width, first + width
    lit = jnp.zeros(wires.shape, jnp.int32)
    for word, mask in zip(words, masks, strict=True):
        lit = lit | (word & mask)
    return jnp.where(lit != 0, jnp.float32(1.0), jnp.float32(0.0))
