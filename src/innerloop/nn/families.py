"""The layers of the literature as one class with different rules and gates."""

from typing import Any

import jax
from jaxtyping import Array, Float, Key

from .attention.softmax_attention import SoftmaxSelfAttention
from .memory.additive import AdditiveMemory
from .memory.channel_gated import ChannelGatedMemory
from .memory.covariance import AbstractSolver
from .memory.delta import DeltaMemory
from .memory.gates import ChannelGates, ExponentialGates, FixedGates, SigmoidGates, TimeStepGates
from .memory.mesa import MesaMemory
from .memory.mlstm import NormalisedMemory
from .memory.multi_head import MultiHeadMemory
from .projections import Projections


def linear_attention_layer(
    width: int, *, num_heads: int, key_size: int, chunk_size: int = 64, key: Key[Array, ""], **settings: Any
) -> MultiHeadMemory:
    """Linear attention: everything is added and nothing forgotten.

    `settings` are those of `MultiHeadMemory`; so for all functions here.

    **Reference:** Katharopoulos et al. (2020), arXiv 2006.16236.
    """
    rule = AdditiveMemory(chunk_size)
    return MultiHeadMemory(width, num_heads=num_heads, key_size=key_size, rule=rule, key=key, **settings)


def retention_layer(
    width: int, *, num_heads: int, key_size: int, chunk_size: int = 64, key: Key[Array, ""], **settings: Any
) -> MultiHeadMemory:
    """RetNet: linear attention with one constant forget gate per head, queries scaled by the root of the key size.

    **Reference:** Sun et al. (2023), arXiv 2307.08621.
    """
    return MultiHeadMemory(
        width,
        num_heads=num_heads,
        key_size=key_size,
        rule=AdditiveMemory(chunk_size),
        gates=FixedGates.retention(num_heads),
        key=key,
        **{"query_scale": key_size**-0.5, **settings},
    )


def mamba2_layer(
    width: int, *, num_heads: int, key_size: int, chunk_size: int = 64, key: Key[Array, ""], **settings: Any
) -> MultiHeadMemory:
    """Mamba-2 (SSD): one time step per head that both forgets and writes; queries and keys are not normalised.

    **Reference:** Dao and Gu (2024), arXiv 2405.21060.
    """
    first, second = jax.random.split(key)
    return MultiHeadMemory(
        width,
        num_heads=num_heads,
        key_size=key_size,
        rule=AdditiveMemory(chunk_size),
        gates=TimeStepGates(width, num_heads, key=first),
        key=second,
        **{"normalise": False, "convolve_values": True, "output_gate": True, **settings},
    )


def gated_linear_attention_layer(
    width: int,
    *,
    num_heads: int,
    key_size: int,
    channel_gates: bool = True,
    chunk_size: int = 32,
    forget_bias: float = 4.0,
    key: Key[Array, ""],
    **settings: Any,
) -> MultiHeadMemory:
    """Gated linear attention: one forget gate per key channel, or per head, as MesaNet is compared with.

    **Arguments:** `channel_gates` chooses: per channel, as in the original; or per head, with a write strength.

    **Reference:** Yang et al. (2024), arXiv 2312.06635; per head: von Oswald et al. (2025), arXiv 2506.05233.
    """
    first, second = jax.random.split(key)
    if channel_gates:
        rule, gates = ChannelGatedMemory(chunk_size), ChannelGates(width, num_heads, key_size, key=first)
        settings = {"query_scale": key_size**-0.5, **settings}
    else:
        rule = AdditiveMemory(chunk_size)
        gates = SigmoidGates(width, num_heads, forget_bias=forget_bias, key=first)
    sizes = dict(num_heads=num_heads, key_size=key_size)
    return MultiHeadMemory(width, **sizes, rule=rule, gates=gates, key=second, **settings)


