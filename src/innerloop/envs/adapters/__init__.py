"""Worlds from and to other libraries: gymnax, JaxMARL, Gymnasium, PettingZoo.

| library | its worlds here | our worlds there |
|---|---|---|
| gymnax 1.0 | `from_gymnax` | `to_gymnax` |
| JaxMARL | `from_jaxmarl` | `to_jaxmarl` |
| Gymnasium | `play_gymnasium` | `to_gymnasium` |
| PettingZoo (parallel) | `play_pettingzoo` | `to_pettingzoo` |

Worlds of gymnax and JaxMARL are pure functions, and become environments. Those of Gymnasium and PettingZoo are
objects that change: they cannot be compiled, copied or played twice from one state, all of which an environment must
allow. So our agents go to them instead.

A library is imported when its adapter is first used; all of them come with `pip install 'innerloop[envs]'`.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .gymnasium import play_gymnasium, to_gymnasium
    from .gymnax import GymnaxWorld, from_gymnax, to_gymnax
    from .host import Life
    from .jaxmarl import JaxMARLWorld, from_jaxmarl, to_jaxmarl
    from .pettingzoo import play_pettingzoo, to_pettingzoo

__all__ = [
    "GymnaxWorld",
    "JaxMARLWorld",
    "Life",
    "from_gymnax",
    "from_jaxmarl",
    "play_gymnasium",
    "play_pettingzoo",
    "to_gymnasium",
    "to_gymnax",
    "to_jaxmarl",
    "to_pettingzoo",
]

_FILES = {
    "GymnaxWorld": "gymnax",
    "JaxMARLWorld": "jaxmarl",
    "Life": "host",
    "from_gymnax": "gymnax",
    "from_jaxmarl": "jaxmarl",
    "play_gymnasium": "gymnasium",
    "play_pettingzoo": "pettingzoo",
    "to_gymnasium": "gymnasium",
    "to_gymnax": "gymnax",
    "to_jaxmarl": "jaxmarl",
    "to_pettingzoo": "pettingzoo",
}


def __getattr__(name: str) -> Any:
    if name not in _FILES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        file = importlib.import_module(f"{__name__}.{_FILES[name]}")
    except ImportError as error:
        if error.name is None or error.name.startswith("innerloop"):
            raise
        message = f"{name} needs the package {error.name!r}, which is not installed: pip install 'innerloop[envs]'"
        raise ImportError(message, name=error.name) from error
    return getattr(file, name)


def __dir__() -> list[str]:
    return __all__
