"""Innerloop: learning inside learning.

A JAX/Equinox library in which each method that runs a learning process inside a network is a reusable component.

- `solve`: solvers that layers run inside themselves.
- `nn`: sequence layers (recurrent, chunk and parallel form, state in and out), stacks, exact constructions.
- `tasks`: data as a function of a key.
- `envs`: worlds with a leading agent axis, and the interface of agents.
- `learn`: learning rules, alternatives to `jax.grad` whose updates Optax eats.
- `rl`: policies, rollouts, policy-gradient estimators, agents that learn about learners.
- `train`: `fit`, one loop for everything; `supervised`, the usual step; checkpoints.
- `testing`: public conformance batteries for your own components.

Every public name of these parts is also a name of this package (`innerloop.fit`). Names are imported at first
use, so that the command line can answer without importing JAX.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PARTS = ("solve", "nn", "tasks", "envs", "learn", "rl", "train", "testing")

if TYPE_CHECKING:
    from . import envs as envs
    from . import learn as learn
    from . import nn as nn
    from . import rl as rl
    from . import solve as solve
    from . import tasks as tasks
    from . import testing as testing
    from . import train as train
    from .core.errors import InnerloopError as InnerloopError
    from .core.rng import named_key as named_key
    from .envs import *
    from .learn import *
    from .nn import *
    from .rl import *
    from .solve import *
    from .tasks import *
    from .train import *

_CORE = {"InnerloopError": "core.errors", "named_key": "core.rng"}


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f"innerloop.{name}")
    if name in _CORE:
        return getattr(importlib.import_module(f"innerloop.{_CORE[name]}"), name)
    if not name.startswith("_"):
        for part in _PARTS[:-1]:
            module = importlib.import_module(f"innerloop.{part}")
            if name in module.__all__:
                return getattr(module, name)
    raise AttributeError(f"module 'innerloop' has no attribute {name!r}")


def __dir__() -> list[str]:
    names = [name for part in _PARTS[:-1] for name in importlib.import_module(f"innerloop.{part}").__all__]
    return sorted([*names, *_PARTS, *_CORE, "__version__"])
