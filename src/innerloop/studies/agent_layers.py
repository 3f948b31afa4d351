"""Sequence layers by name: what `--agent.layer NAME` means in the studies whose agents remember."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Array, Key

from ..core.errors import UnknownNameError
from ..nn.families import (
    delta_net_layer,
    gated_delta_net_layer,
    gated_linear_attention_layer,
    linear_attention_layer,
    mamba2_layer,
    mesa_layer,
    mlstm_layer,
    retention_layer,
    softmax_attention_layer,
)
from ..nn.recurrent import GRU, LSTM, HawkLayer, LRULayer, SelectiveSSM
from ..nn.sequence import AbstractSequenceLayer

# Layers that are a matrix memory with several heads, and take the same settings.
FAMILIES = {
    "gla": partial(gated_linear_attention_layer, channel_gates=False),
    "delta": delta_net_layer,
    "gated-delta": gated_delta_net_layer,
    "mlstm": mlstm_layer,
    "mamba2": mamba2_layer,
    "retention": retention_layer,
    "linear": linear_attention_layer,
    "mesa": mesa_layer,
}
LAYERS = ("hawk", "gru", "lstm", "lru", "mamba", "softmax", *FAMILIES)


def make_agent_layer(
    name: str,
    width: int,
    num_heads: int = 2,
    *,
    key_size: int | None = None,
    chunk_size: int = 16,
    capacity: int = 512,
) -> Callable[[Key[Array, ""]], AbstractSequenceLayer]:
    """What draws a sequence layer of this name from a random key.

    **Arguments:**

    - `name`: one of `LAYERS`.
    - `width`: the size of a token.
    - `num_heads`: for layers that have heads.
    - `key_size`: of each head of a matrix memory; by default the width divided among the heads.
    - `chunk_size`: how many tokens the chunk form takes at once.
    - `capacity`: the most tokens that softmax attention can remember.

    **Errors:** `UnknownNameError` for a name that is not among `LAYERS`.
    """
    if name not in LAYERS:
        raise UnknownNameError("layer", name, LAYERS)
    simple: dict[str, Callable[..., AbstractSequenceLayer]] = {
        "hawk": partial(HawkLayer, width, num_heads=num_heads, chunk_size=chunk_size),
        "gru": partial(GRU, width, width),
        "lstm": partial(LSTM, width, width),
        "lru": partial(LRULayer, width, width, chunk_size=chunk_size),
        "mamba": partial(SelectiveSSM, width, chunk_size=chunk_size),
    }
    if name in simple:
        make = simple[name]
    else:
        heads = dict(num_heads=num_heads, key_size=key_size or max(1, width // num_heads), chunk_size=chunk_size)
        if name == "softmax":
            make = partial(softmax_attention_layer, width, capacity=capacity, **heads)
        else:
            make = partial(FAMILIES[name], width, **heads)
    return lambda key: make(key=key)
