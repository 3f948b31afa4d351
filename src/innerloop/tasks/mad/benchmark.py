"""The MAD benchmark: its six tasks at their sizes, and its sweep over difficulty."""

import dataclasses
from typing import Any

from ...core.errors import UnknownNameError
from ..recall import InContextRecall
from ..tokens import AbstractTokenTask
from .compression import Compression
from .fuzzy_recall import FuzzyRecall
from .memorisation import Memorisation
from .selective_copy import SelectiveCopy

_EXAMPLES = (6400, 3200, 1600, 800)
_VOCABULARIES = (32, 64, 128)
_LENGTHS = (256, 512, 1024)

MAD_SWEEP: dict[str, dict[str, tuple]] = {
    "recall": {"vocabulary": _VOCABULARIES, "length": _LENGTHS, "num_examples": _EXAMPLES},
    "noisy recall": {
        "vocabulary": (48, 80, 144),
        "length": _LENGTHS,
        "num_examples": _EXAMPLES,
        "noise": (0.4, 0.6, 0.8),
    },
    "fuzzy recall": {"vocabulary": _VOCABULARIES, "length": _LENGTHS, "num_examples": _EXAMPLES},
    "memorisation": {"vocabulary": (512, 1024, 2048, 4096, 8192)},
    "compression": {"vocabulary": _VOCABULARIES, "length": (64, 128, 256), "num_examples": _EXAMPLES},
    "selective copy": {
        "vocabulary": _VOCABULARIES,
        "length": (512, 1024),
        "num_examples": _EXAMPLES,
        "num_copied": (32, 64, 96),
    },
}
"""What is changed, one factor at a time, from the sizes of `mad_tasks`."""


def mad_tasks(*, seed: int = 0) -> dict[str, AbstractTokenTask]:
    """The six tasks at the sizes of the benchmark, with its finite training sets.

    The score of a model is its accuracy on the test split, averaged over tasks.

    ```python
    >>> import innerloop as il
    >>> sorted(il.tasks.mad_tasks())
    ['compression', 'fuzzy recall', 'memorisation', 'noisy recall', 'recall', 'selective copy']

    ```

    **Arguments:**

    - `seed`: of the training sets.

    **Reference:** Poli et al. (2024), arXiv 2403.17844.
    """
    size: dict[str, Any] = dict(num_examples=12800, seed=seed)
    return {
        "recall": InContextRecall(**size),
        "noisy recall": InContextRecall(vocabulary=32, noise_symbols=16, noise=0.2, **size),
        "fuzzy recall": FuzzyRecall(**size),
        "memorisation": Memorisation(num_examples=256, seed=seed),
        "compression": Compression(**size),
        "selective copy": SelectiveCopy(**size),
    }


def mad_sweep(name: str, *, seed: int = 0) -> list[AbstractTokenTask]:
    """One of the six tasks, and its harder variants, in each of which one size differs.

    ```python
    >>> import innerloop as il
    >>> [task.length for task in il.tasks.mad_sweep("recall")]
    [128, 128, 128, 128, 256, 512, 1024, 128, 128, 128, 128]

    ```

    **Errors:** `UnknownNameError` for a task that is not among `mad_tasks`.
    """
    if name not in MAD_SWEEP:
        raise UnknownNameError("task of MAD", name, MAD_SWEEP)
    task = mad_tasks(seed=seed)[name]
    changes = [{factor: value} for factor, values in MAD_SWEEP[name].items() for value in values]
    return [task, *(dataclasses.replace(task, **change) for change in changes)]
