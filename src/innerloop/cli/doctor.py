"""What `innerloop doctor` looks at."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple


class Check(NamedTuple):
    level: Literal["good", "note", "bad"]
    what: str
    found: str


EXTRAS = {"track": ("mlflow", "wandb", "tensorboardX"), "export": ("polars",)}


def examine(runs: Path) -> Iterator[Check]:
    """All checks, in the order in which a user would ask."""
    yield Check("good" if sys.version_info >= (3, 11) else "bad", "Python", sys.version.split()[0])
    for name in ("jax", "jaxlib"):
        version = importlib.metadata.version(name)
        excluded = version == "0.10.2"
        yield Check("bad" if excluded else "good", name, version + (": computes wrong results" if excluded else ""))
    wrong = count_wrong_rows()
    yield Check("bad" if wrong else "good", "matrix-vector product (jax issue 39103)", f"{wrong} wrong rows of 40000")
    import jax

    yield Check("good", "devices", ", ".join(str(device) for device in jax.devices()))
    from .platform import cache_folder

    folder = cache_folder()
    entries = len(list(folder.iterdir())) if folder.is_dir() else 0
    yield Check("good", "compilation cache", f"{folder} ({entries} entries; delete the folder to clear it)")
    place = runs.absolute()
    while not place.exists():
        place = place.parent
    writable = place.is_dir() and os.access(place, os.W_OK)
    yield Check(
        "good" if writable else "bad", "run folders", f"{runs.absolute()}{'' if writable else ' (not writable)'}"
    )
    free = shutil.disk_usage(place).free / 2**30
    yield Check("good" if free > 1 else "note", "free disk space", f"{free:.1f} GiB")
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        found = f"without {', '.join(missing)}: pip install 'innerloop[{extra}]'" if missing else "installed"
        yield Check("note" if missing else "good", f"extra [{extra}]", found)


def count_wrong_rows() -> int:
    """The reproducer of jax issue 39103: a jitted, vmapped matrix-vector product followed by a reduction."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    rows = 40_000
    matrix = jnp.asarray(np.random.default_rng(0).normal(size=(4, 4)), jnp.float32)
    vectors = jnp.asarray(np.random.default_rng(1).normal(size=(rows, 4)), jnp.float32)
    found = jax.jit(lambda xs: jax.vmap(lambda x: jnp.sum((matrix @ x) ** 2))(xs))(vectors)
    expected = np.sum((np.asarray(vectors, np.float64) @ np.asarray(matrix, np.float64).T) ** 2, axis=1)
    return int(np.sum(np.abs(np.asarray(found) - expected) > 1e-3 * (1 + expected)))
