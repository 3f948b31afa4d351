"""The studies, one file per paper. This module only finds them; it imports JAX no sooner than a study needs it."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.config import fingerprint
from ..core.errors import InnerloopError, UnknownNameError, UsageError
from ..lab.catalogue import PAPERS

if TYPE_CHECKING:
    from ..lab.study import Study


@cache
def built() -> tuple[str, ...]:
    """The names of the studies that this version can run."""
    here = Path(__file__).parent
    modules = {name: here / name.replace("-", "_") for name in PAPERS}
    return tuple(
        name for name, path in modules.items() if path.with_suffix(".py").exists() or (path / "__init__.py").exists()
    )


def load(name: str) -> Study:
    """The study of this name, or of the file that the name is the path of."""
    if name.endswith(".py"):
        return _load_file(Path(name))
    if name not in built():
        if name in PAPERS:
            raise UsageError(f"study {name!r} is on the board but not built yet; built: {', '.join(built())}")
        raise UnknownNameError("study", name, PAPERS, hint="`innerloop list` shows all")
    return importlib.import_module(f".{name.replace('-', '_')}", __name__).study


def _load_file(path: Path) -> Study:
    from ..lab.study import Study

    if not path.exists():
        raise UsageError(f"there is no file {path}; `innerloop new study NAME` writes one to start from")
    # One name per path: two files of one name must not be taken for one module.
    name = f"innerloop_user_{path.stem}_{fingerprint(str(path.absolute()))}"
    specification = importlib.util.spec_from_file_location(name, path)
    if specification is None or specification.loader is None:
        raise UsageError(f"{path} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module  # dataclasses look their module up by name
    try:
        specification.loader.exec_module(module)
    except Exception as error:  # whatever a file that is being written may do
        raise InnerloopError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    study = getattr(module, "study", None)
    if not isinstance(study, Study):
        raise InnerloopError(f"{path} does not end with `study = Study(...)`")
    return study
