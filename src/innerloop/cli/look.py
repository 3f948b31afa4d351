"""Commands that look: list, show, cite, doctor, bench, new."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from ..core.errors import InnerloopError, UsageError

MARKS = {"holds": "green", "fails": "red", "undecided": "yellow", "not measured": "dim"}


def default_runs() -> Path:
    return Path(os.environ.get("INNERLOOP_RUNS", "runs"))


@dataclass(frozen=True)
class List:
    """The board: all studies, what they cost, how their claims last stood."""

    runs: Path | None = None
    """Where run folders are (default: $INNERLOOP_RUNS, else ./runs)."""

    def execute(self, rest: list[str]) -> int:
        from rich.console import Console
        from rich.table import Table

        from ..lab.catalogue import PAPERS
        from ..studies import built

        table = Table(box=None, pad_edge=False, header_style="bold")
        for column in ("study", "paper", "minutes", "claims of the last run"):
            table.add_column(column, overflow="fold", no_wrap=column in ("study", "minutes"))
        for name, paper in PAPERS.items():
            if name in built():
                cost = " ".join(f"{scale} {minutes:g}" for scale, minutes in (paper.minutes or {}).items())
                table.add_row(name, f"{paper.title} ({paper.arxiv})", cost, self._verdicts(name))
            else:
                table.add_row(name, f"{paper.title} ({paper.arxiv})", "not built yet", "", style="dim")
        Console().print(table)
        return 0

    def _verdicts(self, name: str) -> str:
        root = self.runs or default_runs()
        stored = sorted(root.glob(f"{name}/*/claims.json"), key=lambda path: path.stat().st_mtime)
        for path in reversed(stored):
            try:
                verdicts = Counter(claim["verdict"] for claim in json.loads(path.read_text()))
            except (ValueError, TypeError, KeyError):
                continue
            scale = path.parent.name.split("-")[0]
            return f"{scale}: " + ", ".join(f"{verdicts[verdict]} {verdict}" for verdict in MARKS if verdicts[verdict])
        return "not run yet"


@dataclass(frozen=True)
class Show:
    """One study: its paper, claims, figures and configuration."""

    study: Positional[str]
    """A name of the board, or the path of a study file."""

    scale: Literal["smoke", "laptop", "paper"] = "laptop"
    """Whose configuration to show."""

    def execute(self, rest: list[str]) -> int:
        from rich.console import Console
        from rich.markup import escape
        from rich.padding import Padding

        from ..core.config import flatten
        from ..studies import load

        study = load(self.study)
        paper, console = study.paper, Console()
        console.print(f"[bold]{escape(paper.title)}[/bold]\n{escape(', '.join(paper.authors))}, {paper.year}", end="")
        console.print(f", arXiv {paper.arxiv}\n{escape(paper.summary)}\n", highlight=False)
        for claim in study.claims:
            judged = "every seed" if claim.over_seeds == "every" else "95% interval of the mean"
            console.print(f"[bold]{escape(claim.id):<3}[/bold] {escape(claim.statement)}", highlight=False)
            rows = {
                "the paper": claim.paper,
                "measured": claim.quantity,
                "needed": f"{claim.threshold} ({judged})",
                "control": claim.control.statement,
            }
            for name, text in rows.items():
                console.print(Padding(f"[dim]{name:<9}[/dim]  {escape(text)}", (0, 0, 0, 4)), highlight=False)
        console.print("\n[bold]figures[/bold]: " + escape("; ".join(figure.title for figure in study.figures)))
        if self.scale not in study.configurations:
            raise UsageError(f"{study.name} has no scale {self.scale!r}; it has {', '.join(study.configurations)}")
        config = study.configurations[self.scale]
        print_config(flatten(config), f"configuration at scale {self.scale}, {study.seeds[self.scale]} seeds")
        if study.substitutes:
            console.print(escape(study.substitutes))
        return 0


def print_config(flat: dict[str, object], title: str) -> None:
    from rich.console import Console

    console = Console()
    console.print(f"\n[bold]{title}[/bold]")
    width = max(map(len, flat), default=0)
    for name, value in flat.items():
        console.print(f"  {name:<{width}}  {json.dumps(value)}", highlight=False, markup=False)


@dataclass(frozen=True)
class Cite:
    """BibTeX for a study's paper and for the software it uses."""

    study: Positional[str]
    """A name of the board."""

    def execute(self, rest: list[str]) -> int:
        from ..core.errors import UnknownNameError
        from ..lab.catalogue import PAPERS
        from ..lab.citation import bibtex

        if self.study not in PAPERS:
            raise UnknownNameError("study", self.study, PAPERS)
        print(bibtex(PAPERS[self.study]))
        return 0


@dataclass(frozen=True)
class Doctor:
    """Check this installation: versions, devices, folders, and the known wrong-result bug of one JAX release."""

    def execute(self, rest: list[str]) -> int:
        from rich.console import Console
        from rich.markup import escape
        from rich.table import Table

        from .doctor import examine

        table, healthy = Table("", "what", "found", box=None, pad_edge=False), True
        for check in examine(default_runs()):
            healthy &= check.level != "bad"
            mark = {"good": "[green]ok[/green]", "note": "[yellow]note[/yellow]", "bad": "[red]BAD[/red]"}[check.level]
            table.add_row(mark, escape(check.what), escape(check.found))
        Console().print(table)
        return 0 if healthy else 1


@dataclass(frozen=True)
class Bench:
    """Run the benchmarks of the source checkout, each side by side with its peer."""

    part: Positional[str | None] = None
    """Which one (default: all)."""

    def execute(self, rest: list[str]) -> int:
        from ..core.errors import UnknownNameError

        folder = Path(__file__).resolve().parents[3] / "benchmarks"
        if not folder.is_dir():
            raise InnerloopError("the benchmarks are in the source checkout, not in the installed package")
        parts = {path.stem: path for path in sorted(folder.glob("[a-z]*.py"))}
        if self.part is not None and self.part not in parts:
            raise UnknownNameError("benchmark", self.part, parts)
        chosen = [self.part] if self.part else list(parts)
        return max(subprocess.run([sys.executable, parts[name]], check=False).returncode for name in chosen)


@dataclass(frozen=True)
class New:
    """Write a working study to start from: `innerloop new study NAME`."""

    what: Positional[Literal["study"]]
    """What to write."""
    name: Positional[str]
    """Its name, in lower case with hyphens."""

    def execute(self, rest: list[str]) -> int:
        import re

        if not re.fullmatch(r"[a-z][a-z0-9-]*", self.name):
            raise UsageError(f"{self.name!r} is not a name of lower-case letters, digits and hyphens, such as my-study")
        path = Path(f"{self.name.replace('-', '_')}.py")
        if path.exists():
            raise UsageError(f"{path} exists already and is left as it is; choose another name")
        template = Path(__file__).with_name("study_template.py.txt").read_text()
        path.write_text(template.replace("STUDY_NAME", self.name))
        print(f"wrote {path}; try: innerloop run ./{path}")
        return 0
