"""The task interface: data as a function of a key."""

import abc
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import equinox as eqx
from jaxtyping import Array, Float, Key, PyTree

from ..core.errors import UnknownNameError
from ..core.rng import named_key

SPLITS = ("train", "test", "validation")

# At run time a plain string, so that a fourth name reaches `split_key`, which knows the nearest one.
if TYPE_CHECKING:
    Split = Literal["train", "test", "validation"]
else:
    Split = str


class Example(NamedTuple):
    """What a model is given and what it should answer."""

    inputs: PyTree
    target: PyTree


class AbstractTask(eqx.Module):
    """A law of examples, and how answers to them are judged.

    All methods are about one example; batches are `jax.vmap`. Numbers are leaves, so that a task can be
    swept.
    """

    @abc.abstractmethod
    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """One example. The splits never share randomness, even under one key.

        **Errors:** `UnknownNameError` for another split than `"train"`, `"test"` and `"validation"`.
        """

    @abc.abstractmethod
    def loss(self, prediction: Any, example: Example) -> Float[Array, ""]:
        """What training minimises, for one example."""

    @abc.abstractmethod
    def metrics(self, prediction: Any, example: Example) -> dict[str, Float[Array, ""]]:
        """Named scalars worth reporting, `"loss"` among them, for one example."""


def split_key(key: Key[Array, ""], split: str) -> Key[Array, ""]:
    """The key of a split: the split's name folded into `key`."""
    if split not in SPLITS:
        raise UnknownNameError("split", split, SPLITS)
    return named_key(key, split)
