"""Runs a study: every variant that is not finished yet, then judges what was recorded and draws it."""

from __future__ import annotations

import errno
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.config import from_dict
from ..core.errors import InnerloopError
from . import provenance
from .cells import Cells, Paused
from .judge import Judgement, judge, write_claims
from .progress import Display, Lines
from .report.figures import draw_figures, write_figures
from .store import Records, Run, create_run, locked
from .study import Scale, Study


@dataclass(frozen=True)
class Outcome:
    """How a run went."""

    run: Run
    judgements: list[Judgement]
    errors: list[str]  # variants that ended in an exception
    paused: bool
    seconds: float


def run_study(
    study: Study,
    *,
    scale: Scale,
    config: Any,
    seeds: tuple[int, ...],
    root: Path,
    fresh: bool = False,
    checkpoint_seconds: float = 30.0,
    display: Display | None = None,
) -> Outcome:
    """Run a study into its run folder, going on where an earlier start of the same command ended."""
    with explain_disk_errors(root):
        run = create_run(root, study.name, scale, seeds, config, fresh=fresh)
    return continue_run(study, run, checkpoint_seconds=checkpoint_seconds, display=display)


def continue_run(
    study: Study, run: Run, *, checkpoint_seconds: float = 30.0, display: Display | None = None
) -> Outcome:
    """Do what a run folder still lacks: unfinished cells, claims, figures."""
    display = display or Lines()
    config = study_config(study, run)
    began = time.perf_counter()
    errors: list[str] = []
    paused = False

    def tell(text: str) -> None:
        display.tell(text)
        run.log(text)

    with explain_disk_errors(run.path), locked(run), pause_on_signal(tell) as pause:
        entry = provenance.begin(run)
        run.log(f"{entry['started']} {entry['command']}")
        for change in entry.get("changed", []):
            tell(f"note: this run was started with other versions; {change}")
        variants = study.variants(config)
        for number, variant in enumerate(variants, 1):
            if all(run.cell(variant, seed).finished for seed in run.seeds):
                continue
            if pause():
                paused = True
                break
            display.begin(variant, number, len(variants))
            seeds = study.seeds_of(config, variant, run.seeds)
            for seed in set(run.seeds) - set(seeds):
                run.cell(variant, seed).leave_out()
            cells = Cells(run, variant, seeds, checkpoint_seconds, pause, display.update, tell)
            try:
                study.measure(config, cells)
                cells.finish()
            except Paused as stop:
                tell(str(stop))
                paused = True
                break
            except Exception as error:
                if isinstance(error, OSError) and error.errno in REMEDIES:
                    raise  # a disk that does not take our files ends the run; everything written stays
                # One broken variant must not take the others with it; it is tried again when the command is repeated.
                run.log(traceback.format_exc())
                errors.append(f"{variant}: {explain(error)}")
                tell(f"variant {variant} ended in an error: {explain(error)} (traceback in {run.path / 'log.txt'})")
        judgements = conclude(study, run, tell=None if paused or errors else tell)
        provenance.end(run, time.perf_counter() - began)
    return Outcome(run, judgements, errors, paused, time.perf_counter() - began)


def conclude(study: Study, run: Run, *, tell: Callable[[str], None] | None = None) -> list[Judgement]:
    """Judge and draw from stored records alone; `tell` hears which figures could not be drawn."""
    records = Records(run, study_config(study, run))
    judgements = judge(study, records)
    write_claims(run, judgements)
    drawn = draw_figures(study, records)
    write_figures(run, drawn)
    for figure in drawn:
        if tell is not None and figure.reason:
            tell(f"figure {figure.id} could not be drawn: {figure.reason}")
    return judgements


def study_config(study: Study, run: Run) -> Any:
    """The configuration object of a stored run."""
    kind = type(next(iter(study.configurations.values())))
    return from_dict(kind, run.config)


def explain(error: BaseException) -> str:
    """An exception in one line; the ones users can do something about say what."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    if "RESOURCE_EXHAUSTED" in str(error) or isinstance(error, MemoryError):
        return f"out of memory; lower the batch size or the number of seeds ({lines[0]})"
    return lines[0] if isinstance(error, InnerloopError) else f"{type(error).__name__}: {lines[0]}"


REMEDIES = {
    errno.ENOSPC: "the disk is full: free some space",
    errno.EDQUOT: "your disk quota is used up: free some space",
    errno.EFBIG: "a file may not grow any further: raise the limit or free some space",
    errno.EACCES: "no permission to write there: choose another folder with --runs",
    errno.EPERM: "no permission to write there: choose another folder with --runs",
    errno.EROFS: "the file system is read-only: choose another folder with --runs",
    errno.ENOTDIR: "a part of that path is a file, not a folder: choose another folder with --runs",
}


@contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turn what the disk says into what the user can do."""
    try:
        yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        where = error.filename or path
        raise InnerloopError(
            f"cannot write {where}: {REMEDIES[error.errno]}, then repeat the command; it goes on where it stopped"
        ) from error


@contextmanager
def pause_on_signal(tell: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C (or SIGTERM) into a request to save and stop; a second one stops at once."""
    requested = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield requested.is_set
        return

    def handle(number: int, frame: Any) -> None:
        if requested.is_set():
            raise KeyboardInterrupt
        requested.set()
        tell("stopping: saving a checkpoint (once more to stop at once)")

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield requested.is_set
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
