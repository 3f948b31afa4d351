"""Figures: from stored records to a table, from the table to a reproducible SVG, in one house style.

A study's `data` makes the table and its `draw` sees nothing else. The helpers below (`curve_table`, `pivot`,
`band`, `heat`, `line_at`) are what most studies need in between.
"""

from __future__ import annotations

import csv as comma_separated
import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np

from ...core.errors import require
from ..store import Records, Run, write_atomically
from ..study import Figure, Study, Table

# Colours with a meaning. A stored SVG shows them as they are (dark ink on white); inlined in a page they
# become CSS, so that one drawing serves light and dark. They are odd on purpose: nobody uses them by chance.
INK = "#1d2227"
PAPER = "#fffefd"
CYCLE = ("#0f6cb1", "#c9510c", "#0b8463", "#9d4f90", "#8f6a06", "#3a8fb0")
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.6)),
    (0, (1.2, 1.4)),
    (0, (6, 1.6, 1.2, 1.6)),
    (0, (9, 2)),
    (0, (3, 1)),
)

_IN_A_PAGE = {
    INK: "currentColor",
    PAPER: "var(--surface)",
    **{colour: f"var(--series-{number}, {colour})" for number, colour in enumerate(CYCLE, 1)},
}
_SVG = "http://www.w3.org/2000/svg"
_SHAPES = {
    "path",
    "use",
    "rect",
    "circle",
    "ellipse",
    "line",
    "polyline",
    "polygon",
    "text",
    "tspan",
    "image",
}
_AROUND_SHAPES = {"svg", "g", "defs", "clipPath", "linearGradient", "radialGradient", "stop", "pattern"}
_ELEMENTS = _SHAPES | _AROUND_SHAPES | {"title", "desc"}


@dataclass(frozen=True)
class DrawnFigure:
    """One figure of one run: its picture and data, or the reason why there is none."""

    id: str
    title: str
    caption: str
    paper: str
    svg: str
    csv: str
    reason: str = ""


