"""Tables of figures: long lists of lines, and what is in their columns."""

from typing import Any

from ...lab.store import MissingCell
from ...lab.study import Table


def table_of(columns: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, list[Any]]:
    """Lines as columns with names; without any line, nothing was measured."""
    if not rows:
        raise MissingCell("none of its variants is finished")
    return {name: [row[i] for row in rows] for i, name in enumerate(columns)}


def entries(table: Table, column: str, **where: Any) -> list[Any]:
    """The different entries of a column, in order, in the lines with these entries."""
    lines = [i for i in range(len(table[column])) if all(table[name][i] == value for name, value in where.items())]
    return list(dict.fromkeys(table[column][i] for i in lines))
