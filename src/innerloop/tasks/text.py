"""Real text, character by character."""

import hashlib
import math
import os
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, UInt8

from ..core.errors import InnerloopError, UnknownNameError, require
from .corpora import Document, brown_corpus, king_james_bible
from .task import AbstractTask, Example, Split, split_key
from .tokens import accuracy, cross_entropy


class EncodedDocument(NamedTuple):
    """One text of a corpus as characters of the task's alphabet."""

    name: str
    genre: str
    tokens: np.ndarray


class CharacterText(AbstractTask):
    r"""Windows of a text, and at each character the next one.

    Documents follow each other, one empty line between them, and the whole is cut into three contiguous parts:
    training, validation, test, in this order. A window lies in one part; where it begins is uniform. The alphabet
    is made of the characters of the training part; all others are one more symbol, which is predicted like any other.
    A prediction is `float[t v]` logits; metrics are `loss` in nats, `bits_per_character` (the same in bits) and
    `accuracy`.

    ```python
    >>> import jax
    >>> from innerloop.tasks import CharacterText, Document
    >>> task = CharacterText([Document("a", "rhyme", "la la lu\n" * 50)], length=8)
    >>> task.alphabet, task.vocabulary
    ('\n alu', 6)
    >>> inputs, target = task.sample(jax.random.key(0), "test")
    >>> task.decode(inputs)[1:] == task.decode(target)[:-1]
    True

    ```

    **Arguments:**

    - `documents`: names, genres and texts.
    - `length`: $t$, of windows.
    - `held_out`: the fraction of characters in each of the validation and the test part.
    - `min_count`: characters that are rarer than that in the training part are unknown ones.

    **Errors:** `ValueError` for parts shorter than a window, or more than 255 different characters.
    """

    tokens: UInt8[Array, "n"]
    length: int = eqx.field(static=True)
    alphabet: str = eqx.field(static=True)
    cuts: tuple[int, int, int, int] = eqx.field(static=True)
    names: tuple[tuple[str, str], ...] = eqx.field(static=True)
    starts: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, documents: list[Document], *, length: int = 256, held_out: float = 0.05, min_count: int = 1):
        require(length >= 1, f"length must be at least 1, not {length}")
        require(0 < held_out < 0.5, f"held_out must lie between 0 and 0.5, not {held_out}")
        texts = [document.text.rstrip("\n") + "\n\n" for document in documents]
        codes = _codes("".join(texts))
        held = int(held_out * len(codes))
        self.cuts = (0, len(codes) - 2 * held, len(codes) - held, len(codes))
        shortest = min(b - a for a, b in zip(self.cuts, self.cuts[1:], strict=False))
        require(shortest > length, f"a part of {shortest} characters holds no window of length {length} and its target")
        counts = np.bincount(codes[: self.cuts[1]])
        known = np.flatnonzero(counts >= max(min_count, 1))
        require(len(known) <= 255, f"at most 255 different characters fit, not {len(known)}; give a min_count above 1")
        self.alphabet = "".join(chr(code) for code in known)
        self.tokens = jnp.asarray(self.encode("".join(texts)).astype(np.uint8))
        self.length = length
        self.names = tuple((document.name, document.genre) for document in documents)
        self.starts = tuple(np.cumsum([0, *(len(text) for text in texts)]).tolist())

    @classmethod
    def from_file(cls, path: str | os.PathLike, *, encoding: str = "utf-8", **options) -> "CharacterText":
        """The text of one file; `options` are those of the class.

        **Errors:** `InnerloopError` for a file that cannot be read or is of another encoding.
        """
        try:
            text = Path(path).read_text(encoding)
        except (OSError, UnicodeDecodeError) as error:
            raise InnerloopError(f"{path} cannot be read as text in {encoding}: {error}") from error
        return cls([Document(Path(path).name, "", text)], **options)

    @classmethod
    def brown(cls, folder: str | os.PathLike | None = None, **options) -> "CharacterText":
        """The Brown corpus, 6.1 million characters: see `corpora.brown_corpus` for where it is looked for.

        The corpus is sorted by genre; here files are in a fixed order without any, so that all parts are alike.
        """
        documents = brown_corpus(folder)
        return cls(sorted(documents, key=lambda d: hashlib.sha256(d.name.encode()).digest()), **options)

    @classmethod
    def king_james(cls, path: str | os.PathLike | None = None, **options) -> "CharacterText":
        """The King James Bible, 4.1 million characters: see `corpora.king_james_bible` for where it is looked for.

        The held-out parts are its last books.
        """
        return cls(king_james_bible(path), **options)

    @property
    def vocabulary(self) -> int:
        """$v$: the alphabet, and last the unknown character."""
        return len(self.alphabet) + 1

    def encode(self, text: str) -> Int[np.ndarray, "n"]:
        """The tokens of a text."""
        known, codes = _codes(self.alphabet), _codes(text)
        place = np.searchsorted(known, codes).clip(max=len(known) - 1)
        return np.where(known[place] == codes, place, len(known)).astype(np.int32)

    def decode(self, tokens: Int[Array, "n"] | Int[np.ndarray, "n"]) -> str:
        """The text of tokens; the unknown character is U+FFFD."""
        letters = self.alphabet + "\N{REPLACEMENT CHARACTER}"
        return "".join(letters[token] for token in np.asarray(tokens).tolist())

    def part(self, split: Split) -> Int[np.ndarray, "n"]:
        """All tokens of a part, for an evaluation that leaves nothing out."""
        start, end = self._bounds(split)
        return np.asarray(self.tokens[start:end]).astype(np.int32)

    def documents(self, split: Split | None = None) -> list[EncodedDocument]:
        """All documents, or those that lie entirely in one part."""
        low, high = (0, self.cuts[-1]) if split is None else self._bounds(split)
        tokens = np.asarray(self.tokens).astype(np.int32)
        ranges = zip(self.starts, self.starts[1:], strict=False)
        return [
            EncodedDocument(name, genre, tokens[start : end - 1])
            for (name, genre), (start, end) in zip(self.names, ranges, strict=True)
            if low <= start and end <= high
        ]

    def sample(self, key: Key[Array, ""], split: Split = "train") -> Example:
        """A window, and the same one character later."""
        key = split_key(key, split)
        low, high = self._bounds(split)
        start = jax.random.randint(key, (), low, high - self.length, jnp.int32)
        window = jax.lax.dynamic_slice(self.tokens, (start,), (self.length + 1,)).astype(jnp.int32)
        return Example(window[:-1], window[1:])

    def loss(self, prediction: Float[Array, "t v"], example: Example) -> Float[Array, ""]:
        """Mean cross-entropy in nats per character."""
        return cross_entropy(prediction, example.target)

    def metrics(self, prediction: Float[Array, "t v"], example: Example) -> dict[str, Float[Array, ""]]:
        """`loss`, `bits_per_character` and `accuracy`."""
        loss = self.loss(prediction, example)
        return {
            "loss": loss,
            "bits_per_character": loss / math.log(2),
            "accuracy": accuracy(prediction, example.target),
        }

    def _bounds(self, split: str) -> tuple[int, int]:
        order = ("train", "validation", "test")
        if split not in order:
            raise UnknownNameError("split", split, order)
        place = order.index(split)
        return self.cuts[place], self.cuts[place + 1]


def _codes(text: str) -> Int[np.ndarray, "n"]:
    return np.frombuffer(text.encode("utf-32-le"), np.uint32).astype(np.int64)
