"""Commands on run folders: run, resume, report, compare, export."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tyro.conf import Positional

from ..core.errors import InnerloopError, UsageError
from .flags import flags_of, parse_config
from .look import MARKS, default_runs, print_config

if TYPE_CHECKING:
    from ..lab.judge import Judgement
    from ..lab.progress import Display
    from ..lab.report.compare import Comparison
    from ..lab.runner import Outcome
    from ..lab.study import Study


MANY_SEEDS = 10_000


def parse_seeds(text: str) -> tuple[int, ...]:
    """`"5"` is seeds 0 to 4; `"0,3,7"` is those three (`"4,"` is seed 4 alone)."""
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise UsageError(f"--seeds takes a number such as 5, or a list such as 0,3,7; not {text!r}") from None
    if "," not in text:
        if not numbers or numbers[0] < 1:
            raise UsageError(f"--seeds {text}: at least one seed is needed")
        if numbers[0] > MANY_SEEDS:
            raise UsageError(
                f"--seeds {text} asks for {text} seeds, more than {MANY_SEEDS}; seed {text} alone is --seeds {text},"
            )
        return tuple(range(numbers[0]))
    if not numbers or len(set(numbers)) != len(numbers) or min(numbers) < 0 or max(numbers) >= 2**32:
        raise UsageError(f"--seeds {text}: seeds must be different whole numbers from 0 to 2^32 - 1")
    return numbers


@dataclass(frozen=True)
class Run:
    """Run studies: measure, judge, report. Repeat a command to resume it. `run STUDY --help` shows a study's flags."""

    studies: Positional[tuple[str, ...]]
    """Names of the board, or paths of study files."""

    scale: Literal["smoke", "laptop", "paper"] = "smoke"
    """smoke: proves in a minute that it runs; laptop: judges the claims; paper: the paper's own sizes."""
    seeds: str | None = None
    """How many (5), or which (0,3,7)."""
    runs: Path | None = None
    """Where run folders go (default: $INNERLOOP_RUNS, else ./runs)."""
    fresh: bool = False
    """Start a new run folder even if this command was run before."""
    checkpoint_seconds: float = 30.0
    """How often training state is saved."""

    def execute(self, rest: list[str]) -> int:
        from ..studies import load

        if not self.studies:
            raise UsageError("which study? It comes before its flags: innerloop run icl-gd; `innerloop list` shows all")
        check_seconds(self.checkpoint_seconds)
        if rest and len(self.studies) > 1:
            raise UsageError(f"{rest[0]} belongs to one study's configuration; run the studies one by one to use it")
        seeds = parse_seeds(self.seeds) if self.seeds is not None else None
        work = []
        for name in dict.fromkeys(self.studies):  # all are checked before the first one runs
            study = load(name)
            if self.scale not in study.configurations:
                raise UsageError(f"{study.name} has no scale {self.scale!r}; it has {', '.join(study.configurations)}")
            config = parse_config(study.configurations[self.scale], rest, study=name, also=flags_of(Run))
            work.append((name, study, config, seeds or tuple(range(study.seeds[self.scale]))))
        return max(self._run(*item) for item in work)

    def _run(self, name: str, study: Study, config: Any, seeds: tuple[int, ...]) -> int:
        from ..core.config import flatten
        from ..lab.runner import run_study
        from .platform import quiet_native_messages, set_up_jax

        set_up_jax()
        shown = f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 3 and seeds == tuple(range(len(seeds))) else str(seeds)
        print_config(flatten(config), f"{study.name} at scale {self.scale}, seeds {shown}")
        minutes = (study.paper.minutes or {}).get(self.scale)
        if minutes:
            print(f"\nabout {minutes:g} minutes on two cores, longer if the machine is busy")
        root = self.runs or default_runs()
        with quiet_native_messages():
            outcome = with_display(
                lambda display: run_study(
                    study,
                    scale=self.scale,
                    config=config,
                    seeds=seeds,
                    root=root,
                    fresh=self.fresh,
                    checkpoint_seconds=self.checkpoint_seconds,
                    display=display,
                )
            )
        return finish(outcome, root, study, name)


