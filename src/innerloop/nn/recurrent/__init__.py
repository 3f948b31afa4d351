"""Recurrent networks whose neurons are updated one by one: diagonal recurrences, LSTM, GRU."""

from .diagonal import diagonal_recurrence

__all__ = [
    "diagonal_recurrence",
]
