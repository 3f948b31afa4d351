"""How the command line sets JAX up before the first compilation."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# jaxlib 0.10.1 prints these when a compilation is read back from the cache; they mean nothing to anybody.
HARMLESS = re.compile(
    rb"cpu_aot_(loader|compiler)|Machine type used for XLA:CPU compilation|cpu_executable_run_options"
)


def cache_folder() -> Path:
    """Where compiled programs are kept: one folder per user and JAX version (never share it between users)."""
    chosen = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if chosen:
        return Path(chosen)
    root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
    return root / "innerloop" / f"jax-{importlib.metadata.version('jax')}"


def set_up_jax() -> None:
    """Cache every compilation; by default JAX would cache almost nothing on a CPU."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(cache_folder()))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    if "JAX_THREEFRY_PARTITIONABLE" not in os.environ:
        # Drawing random tasks costs more than a small model's gradient; on a CPU this form of the generator runs in a
        # third of the time and compiles in half. Other numbers, the same law: provenance says which.
        jax.config.update("jax_threefry_partitionable", False)
    # An entry that a kill or another process left half-written: the program is simply compiled again.
    warnings.filterwarnings("ignore", r"Error (reading|writing) persistent compilation cache entry")


# A process of its own, so that the last words of a process that the native library aborts still get through.
FILTER = """
import os, re, signal, sys
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
harmless = re.compile(os.fsencode(sys.argv[1]))
for line in sys.stdin.buffer:
    if not harmless.search(line):
        os.write(2, line)
"""


@contextlib.contextmanager
def quiet_native_messages() -> Iterator[None]:
    """Keep exactly the harmless lines of the native library from the terminal; everything else passes."""
    command = [sys.executable, "-I", "-S", "-c", FILTER, os.fsdecode(HARMLESS.pattern)]
    sys.stderr.flush()
    original, python_stderr = os.dup(2), sys.stderr
    child = subprocess.Popen(command, stdin=subprocess.PIPE)
    assert child.stdin is not None
    if _is_stderr_itself(python_stderr):
        # Python's own messages go straight to the terminal (and keep knowing that it is one). Never closed: whoever
        # asks for sys.stderr meanwhile, such as a logging handler, may keep it.
        sys.stderr = os.fdopen(
            os.dup(original),
            "w",
            buffering=1,
            encoding=python_stderr.encoding,
            errors="backslashreplace",
            closefd=False,
        )
    os.dup2(child.stdin.fileno(), 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        sys.stderr = python_stderr
        os.dup2(original, 2)
        os.close(original)
        child.stdin.close()
        # It ends with its input, unless a process that outlives this block still holds the other end.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=2)


def _is_stderr_itself(stream: Any) -> bool:
    try:
        return stream.fileno() == 2
    except (OSError, ValueError):  # captured, as in a test or a notebook
        return False
