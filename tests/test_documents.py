"""The README and the pages: their code runs, their commands exist, their links lead somewhere."""

import importlib.util
import json
import re
import shlex
import sys
import types
from pathlib import Path

import jax
import pytest

from innerloop.cli.flags import flags_of
from innerloop.cli.parse import COMMANDS, parse
from innerloop.lab.catalogue import PAPERS
from innerloop.studies import built, load

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = sorted([README, ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")])
OPTIONAL = {"gymnax", "jaxmarl", "gymnasium", "pettingzoo"}
GENERATED = {f"studies/{name}.md" for name in ("index", *PAPERS)}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", path.read_text(), flags=re.M | re.S)


def expand(code: str) -> str:
    """Put the file in the place of a snippet line, as MkDocs does."""
    return re.sub(r'^--8<-- "(.+)"$', lambda match: (ROOT / match[1]).read_text(), code, flags=re.M)


def hooks() -> types.ModuleType:
    specification = importlib.util.spec_from_file_location("innerloop_docs_hooks", ROOT / "docs" / "hooks.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def commands(path: Path) -> list[str]:
    """Every `innerloop ...` of a page: in console blocks, and in code spans of the README's table."""
    lines = [line for block in blocks(path, "console") for line in block.splitlines()]
    lines = [part.strip() for line in lines for part in line.removeprefix("$ ").split("&&")]
    lines += re.findall(r"`(innerloop [^`]+)`", path.read_text())
    return [line for line in lines if line.startswith("innerloop ")]


@pytest.mark.timeout(900)  # a page compiles whatever it shows
@pytest.mark.parametrize("path", [path for path in PAGES if blocks(path, "python")], ids=name_of)
def test_python_blocks_run(path, monkeypatch, tmp_path):
    """All blocks of a page, one after the other, in one namespace, with JAX as a reader has it."""
    monkeypatch.chdir(tmp_path)
    module = types.ModuleType(f"page_{path.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        for number, block in enumerate(blocks(path, "python"), 1):
            try:
                exec(compile(expand(block), f"{name_of(path)}, block {number}", "exec"), module.__dict__)
            except ImportError as error:
                if (error.name or "").split(".")[0] not in OPTIONAL:
                    raise
                pytest.skip(f"block {number} needs {error.name}, an optional dependency")


@pytest.mark.parametrize("path", [path for path in PAGES if commands(path)], ids=name_of)
def test_commands_exist(path):
    """Each one parses; flags of a study belong to that study's configuration."""
    for line in commands(path):
        words = shlex.split(line.replace("STUDY", "icl-gd"))[1:]
        if words[0].startswith("-") or "--help" in words:
            continue
        command, rest = parse(words)
        assert type(command) is COMMANDS[words[0]], line
        for study in getattr(command, "studies", ()):
            if study in PAPERS:
                allowed = flags_of(load(study).configurations["smoke"])
                assert {word for word in rest if word.startswith("--")} <= set(allowed), line


def test_readme_names_all_commands():
    table = README.read_text().partition("## Commands")[2].partition("\n## ")[0]
    assert set(re.findall(r"^\| `innerloop (\w+)", table, flags=re.M)) == set(COMMANDS)


def test_readme_says_which_studies_are_built():
    board = README.read_text().partition("## The board")[2].partition("\n## ")[0]
    assert board.startswith(f"\n\n{len(PAPERS)} papers")
    assert set(re.findall(r"`([a-z-]+)`", board)) == set(built())


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_relative_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        if not file:
            assert anchor in anchors(path), f"{name_of(path)}: no heading #{anchor}"
            continue
        found = (path.parent / file).resolve()
        if found.is_relative_to(ROOT / "docs") and str(found.relative_to(ROOT / "docs")) in GENERATED:
            continue
        assert found.exists(), f"{name_of(path)} links to {target}, which is not there"
        if anchor:
            assert anchor in anchors(found), f"{name_of(path)} links to {target}, but there is no such heading"


def anchors(path: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", path.read_text(), flags=re.M)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", PAPERS)
def test_every_study_has_a_page(name, tmp_path):
    page = hooks().study_page(name, tmp_path)
    assert PAPERS[name].arxiv in page and PAPERS[name].bibtex() in page
    assert ("This version cannot run this study." in page) == (name not in built())
    if name in built():
        for claim in load(name).claims:
            assert f"{claim.threshold.value:g}" in page and f"#claim-{hooks().slug(claim.id)}" in page


def test_the_page_shows_the_last_laptop_run(tmp_path):
    study = load("icl-gd")
    first = study.claims[0]
    control = {"statement": "a control", "estimate": 2.0, "low": 1.9, "high": None, "verdict": "fails"}
    claim = {
        "id": first.id,
        "estimate": 1.0071,
        "low": 0.9,
        "high": 1.1,
        "threshold": 1.02,
        "direction": "<=",
    }
    claim |= {"verdict": "undecided", "reason": "a | b\n<script>", "control": control}
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / f"{study.figures[0].id}.svg").write_text("<svg/>")
    (tmp_path / "claims.json").write_text(json.dumps([claim]))
    started = {
        "ended": "2026-01-02T03:04:05+00:00",
        "python": "3.11.7",
        "innerloop": "0.1.0",
        "jax": "0.10.1",
    }
    started |= {"hardware": {"cpu": "a processor", "cores": 2}, "git": {"commit": "c" * 40, "dirty": None}}
    entries = [{**started, "seconds": 60.0}, {**started, "seconds": 30.0}]
    (tmp_path / "provenance.json").write_text(json.dumps(entries))
    page = hooks().study_page("icl-gd", tmp_path)
    assert "1.007 &#91;0.9, 1.1&#93;" in page and "2 &#91;1.9, ?&#93;, fails" in page
    assert "undecided</span>: a &#124; b &lt;script&gt; |" in page
    assert "after 1.5 minutes" in page and "cccccccccccc" in page and "2 cores, a processor" in page
    assert page.count("../results/icl-gd/figures/") == 1
    assert page.count("not in this run") == len(study.claims) - 1
