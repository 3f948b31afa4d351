"""Recurrent networks whose neurons are updated one by one: diagonal recurrences, LSTM, GRU."""

from .attention_construction import gated_rnn_from_attention, gated_rnn_from_gd
from .diagonal import diagonal_recurrence
from .gated_linear_rnn import GatedLinearRNN, rates_of
from .gru import GRU
from .identification import (
    Identification,
    attention_tensor,
    cubic_tensor,
    identify,
    prune,
    round_multipliers,
    tensor_error,
)
from .lru import LRULayer
from .lstm import LSTM, LSTMState
from .rg_lru import HawkLayer, HawkState, RealGatedLRU
from .selective import SelectiveSSM, SelectiveState

__all__ = [
    "GRU",
    "LSTM",
    "GatedLinearRNN",
    "HawkLayer",
    "HawkState",
    "Identification",
    "LRULayer",
    "LSTMState",
    "RealGatedLRU",
    "SelectiveSSM",
    "SelectiveState",
    "attention_tensor",
    "cubic_tensor",
    "diagonal_recurrence",
    "gated_rnn_from_attention",
    "gated_rnn_from_gd",
    "identify",
    "prune",
    "rates_of",
    "round_multipliers",
    "tensor_error",
]
