"""A sequence layer made of projections, short convolutions, gates and a matrix memory per head."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Key, PyTree

from ...core.errors import require
from ..convolution import CausalConvolution
from ..feedforward import RootMeanSquareNorm
from ..initialise import truncated_normal
from ..projections import Projections
from ..sequence import AbstractSequenceLayer, Form, check_form, check_resets, check_state, check_width
from .gates import AbstractGates, Gates
from .rule import AbstractMemoryRule, MemoryInputs, reset_gate


class MultiHeadState(NamedTuple):
    """What a layer remembers: the memories of its heads, and the last tokens that its convolutions saw.

    - `memory`: as the rule has it.
    - `tail`: the tokens before the present one, queries, keys and values side by side; `None` without
        convolution.
    """

    memory: PyTree
    tail: Float[Array, "w c"] | None


class MultiHeadMemory(AbstractSequenceLayer):
    r"""A sequence layer whose heads write their tokens into matrix memories and read them.

    Queries, keys and values are linear maps of the tokens; queries and keys then pass a short causal convolution
    and SiLU and are normalised per head; the gates are functions of the tokens; the `rule` writes and reads; what
    is read is normalised per head, gated if there is an output gate, and mapped to the output.

    $$q, k = \frac{\mathrm{silu}(\mathrm{conv}(x W))}{\lVert \cdot \rVert}, \quad v = x W_v, \quad
      o = \mathrm{rule}(s\,q, k, v, \text{gates}(x)), \quad y = \sum_h \mathrm{norm}(o_h) W^O_h$$

    Linear attention, RetNet, gated linear attention, Mamba-2, DeltaNet, gated DeltaNet, mLSTM and MesaNet differ in
    the rule and the gates alone; `mesa_layer`, `delta_net_layer` and their like make them.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> layer = il.MultiHeadMemory(8, num_heads=2, key_size=4, rule=il.AdditiveMemory(), key=jax.random.key(0))
    >>> outputs, state = layer(jax.random.normal(jax.random.key(1), (7, 8)))
    >>> outputs.shape, state.memory.shape, state.tail.shape
    ((7, 8), (2, 4, 4), (3, 16))

    ```

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233.

    **Errors:** `ValueError` for sizes below one.
    """

    rule: AbstractMemoryRule
    projections: Projections
    convolution: CausalConvolution | None
    gates: AbstractGates | None
    norm: RootMeanSquareNorm | None
    output_gate: Float[Array, "d h v"] | None
    query_scale: float | Float[Array, ""]
    normalise: bool = eqx.field(static=True)
    convolve_values: bool = eqx.field(static=True)

    def __init__(
        self,
        width: int,
        *,
        num_heads: int,
        key_size: int,
        value_size: int | None = None,
        rule: AbstractMemoryRule,
        gates: AbstractGates | None = None,
        convolution: int | None = 4,
        convolve_values: bool = False,
        normalise: bool = True,
        query_scale: float | Float[Array, ""] = 1.0,
        output_norm: bool = True,
        output_gate: bool = False,
        output_variance: float | Float[Array, ""] = 1.0,
        key: Key[Array, ""],
    ):
        """**Arguments:**

        - `width`: the size of a token.
        - `num_heads`: the number of heads.
        - `key_size`, `value_size`: the size of a key and of a value, per head; by default equal.
        - `rule`: how the memory is written and read.
        - `gates`: what is kept, and how strongly is written; `None` keeps all and writes with strength one.
        - `convolution`: over how many tokens queries and keys are convolved; `None` is no convolution, and then
          SiLU is left out too.
        - `convolve_values`: whether values are convolved as well.
        - `normalise`: whether each head's queries and keys have length one.
        - `query_scale`: multiplies the queries. A float is a setting, an array is learned.
        - `output_norm`: whether what each head reads is normalised (root mean square, learned scale).
        - `output_gate`: whether a SiLU gate of the token multiplies it then.
        - `output_variance`: of an output weight, times its fan-in.
        - `key`: a random key.
        """
        require(convolution is None or convolution >= 1, f"convolution must be at least 1 token, not {convolution}")
        keys = jax.random.split(key, 3)
        self.projections = Projections.random(
            width, num_heads, key_size, value_size, output_variance=output_variance, key=keys[0]
        )
        self.rule, self.gates = rule, gates
        value_size = self.projections.value_size
        channels = num_heads * (2 * key_size + (value_size if convolve_values else 0))
        self.convolution = None if convolution is None else CausalConvolution.random(channels, convolution, key=keys[1])
        self.norm = RootMeanSquareNorm(value_size) if output_norm else None
        self.output_gate = (
            truncated_normal(keys[2], (width, num_heads, value_size), fan_in=width) if output_gate else None
        )
        self.query_scale, self.normalise, self.convolve_values = query_scale, normalise, convolve_values

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.projections.width

    def init_state(self) -> MultiHeadState:
        """Empty memories, and zeros as the tokens before the first."""
        p = self.projections
        memory = self.rule.init_state(p.num_heads, p.key_size, p.value_size, p.state_dtype)
        return MultiHeadState(memory, None if self.convolution is None else self.convolution.init_state())

    def inputs(
        self,
        xs: Float[Array, "t d"],
        state: MultiHeadState | None = None,
        *,
        resets: Bool[Array, "t"] | None = None,
    ) -> MemoryInputs:
        """What the tokens bring to the memories: queries, keys, values and gates, to look at or to compute with."""
        check_width(self, xs)
        check_resets(self, xs, resets)
        return self._prepare(xs, None if state is None else state.tail, resets)[0]

    def step(self, state: MultiHeadState, x: Float[Array, "d"]) -> tuple[MultiHeadState, Float[Array, "e"]]:
        """Write one token, then read it."""
        check_width(self, x, axes="d")
        outputs, state = self(x[None], state, form="recurrent")
        return state, outputs[0]

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: MultiHeadState | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], MultiHeadState]:
        """A whole sequence, causally; see `AbstractSequenceLayer`."""
        check_form(form)
        check_width(self, xs)
        check_resets(self, xs, resets)
        if state is not None:
            check_state(self, state)
        inputs, tail = self._prepare(xs, None if state is None else state.tail, resets)
        read, memory = self.rule(inputs, None if state is None else state.memory, form=form)
        if self.norm is not None:
            read = self.norm(read)
        if self.output_gate is not None:
            read = read * jax.nn.silu(jnp.einsum("td,dhv->thv", xs, self.output_gate)).astype(read.dtype)
        return self.projections.merge(jnp.swapaxes(read, 0, 1)), MultiHeadState(memory, tail)

    def _prepare(
        self, xs: Float[Array, "t d"], tail: Float[Array, "w c"] | None, resets: Bool[Array, "t"] | None
    ) -> tuple[MemoryInputs, Float[Array, "w c"] | None]:
        p = self.projections
        parts = [jnp.swapaxes(part, 0, 1).astype(p.state_dtype) for part in (p.queries(xs), p.keys(xs), p.values(xs))]
        if self.convolution is not None:
            convolved = parts if self.convolve_values else parts[:2]
            flat = jnp.concatenate([jax.lax.collapse(part, 1, 3) for part in convolved], axis=-1)
            flat, tail = self.convolution(flat, self.convolution.init_state() if tail is None else tail, resets)
            flat = jax.nn.silu(flat)
            ends = [2 * p.num_heads * p.key_size] if self.convolve_values else []
            split = jnp.split(flat, [p.num_heads * p.key_size, *ends], axis=-1)
            parts[: len(split)] = [new.reshape(old.shape) for new, old in zip(split, parts, strict=False)]
        query, key, value = parts
        if self.normalise:
            query, key = unit(query), unit(key)
        gates = Gates() if self.gates is None else self.gates(xs)
        log_gate = gates.log_gate
        if resets is not None:
            if log_gate is None:
                log_gate = reset_gate(resets, p.num_heads, p.state_dtype)
            else:
                places = jax.lax.expand_dims(resets, range(1, log_gate.ndim))
                log_gate = jnp.where(places, jnp.asarray(-jnp.inf, log_gate.dtype), log_gate)
        query = jnp.asarray(self.query_scale, query.dtype) * query
        return MemoryInputs(query, key, value, log_gate, *gates[1:]), tail


def unit(xs: Float[Array, "*t k"]) -> Float[Array, "*t k"]:
    """Each vector divided by its length; a vector of zeros stays one."""
    return xs * jax.lax.rsqrt(jnp.sum(xs**2, axis=-1, keepdims=True) + jnp.asarray(1e-12, xs.dtype))
