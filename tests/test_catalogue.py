import re
import subprocess
import sys
from types import SimpleNamespace

import jax
import pytest

from innerloop.lab.catalogue import PAPERS
from innerloop.lab.citation import bibtex
from innerloop.lab.paper import Paper, family_first, family_name
from innerloop.lab.study import Paper as PaperOfStudy

# Section 8 of the design: name, arXiv identifier, spec number.
BOARD = [
    ("embedded-agents", "2511.22226", 1),
    ("mesanet", "2506.05233", 2),
    ("low-rank-attention", "2410.23819", 3),
    ("learning-aware", "2410.18636", 4),
    ("randomized-transformers", "2408.10818", 5),
    ("compositional-icl", "2407.12275", 6),
    ("hypernetwork-attention", "2406.05816", 7),
    ("modular-hyperteacher", "2312.15001", 8),
    ("mesa-optimization", "2309.05858", 9),
    ("rnn-attention", "2309.01775", 10),
    ("state-soup", "2406.08423", 11),
    ("online-lru", "2305.15947", 12),
    ("icl-gd", "2212.07677", 13),
    ("least-control", "2207.01332", 14),
    ("cocoa", "2306.16803", 15),
    ("strong-feedback", "2204.07249", 16),
    ("internal-rl", "2512.20605", 17),
    ("coplayer-inference", "2602.16301", 18),
    ("structured-entities", "2402.04437", 19),
    ("deep-feedback-control", "2106.07887", 20),
    ("impact", "2101.12509", 21),
    ("late-phase", "2007.12927", 22),
    ("target-propagation", "2006.14331", 23),
    ("continual-rnn", "2006.12109", 24),
]
WINGS = {"nn", "tasks", "learn", "rl", "bayes", "entities"}


def test_the_board_is_complete_and_in_order():
    assert [(name, paper.arxiv, paper.spec) for name, paper in PAPERS.items()] == BOARD
    assert all(name == paper.study for name, paper in PAPERS.items())


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
def test_every_paper_is_described(paper):
    submitted = 2000 + int(paper.arxiv[:2])
    assert submitted <= paper.year <= submitted + 1
    if paper.venue:
        assert str(paper.year) in paper.venue
    assert set(paper.wing.split(", ")) <= WINGS
    assert len(set(paper.authors)) == len(paper.authors) >= 3
    assert all(len(author.split()) >= 2 and author == author.strip() for author in paper.authors)
    assert paper.summary.endswith(".")
    assert ". " not in paper.summary, "one sentence"
    assert 60 < len(paper.summary) < 240
    assert paper.title == " ".join(paper.title.split())


def test_one_spelling_of_each_author():
    by_family: dict[str, set[str]] = {}
    for paper in PAPERS.values():
        for author in paper.authors:
            by_family.setdefault(family_name(author), set()).add(author)
    several = {family: names for family, names in by_family.items() if len(names) > 1}
    # As the papers print it: with the middle initial in one of them.
    assert several == {"Richards": {"Blake Richards", "Blake A. Richards"}}


def test_importing_the_catalogue_needs_nothing_heavy():
    code = (
        "import sys, time, dataclasses, difflib, importlib, typing, unicodedata; begin = time.perf_counter();"
        " import innerloop.lab.catalogue; spent = time.perf_counter() - begin;"
        " heavy = {'numpy', 'jax', 'scipy', 'matplotlib', 'equinox'} & set(sys.modules);"
        " print(spent, *sorted(heavy))"
    )
    fastest = 1.0
    for _ in range(3):  # the first may have to compile, any may have to wait for a core
        found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
        spent, *heavy = found.stdout.split()
        assert heavy == []
        fastest = min(fastest, float(spent))
    assert fastest < 0.1  # 0.005 s on an idle machine


def test_a_study_module_offers_the_same_paper():
    assert PaperOfStudy is Paper


def test_minutes_are_kept_per_scale():
    paper = Paper("demo", "A title", ("Ada Lovelace",), 2020, "2001.00001", minutes={"smoke": 0.5})
    assert paper.minutes["smoke"] == 0.5
    assert hash(paper) == hash(Paper("demo", "A title", ("Ada Lovelace",), 2020, "2001.00001"))


def test_names_of_several_words_are_not_torn_apart():
    assert family_first("Blaise Agüera y Arcas") == "Agüera y Arcas, Blaise"
    assert family_first("Johannes von Oswald") == "von Oswald, Johannes"
    assert family_first("Pau Vilimelis Aceituno") == "Vilimelis Aceituno, Pau"
    assert family_first("Rif A. Saurous") == "Saurous, Rif A."
    assert family_first("others") == "others"


def parse(text: str) -> list[tuple[str, str, dict[str, str]]]:
    """A small strict BibTeX reader: entries of `name = {balanced},` lines."""
    entries = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        head = re.fullmatch(r"@([a-z]+)\{([a-z0-9]+),", lines[0])
        assert head, lines[0]
        assert lines[-1] == "}"
        fields = {}
        for line in lines[1:-1]:
            field = re.fullmatch(r"  (\w+) = \{(.*)\},", line)
            assert field, line
            assert field[1] not in fields
            assert field[2].count("{") == field[2].count("}")
            fields[field[1]] = field[2]
        entries.append((head[1], head[2], fields))
    return entries


@pytest.mark.parametrize("paper", PAPERS.values(), ids=PAPERS)
def test_bibtex_of_every_paper(paper):
    [(kind, key, fields)] = parse(paper.bibtex())
    assert fields["eprint"] == paper.arxiv
    assert fields["year"] == str(paper.year)
    assert fields["title"] == f"{{{paper.title}}}"
    assert len(fields["author"].split(" and ")) == len(paper.authors)
    assert str(paper.year) in key
    if paper.venue:
        assert kind == "inproceedings"
        assert paper.venue in fields["booktitle"]
    else:
        assert kind == "article"
        assert fields["journal"] == f"arXiv preprint arXiv:{paper.arxiv}"


def test_keys_differ():
    keys = [parse(paper.bibtex())[0][1] for paper in PAPERS.values()]
    assert len(set(keys)) == 24


def test_bibtex_escapes_what_latex_would_read():
    paper = Paper(
        "demo",
        "Rock & roll: 50% of $x_1$",
        ("Ada Lovelace", "others"),
        2020,
        "2001.00001",
        venue="A & B 2020",
    )
    [(_, _, fields)] = parse(paper.bibtex())
    assert fields["title"] == r"{Rock \& roll: 50\% of \$x\_1\$}"
    assert fields["author"] == "Lovelace, Ada and others"
    assert fields["booktitle"] == r"A \& B 2020"


def test_citation_names_the_software_too():
    paper = PAPERS["mesanet"]
    entries = parse(bibtex(paper))
    assert entries[0] == parse(paper.bibtex())[0]
    software = ["innerloop", "jax2018github", "kidger2021equinox", "deepmind2020jax", "orbax"]
    assert [key for _, key, _ in entries[1:]] == software
    by_key = {key: fields for _, key, fields in entries}
    assert by_key["jax2018github"]["version"] == jax.__version__
    assert bibtex(SimpleNamespace(paper=paper)) == bibtex(paper)