@dataclass(frozen=True)
class Resume:
    """Go on with a run that was stopped."""

    run: Positional[Path]
    """The run folder, such as runs/icl-gd/laptop-1a2b3c4d."""
    study: str | None = None
    """The path of the study's file, if it is one of your own."""
    checkpoint_seconds: float = 30.0
    """How often training state is saved."""

    def execute(self, rest: list[str]) -> int:
        from ..lab.runner import continue_run
        from ..lab.store import Run as StoredRun
        from ..studies import built, load
        from .platform import quiet_native_messages, set_up_jax

        check_seconds(self.checkpoint_seconds)
        path = find_run(self.run)
        run = StoredRun.open(path)
        if self.study is None and run.study not in built():
            # A path in somebody's run folder is no reason to execute what lies there.
            raise UsageError(f"{path} is of {run.study!r}, not on the board; name its file: --study ./YOUR_STUDY.py")
        name = self.study or run.study
        study = load(name)
        if study.name != run.study:
            raise UsageError(f"{path} is of study {run.study!r}, but {name} is study {study.name!r}")
        set_up_jax()
        with quiet_native_messages():
            outcome = with_display(
                lambda display: continue_run(study, run, checkpoint_seconds=self.checkpoint_seconds, display=display)
            )
        return finish(outcome, path.parent.parent, study, name)


@dataclass(frozen=True)
class Report:
    """Judge all stored runs again and write the report; nothing is measured."""

    studies: Positional[tuple[str, ...]] = ()
    """Paths of study files of your own, whose runs are to be in the report too."""
    runs: Path | None = None
    """Where run folders are (default: $INNERLOOP_RUNS, else ./runs)."""
    output: Path | None = None
    """Where to write it (default: report.html among the runs)."""

    def execute(self, rest: list[str]) -> int:
        from ..lab.runner import conclude, explain_disk_errors
        from ..lab.store import Run as StoredRun
        from ..lab.store import find_runs
        from ..studies import built, load

        root = self.runs or default_runs()
        if not root.is_dir():
            raise UsageError(f"there is no folder {root}; `innerloop run icl-gd` makes it, or choose another by --runs")
        studies = {study.name: study for study in map(load, self.studies)}
        with explain_disk_errors(root):
            for path in find_runs(root):
                try:
                    run = StoredRun.open(path)
                    if run.study not in studies and run.study in built():
                        studies[run.study] = load(run.study)
                    if run.study in studies:
                        conclude(studies[run.study], run)
                except InnerloopError as error:
                    print(f"innerloop: {error}; the report goes on without it", file=sys.stderr)
            print(f"report: {write_report(root, self.output, *studies.values())}")
        return 0


@dataclass(frozen=True)
class Compare:
    """Two runs of one study: configuration, verdicts, metrics with intervals, curves."""

    first: Positional[Path]
    """The first run folder."""
    second: Positional[Path]
    """The second run folder."""
    output: Path | None = None
    """A new folder for the curves and tables (default: nothing is written)."""

    def execute(self, rest: list[str]) -> int:
        from ..lab.report.compare import compare, write_comparison
        from ..lab.runner import explain_disk_errors
        from ..lab.store import Run as StoredRun

        comparison = compare(StoredRun.open(find_run(self.first)), StoredRun.open(find_run(self.second)))
        print_comparison(comparison)
        if self.output is not None:
            with explain_disk_errors(self.output):
                write_comparison(comparison, self.output)
            print(f"written to {self.output}")
        return 0


@dataclass(frozen=True)
class Export:
    """A run for other tools: csv, json, parquet, mlflow, wandb or tensorboard."""

    run: Positional[Path]
    """The run folder."""
    to: str = "csv"
    """csv, json, parquet, mlflow, wandb or tensorboard."""
    output: Path | None = None
    """Where to write it (default: export-TARGET in the working directory); never overwritten."""

    def execute(self, rest: list[str]) -> int:
        from ..lab.report.export import export
        from ..lab.runner import explain_disk_errors
        from ..lab.store import Run as StoredRun

        run = StoredRun.open(find_run(self.run))
        output = self.output or Path(f"{run.study}-{run.path.name}-{self.to}")
        with explain_disk_errors(output):
            print(f"written to {export(run, self.to, output)}")
        return 0


def check_seconds(seconds: float) -> None:
    if not seconds >= 0:  # so that "nan" is refused as well
        raise UsageError(f"--checkpoint-seconds must not be negative: {seconds:g}")


def find_run(path: Path) -> Path:
    """A run folder as given, or below the runs root."""
    for candidate in (path, default_runs() / path):
        if (candidate / "config.json").exists():
            return candidate
    from ..core.errors import UnknownNameError
    from ..lab.store import find_runs

    known = [str(found) for found in find_runs(default_runs())] if default_runs().is_dir() else []
    raise UnknownNameError("run folder", str(path), known, hint=f"looked in . and {default_runs()}")


