"""What a run shows while it runs: a bar in a terminal, a heartbeat line every ten seconds elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any, Protocol, runtime_checkable

from ..train.loop import Progress


@runtime_checkable
class Display(Protocol):
    """Where a run says what it is doing."""

    def begin(self, variant: str, number: int, total: int) -> None: ...
    def update(self, progress: Progress) -> None: ...
    def tell(self, text: str) -> None: ...
    def close(self) -> None: ...


class Bar:
    """A progress bar with the time that is left, for a terminal."""

    def __init__(self, console: Any):
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (
            TextColumn("[bold]{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        self._bar = RichProgress(*columns, console=console)
        self._bar.start()
        self._task: Any = None

    def begin(self, variant: str, number: int, total: int) -> None:
        if self._task is not None:
            self._bar.update(self._task, note="", completed=self._bar.tasks[-1].total or 0)
        from rich.markup import escape

        self._task = self._bar.add_task(f"{number}/{total} {escape(variant)}", total=None, note="")

    def update(self, progress: Progress) -> None:
        self._bar.update(
            self._task, total=progress.steps, completed=progress.step, note="compiling" if progress.compiling else ""
        )

    def tell(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._bar.stop()


class Lines:
    """Plain lines, for logs: what begins, and a heartbeat every ten seconds."""

    def __init__(self, every: float = 10.0):
        self._every = every
        self._last = time.monotonic()
        self._title = ""

    def begin(self, variant: str, number: int, total: int) -> None:
        self._title = f"[{number}/{total}] {variant}"
        self.tell(self._title)

    def update(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.compiling:
            self.tell(f"{self._title}: compiling")
        elif now - self._last >= self._every:
            self._last = now
            left = f"about {progress.seconds_left:.0f} s left"
            self.tell(f"{self._title}: step {progress.step}/{progress.steps}, {left}")

    def tell(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass
