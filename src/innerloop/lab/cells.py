"""The cells of one variant, all seeds together: what a study's `measure` works with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..core.errors import InnerloopError
from ..core.rng import named_key
from ..train.checkpoint import Checkpoints
from ..train.loop import Fit, Progress, Record, fit
from .store import CellFolder, Run


class Paused(InnerloopError):
    """The user asked to stop; everything is saved."""


@dataclass
class Cells:
    """All seeds of one variant. Arrays given to `record` and `save` have a leading seed axis."""

    run: Run
    variant: str
    seeds: tuple[int, ...]
    checkpoint_seconds: float = 30.0
    pause: Callable[[], bool] = lambda: False
    on_progress: Callable[[Progress], None] = lambda progress: None
    tell: Callable[[str], None] = print
    failures: dict[int, int] = field(default_factory=dict)  # seed -> step
    _arrays: dict[str, np.ndarray] = field(default_factory=dict)
    _trainings: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._folders: dict[int, CellFolder] = {seed: self.run.cell(self.variant, seed) for seed in self.seeds}

    def keys(self, name: str) -> jax.Array:
        """One random key per seed, the same whenever the name is the same (across variants too)."""
        return jax.vmap(lambda seed: named_key(seed, name))(jnp.asarray(self.seeds, jnp.uint32))

    def fit(self, step: Any, carry: Any, *, steps: int, name: str = "train", **options: Any) -> Fit:
        """`innerloop.fit` with these seeds, whose records, checkpoints, pauses and failures the lab looks after.

        Records go to the phase `train` or `evaluate`, prefixed by `name` when a variant trains more than once.
        """
        if name in self._trainings:
            # The second training would read back the first one's checkpoint and do nothing.
            raise InnerloopError(f"{self.variant} trains {name!r} twice: give each cells.fit a name of its own")
        self._trainings.add(name)
        prefix = "" if name == "train" else f"{name}/"
        checkpoints = Checkpoints(self.run.path / "checkpoints" / self.variant / name, tell=self.tell)
        try:
            result = fit(
                step,
                carry,
                steps=steps,
                seeds=self.seeds,
                name=name,
                checkpoints=checkpoints,
                checkpoint_seconds=self.checkpoint_seconds,
                pause=self.pause,
                on_progress=self.on_progress,
                on_records=lambda records: self._write(
                    [Record(prefix + record.phase, record.step, record.values) for record in records]
                ),
                **options,
            )
        finally:
            checkpoints.close()
        for seed, at in result.failures.items():
            if seed not in self.failures:
                self.failures[seed] = at
                others = "the other seeds go on" if len(result.failures) < len(self.seeds) else "no seed is left"
                self.tell(f"cell {self.variant}-s{seed}: not finite at step {at}; {others}")
        if result.ended == "paused":
            raise Paused(f"stopped at step {result.step} of {steps} of {self.variant}")
        return result

    def record(self, values: Mapping[str, Any], *, step: int = 0, phase: str = "final") -> None:
        """Write one metrics line per seed; each value is an array `[seeds]`. Failed seeds have none."""
        marked = {name: self._without_failed(np.asarray(value)) for name, value in values.items()}
        self._write([Record(phase, step, marked)])

    def save(self, **arrays: Any) -> None:
        """Store arrays `[seeds, ...]` with the cells; of failed seeds, floating-point numbers become NaN."""
        for name, value in arrays.items():
            array = np.asarray(value)
            if array.ndim == 0 or len(array) != len(self.seeds):
                raise InnerloopError(f"array {name!r} needs a leading axis of {len(self.seeds)} seeds: {array.shape}")
            self._arrays[name] = self._without_failed(array)

    def _without_failed(self, array: np.ndarray) -> np.ndarray:
        """What a failed training left behind depends on when it was noticed, and means nothing: NaN instead."""
        if not self.failures or array.shape[:1] != (len(self.seeds),) or array.dtype.kind != "f":
            return array
        failed = np.isin(self.seeds, list(self.failures))
        return np.where(failed.reshape(-1, *[1] * (array.ndim - 1)), np.nan, array).astype(array.dtype)

    def _write(self, records: list[Record]) -> None:
        for index, seed in enumerate(self.seeds):
            lines = []
            for record in records:
                for name, value in record.values.items():
                    if name in ("step", "phase"):
                        raise InnerloopError(f"a metric cannot be called {name!r}: each line has a {name} already")
                    if value.shape != (len(self.seeds),):
                        raise InnerloopError(
                            f"metric {name!r} needs one value for each of {len(self.seeds)} seeds, not {value.shape}"
                        )
                values = {name: float(value[index]) for name, value in record.values.items()}
                lines.append({"step": record.step, "phase": record.phase, **values})
            for note in self._folders[seed].append_metrics(lines):
                self.tell(note)

    def finish(self) -> None:
        """Write the arrays and mark every cell as done; failed ones with their step."""
        for index, seed in enumerate(self.seeds):
            folder = self._folders[seed]
            if folder.finished:
                continue
            folder.write_arrays({name: array[index] for name, array in self._arrays.items()})
            if seed in self.failures:
                at = self.failures[seed]
                folder.finish({"status": "failed", "reason": "a value was not finite", "step": at})
            else:
                folder.finish({"status": "finished", "reason": "", "step": None})