def delta_net_layer(
    width: int, *, num_heads: int, key_size: int, chunk_size: int = 32, key: Key[Array, ""], **settings: Any
) -> MultiHeadMemory:
    """DeltaNet: each token corrects what the memory says of its key, with a learned strength.

    **Reference:** Schlag et al. (2021), arXiv 2102.11174; Yang et al. (2024), arXiv 2406.06484.
    """
    first, second = jax.random.split(key)
    gates = SigmoidGates(width, num_heads, forget=False, key=first)
    rule = DeltaMemory(chunk_size)
    sizes = dict(num_heads=num_heads, key_size=key_size)
    return MultiHeadMemory(width, **sizes, rule=rule, gates=gates, key=second, **settings)


def gated_delta_net_layer(
    width: int,
    *,
    num_heads: int,
    key_size: int,
    chunk_size: int = 32,
    forget_bias: float = 4.0,
    key: Key[Array, ""],
    **settings: Any,
) -> MultiHeadMemory:
    """Gated DeltaNet: the delta rule with a forget gate per head.

    **Reference:** Yang et al. (2024), arXiv 2412.06464.
    """
    first, second = jax.random.split(key)
    gates = SigmoidGates(width, num_heads, forget_bias=forget_bias, key=first)
    rule = DeltaMemory(chunk_size)
    sizes = dict(num_heads=num_heads, key_size=key_size)
    return MultiHeadMemory(width, **sizes, rule=rule, gates=gates, key=second, **settings)


def mlstm_layer(
    width: int,
    *,
    num_heads: int,
    key_size: int,
    chunk_size: int = 64,
    forget_bias: float = 4.0,
    key: Key[Array, ""],
    **settings: Any,
) -> MultiHeadMemory:
    """The mLSTM: exponential input gates and a read-out divided by how much was written; keys are not normalised.

    **Reference:** Beck et al. (2024), arXiv 2405.04517.
    """
    first, second = jax.random.split(key)
    return MultiHeadMemory(
        width,
        num_heads=num_heads,
        key_size=key_size,
        rule=NormalisedMemory(chunk_size),
        gates=ExponentialGates(width, num_heads, forget_bias=forget_bias, key=first),
        key=second,
        **{"normalise": False, "query_scale": key_size**-0.5, **settings},
    )


def mesa_layer(
    width: int,
    *,
    num_heads: int,
    key_size: int,
    solver: AbstractSolver | None = None,
    chunk_size: int = 32,
    forget_bias: float = 4.0,
    key: Key[Array, ""],
    **settings: Any,
) -> MultiHeadMemory:
    """MesaNet: what is read is the optimal linear regression of all values on all keys so far.

    **Arguments:** `solver` is how the regression is solved, by default at most 30 steps of conjugate gradients.

    **Reference:** von Oswald et al. (2025), arXiv 2506.05233.
    """
    first, second = jax.random.split(key)
    return MultiHeadMemory(
        width,
        num_heads=num_heads,
        key_size=key_size,
        rule=MesaMemory(num_heads, key_size, solver=solver, chunk_size=chunk_size),
        gates=SigmoidGates(width, num_heads, forget_bias=forget_bias, key=first),
        key=second,
        **settings,
    )


def softmax_attention_layer(
    width: int,
    *,
    num_heads: int,
    key_size: int,
    capacity: int,
    rotary_base: float | None = 10_000.0,
    chunk_size: int = 64,
    output_variance: float | Float[Array, ""] = 1.0,
    key: Key[Array, ""],
) -> SoftmaxSelfAttention:
    """Causal softmax attention with rotary positions: the layer that all others are compared with.

    **Arguments:** `capacity` is the most tokens that it can remember.

    **Reference:** Vaswani et al. (2017), arXiv 1706.03762; Su et al. (2021), arXiv 2104.09864.
    """
    drawn = Projections.random(width, num_heads, key_size, output_variance=output_variance, key=key)
    return SoftmaxSelfAttention(drawn, capacity=capacity, rotary_base=rotary_base, chunk_size=chunk_size)
