"""The run folder: written once, appended to, never overwritten; everything else is derived from it.

```
runs/<study>/<run id>/
  config.json              format, study, scale, seeds, configuration
  provenance.json          one entry per start: command, versions, hardware, git commit, times
  cells/<variant>-s<seed>/ metrics.jsonl (append-only), arrays.npz, done.json (last: the cell is finished)
  checkpoints/<variant>/   training state
  claims.json figures/     derived, rebuilt by `report`
  log.txt
```
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core.config import fingerprint, to_dict
from ..core.errors import InnerloopError

FORMAT = 1
LEFT_OUT = "left out"  # the status of a cell that the study does not ask for


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a whole file or nothing: a reader sees the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        error.filename = error.filename or str(path)  # a full disk does not say for whom it was too small
        raise


def to_json(value: Any) -> str:
    """Strict JSON: numbers that are not finite become `null`."""

    def clean(item: Any) -> Any:
        if isinstance(item, Mapping):
            return {str(key): clean(entry) for key, entry in item.items()}
        if isinstance(item, (list, tuple)):
            return [clean(entry) for entry in item]
        if isinstance(item, np.ndarray):
            return clean(item.tolist())
        if isinstance(item, np.generic):
            return clean(item.item())
        if isinstance(item, float) and not math.isfinite(item):
            return None
        return item

    return json.dumps(clean(value), indent=2, allow_nan=False)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InnerloopError(f"{path} is missing: {path.parent} is not a whole run folder") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InnerloopError(f"{path} is damaged ({error}); the run's cells are untouched") from error


@dataclass
class CellFolder:
    """The files of one cell."""

    path: Path
    _known: dict[tuple[Any, ...], str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _size: int = field(default=0, init=False, repr=False, compare=False)  # of the metrics file with these lines

    @property
    def finished(self) -> bool:
        return (self.path / "done.json").exists()

    def read_metrics(self) -> list[dict[str, Any]]:
        """All readable lines of `metrics.jsonl`; a torn last line and damaged ones are left out."""
        return [json.loads(line) for line in self._read_lines()[0]]

    def _read_lines(self) -> tuple[list[str], int, int]:
        """The readable lines, where the last of them ends, and how many damaged lines stand between them."""
        path = self.path / "metrics.jsonl"
        lines, end, damaged, position, unreadable = [], 0, 0, 0, 0
        for raw in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
            position += len(raw)
            try:
                line = raw.decode()
                json.loads(line)
            except ValueError:
                line = ""
            if line.endswith("\n"):
                lines.append(line)
                end, damaged = position, unreadable
            else:
                unreadable += 1
        return lines, end, damaged

    def append_metrics(self, records: Iterable[Mapping[str, Any]]) -> list[str]:
        """Append lines; return what there is to tell about it (nothing, mostly).

        A line that stands there already (a resumed run repeats what came after its checkpoint) is not written
        again; one that differs is appended and reported: readers take the last value of a step.
        """
        path = self.path / "metrics.jsonl"
        notes = []
        size = path.stat().st_size if path.exists() else 0
        if size != self._size:  # read once, not at every call: only the process that holds the lock appends
            lines, self._size, damaged = self._read_lines()
            if damaged:
                notes.append(f"{path}: {damaged} damaged lines are left as they are and not read")
            self._known = {_key(json.loads(line)): line for line in lines}
            if size > self._size:
                with open(path, "r+b") as file:
                    file.truncate(self._size)
                torn = size - self._size
                notes.append(f"{path}: dropped {torn} bytes of a torn last line; they are measured again")
        fresh = {}
        for record in records:
            line = json.dumps(json.loads(to_json(record)), separators=(",", ":")) + "\n"
            key = _key(record)
            old = fresh.get(key) or self._known.get(key)
            if old == line:
                continue
            if old is not None:
                notes.append(
                    f"{path}: step {record['step']} measured again with another result (other machine or versions?);"
                    " the newer line counts"
                )
            fresh[key] = line
        if fresh:
            self.path.mkdir(parents=True, exist_ok=True)
            with open(path, "ab") as file:
                file.write("".join(fresh.values()).encode())
                file.flush()
                os.fsync(file.fileno())
                self._size = file.tell()
            self._known.update(fresh)
        return notes

    def write_arrays(self, arrays: Mapping[str, np.ndarray]) -> None:
        import io

        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)  # pyright: ignore[reportArgumentType]
        write_atomically(self.path / "arrays.npz", buffer.getvalue())

    def read_arrays(self) -> dict[str, np.ndarray]:
        path = self.path / "arrays.npz"
        if not path.exists():
            return {}
        with np.load(path, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}

    def finish(self, outcome: Mapping[str, Any]) -> None:
        write_atomically(self.path / "done.json", to_json(outcome))

    def leave_out(self) -> None:
        """Mark a cell that the study does not ask for: this variant is measured with fewer seeds than the run has."""
        if not self.finished:
            self.finish({"status": LEFT_OUT, "reason": "this variant is measured with fewer seeds", "step": None})


def _key(record: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a line of metrics is about: two lines of one step may hold different metrics."""
    return (record["step"], record["phase"], *sorted(record))


