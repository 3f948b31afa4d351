"""What a matrix memory is: how tokens are written into it and read from it, per head."""

import abc
import math
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Bool, Float, PyTree

from ...core.errors import require
from ..sequence import Form


class MemoryInputs(NamedTuple):
    """What the tokens of one sequence bring to a memory: time first, then heads.

    - `query`, `key`, `value`: what is read with, and what is written.
    - `log_gate`: the logarithm of what is kept of the memory **before** a token is written, per head `[t h]` or
        per key channel `[t h k]`; at most 0, and `-inf` forgets everything: that is how a new segment begins
        inside a sequence. `None` keeps everything.
    - `strength`: how strongly a token is written, `[t h]`; `None` is one. 0 writes nothing.
    - `log_strength`: the logarithm of the strength instead, for rules with exponential gates (mLSTM).
    - `negative`: where the gate is the negative of what its logarithm says, `[t h]`, for rules that allow it (mesa).
    """

    query: Float[Array, "t h k"]
    key: Float[Array, "t h k"]
    value: Float[Array, "t h v"]
    log_gate: Float[Array, "t h"] | Float[Array, "t h k"] | None = None
    strength: Float[Array, "t h"] | None = None
    log_strength: Float[Array, "t h"] | None = None
    negative: Bool[Array, "t h"] | None = None


class AbstractMemoryRule(eqx.Module):
    """How a memory is written and read: the part in which linear attention, DeltaNet and the mesa layer differ.

    A rule has no projections of its own; `MultiHeadMemory` makes a sequence layer of it.
    """

    @abc.abstractmethod
    def init_state(self, num_heads: int, key_size: int, value_size: int, dtype: jnp.dtype) -> PyTree:
        """The empty memory of all heads."""

    @abc.abstractmethod
    def __call__(
        self, inputs: MemoryInputs, state: PyTree | None = None, *, form: Form = "chunk"
    ) -> tuple[Float[Array, "t h v"], PyTree]:
        """Each token is written, then read: what is read and the memory after the last token.

        `None` is the empty memory, known to be empty already while tracing. The inputs are float32 or float64;
        outputs and memory have the same dtype.
        """


def check_inputs(
    name: str,
    inputs: MemoryInputs,
    *,
    channel_gates: bool = False,
    log_strengths: bool = False,
    negative_gates: bool = False,
) -> None:
    """Refuse arrays that do not fit together, naming the axis, and gates out of range as far as they are known."""
    query, key, value, log_gate, strength, log_strength, negative = inputs
    require(query.ndim == 3, f"{name} takes queries [t h k], not of shape {query.shape}; batching is jax.vmap")
    require(
        key.shape == query.shape,
        f"{name}: keys have axes 't h k' of sizes {key.shape}, queries of {query.shape}",
    )
    require(
        value.ndim == 3 and value.shape[:2] == key.shape[:2],
        f"{name}: values need axes 't h v' with 't h' of sizes {key.shape[:2]}, not {value.shape}",
    )
    per_head, per_channel = key.shape[:2], key.shape
    allowed = [per_head, per_channel] if channel_gates else [per_head]
    if log_gate is not None:
        require(
            log_gate.shape in allowed,
            f"{name}: log_gate has shape {log_gate.shape}, not {' or '.join(map(str, allowed))}",
        )
        check_range(f"{name}: log_gate", log_gate, high=0.0)
    if strength is not None:
        require(strength.shape == per_head, f"{name}: strength has axes 't h' {strength.shape}, not {per_head}")
        check_range(f"{name}: strength", strength, low=0.0)
    if log_strength is not None:
        require(log_strengths, f"{name} takes strengths, not their logarithms: give 'strength'")
        require(strength is None, f"{name}: give 'strength' or 'log_strength', not both")
        require(
            log_strength.shape == per_head, f"{name}: log_strength has axes 't h' {log_strength.shape}, not {per_head}"
        )
    if negative is not None:
        require(negative_gates, f"{name} has no gates below zero")
        require(negative.shape == per_head, f"{name}: negative has axes 't h' {negative.shape}, not {per_head}")


def check_range(what: str, values: Array, *, low: float = -math.inf, high: float = math.inf) -> None:
    """Refuse values out of a range, and NaN, naming the place of the first; values being traced are not known yet."""
    if isinstance(values, Tracer):
        return
    given = np.asarray(values)
    bad = np.argwhere(~((given >= low) & (given <= high)))
    if len(bad):
        axes = ("t", "h", "k")[: given.ndim]
        place = ", ".join(f"{axis}={index}" for axis, index in zip(axes, bad[0], strict=True))
        raise ValueError(f"{what} lies between {low:g} and {high:g}, but is {given[tuple(bad[0])]:g} at {place}")


def check_memory(name: str, state: PyTree, expected: PyTree) -> None:
    """Refuse a memory of another structure or size than `expected`."""
    require(
        jax.tree.structure(state) == jax.tree.structure(expected),
        f"{name} has a memory of structure {jax.tree.structure(expected)}, not {jax.tree.structure(state)}",
    )
    for given, wanted in zip(jax.tree.leaves(state), jax.tree.leaves(expected), strict=True):
        require(
            jnp.shape(given) == wanted.shape,
            f"{name} has a memory of shape {wanted.shape} (heads, key size, value size), not {jnp.shape(given)}",
        )


def reset_gate(resets: Bool[Array, "t"], num_heads: int, dtype: jnp.dtype) -> Float[Array, "t h"]:
    """The log gates that forget everything where a new segment begins, and nothing elsewhere."""
    gate = jnp.where(resets, jnp.asarray(-jnp.inf, dtype), jnp.zeros((), dtype))
    return jnp.broadcast_to(gate[:, None], (resets.shape[0], num_heads))
