"""What a run was made with: command, versions, commit, hardware, times."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..core.errors import InnerloopError
from .store import Run, read_json, to_json, write_atomically

PACKAGES = ("equinox", "optax", "orbax-checkpoint", "numpy", "scipy", "matplotlib")


def describe() -> dict[str, Any]:
    """Everything about this process and machine that could change a number."""
    import jax

    return {
        "command": shlex.join(["innerloop", *sys.argv[1:]]),
        "started": _now(),
        "ended": None,
        "seconds": None,
        "innerloop": importlib.metadata.version("innerloop"),
        "python": platform.python_version(),
        "jax": jax.__version__,
        "jaxlib": importlib.metadata.version("jaxlib"),
        "random_numbers": {"partitionable": bool(jax.config.values["jax_threefry_partitionable"])},
        "packages": {name: importlib.metadata.version(name) for name in PACKAGES},
        "git": _git(),
        "hardware": {
            "cpu": _processor(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_gib": _memory(),
            "devices": [str(device.device_kind) for device in jax.devices()],
        },
    }


def begin(run: Run) -> dict[str, Any]:
    """Add an entry for this start; return the entry and, under `"changed"`, what differs from the last one."""
    entries = read_entries(run)
    entry = describe()
    if entries:
        last = entries[-1]
        entry["changed"] = [
            f"{name}: {last.get(name)} -> {entry[name]}"
            for name in ("innerloop", "python", "jax", "jaxlib", "random_numbers", "packages", "git", "hardware")
            if last.get(name) != entry[name]
        ]
    write_atomically(run.path / "provenance.json", to_json([*entries, entry]))
    return entry


def end(run: Run, seconds: float) -> None:
    """Complete the newest entry."""
    entries = read_entries(run)
    entries[-1] |= {"ended": _now(), "seconds": round(seconds, 2)}
    write_atomically(run.path / "provenance.json", to_json(entries))


def read_entries(run: Run) -> list[dict[str, Any]]:
    path = run.path / "provenance.json"
    entries = read_json(path) if path.exists() else []
    if not isinstance(entries, list):
        raise InnerloopError(f"{path} is not a list of starts")
    return entries


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _git() -> dict[str, Any] | None:
    """The commit this code was imported from, and a digest of what differs from it."""
    here = Path(__file__).resolve().parent

    def ask(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=10, check=True
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout

    # An installed package may lie inside somebody else's repository; only our own commit says anything.
    if ask("ls-files", "--error-unmatch", __file__) is None:
        return None
    commit, changes = ask("rev-parse", "HEAD"), ask("diff", "HEAD", "--", str(here.parent))
    if commit is None:
        return None
    return {
        "commit": commit.strip(),
        "dirty": hashlib.sha256(changes.encode()).hexdigest()[:8] if changes else None,
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _memory() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, OSError, ValueError):
        return None
