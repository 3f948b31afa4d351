"""`fit`: the one training loop. It scans any pure step in jitted chunks and knows nothing of what it trains."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from ..core.errors import InnerloopError, require
from ..core.rng import named_key
from ..core.tree import all_finite, path_names
from .checkpoint import Checkpoints

Info = Mapping[str, Array]
Step = Callable[[Key[Array, ""], PyTree], tuple[PyTree, Info]]
Evaluate = Callable[[Key[Array, ""], PyTree], Info]
BUFFER_STEPS = 1024  # the most steps whose infos one chunk holds on the device


class Record(NamedTuple):
    """Metrics at one step: scalars, or one value per seed."""

    phase: str  # "train": means over the steps since the last record; "evaluate": what `evaluate` returned
    step: int
    values: dict[str, np.ndarray]


@dataclass
class Fit:
    """What `fit` returns: the carry, the records made by this call, and how it ended."""

    carry: PyTree
    step: int  # steps done in all
    records: list[Record]
    failures: dict[int, int]  # seed -> first step at which something was not finite
    ended: str  # "finished", "stopped" (by `stop`), "paused" (by `pause`) or "failed" (every seed)
    seconds: float
    compile_seconds: float

    def history(self, phase: str, name: str) -> np.ndarray:
        """One metric over time: shape `[records]`, or `[records, seeds]`."""
        return np.stack([record.values[name] for record in self.records if record.phase == phase])


@dataclass
class Progress:
    """What `on_progress` is told after each chunk."""

    step: int
    steps: int
    seconds: float
    seconds_left: float = 0.0  # at the pace of this call, compilation apart
    compiling: bool = False
    values: dict[str, np.ndarray] = field(default_factory=dict)


def fit(
    step: Step,
    carry: PyTree,
    *,
    steps: int,
    seeds: int | Sequence[int] = 0,
    name: str = "train",
    record_every: int = 1,
    evaluate: Evaluate | None = None,
    evaluate_every: int | None = None,
    stop: Callable[[dict[str, np.ndarray]], bool] | None = None,
    pause: Callable[[], bool] | None = None,
    on_records: Callable[[list[Record]], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    checkpoints: Checkpoints | None = None,
    checkpoint_seconds: float = 30.0,
    chunk_seconds: float = 1.0,
    one_by_one: bool = False,
    devices: Sequence[Any] | None = None,
) -> Fit:
    """Apply `step` to `carry` `steps` times, in jitted chunks of about a second.

    **Arguments:**

    - `step`: a pure `(key, carry) -> (carry, info)`; `info` maps names to scalars. It is compiled once.
    - `carry`: any pytree; arrays are carried, everything else must stay as it is. With several seeds every array
        has a leading seed axis (`eqx.filter_vmap` of whatever makes it).
    - `steps`: how many steps in all, those before a checkpoint included.
    - `seeds`: one integer; or several, which are then trained together by `vmap`, sharded over the devices.
    - `name`: names the random keys: step number `t` of seed `s` gets `named_key(s, name, t)`. Nothing random is
        stored, so a resumed training equals an uninterrupted one bit for bit.
    - `record_every`: a train record holds the mean info of this many steps.
    - `evaluate`: `(key, carry) -> metrics`, called before the first step, every `evaluate_every` steps and at the
        end, always with the same key.
    - `stop`: sees each evaluation's metrics and may end the training early (all seeds together).
    - `pause`: asked after each chunk; when true, a checkpoint is saved and `fit` returns.
    - `one_by_one`: whether the seeds of a step follow each other (`jax.lax.map`) instead of being one batch. On a
        CPU that is twice as fast for wide networks, whose matrix products are slow as a batch. No device is shared.
    - `checkpoints`: where to resume from and save to, at least every `checkpoint_seconds` and at the end.

    **Returns:** a `Fit`. A seed whose info or carry becomes non-finite is named in `failures` with its step; the
    others go on, and the last checkpoint before the failure is kept.
    """
    many = not isinstance(seeds, int)
    seed_list = tuple(seeds) if isinstance(seeds, Sequence) else (seeds,)
    require(steps >= 0, f"steps must not be negative, got {steps}")
    require(len(seed_list) > 0, "seeds is empty: give at least one")
    require(record_every >= 1, f"record_every must be at least 1, got {record_every}")
    if evaluate_every is None:
        evaluate_every = max(steps, 1)
    require(
        evaluate_every % record_every == 0 or evaluate_every >= steps,
        f"evaluate_every ({evaluate_every}) must be a multiple of record_every ({record_every})",
    )
    arrays, static = eqx.partition(carry, eqx.is_array)
    _check_carry(arrays, len(seed_list) if many else None)
    # A private copy: chunks donate their input, and the caller keeps her carry.
    arrays = jax.tree.map(jnp.copy, arrays)
    seed_numbers = jnp.asarray(seed_list, dtype=jnp.uint32) if many else jnp.asarray(seed_list[0], dtype=jnp.uint32)
    lift = _lift(many, one_by_one)
    if many and not one_by_one:
        arrays, seed_numbers = _spread_over_devices((arrays, seed_numbers), len(seed_list), devices)

    began = time.perf_counter()
    state = _Loop(position=0)
    if checkpoints is not None and (restored := checkpoints.latest(arrays)) is not None:
        arrays, state.position = restored.tree, restored.step
        state.failures = {int(seed): at for seed, at in restored.extra["failures"].items()}
        state.stopped = restored.extra["stopped"]

    records: list[Record] = []

    def emit(new: list[Record]) -> None:
        records.extend(new)
        if on_records is not None and new:
            on_records(new)

    def save() -> None:
        if checkpoints is not None:
            checkpoints.save(state.position, arrays, {"failures": state.failures, "stopped": state.stopped})
            state.saved_at = time.perf_counter()

    def measure(compiled: Any) -> None:
        metrics = {key: np.asarray(value) for key, value in compiled(seed_numbers, arrays).items()}
        emit([Record("evaluate", state.position, metrics)])
        state.stopped = state.stopped or (stop is not None and stop(metrics))

    compile_seconds = 0.0
    ended = "finished"
    if state.goes_on(steps, len(seed_list)):
        if on_progress is not None:
            on_progress(Progress(state.position, steps, 0.0, compiling=True))
        capacity = record_every * max(1, min(BUFFER_STEPS, max(steps, 1)) // record_every)
        run_chunk = _compile_chunk(step, arrays, static, seed_numbers, name, capacity, record_every, lift)
        run_evaluation = (
            _compile_evaluation(evaluate, arrays, static, seed_numbers, name, lift) if evaluate is not None else None
        )
        compile_seconds = time.perf_counter() - began
        if state.position == 0 and run_evaluation is not None:
            measure(run_evaluation)
        windows = 1
        state.saved_at = training_began = time.perf_counter()
        first = state.position
        while state.goes_on(steps, len(seed_list)):
            chunk_began = time.perf_counter()
            boundary = min(steps, (state.position // evaluate_every + 1) * evaluate_every)
            end = min(boundary, state.position + min(windows * record_every, capacity))
            count = end - state.position
            arrays, infos, finite = run_chunk(
                arrays, seed_numbers, jnp.asarray(state.position, jnp.int32), jnp.asarray(count, jnp.int32)
            )
            infos = {key: np.asarray(value)[:count] for key, value in infos.items()}
            new_failures = _find_failures(infos, np.asarray(finite), seed_list, state.position, end, record_every)
            new_failures = {seed: at for seed, at in new_failures.items() if seed not in state.failures}
            if new_failures and checkpoints is not None:
                checkpoints.keep_last("before-failure")
            state.failures |= new_failures
            if len(state.failures) == len(seed_list):
                # Nobody is left: end with the window of the last failure, wherever the chunk happened to end.
                end = min(end, (max(state.failures.values()) // record_every + 1) * record_every)
                infos = {key: value[: end - state.position] for key, value in infos.items()}
            emit(_average(infos, state.position, record_every))
            state.position = end
            if end == boundary and run_evaluation is not None:
                measure(run_evaluation)
            elapsed = time.perf_counter() - chunk_began
            # At most doubling keeps one lucky measurement from making a chunk of many seconds.
            windows = max(1, min(2 * windows, round(chunk_seconds * count / elapsed / record_every)))
            if on_progress is not None:
                latest = records[-1].values if records else {}
                left = (steps - end) * (time.perf_counter() - training_began) / (end - first)
                on_progress(Progress(end, steps, time.perf_counter() - began, left, values=latest))
            if pause is not None and state.goes_on(steps, len(seed_list)) and pause():
                ended = "paused"
                break
            if checkpoints is not None and time.perf_counter() - state.saved_at >= checkpoint_seconds:
                save()
        save()
        if checkpoints is not None:
            checkpoints.wait()
    if state.stopped:
        ended = "stopped"
    elif len(state.failures) == len(seed_list):
        ended = "failed"
    return Fit(
        carry=eqx.combine(arrays, static),
        step=state.position,
        records=records,
        failures=dict(state.failures),
        ended=ended,
        seconds=time.perf_counter() - began,
        compile_seconds=compile_seconds,
    )


@dataclass
class _Loop:
    position: int
    failures: dict[int, int] = field(default_factory=dict)
    stopped: bool = False
    saved_at: float = 0.0

    def goes_on(self, steps: int, num_seeds: int) -> bool:
        return self.position < steps and not self.stopped and len(self.failures) < num_seeds


def _lift(many: bool, one_by_one: bool) -> Any:
    """What makes a function of one seed a function of all."""
    if not many:
        return lambda function: function
    if one_by_one:
        return lambda function: lambda *arguments: jax.lax.map(lambda one: function(*one), arguments)
    return jax.vmap


def _keys(seed_numbers: Array, name: str, position: Array | None = None) -> Key[Array, "..."]:
    def make(seed: Array) -> Key[Array, ""]:
        return named_key(seed, name, position)

    return jax.vmap(make)(seed_numbers) if seed_numbers.ndim else make(seed_numbers)


def _compile_chunk(
    step: Step,
    arrays: PyTree,
    static: PyTree,
    seed_numbers: Array,
    name: str,
    capacity: int,
    record_every: int,
    lift: Any,
) -> Any:
    def once(key: Key[Array, ""], arrays: PyTree) -> tuple[PyTree, dict[str, Array]]:
        carry, info = step(key, eqx.combine(arrays, static))
        new, new_static = eqx.partition(carry, eqx.is_array)
        if not eqx.tree_equal(new_static, static):
            raise InnerloopError("step changed a part of the carry that is not an array; only arrays are carried")
        return new, dict(info)

    batched = lift(once)

    def body(seed_numbers: Array, position: Array, arrays: PyTree) -> tuple[PyTree, dict[str, Array]]:
        return batched(_keys(seed_numbers, name, position), arrays)

    shapes, infos = jax.eval_shape(body, seed_numbers, jnp.asarray(0, jnp.int32), arrays)
    _check_step(arrays, shapes, infos, seed_numbers.shape)

    check = lift(all_finite)

    def run_chunk(
        arrays: PyTree, seed_numbers: Array, start: Array, count: Array
    ) -> tuple[PyTree, dict[str, Array], Array]:
        buffer = {key: jnp.zeros((capacity, *info.shape), info.dtype) for key, info in infos.items()}
        finite = jnp.ones((capacity // record_every, *seed_numbers.shape), bool)

        def advance(index: Array, state: tuple[PyTree, dict[str, Array]]) -> tuple[PyTree, dict[str, Array]]:
            arrays, buffer = state
            arrays, info = body(seed_numbers, start + index, arrays)
            return arrays, {key: buffer[key].at[index].set(info[key]) for key in buffer}

        def window(number: Array, state: tuple[PyTree, dict[str, Array], Array]) -> Any:
            arrays, buffer, finite = state
            first = number * record_every
            last = jnp.minimum(first + record_every, count)
            arrays, buffer = jax.lax.fori_loop(first, last, advance, (arrays, buffer))
            # Once per record: seldom enough to be cheap and, unlike the ends of chunks, the same in every repetition.
            return arrays, buffer, finite.at[number].set(check(arrays))

        # The number of steps is a value, not a shape: chunks of any length are one program, compiled once.
        num_windows = (count + record_every - 1) // record_every
        return jax.lax.fori_loop(0, num_windows, window, (arrays, buffer, finite))

    zero = jnp.asarray(0, jnp.int32)
    same_place = jax.tree.map(lambda leaf: leaf.sharding, arrays)
    jitted = jax.jit(run_chunk, donate_argnums=0, out_shardings=(same_place, None, None))
    return jitted.lower(arrays, seed_numbers, zero, zero).compile()


def _compile_evaluation(
    evaluate: Evaluate, arrays: PyTree, static: PyTree, seed_numbers: Array, name: str, lift: Any
) -> Any:
    def once(key: Key[Array, ""], arrays: PyTree) -> dict[str, Array]:
        return dict(evaluate(key, eqx.combine(arrays, static)))

    def run_evaluation(seed_numbers: Array, arrays: PyTree) -> dict[str, Array]:
        return lift(once)(_keys(seed_numbers, f"{name}/evaluate"), arrays)

    return jax.jit(run_evaluation).lower(seed_numbers, arrays).compile()


def _check_carry(arrays: PyTree, num_seeds: int | None) -> None:
    for path, leaf in zip(path_names(arrays), jax.tree.leaves(arrays), strict=True):
        if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            raise InnerloopError(f"carry.{path} is a random key; keys are derived from (seed, name, step), not carried")
        if num_seeds is not None and (leaf.ndim == 0 or leaf.shape[0] != num_seeds):
            raise InnerloopError(
                f"carry.{path} has shape {leaf.shape}: with {num_seeds} seeds every array needs a leading axis of"
                f" {num_seeds} (make the carry with eqx.filter_vmap)"
            )


def _check_step(before: PyTree, after: PyTree, infos: Mapping[str, Any], seed_shape: tuple[int, ...]) -> None:
    old, new = jax.tree.leaves(before), jax.tree.leaves(after)
    if jax.tree.structure(before) != jax.tree.structure(after):
        raise InnerloopError("step returned a carry of another structure than it was given")
    for path, a, b in zip(path_names(before), old, new, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            raise InnerloopError(f"step turned carry.{path} from {a.dtype}{a.shape} into {b.dtype}{b.shape}")
    for key, info in infos.items():
        if info.shape != seed_shape:
            raise InnerloopError(f"info[{key!r}] must be a scalar, not of shape {info.shape[len(seed_shape) :]}")


def _spread_over_devices(tree: PyTree, num_seeds: int, devices: Sequence[Any] | None) -> PyTree:
    available = list(devices if devices is not None else jax.devices())
    # A mesh axis must divide the seeds evenly; fewer devices are better than padded seeds.
    count = max(n for n in range(1, len(available) + 1) if num_seeds % n == 0)
    if count == 1:
        return tree
    mesh = jax.make_mesh((count,), ("seed",), devices=available[:count], axis_types=(jax.sharding.AxisType.Auto,))
    return jax.device_put(tree, jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("seed")))


def _average(infos: Mapping[str, np.ndarray], start: int, record_every: int) -> list[Record]:
    """Means over windows of `record_every` steps; chunks begin at a window and only the very last may be shorter."""
    count = len(next(iter(infos.values()))) if infos else 0
    return [
        Record(
            "train",
            start + min(first + record_every, count),
            {key: values[first : first + record_every].mean(0) for key, values in infos.items()},
        )
        for first in range(0, count, record_every)
    ]


def _find_failures(
    infos: Mapping[str, np.ndarray],
    finite: np.ndarray,
    seeds: tuple[int, ...],
    start: int,
    end: int,
    record_every: int,
) -> dict[int, int]:
    """For each seed with something non-finite: the first step at which it was seen, in an info or in the carry."""
    failures = {}
    for index, seed in enumerate(seeds):
        columns = [values.reshape(len(values), len(seeds))[:, index] for values in infos.values()]
        bad = [np.flatnonzero(~np.isfinite(column)) for column in columns if column.dtype.kind == "f"]
        windows = np.flatnonzero(~finite.reshape(-1, len(seeds))[:, index])
        bad.append(np.minimum(start + (windows + 1) * record_every, end) - 1 - start)
        first = min((int(rows[0]) for rows in bad if len(rows)), default=None)
        if first is not None:
            failures[seed] = start + first
    return failures
