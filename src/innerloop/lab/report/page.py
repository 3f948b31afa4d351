"""The report: every study, claim, figure and failure of a root of runs in one self-contained HTML file.

It makes no request, runs nothing that it read, and forbids both to the browser by a content security policy:
the only script that may run is the one beside the template, named by its hash.
"""

from __future__ import annotations

import base64
import hashlib
import math
import os
import re
import shlex
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ... import __version__
from ...core.config import from_dict
from ..paper import Paper, family_name
from ..store import Records, write_atomically
from ..study import Study
from .board import VERDICTS, Board, ClaimView, Measured, StudyView, number, read_board, text
from .figures import draw_figures, inline_svg, write_figures

TEMPLATES = Path(__file__).parent / "templates"
LARGEST_INLINED_CSV = 150_000  # bytes; a longer table is linked where it lies
WINGS = {
    "nn": "Sequence layers",
    "tasks": "Tasks",
    "learn": "Learning rules",
    "rl": "Reinforcement learning",
    "bayes": "Bayesian agents",
    "entities": "Structured entities",
}


def build_report(
    root: Path,
    papers: Mapping[str, Paper],
    studies: Mapping[str, Study],
    *,
    built: Collection[str] = (),
    output: Path | None = None,
) -> Path:
    """Write the report of all runs under `root` and return its path.

    **Arguments:**

    - `root`: the folder of run folders.
    - `papers`: every paper of the board by study name, in the board's order.
    - `studies`: the loaded studies (those with runs are enough); figures of others cannot be redrawn.
    - `built`: the names of the studies that exist in this version.
    - `output`: where to write; `root/report.html` by default.
    """
    import jinja2
    from markupsafe import Markup

    output = root / "report.html" if output is None else output
    board = read_board(root, papers, studies, built)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        number=format_number,
        moment=_moment,
        duration=_duration,
        plain=_plain,
        slug=_slug,
        cited=_cited,
        shell=_shell,
    )
    script = (TEMPLATES / "report.js").read_text()
    page = environment.get_template("report.html.jinja").render(
        version=__version__,
        style=Markup((TEMPLATES / "report.css").read_text()),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        wings=_wings(board),
        studies=[view for view in board.studies if view.newest],
        figures={view.name: _figures(view, output.parent) for view in board.studies if view.newest},
        skipped=board.skipped,
        totals=_totals(board),
        verdicts=VERDICTS,
        strip=strip,
        interval=interval,
    )
    write_atomically(output, page.encode("utf-8", "replace"))  # JSON may hold half a surrogate pair
    return output


def _wings(board: Board) -> list[tuple[str, list[StudyView]]]:
    """The studies by their first wing, in the order of the house."""
    groups: dict[str, list[StudyView]] = {name: [] for name in WINGS}
    for view in board.studies:
        groups.setdefault(view.paper.wing.split(",")[0].strip(), []).append(view)
    return [(WINGS.get(wing, wing or "Your own"), views) for wing, views in groups.items() if views]


def _totals(board: Board) -> dict[str, int]:
    """How many claims of the headline runs got each verdict."""
    heads = [view.newest[0] for view in board.studies if view.newest]
    return {verdict: sum(head.counts[verdict] for head in heads) for verdict in VERDICTS}


# ---- figures ----


def _figures(view: StudyView, folder: Path) -> dict[str, Any]:
    """The headline run's figures, redrawn from its records: `{"drawn": [...], "problem": ...}`."""
    from markupsafe import Markup

    head = view.newest[0]
    if view.study is None:
        return {
            "drawn": [],
            "problem": "The code of this study is not loaded, so its figures cannot be redrawn.",
        }
    try:
        kind = type(next(iter(view.study.configurations.values())))
        records = Records(head.run, from_dict(kind, head.run.config))
    except Exception as error:
        return {"drawn": [], "problem": f"The figures cannot be redrawn: {text(error)}"}
    drawn = draw_figures(view.study, records)
    problem = ""
    try:
        write_figures(head.run, drawn)
    except (OSError, ValueError) as error:
        problem = f"The figures could not be stored in the run folder: {text(error)}"
    shown = []
    sizes = {figure.id: figure.size for figure in view.study.figures}
    for figure in drawn:
        svg, reason = "", text(figure.reason)
        if figure.svg:
            prefix = f"{_slug(view.name)}-{_slug(head.name)}-{_slug(figure.id)}-"
            try:
                svg = Markup(inline_svg(figure.svg, prefix=prefix, label=figure.title))
            except Exception as error:
                reason = f"{type(error).__name__}: {text(error)}"
        data = figure.csv.encode("utf-8", "replace")
        if len(data) <= LARGEST_INLINED_CSV:
            link = f"data:text/csv;charset=utf-8;base64,{base64.b64encode(data).decode()}"
        else:
            link = quote(os.path.relpath(head.run.path / "figures" / f"{figure.id}.csv", folder))
        shown.append(
            {
                "id": figure.id,
                "title": figure.title,
                "caption": figure.caption,
                "paper": figure.paper,
                "svg": svg,
                "wide": sizes[figure.id][0] > 7.5,  # inches; such a figure takes both columns
                "reason": reason,
                "csv": link if data else "",
                "file": f"{_slug(view.name)}-{_slug(head.name)}-{_slug(figure.id)}.csv",
            }
        )
    return {"drawn": shown, "problem": problem}


# ---- numbers and words ----