@dataclass(frozen=True)
class Run:
    """One run folder on disk."""

    path: Path
    study: str
    scale: str
    seeds: tuple[int, ...]
    config: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> Run:
        stored = read_json(path / "config.json")
        if not isinstance(stored, dict) or not isinstance(stored.get("format"), int):
            raise InnerloopError(f"{path / 'config.json'} is not a run's configuration")
        if stored["format"] > FORMAT:
            raise InnerloopError(
                f"{path} was written by a newer innerloop (format {stored['format']}, this one reads up to {FORMAT});"
                " upgrade innerloop to read it"
            )
        missing = {"study", "scale", "seeds", "config"} - set(stored)
        if missing:
            raise InnerloopError(f"{path / 'config.json'} has no {', '.join(sorted(missing))}")
        return cls(path, stored["study"], stored["scale"], tuple(stored["seeds"]), stored["config"])

    def cell(self, variant: str, seed: int) -> CellFolder:
        return CellFolder(self.path / "cells" / f"{variant}-s{seed}")

    def log(self, text: str) -> None:
        with open(self.path / "log.txt", "a") as file:
            file.write(text.rstrip("\n") + "\n")


def run_name(study: str, scale: str, seeds: tuple[int, ...], config: Any) -> str:
    """The name that the same command always gives: repeating a command resumes its run."""
    content = {"study": study, "scale": scale, "seeds": list(seeds), "config": to_dict(config)}
    return f"{scale}-{fingerprint(content)}"


def create_run(root: Path, study: str, scale: str, seeds: tuple[int, ...], config: Any, *, fresh: bool = False) -> Run:
    """The run folder of this command: the one that is there, or a new one (always new with `fresh`)."""
    name = run_name(study, scale, seeds, config)
    path, number = root / study / name, 2
    while fresh and path.exists():
        path, number = root / study / f"{name}-{number}", number + 1
    if not (path / "config.json").exists():
        content = {
            "format": FORMAT,
            "study": study,
            "scale": scale,
            "seeds": list(seeds),
            "config": to_dict(config),
        }
        write_atomically(path / "config.json", to_json(content))
    return Run.open(path)


@contextmanager
def locked(run: Run) -> Iterator[None]:
    """Hold the run for this process; a second process is told so instead of mixing its lines into ours."""
    import fcntl

    with open(run.path / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InnerloopError(
                f"{run.path} is being run by another process; wait for it, or start a second run with --fresh"
            ) from error
        except OSError:
            pass  # some cluster file systems have no locks; better to run without than not to run
        yield


def find_runs(root: Path) -> list[Path]:
    """All run folders under a root, oldest first."""
    found = [path.parent for path in root.glob("*/*/config.json")]
    return sorted(found, key=lambda path: (path / "config.json").stat().st_mtime)


@dataclass
class Records:
    """What a run has measured, for claims and figures: arrays with a leading seed axis, NaN where there is nothing."""

    run: Run
    config: Any  # the study's configuration object
    _cells: dict[tuple[str, int], tuple[list[dict[str, Any]], dict[str, np.ndarray]]] = field(default_factory=dict)

    @property
    def seeds(self) -> tuple[int, ...]:
        return self.run.seeds

    def _cell(self, variant: str, seed: int) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
        if (variant, seed) not in self._cells:
            folder = self.run.cell(variant, seed)
            if not folder.finished:
                raise MissingCell(f"cell {variant}-s{seed} is not finished")
            self._cells[variant, seed] = (folder.read_metrics(), folder.read_arrays())
        return self._cells[variant, seed]

    def outcome(self, variant: str, seed: int) -> dict[str, Any]:
        """What `done.json` says: `{"status": "finished" | "failed" | "left out", "reason": ..., "step": ...}`."""
        return read_json(self.run.cell(variant, seed).path / "done.json")

    def series(self, variant: str, name: str, *, phase: str = "train") -> tuple[np.ndarray, np.ndarray]:
        """`(steps [k], values [seeds, k])` of one metric; NaN where a value is missing or was not finite."""
        tables = []
        for seed in self.seeds:
            lines = [line for line in self._cell(variant, seed)[0] if line["phase"] == phase and name in line]
            values = {line["step"]: line[name] for line in lines}  # the last line of a step counts
            tables.append({step: math.nan if value is None else float(value) for step, value in values.items()})
        steps = sorted({step for table in tables for step in table})
        if not steps:
            raise MissingCell(f"variant {variant} recorded no {name!r} in phase {phase!r}")
        values = np.asarray([[table.get(step, math.nan) for step in steps] for table in tables])
        return np.asarray(steps), values

    def final(self, variant: str, name: str, *, phase: str = "final") -> np.ndarray:
        """The last recorded value of a metric, one per seed."""
        return self.series(variant, name, phase=phase)[1][:, -1]

    def array(self, variant: str, name: str) -> np.ndarray:
        """A stored array with a leading seed axis; NaN rows for failed cells."""
        found = [self._cell(variant, seed)[1].get(name) for seed in self.seeds]
        shapes = {item.shape for item in found if item is not None}
        if not shapes:
            raise MissingCell(f"variant {variant} stored no array {name!r}")
        shape = shapes.pop()
        return np.stack([np.full(shape, math.nan) if item is None else item for item in found])


class MissingCell(InnerloopError):
    """A claim or figure asked for something that this run did not measure."""