@contextmanager
def house_style() -> Iterator[None]:
    """Matplotlib settings of every figure: calm, colour-blind safe, the same bytes for the same data."""
    import matplotlib
    from cycler import cycler

    settings: dict[str, Any] = {
        # Real text: searchable, small, in the reader's own font. The layout is computed for DejaVu Sans,
        # which is wider than the usual system fonts, so a substitute never runs over.
        "svg.fonttype": "none",
        "svg.hashsalt": "innerloop",
        "font.family": ["DejaVu Sans"],
        "font.size": 10.5,
        "text.color": INK,
        "figure.dpi": 72,
        "figure.facecolor": PAPER,
        "figure.edgecolor": "none",
        "savefig.facecolor": "auto",
        "savefig.transparent": False,
        "axes.facecolor": "none",
        "axes.edgecolor": INK,
        "axes.labelcolor": INK,
        "axes.linewidth": 0.7,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.titlesize": 11.0,
        "axes.titleweight": "bold",
        "axes.titlelocation": "left",
        "axes.titlepad": 8.0,
        "axes.labelpad": 5.0,
        "axes.prop_cycle": cycler(color=list(CYCLE)) + cycler(linestyle=list(DASHES)),
        "axes.unicode_minus": True,
        "grid.color": INK,
        "grid.alpha": 0.13,
        "grid.linewidth": 0.6,
        "xtick.color": INK,
        "ytick.color": INK,
        "xtick.labelsize": 10.0,
        "ytick.labelsize": 10.0,
        "xtick.major.size": 3.0,
        "ytick.major.size": 0.0,
        "xtick.major.width": 0.7,
        "xtick.minor.visible": False,
        "ytick.minor.size": 0.0,
        "lines.linewidth": 1.7,
        "lines.markersize": 4.5,
        "lines.solid_capstyle": "round",
        "patch.linewidth": 0.0,
        "hatch.color": INK,
        "legend.frameon": False,
        "legend.fontsize": 10.0,
        "legend.handlelength": 2.6,
        "legend.borderaxespad": 0.2,
        "image.cmap": "cividis",
        "image.interpolation": "none",
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # a user's matplotlibrc must not change a figure
        matplotlib.rcParams.update(cast(Any, settings))
        yield


def draw_figures(study: Study, records: Records) -> list[DrawnFigure]:
    """The figures of the run's scale from stored records; one that cannot be drawn says why, the others go on."""
    return [_draw(figure, records) for figure in study.figures if records.run.scale in figure.scales]


def _draw(figure: Figure, records: Records) -> DrawnFigure:
    svg = csv = reason = ""
    try:
        _check_name(figure.id)
        table = figure.data(records)
        csv = to_csv(table)
        svg = _render(figure, table)
    except Exception as error:  # a study's own code: whatever it raises must not cost the other figures
        svg = csv = ""
        reason = f"{error}" if type(error).__module__.startswith("innerloop") else f"{type(error).__name__}: {error}"
    return DrawnFigure(figure.id, figure.title, figure.caption, figure.paper, svg, csv, reason)


def _render(figure: Figure, table: Table) -> str:
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure as Canvas

    with house_style():
        canvas = Canvas(figsize=figure.size, layout="constrained")
        FigureCanvasSVG(canvas)
        figure.draw(canvas, table)
        target = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        canvas.savefig(target, format="svg", metadata=nothing)
    return target.getvalue()


def to_csv(table: Table) -> str:
    """A table as CSV; all columns must have one length."""
    columns = {str(name): list(np.asarray(column).tolist()) for name, column in table.items()}
    lengths = {name: len(column) for name, column in columns.items()}
    require(len(set(lengths.values())) <= 1, f"the columns of a figure's table differ in length: {lengths}")
    target = io.StringIO()
    writer = comma_separated.writer(target, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return target.getvalue().encode("utf-8", "replace").decode()


def write_figures(run: Run, drawn: Iterable[DrawnFigure]) -> None:
    """Store each figure as `figures/<id>.svg` and `.csv`; one that was not drawn leaves no old picture."""
    for figure in drawn:
        if figure.reason and not _is_plain(figure.id):
            continue  # refused when it was drawn; there can be no file of that name
        _check_name(figure.id)
        for suffix, content in ((".svg", figure.svg), (".csv", figure.csv)):
            path = run.path / "figures" / f"{figure.id}{suffix}"
            if not content:
                path.unlink(missing_ok=True)
            elif not path.exists() or path.read_bytes() != content.encode():
                write_atomically(path, content)


def _is_plain(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) is not None


def _check_name(name: str) -> None:
    require(_is_plain(name), f"a figure's id is a file name of letters, digits, - and _, not {name!r}")


def inline_svg(svg: str, *, prefix: str, label: str) -> str:
    """One of our SVGs as part of a page: its ids under a prefix, its ink the page's, nothing in it that acts.

    **Arguments:**

    - `svg`: what `draw_figures` made (never a file that was found somewhere).
    - `prefix`: put before every id, so that several figures can share a page.
    - `label`: what a screen reader says.
    """
    root = ElementTree.fromstring(svg)
    _clean(root, prefix)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.set("class", "plot")
    root.set("role", "img")
    root.set("aria-label", label)
    # Matplotlib says this in a <style> for `*`, which would reach the whole page.
    root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
    return ElementTree.tostring(root, encoding="unicode")


def _clean(element: ElementTree.Element, prefix: str) -> None:
    element.tag = element.tag.removeprefix(f"{{{_SVG}}}")
    attributes = dict(element.attrib)
    element.attrib.clear()
    for name, value in attributes.items():
        name = re.sub(r"^\{.*\}", "", name)
        if name.lower().startswith("on"):
            continue
        if name == "href":
            if value.startswith("#"):
                value = f"#{prefix}{value[1:]}"
            elif not value.startswith("data:image/png;base64,"):
                continue
        elif name == "id":
            value = prefix + value
        elif name == "d":
            value = re.sub(r"-?\d+\.\d{3,}", _shorten, " ".join(value.split()))
        else:
            value = value.replace("url(#", f"url(#{prefix}")
            if "url(" in value.replace("url(#", ""):
                continue
            for colour, replacement in _IN_A_PAGE.items():
                value = value.replace(colour, replacement)
        element.set(name, value)
    for child in list(element):
        tag = child.tag.removeprefix(f"{{{_SVG}}}") if isinstance(child.tag, str) else ""
        if tag in _ELEMENTS:
            _clean(child, prefix)
        else:
            element.remove(child)


def _shorten(match: re.Match[str]) -> str:
    return f"{float(match[0]):.2f}".rstrip("0").rstrip(".")
