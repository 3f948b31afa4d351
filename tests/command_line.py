"""Running `innerloop` as its users do: in this process where that is enough, in one of its own where it is not."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import jax

from innerloop.cli import main

STUDIES = Path(__file__).parent / "studies"
# `innerloop` chooses a generator of random numbers; in this process that would change the numbers of other tests.
os.environ["JAX_THREEFRY_PARTITIONABLE"] = "1"
PATIENCE = 120.0  # seconds; far more than anything here takes, even on a busy machine


class Result(NamedTuple):
    code: int
    out: str
    err: str


def here(capsys, *arguments: object) -> Result:
    """Run a command in this process."""
    capsys.readouterr()
    code = 0
    try:
        main([str(argument) for argument in arguments])
    except SystemExit as stop:
        code = stop.code
    return Result(code, *capsys.readouterr())


def start(*arguments: object, cwd: Path | None = None, prefix: tuple[str, ...] = (), **options) -> subprocess.Popen:
    """Start a command in a process of its own, with what it prints in pipes."""
    # A compilation cache of their own: a killed process may leave half an entry in it.
    cache = f"{jax.config.jax_compilation_cache_dir}-of-processes"
    environment = {**os.environ, "JAX_COMPILATION_CACHE_DIR": cache, "COLUMNS": "200"}
    for name in ("INNERLOOP_RUNS", "TF_CPP_MIN_LOG_LEVEL", "JAX_THREEFRY_PARTITIONABLE"):  # as the tests set them
        environment.pop(name, None)
    program = [sys.executable, "-c", "from innerloop.cli import main; main()"]
    return subprocess.Popen(
        [*prefix, *program, *map(str, arguments)],
        cwd=cwd,
        env=environment,
        **{"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | options,
    )


def finish(process: subprocess.Popen) -> Result:
    """Wait for a command; one that hangs is killed and fails the test."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Result(process.returncode, out, err)


def elsewhere(*arguments: object, **options) -> Result:
    """Run a command in a process of its own."""
    return finish(start(*arguments, **options))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen) -> bool:
    """Wait for something that a process does; False if it ended before it did it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if condition():
            return True
        if process.poll() is not None:
            return False
        time.sleep(0.001)
    process.kill()
    raise TimeoutError("the process did not do what it was waited for")


def lines_in(root: Path, pattern: str) -> int:
    """How many lines of metrics all files of this pattern hold."""
    return sum(path.read_bytes().count(b"\n") for path in root.glob(f"*/*/cells/{pattern}/metrics.jsonl"))


def results_of(run: Path) -> dict[str, bytes]:
    """Everything that a run measured and concluded, byte for byte."""
    names = [*run.glob("cells/*/*"), *run.glob("claims.json"), *run.glob("figures/*")]
    return {str(path.relative_to(run)): path.read_bytes() for path in sorted(names)}


def only_run(root: Path) -> Path:
    """The one run folder under a root."""
    [path] = root.glob("*/*/config.json")
    return path.parent


def is_one_line(text: str) -> bool:
    return text.startswith("innerloop: ") and text.count("\n") == 1 and text.endswith("\n")
