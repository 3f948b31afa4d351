"""What a report shows, read from run folders without trusting them.

A run folder may be half-written, damaged, made by a newer version or by someone else. Here everything becomes
plain text and finite numbers; what cannot be read is named with its reason and left out.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from ...core.config import diff, flatten, from_dict
from ..store import LEFT_OUT, CellFolder, Run, read_json
from ..study import SCALES, Paper, Study

VERDICTS = ("holds", "fails", "undecided", "not measured")
LOG_LINES = 300
# What is shown of one start of a run, in this order.
START = (
    "command",
    "started",
    "ended",
    "seconds",
    "innerloop",
    "git",
    "python",
    "jax",
    "jaxlib",
    "packages",
    "hardware",
    "changed",
)


@dataclass(frozen=True)
class Measured:
    """A number with its interval and one value per seed; `None` where it was not finite."""

    estimate: float | None
    low: float | None
    high: float | None
    per_seed: tuple[float | None, ...]

    def finite(self) -> list[float]:
        return [x for x in (self.estimate, self.low, self.high, *self.per_seed) if x is not None]


@dataclass(frozen=True)
class ClaimView:
    """One entry of `claims.json`."""

    id: str
    statement: str
    source: str
    paper: str
    quantity: str
    direction: str
    threshold: float | None
    over_seeds: str
    verdict: str
    reason: str
    ours: Measured
    control: Measured
    control_statement: str
    control_verdict: str
    control_failed: bool | None  # whether the control failed, as it must; None if that is not known


@dataclass(frozen=True)
class Setting:
    """One line of a configuration; `usual` is the scale's default where this run differs from it."""

    name: str
    value: str
    usual: str | None


@dataclass(frozen=True)
class Failure:
    """A cell that did not finish well."""

    cell: str
    reason: str
    step: str


@dataclass(frozen=True)
class RunView:
    """One run folder."""

    run: Run
    name: str
    scale: str
    claims: tuple[ClaimView, ...]
    settings: tuple[Setting, ...]
    starts: tuple[Mapping[str, Any], ...]
    failures: tuple[Failure, ...]
    done: int
    expected: int
    when: float  # for ordering only
    log: str
    problems: tuple[str, ...]  # what of this folder could not be read

    @property
    def complete(self) -> bool:
        return self.expected > 0 and self.done >= self.expected

    @property
    def counts(self) -> dict[str, int]:
        return {verdict: sum(claim.verdict == verdict for claim in self.claims) for verdict in VERDICTS}


@dataclass(frozen=True)
class StudyView:
    """One study with its runs: the headline, the newest of each other scale, and older ones."""

    name: str
    paper: Paper
    state: str  # "run", "built" or "absent"
    study: Study | None
    newest: tuple[RunView, ...] = ()  # one per scale, the headline first
    older: tuple[RunView, ...] = ()


