"""A library of states: add them under names, find them again by similarity, keep them in a file."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from ...core.errors import InnerloopError, UnknownNameError, require
from ...core.tree import path_names
from .context import EncodedContext
from .similarity import state_similarity


class StateLibrary:
    """States under names, found again by their similarity to another state.

    ```python
    >>> import jax.numpy as jnp
    >>> import innerloop as il
    >>> library = il.StateLibrary()
    >>> library.add("first", jnp.asarray([[[1.0, 0.0]]]), {"shots": 32})  # a memory of one head
    >>> library.add("second", jnp.asarray([[[0.0, 1.0]]]))
    >>> [name for name, _ in library.retrieve(jnp.asarray([[[3.0, 1.0]]]), k=2)]
    ['first', 'second']

    ```

    All states are of one model (or layer, or memory), and either all or none of them are `EncodedContext`s.

    **Reference:** Pióro et al. (2024), arXiv 2406.08423.
    """

    def __init__(self):
        self._states: dict[str, PyTree] = {}
        self._meta: dict[str, dict[str, Any]] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order in which they were added."""
        return tuple(self._states)

    def __len__(self) -> int:
        return len(self._states)

    def __contains__(self, name: object) -> bool:
        return name in self._states

    def __getitem__(self, name: str) -> PyTree:
        """The state of this name."""
        self._check_name(name)
        return self._states[name]

    def meta(self, name: str) -> dict[str, Any]:
        """What was noted with this state."""
        self._check_name(name)
        return dict(self._meta[name])

    def add(self, name: str, state: PyTree, meta: Mapping[str, Any] | None = None) -> None:
        """Keep a state, with notes that JSON can hold.

        **Errors:** `ValueError` for a name that is taken, or a state of another structure or size than the others.
        """
        require(name not in self._states, f"the library has a state {name!r} already; give this one another name")
        state = jax.tree.map(np.asarray, state)
        if self._states:
            _check_like(name, state, next(iter(self._states.values())))
        notes = json.loads(json.dumps(dict(meta or {})))
        self._states[name], self._meta[name] = state, notes

    def stacked(self) -> PyTree:
        """All states as one pytree, with a leading axis in the order of `names`."""
        require(len(self) >= 1, "the library is empty")
        return jax.tree.map(lambda *leaves: np.stack(leaves), *self._states.values())

    def similarity(self, states: PyTree, **how: Any) -> Float[Array, "q n"]:
        """The similarity of several states (leading axis) to all states of the library; see `state_similarity`."""
        references = jax.tree.map(jnp.asarray, _state(self.stacked()))
        return state_similarity(jax.tree.map(jnp.asarray, _state(states)), references, **how)

    def retrieve(
        self,
        state: PyTree,
        k: int = 1,
        *,
        layers: Sequence[int] | None = None,
        centre: bool = True,
        metric: str = "cosine",
        combine: str = "mean",
        normalise_heads: bool = False,
    ) -> list[tuple[str, float]]:
        """The `k` most similar states, as names and similarities, the most similar first; see `state_similarity`.

        **Errors:** `ValueError` for more states than there are; `UnknownNameError` for an unknown metric.
        """
        require(1 <= k <= len(self), f"k must lie between 1 and the {len(self)} states of the library, not {k}")
        one = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], _state(state))
        how = dict(layers=layers, centre=centre, metric=metric, combine=combine, normalise_heads=normalise_heads)
        scores = np.asarray(self.similarity(one, **how))[0]
        order = np.argsort(-scores, kind="stable")[:k]
        return [(self.names[i], float(scores[i])) for i in order]

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write the library into one `.npz` file of plain arrays.

        **Errors:** `InnerloopError` if the file exists, unless `overwrite`.
        """
        path = Path(path)
        path = path if path.suffix == ".npz" else path.with_name(f"{path.name}.npz")
        stacked = self.stacked()
        leaves = jax.tree.leaves(stacked)
        content = {f"state/{number}": leaf for number, leaf in enumerate(leaves)}
        content |= {
            "names": np.asarray(self.names),
            "meta": np.asarray(json.dumps([self._meta[name] for name in self.names])),
            "paths": np.asarray(path_names(stacked)),
        }
        if not overwrite and path.exists():
            raise InnerloopError(f"{path} exists already; choose another name, or save with overwrite=True")
        partial = path.with_name(f"{path.name}.partial")
        with open(partial, "wb") as file:
            np.savez(file, **content)  # pyright: ignore[reportArgumentType]
        partial.replace(path)
        return path

    @classmethod
    def load(cls, path: str | Path, like: PyTree) -> "StateLibrary":
        """Read back what `save` wrote.

        **Arguments:**

        - `path`: the file.
        - `like`: a state of the same kind (or its shapes, from `jax.eval_shape`), such as `model.init_state()`;
            a file holds arrays, and nothing that is run.

        **Errors:** `InnerloopError` for a file that is no library, or that holds states of another kind.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                content = {name: file[name] for name in file.files}
            names, meta = [str(name) for name in content["names"]], json.loads(str(content["meta"]))
            stored = [str(name) for name in content["paths"]]
            leaves = [content[f"state/{number}"] for number in range(len(stored))]
        except FileNotFoundError as error:
            raise InnerloopError(f"there is no library {path}") from error
        except (KeyError, ValueError, OSError) as error:
            raise InnerloopError(f"{path} is not a library of states: {error}") from error
        expected = path_names(like)
        if stored != expected:
            raise InnerloopError(
                f"{path} holds states with the parts {stored}, not {expected}: is it of another model?"
            )
        library = cls()
        for number, (name, notes) in enumerate(zip(names, meta, strict=True)):
            state = jax.tree.unflatten(jax.tree.structure(like), [leaf[number] for leaf in leaves])
            try:
                _check_like(name, state, like)
            except ValueError as error:
                raise InnerloopError(f"{path}: {error}") from error
            library.add(name, state, notes)
        return library

    def _check_name(self, name: str) -> None:
        if name not in self._states:
            raise UnknownNameError("state", name, self._states)


def _state(state: PyTree) -> PyTree:
    """The state itself, also of an encoded context."""
    return state.state if isinstance(state, EncodedContext) else state


def _check_like(name: str, state: PyTree, other: PyTree) -> None:
    require(
        jax.tree.structure(state) == jax.tree.structure(other),
        f"state {name!r} has another structure than those of the library",
    )
    for place, given, wanted in zip(path_names(state), jax.tree.leaves(state), jax.tree.leaves(other), strict=True):
        require(
            np.shape(given) == np.shape(wanted),
            f"state {name!r} has a part {place or 'memory'} of shape {np.shape(given)}, not {np.shape(wanted)}",
        )
