"""What study authors use in a figure's `data` and `draw`: tables of curves, bands, heat maps, reference lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np

from ..store import Records
from ..study import Table
from .figures import INK, PAPER


def curve_table(
    records: Records, variants: Mapping[str, str] | Sequence[str], metric: str, *, phase: str = "train"
) -> dict[str, list[Any]]:
    """A long table `curve, seed, step, value` of one metric; `variants` may map a variant to its label."""
    labels = dict(variants) if isinstance(variants, Mapping) else {name: name for name in variants}
    table: dict[str, list[Any]] = {"curve": [], "seed": [], "step": [], "value": []}
    for variant, label in labels.items():
        steps, values = records.series(variant, metric, phase=phase)
        for seed, row in zip(records.seeds, values, strict=True):
            table["curve"] += [label] * len(steps)
            table["seed"] += [int(seed)] * len(steps)
            table["step"] += [int(step) for step in steps]
            table["value"] += [float(value) for value in row]
    return table


def pivot(table: Table, rows: str, columns: str, values: str, **where: Any) -> tuple[list[Any], list[Any], np.ndarray]:
    """A long table as `(row names, column names, matrix)`; `where` keeps only the lines with these entries.

    ```python
    >>> from innerloop.lab.report.plots import pivot
    >>> table = {"seed": [0, 0, 1, 1], "step": [5, 9, 5, 9], "loss": [3.0, 2.0, 4.0, 1.0]}
    >>> pivot(table, "seed", "step", "loss")
    ([0, 1], [5, 9], array([[3., 2.],
           [4., 1.]]))

    ```
    """
    lines = [i for i in range(len(table[values])) if all(table[name][i] == value for name, value in where.items())]
    row_names = list(dict.fromkeys(table[rows][i] for i in lines))
    column_names = list(dict.fromkeys(table[columns][i] for i in lines))
    matrix = np.full((len(row_names), len(column_names)), math.nan)
    row_at = {name: i for i, name in enumerate(row_names)}
    column_at = {name: i for i, name in enumerate(column_names)}
    for i in lines:
        matrix[row_at[table[rows][i]], column_at[table[columns][i]]] = table[values][i]
    return row_names, column_names, matrix


def band(
    axes: Any,
    x: Any,
    values: Any,
    label: str,
    *,
    spread: Literal["interval", "range"] = "interval",
    **line: Any,
) -> Any:
    """The mean over seeds as a line in a band; returns the line.

    Where a seed has no finite value the mean is over the others, and the label says of how many.

    **Arguments:**

    - `x`: `[k]`.
    - `values`: `[seeds, k]`.
    - `spread`: the band is the 95% interval of the mean (Student's t), or the range over seeds.
    - `line`: further settings of the line, such as `color`.
    """
    from scipy.special import stdtrit

    values = np.atleast_2d(np.asarray(values, dtype=float))
    there = np.isfinite(values)
    count = there.sum(axis=0)
    safe = np.where(there, values, 0.0)
    mean = np.where(count > 0, safe.sum(axis=0) / np.maximum(count, 1), math.nan)
    if count.size and count.min() < len(values):
        label = f"{label} ({count.min()} of {len(values)} seeds finite)"
    (drawn,) = axes.plot(x, mean, label=label, **line)
    if np.any(count > 1):
        if spread == "range":
            low = np.where(count > 0, np.where(there, values, math.inf).min(axis=0), math.nan)
            high = np.where(count > 0, np.where(there, values, -math.inf).max(axis=0), math.nan)
        else:
            squares = np.where(there, (safe - np.where(count > 0, mean, 0.0)) ** 2, 0.0).sum(axis=0)
            freedom = np.maximum(count - 1, 1)
            half = stdtrit(freedom, 0.975) * np.sqrt(squares / freedom / np.maximum(count, 1))
            half = np.where(count > 1, half, 0.0)
            low, high = mean - half, mean + half
        axes.fill_between(x, low, high, color=drawn.get_color(), alpha=0.17, linewidth=0)
    return drawn


def heat(
    axes: Any,
    matrix: Any,
    *,
    rows: Sequence[Any] | None = None,
    columns: Sequence[Any] | None = None,
    label: str = "",
    diverging: bool = False,
    limits: tuple[float, float] | None = None,
    values: bool | None = None,
) -> Any:
    """A matrix as coloured cells with a colour bar; returns the image.

    **Arguments:**

    - `matrix`: `[rows, columns]`; NaN cells stay empty.
    - `rows`, `columns`: names along the sides.
    - `diverging`: two hues around zero, for signed values.
    - `limits`: the values at the ends of the colour bar.
    - `values`: whether numbers are written into the cells (by default for up to 8 x 8).
    """
    matrix = np.asarray(matrix, dtype=float)
    finite = matrix[np.isfinite(matrix)]
    if limits is None:
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        limits = (-max(abs(low), abs(high)), max(abs(low), abs(high))) if diverging else (low, high)
    image = axes.imshow(
        matrix, cmap="PuOr_r" if diverging else "cividis", vmin=limits[0], vmax=limits[1], aspect="auto"
    )
    axes.grid(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0)
    if rows is not None:
        axes.set_yticks(range(len(rows)), [str(name) for name in rows])
    if columns is not None:
        axes.set_xticks(range(len(columns)), [str(name) for name in columns])
    if max(matrix.shape) <= 8 if values is None else values:
        largest = float(np.abs(finite).max()) if finite.size else 0.0
        decimals = max(0, 1 - math.floor(math.log10(largest))) if largest > 0 else 0
        for (row, column), value in np.ndenumerate(matrix):
            if math.isfinite(value):
                red, green, blue, _ = image.cmap(image.norm(value))
                dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
                shown = f"{round(value, decimals) + 0.0:.{decimals}f}".replace("-", "−")  # and no -0.00
                colour = "#ffffff" if dark else "#000000"  # on a cell, not on the page: never the page's ink
                axes.text(column, row, shown, ha="center", va="center", color=colour, fontsize=9.5)
    bar = axes.figure.colorbar(image, ax=axes, label=label, pad=0.02)
    bar.outline.set_visible(False)
    return image


def line_at(
    axes: Any, y: float, label: str, *, along: Literal["x", "y"] = "x", side: Literal["start", "end"] = "end"
) -> Any:
    """A reference line at a value, named where it stands.

    **Arguments:**

    - `along`: `"x"` for a horizontal line, `"y"` for a vertical one.
    - `side`: at which end of the line its name stands.
    """
    at_end = side == "end"
    style: dict[str, Any] = {"color": INK, "linewidth": 0.9, "linestyle": (0, (3, 2)), "zorder": 1.5}
    if along == "x":
        line = axes.axhline(y, **style)
        at, move, align = (float(at_end), y), (0, 3), ("right" if at_end else "left", "bottom")
        coordinates = axes.get_yaxis_transform()
    else:
        line = axes.axvline(y, **style)
        at, move, align = (y, float(at_end)), (4, 0), ("left", "top" if at_end else "bottom")
        coordinates = axes.get_xaxis_transform()
    axes.annotate(
        label,
        at,
        xycoords=coordinates,
        xytext=move,
        textcoords="offset points",
        ha=align[0],
        va=align[1],
        fontsize=9.5,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1.0},
    )
    return line
