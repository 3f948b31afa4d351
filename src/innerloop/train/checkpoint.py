"""Checkpoints of training state: written atomically by Orbax, verified by a digest, never trusted blindly."""

import hashlib
import logging
import os
import re
import shutil
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ..core.errors import InnerloopError
from ..core.tree import path_names


class Restored(NamedTuple):
    """A checkpoint read back."""

    step: int
    tree: PyTree
    extra: dict[str, Any]


class Checkpoints:
    """The checkpoints of one training in one folder; the newest `keep` are kept.

    **Arguments:**

    - `folder`: where they are; made at the first save.
    - `keep`: how many of the newest to keep, at least 2, so that a damaged one can be stepped over.
    - `tell`: called with a sentence when there is something to say (a damaged checkpoint was stepped over).

    Only arrays are stored. A checkpoint counts when it was committed whole and its digest agrees; one that does not
    is moved to `damaged/` beside the others, never deleted.
    """

    def __init__(self, folder: Path | str, *, keep: int = 2, tell: Callable[[str], None] = print):
        if keep < 2:
            raise ValueError(f"keep must be at least 2, not {keep}: a damaged newest checkpoint needs a predecessor")
        self.folder = Path(folder).absolute()
        self.keep = keep
        self.tell = tell
        self._manager: Any = None

    def _open(self) -> Any:
        # Orbax takes a second to import; a run that never saves should not pay for it.
        if self._manager is None:
            import orbax.checkpoint as orbax

            for logger in ("absl", "asyncio"):
                logging.getLogger(logger).addFilter(_is_not_raised_again)
            self.folder.mkdir(parents=True, exist_ok=True)
            options = orbax.CheckpointManagerOptions(max_to_keep=self.keep, cleanup_tmp_directories=True)
            self._manager = orbax.CheckpointManager(self.folder, options=options)
        return self._manager

    def save(self, step: int, tree: PyTree, extra: Mapping[str, Any] | None = None) -> None:
        """Save a pytree of arrays at `step`; the write goes on in the background."""
        import orbax.checkpoint as orbax

        manager = self._open()
        if step in manager.all_steps():
            return
        # A copy, because training donates its buffers to the next chunk while this is still being written.
        leaves = dict(zip(path_names(tree), map(jnp.copy, jax.tree.leaves(tree)), strict=True))
        about = {"layout": _layout(leaves), "digest": _digest(leaves), "extra": dict(extra or {})}
        with self._disk_errors():
            manager.save(
                step,
                args=orbax.args.Composite(state=orbax.args.StandardSave(leaves), about=orbax.args.JsonSave(about)),
            )

    def latest(self, like: PyTree) -> Restored | None:
        """The newest whole checkpoint, with the structure and sharding of `like`; `None` when there is none."""
        if not self.folder.is_dir() or not any(self.folder.iterdir()):
            return None
        names = path_names(like)
        template = dict(zip(names, jax.tree.leaves(like), strict=True))
        for step in sorted(self._open().all_steps(), reverse=True):
            leaves, about = self._read(step, template)
            if leaves is not None and about is not None:
                tree = jax.tree.unflatten(jax.tree.structure(like), [leaves[name] for name in names])
                return Restored(step, tree, about["extra"])
        return None

    def _read(self, step: int, template: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        import orbax.checkpoint as orbax

        manager = self._open()
        try:
            about = manager.restore(step, args=orbax.args.Composite(about=orbax.args.JsonRestore())).about
            layout = about["layout"]
        except Exception as error:  # whatever a damaged file makes Orbax raise
            self._set_aside(step, error)
            return None, None
        if layout != _layout(template):
            raise InnerloopError(
                f"the checkpoint at step {step} in {self.folder} holds other arrays than this training: it was"
                " written by another version of the code; start again with --fresh"
            )
        try:
            abstract = jax.tree.map(
                lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None)),
                template,
            )
            state = manager.restore(step, args=orbax.args.Composite(state=orbax.args.StandardRestore(abstract))).state
            if _digest(state) != about["digest"]:
                raise InnerloopError("its digest does not agree")
        except Exception as error:
            self._set_aside(step, error)
            return None, None
        return state, about

    def _set_aside(self, step: int, error: Exception) -> None:
        target = self.folder.with_name(f"{self.folder.name}-damaged")
        target.mkdir(exist_ok=True)
        number = len(list(target.iterdir()))
        shutil.move(str(self.folder / str(step)), target / f"{step}-{number}")
        self.close()
        reason = str(error).strip().splitlines()[0][:120] if str(error).strip() else type(error).__name__
        self.tell(
            f"the checkpoint at step {step} is damaged ({reason}); moved to {target}, going on from the one before"
        )

    def keep_last(self, label: str) -> Path | None:
        """Copy the newest checkpoint beside the others, out of the reach of `keep`; `None` when there is none."""
        steps = sorted(self._open().all_steps())
        if not steps:
            return None
        self.wait()
        target = self.folder.with_name(f"{self.folder.name}-{label}") / str(steps[-1])
        if not target.exists():
            # Renamed at the end, so that a copy cut short by a kill never stands under the final name.
            partial = target.with_name(f".{target.name}.partial")
            shutil.rmtree(partial, ignore_errors=True)
            shutil.copytree(self.folder / str(steps[-1]), partial)
            partial.rename(target)
        return target

    def wait(self) -> None:
        """Return when everything saved is on disk."""
        if self._manager is not None:
            with self._disk_errors():
                self._manager.wait_until_finished()

    def close(self) -> None:
        """Finish writing and let go of the folder."""
        if self._manager is not None:
            manager, self._manager = self._manager, None
            with self._disk_errors():
                try:
                    manager.wait_until_finished()
                finally:
                    manager.close()

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        """Make an `OSError` again of what the native writer says about a disk that is full."""
        try:
            yield
        except Exception as error:
            code = re.search(r"os_error_code='(\d+)'", str(error))
            if code is None:
                raise
            raise OSError(int(code[1]), os.strerror(int(code[1])), str(self.folder)) from error


def _is_not_raised_again(record: logging.LogRecord) -> bool:
    """Orbax logs what goes wrong in its threads, once in each of them, and then raises it where one waits for it."""
    trace = traceback.walk_tb(record.exc_info[2]) if record.exc_info else ()
    return not any("orbax" in frame.f_code.co_filename for frame, _ in trace)


def _layout(leaves: Mapping[str, Any]) -> dict[str, Any]:
    return {name: [list(leaf.shape), str(leaf.dtype)] for name, leaf in leaves.items()}


def _digest(leaves: Mapping[str, Any]) -> str:
    """A digest of all bytes; empty when the arrays are spread over several hosts and no one process has them all."""
    digest = hashlib.sha256()
    for name in sorted(leaves):
        if not getattr(leaves[name], "is_fully_addressable", True):
            return ""
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(np.asarray(leaves[name])).tobytes())
    return digest.hexdigest()
