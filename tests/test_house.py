"""The house: who may import whom, what no file may do, and what every public name must have."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import pytest

import innerloop

ROOT = Path(innerloop.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
# Imports go only to the left; parts on one level do not import each other.
LEVELS = (
    ("core",), ("solve",), ("nn",), ("tasks", "envs"), ("learn",), ("rl", "bayes", "entities"), ("train",), ("lab",),
    ("studies",), ("cli",),
)  # fmt: skip
LEVEL = {part: level for level, parts in enumerate(LEVELS) for part in parts}
LONGEST = 400
TABLES = {"lab/catalogue.py"}  # data with a little code around it may be longer


def part_of(path):
    return path.relative_to(ROOT).parts[0]


def imports_of(tree, package):
    """Every part of the package that a file imports, also inside functions and by `importlib`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1]
            module = [*base, *(node.module or "").split(".")] if node.module else [*base]
            # `from .. import parts` names parts where `from ..core import errors` names modules.
            names = [".".join([*module, alias.name]) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            pieces = name.split(".")
            if pieces[0] == "innerloop" and len(pieces) > 1:
                yield pieces[1], node.lineno


def complaints_about(source, part, package):
    found = []
    for imported, line in imports_of(ast.parse(source), package):
        if imported == part or imported in ("__version__",):
            continue
        if imported == "testing":
            found.append(f"line {line}: nobody inside imports testing")
        elif part == "testing":
            if imported in ("studies", "cli"):
                found.append(f"line {line}: testing imports {imported}")
        elif imported not in LEVEL:
            found.append(f"line {line}: {imported} is no part of the house; import from the part that has it")
        elif LEVEL[imported] >= LEVEL[part]:
            found.append(f"line {line}: {part} imports {imported}")
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_only_downwards(path):
    part = part_of(path)
    if part in ("__init__.py", "__main__.py"):
        return  # the package itself shows everything, at first use; `python -m innerloop` starts the command line
    assert part in LEVEL or part == "testing", f"{part} has no level"
    package = ["innerloop", *path.relative_to(ROOT).parent.parts]
    assert complaints_about(path.read_text(), part, package) == []


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("from ..lab import store", "train"),
        ("def f():\n    from ..lab.store import Run", "train"),
        ("import innerloop.lab.store", "nn"),
        ("from innerloop.cli import main", "studies"),
        ("from .. import lab", "core"),
        ("from ..envs.env import TimeStep", "tasks"),
        ("from ..rl import rollout", "bayes"),
        ("from innerloop.testing import check_study", "lab"),
        ("from ..studies import load", "testing"),
        ("from innerloop import fit", "lab"),
    ],
)
def test_the_check_sees_what_goes_upwards(source, part):
    assert complaints_about(source, part, ["innerloop", part])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_read_from_a_file_is_executed(path):
    forbidden = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not {alias.name.split(".")[0] for alias in node.names} & forbidden
        elif isinstance(node, ast.ImportFrom):
            assert (node.module or "").split(".")[0] not in forbidden
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            assert name not in ("eval", "exec", "compile", "__import__"), f"{name} in line {node.lineno}"
            for keyword in node.keywords:
                on = not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False)
                assert not (on and keyword.arg == "allow_pickle"), f"line {node.lineno}"
                assert not (on and keyword.arg == "shell" and "subprocess" in ast.dump(node.func)), (
                    f"line {node.lineno}"
                )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_long(path):
    if path.relative_to(ROOT).as_posix() in TABLES:
        return
    lines = path.read_text().splitlines()
    assert len(lines) <= LONGEST, f"{len(lines)} lines: a file is one idea"


PARTS = [name for _, name, is_package in pkgutil.iter_modules(innerloop.__path__) if is_package]
PUBLIC = [
    (part, name) for part in PARTS for name in getattr(importlib.import_module(f"innerloop.{part}"), "__all__", ())
]


@pytest.mark.parametrize(("part", "name"), PUBLIC, ids=lambda item: item)
def test_public_names_exist_and_say_what_they_are(part, name):
    value = getattr(importlib.import_module(f"innerloop.{part}"), name)
    assert getattr(innerloop, name, value) is value
    ours = getattr(value, "__module__", "").startswith("innerloop")  # aliases of other types have none of their own
    if ours and (inspect.isclass(value) or inspect.isroutine(value)):
        assert (value.__doc__ or "").strip(), f"innerloop.{part}.{name} has no docstring"
        assert not value.__doc__.startswith(f"{value.__name__}("), "the docstring is the one that dataclasses make"


def test_every_part_and_file_says_what_it_is_for():
    for path in FILES:
        assert ast.get_docstring(ast.parse(path.read_text())), f"{path.relative_to(ROOT)} has no docstring"


def test_the_package_shows_all_public_names_once():
    names = [name for part, name in PUBLIC if part not in ("testing", "lab", "studies", "cli")]
    assert len(set(names)) == len(names), sorted({name for name in names if names.count(name) > 1})
    shown = dir(innerloop)
    assert set(names) <= set(shown)
    for name in shown:
        assert getattr(innerloop, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'no_such_name'"):
        innerloop.no_such_name  # noqa: B018


def test_installed_data_files_are_there():
    """What is not Python must be in the package too, or an installed copy cannot make studies and reports."""
    assert (ROOT / "cli" / "study_template.py.txt").is_file()
    assert (ROOT / "lab" / "report" / "templates" / "report.html.jinja").is_file()