def with_display(work: Any) -> Outcome:
    from rich.console import Console

    from ..lab.progress import Bar, Lines

    console = Console(file=sys.stderr)
    display: Display = Bar(console) if console.is_terminal else Lines()
    try:
        return work(display)
    finally:
        display.close()


def finish(outcome: Outcome, root: Path, study: Study, name: str) -> int:
    """Show the claims and where everything is; the exit code of the run. `name` is the study as it was asked for."""
    from ..lab.runner import explain_disk_errors

    print_claims(outcome.judgements)
    print(f"\nrun:    {outcome.run.path}")
    with explain_disk_errors(root):
        print(f"report: {write_report(root, None, study)}")
    if outcome.paused:
        of = ["--study", name] if name.endswith(".py") else []
        print(f"go on:  {shlex.join(['innerloop', 'resume', str(outcome.run.path), *of])}")
    for error in outcome.errors:
        print(f"innerloop: {error}", file=sys.stderr)
    return 130 if outcome.paused else 1 if outcome.errors else 0


def write_report(root: Path, output: Path | None, *known: Study) -> Path:
    from ..lab.catalogue import PAPERS
    from ..lab.report.page import build_report
    from ..lab.store import find_runs
    from ..studies import built, load

    studies = {study.name: study for study in known}
    for path in find_runs(root):
        name = path.parent.name
        if name in built() and name not in studies:
            studies[name] = load(name)
    papers = {**PAPERS, **{study.name: study.paper for study in known}}
    return build_report(root, papers, studies, built=built(), output=output)


def print_claims(judgements: list[Judgement]) -> None:
    """Two lines a claim: the numbers in columns, and what they are about."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    rows = [("", "verdict", "ours", "needed", "control")]
    judged = [item for item in judgements if item.verdict != "not measured"]
    for item in judged:
        ours = f"{item.estimate:.4g} [{item.low:.4g}, {item.high:.4g}]"
        control = f"{item.control.estimate:.4g} {item.control.verdict}"
        rows.append((item.id, item.verdict, ours, f"{item.direction} {item.threshold:g}", control))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(entry.ljust(width) for entry, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    console.print(f"\n[bold]{escape(lines[0])}[/]", soft_wrap=True)
    for item, line in zip(judged, lines[1:], strict=True):
        told = escape(line).replace(item.verdict, f"[{MARKS[item.verdict]}]{item.verdict}[/]", 1)
        console.print(told, soft_wrap=True)
        about = f"{item.statement} ({item.reason})" if item.reason else item.statement
        console.print(f"{'':{widths[0]}}  [dim]{escape(about)}[/]", soft_wrap=True)
    for reason in sorted({item.reason for item in judgements if item.verdict == "not measured"}):
        names = ", ".join(item.id for item in judgements if item.verdict == "not measured" and item.reason == reason)
        console.print(f"not measured: {names} ({reason})", markup=False, soft_wrap=True)


def print_comparison(comparison: Comparison) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    def show(value: Any) -> str:
        return "" if value is None else f"{value:.4g}" if isinstance(value, float) else escape(str(value))

    console = Console()
    console.print(f"A: {comparison.a.path}\nB: {comparison.b.path}", markup=False, highlight=False)
    tables = {
        "settings": [("setting", "A", "B"), *((name, *pair) for name, pair in comparison.settings.items())],
        "claims": [
            ("claim", "statement", "A", "", "B", ""),
            *(
                (row.id, row.statement, row.verdict_a, row.estimate_a, row.verdict_b, row.estimate_b)
                for row in comparison.verdicts
            ),
        ],
        "metrics": [
            ("variant", "phase", "metric", "A", "B", "B - A", "B / A"),
            *(
                (row.variant, row.phase, row.metric, row.a, row.b, row.difference, row.ratio)
                for row in comparison.metrics
            ),
        ],
    }
    for title, (header, *rows) in tables.items():
        table = Table(*header, title=None, box=None, pad_edge=False)
        for row in rows:
            table.add_row(*map(show, row))
        console.print(
            f"\n[bold]{title}[/bold]{'' if rows else ': nothing differs' if title == 'settings' else ': none'}"
        )
        if rows:
            console.print(table)
    for note in comparison.notes:
        console.print(f"note: {note}", markup=False, highlight=False)