@dataclass(frozen=True)
class Skipped:
    """A folder that the report leaves out, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Board:
    """Everything a report shows."""

    studies: tuple[StudyView, ...]
    skipped: tuple[Skipped, ...] = field(default=())


def read_board(root: Path, papers: Mapping[str, Paper], studies: Mapping[str, Study], built: Collection[str]) -> Board:
    """Read all run folders under `root`."""
    runs: dict[str, list[RunView]] = {}
    skipped = []
    papers = {**papers, **{name: study.paper for name, study in studies.items() if name not in papers}}
    for path in _folders(root):
        try:
            run = Run.open(path)
            if not isinstance(run.study, str) or run.study not in papers:
                raise ValueError(f"this version of innerloop knows no study {run.study!r}")
            if run.scale not in SCALES:
                raise ValueError(f"there is no scale {run.scale!r}")
            runs.setdefault(run.study, []).append(_read_run(run, studies.get(run.study)))
        except Exception as error:  # a stranger's folder may be broken in any way; the report goes on
            skipped.append(Skipped(path.relative_to(root).as_posix(), _explain(error, root)))
    views = []
    for name, paper in papers.items():
        newest, older = _order(runs.get(name, []))
        state = "run" if newest else "built" if name in built or name in studies else "absent"
        views.append(StudyView(name, paper, state, studies.get(name), newest, older))
    return Board(tuple(views), tuple(skipped))


def _folders(root: Path) -> list[Path]:
    """All folders that are, or look like the remains of, a run, by name."""
    marks = ("config.json", "provenance.json", "claims.json", "cells")
    return sorted(path for path in root.glob("*/*") if any((path / mark).exists() for mark in marks))


def _explain(error: Exception, root: Path) -> str:
    kind = type(error)
    text = str(error).replace(f"{root}/", "")
    if isinstance(error, KeyError):
        return f"config.json has no entry {text}"
    return text if kind is ValueError or kind.__module__.startswith("innerloop") else f"{kind.__name__}: {text}"


def _order(runs: list[RunView]) -> tuple[tuple[RunView, ...], tuple[RunView, ...]]:
    """The newest run per scale, larger scales first (complete before unfinished), and the rest."""
    ranked = sorted(runs, key=lambda view: (view.complete, view.when, view.name), reverse=True)
    newest: dict[str, RunView] = {}
    for view in ranked:
        newest.setdefault(view.scale, view)
    chosen = sorted(newest.values(), key=lambda view: (view.complete, SCALES.index(view.scale)), reverse=True)
    older = [view for view in ranked if newest[view.scale] is not view]
    return tuple(chosen), tuple(sorted(older, key=lambda view: (view.when, view.name), reverse=True))


def _read_run(run: Run, study: Study | None) -> RunView:
    problems: list[str] = []
    starts = [_start(entry) for entry in _list(run, "provenance.json", problems) if isinstance(entry, Mapping)]
    claims = [_claim(entry) for entry in _list(run, "claims.json", problems) if isinstance(entry, Mapping)]
    failures, done, expected = _cells(run, study, problems)
    log = run.path / "log.txt"
    lines = log.read_text(errors="replace").splitlines() if log.exists() else []
    if len(lines) > LOG_LINES:
        lines = [f"... {len(lines) - LOG_LINES} earlier lines are in log.txt", *lines[-LOG_LINES:]]
    return RunView(
        run=run,
        name=run.path.name,
        scale=run.scale,
        claims=tuple(claims),
        settings=_settings(run, study),
        starts=tuple(starts),
        failures=tuple(failures),
        done=done,
        expected=expected,
        when=_when(run, starts),
        log=text("\n".join(lines)),
        problems=tuple(problems),
    )


def _list(run: Run, name: str, problems: list[str]) -> list[Any]:
    if not (run.path / name).exists():
        return []
    try:
        content = read_json(run.path / name)
    except Exception as error:
        problems.append(_explain(error, run.path))
        return []
    if not isinstance(content, list):
        problems.append(f"{name} is not a list")
        return []
    return content


def _start(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: entry.get(name) for name in START}


def _claim(entry: Mapping[str, Any]) -> ClaimView:
    control = entry.get("control")
    control = control if isinstance(control, Mapping) else {}
    verdict, reason = text(entry.get("verdict")), text(entry.get("reason"))
    if verdict not in VERDICTS:
        reason = f"the stored verdict {verdict!r} is unknown to this version. {reason}".strip()
        verdict = "not measured"
    failed = control.get("failed_as_it_must")
    return ClaimView(
        id=text(entry.get("id")),
        statement=text(entry.get("statement")),
        source=text(entry.get("source")),
        paper=text(entry.get("paper")),
        quantity=text(entry.get("quantity")),
        direction=direction if (direction := text(entry.get("direction"))) in ("<=", ">=") else "",
        threshold=number(entry.get("threshold")),
        over_seeds=text(entry.get("over_seeds")),
        verdict=verdict,
        reason=reason,
        ours=_measured(entry),
        control=_measured(control),
        control_statement=text(control.get("statement")),
        control_verdict=text(control.get("verdict")),
        control_failed=failed if isinstance(failed, bool) else None,
    )


def _measured(entry: Mapping[str, Any]) -> Measured:
    seeds = entry.get("per_seed")
    return Measured(
        number(entry.get("estimate")),
        number(entry.get("low")),
        number(entry.get("high")),
        tuple(number(value) for value in seeds) if isinstance(seeds, list) else (),
    )


def _cells(run: Run, study: Study | None, problems: list[str]) -> tuple[list[Failure], int, int]:
    """The failed cells, how many are done, and how many there should be."""
    names = {path.name for path in (run.path / "cells").glob("*") if path.is_dir()}
    if study is not None:
        try:
            config = from_dict(type(next(iter(study.configurations.values()))), run.config)
            names |= {f"{variant}-s{seed}" for variant in study.variants(config) for seed in run.seeds}
        except Exception as error:
            problems.append(f"the configuration does not fit this version of the study ({_explain(error, run.path)})")
    failures, done, left_out = [], 0, 0
    for name in sorted(names):
        folder = CellFolder(run.path / "cells" / name)
        if not folder.finished:
            continue
        done += 1
        try:
            outcome = read_json(folder.path / "done.json")
        except Exception as error:
            failures.append(Failure(text(name), _explain(error, run.path), ""))
            continue
        outcome = outcome if isinstance(outcome, Mapping) else {}
        if outcome.get("status") == LEFT_OUT:
            left_out += 1
        elif outcome.get("status") != "finished":
            reason = text(outcome.get("reason")) or f"status {text(outcome.get('status')) or 'missing'}"
            failures.append(Failure(text(name), reason, text(outcome.get("step"))))
    return failures, done - left_out, len(names) - left_out


def _settings(run: Run, study: Study | None) -> tuple[Setting, ...]:
    changed: dict[str, tuple[Any, Any]] = {}
    defaults: Mapping[str, Any] = {} if study is None else {**study.configurations}
    if run.scale in defaults:
        # Through JSON, so that a tuple of the default equals the list that was stored.
        usual = json.loads(json.dumps(flatten(defaults[run.scale])))
        changed = diff(usual, flatten(run.config))
    return tuple(
        Setting(text(name), _value(value), _value(changed[name][0]) if name in changed else None)
        for name, value in flatten(run.config).items()
    )


def _value(value: Any) -> str:
    return text(value if isinstance(value, str) else json.dumps(value))


def _when(run: Run, starts: list[Mapping[str, Any]]) -> float:
    """When the run was last started or ended, in seconds; the file's time if provenance does not say."""
    for entry in reversed(starts):
        for name in ("ended", "started"):
            value = number(entry.get(name))
            if value is not None:
                return value
            try:
                return datetime.fromisoformat(text(entry.get(name))).timestamp()
            except (ValueError, OverflowError, OSError):
                continue
    return (run.path / "config.json").stat().st_mtime


def text(value: Any) -> str:
    """A value as text without control characters; nothing for `None`."""
    if value is None:
        return ""
    return "".join(c for c in str(value) if c in "\n\t" or (ord(c) >= 32 and not 127 <= ord(c) < 160))


def number(value: Any) -> float | None:
    """A finite number, or `None`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