def format_number(value: float | None, decimals: int | None = None) -> str:
    """A number for reading, with a true minus sign; a dash for what is not finite."""
    if value is None:
        return "—"
    if decimals is None or (value != 0 and not 1e-4 <= abs(value) < 1e6):
        shown = f"{value:.4g}"
        if "e" in shown:
            mantissa, exponent = shown.split("e")
            return f"{mantissa}e{int(exponent)}".replace("-", "−")
    else:
        shown = f"{value:.{decimals}f}"
    return shown.replace("-", "−") if float(shown) != 0 else shown.lstrip("-")


def interval(measured: Measured, threshold: float | None = None) -> dict[str, str]:
    """The estimate and its ends, with as many decimals as their width bears.

    More are shown where rounding would put one of them on the other side of the threshold.
    """
    ends = [x for x in (measured.estimate, measured.low, measured.high) if x is not None]
    width = max(ends) - min(ends) if ends else 0.0
    decimals: int | None = None
    if width > 0:
        decimals = min(max(1 - math.floor(math.log10(width)), 0), 8)
        while threshold is not None and decimals < 8 and any(_crosses(x, threshold, decimals) for x in ends):
            decimals += 1
    return {
        "estimate": format_number(measured.estimate, decimals),
        "low": format_number(measured.low, decimals),
        "high": format_number(measured.high, decimals),
    }


def _crosses(value: float, threshold: float, decimals: int) -> bool:
    rounded = round(value, decimals)
    return (rounded > threshold) != (value > threshold) or (rounded < threshold) != (value < threshold)


def _moment(value: Any) -> str:
    seconds = number(value)
    try:
        time = datetime.fromtimestamp(seconds, UTC) if seconds is not None else datetime.fromisoformat(value)
    except (ValueError, TypeError, OverflowError, OSError):
        return text(value)
    zone = f" {time.tzname()}" if time.tzinfo else ""
    return f"{time:%Y-%m-%d %H:%M}{zone}"


def _duration(value: Any) -> str:
    seconds = number(value)
    if seconds is None:
        return ""
    if seconds < 90:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _plain(value: Any) -> str:
    """A stored value in words: lists with commas, dictionaries as `name value`."""
    if isinstance(value, Mapping):
        return ", ".join(f"{text(name)} {_plain(item)}" for name, item in value.items() if item is not None)
    if isinstance(value, list):
        return ", ".join(_plain(item) for item in value)
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else text(value)


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "unnamed"


def _shell(path: Path) -> str:
    return shlex.quote(text(path))


def _cited(paper: Paper) -> str:
    """The authors in short: `von Oswald et al.`"""
    names = [family_name(author) for author in paper.authors]
    return f"{names[0]} et al." if len(names) > 2 else " and ".join(names)


# ---- the strip: an interval against its threshold ----

_LEFT, _RIGHT, _WIDTH = 52.0, 372.0, 384.0


def strip(claim: ClaimView, seeds: tuple[Any, ...]) -> dict[str, Any]:
    """Where everything stands in the small drawing of a claim; the template draws it.

    The axis spans ours and the threshold. A control far away would squeeze both into a line, so it then
    stands at the edge, as an arrow with its number.
    """
    limits = [] if claim.threshold is None else [claim.threshold]
    inner = [*claim.ours.finite(), *limits]
    low, high = (min(inner), max(inner)) if inner else (0.0, 1.0)
    span = high - low or abs(high) * 0.1 or 1.0
    near = [x for x in claim.control.finite() if low - 2 * span <= x <= high + 2 * span]
    low, high = min([low, *near]), max([high, *near])
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 0.5
    room = 0.3 * (high - low) or margin  # for the arrow and its number
    control = claim.control.estimate
    low, high = (
        low - (room if control is not None and control < low else margin),
        high + (room if control is not None and control > high else margin),
    )

    def place(x: float | None) -> float | None:
        if x is None or not math.isfinite(x):
            return None
        return round(_LEFT + (_RIGHT - _LEFT) * min(max((x - low) / (high - low), 0.0), 1.0), 1)

    def row(measured: Measured) -> dict[str, Any]:
        estimate = measured.estimate
        beyond = 0 if estimate is None or low <= estimate <= high else 1 if estimate > high else -1
        names = [*seeds, *range(len(seeds), len(measured.per_seed))]
        dots = [
            {"x": place(x), "seed": text(seed), "value": x}
            for seed, x in zip(names, measured.per_seed, strict=False)
            if x is not None and low <= x <= high
        ]
        return {
            "estimate": place(estimate),
            "low": place(measured.low),
            "high": place(measured.high),
            "dots": dots,
            "beyond": beyond,
            "value": estimate,
        }

    at = place(claim.threshold)
    allowed = None
    if at is not None and claim.direction:
        allowed = (_LEFT, at - _LEFT) if claim.direction == "<=" else (at, _RIGHT - at)
    return {
        "left": _LEFT,
        "right": _RIGHT,
        "width": _WIDTH,
        "ours": row(claim.ours),
        "control": row(claim.control),
        "threshold": at,
        "allowed": allowed,
        "ticks": [{"x": place(x), "label": label} for x, label in _ticks(low, high)],
    }


def _ticks(low: float, high: float) -> list[tuple[float, str]]:
    """Three to six round numbers in an interval."""
    raw = (high - low) / 4
    if not (math.isfinite(raw) and raw > 0):
        return []
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(unit * power for unit in (1, 2, 5, 10) if unit * power >= raw * 0.999)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step), math.floor(high / step)
    if last - first > 12:
        return []
    values = [index * step for index in range(first, last + 1)]
    return [(value, format_number(value, decimals if decimals <= 6 else None)) for value in values]
