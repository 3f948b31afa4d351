"""Recurrent networks whose neurons are updated one by one: diagonal recurrences, LSTM, GRU."""

__all__: list[str] = []
