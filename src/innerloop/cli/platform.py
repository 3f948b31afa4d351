"""How the command line sets JAX up before the first compilation."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

# jaxlib 0.10.1 prints these when a compilation is read back from the cache; they mean nothing to anybody.
HARMLESS = re.compile(rb"cpu_aot_(loader|compiler)|Machine type used for XLA:CPU compilation|cpu_executable_run_options")


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


@contextlib.contextmanager
def quiet_native_messages() -> Iterator[None]:
    """Keep exactly the harmless lines of the native library from the terminal; everything else passes."""
    original = os.dup(2)
    reader, writer = os.pipe()
    python_stderr = sys.stderr
    # Python's own messages go straight to the terminal (and keep knowing that it is one).
    sys.stderr = os.fdopen(os.dup(original), "w", buffering=1)
    os.dup2(writer, 2)
    os.close(writer)

    def forward() -> None:
        with os.fdopen(reader, "rb") as lines:
            for line in lines:
                if not HARMLESS.search(line):
                    os.write(original, line)

    thread = threading.Thread(target=forward, daemon=True)
    thread.start()
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(original, 2)
        thread.join(timeout=2)
        sys.stderr.close()
        sys.stderr = python_stderr
        os.close(original)
