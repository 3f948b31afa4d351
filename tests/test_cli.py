"""The command line: every command once, one-line errors, displays, and what must not be imported."""

import json
import os
import pty
import re
import subprocess
import sys

import pytest

import innerloop
from command_line import STUDIES, elsewhere, finish, here, is_one_line, only_run, start
from innerloop.cli import main
from innerloop.cli.flags import flags_of, parse_config
from innerloop.cli.parse import COMMANDS

FLAGS = """
from dataclasses import dataclass, replace
from typing import Literal
from innerloop.core.errors import require
from innerloop.studies import load

@dataclass(frozen=True)
class Task:
    dim: int = 3
    noisy: bool = True

@dataclass(frozen=True)
class Config:
    task: Task = Task()
    widths: tuple[int, ...] = (4, 8)
    pair: tuple[int, int] = (1, 2)
    rate: float | None = None
    kind: Literal["adam", "sgd"] = "adam"
    lr: float = 0.1
    def __post_init__(self):
        require(self.task.dim > 0, f"dim must be positive, not {self.task.dim}")

study = replace(load(NOISY), configurations={"smoke": Config()})
"""


@pytest.fixture(autouse=True)
def elsewhere_to_be(tmp_path, monkeypatch):
    """Every test in a folder of its own, with the compilation cache of all tests."""
    import jax

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INNERLOOP_RUNS", raising=False)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("COLUMNS", "200")


def test_a_study_from_beginning_to_end(capsys, tmp_path):
    """new, run, resume, report, compare, export, cite, show, list: what a newcomer tries in her first hour."""
    assert here(capsys, "new", "study", "my-study").code == 0
    assert "exists already" in here(capsys, "new", "study", "my-study").err
    first = here(capsys, "run", "./my_study.py", "--steps", "20", "--seeds", "2")
    assert first.code == 0, first.err
    assert "my-study at scale smoke, seeds (0, 1)" in first.out and re.search(r"steps +20", first.out)
    run = only_run(tmp_path / "runs")
    assert str(run.relative_to(tmp_path)) in first.out and "report.html" in first.out
    assert "holds" in first.out and "[1/2] descent" in first.err
    assert {path.name for path in run.iterdir()} >= {
        "config.json", "provenance.json", "cells", "checkpoints", "claims.json", "figures", "log.txt",
    }  # fmt: skip
    assert {path.name for path in (run / "figures").iterdir()} == {"loss.svg", "loss.csv"}
    name = str(run.relative_to(tmp_path))

    again = here(capsys, "run", "./my_study.py", "--steps", "20", "--seeds", "2")
    assert again.code == 0 and "[1/2]" not in again.err and only_run(tmp_path / "runs") == run
    resumed = here(capsys, "resume", name.removeprefix("runs/"), "--study", "my_study.py")
    assert resumed.code == 0 and "[1/2]" not in resumed.err

    (run / "claims.json").unlink()
    (tmp_path / "runs" / "report.html").unlink()
    reported = here(capsys, "report", "my_study.py")
    assert reported.code == 0 and reported.err == ""
    assert json.loads((run / "claims.json").read_text())[0]["verdict"] == "holds"
    assert "my-study" in (tmp_path / "runs" / "report.html").read_text()

    assert here(capsys, "run", "./my_study.py", "--steps", "20", "--seeds", "2", "--learning-rate", "0.2").code == 0
    [other] = [path for path in (tmp_path / "runs" / "my-study").iterdir() if path != run]
    compared = here(capsys, "compare", run, other, "--output", "difference")
    assert compared.code == 0 and compared.err == ""
    assert re.search(r"learning_rate +0.1 +0.2", compared.out) and "contraction_ratio" in compared.out
    assert {path.name for path in (tmp_path / "difference").iterdir()} >= {"curves.svg", "metrics.csv"}

    for target in ("csv", "json"):
        exported = here(capsys, "export", run, "--to", target)
        assert exported.code == 0
        assert (tmp_path / exported.out.strip().removeprefix("written to ")).exists()
    assert here(capsys, "export", run, "--to", "json").code != 0
    shown = here(capsys, "show", "./my_study.py")
    assert shown.code == 0 and "gradient descent contracts" in shown.out and re.search(r"dim +100", shown.out)


def test_the_board_and_citations(capsys):
    result = here(capsys, "list")
    assert result.code == 0 and result.err == ""
    assert all(name in result.out for name in ("icl-gd", "mesanet", "cocoa"))
    result = here(capsys, "cite", "icl-gd")
    assert result.code == 0 and "2212.07677" in result.out and "@software" in result.out


def test_fresh_starts_another_run(capsys, tmp_path):
    command = ("run", STUDIES / "noisy.py", "--steps", "10", "--runs", tmp_path)
    for expected in (1, 1):
        assert here(capsys, *command).code == 0
        assert len(list(tmp_path.glob("noisy/*"))) == expected
    assert here(capsys, *command, "--fresh").code == 0
    assert len(list(tmp_path.glob("noisy/*"))) == 2


def test_seeds_and_runs_root(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("INNERLOOP_RUNS", str(tmp_path / "chosen"))
    assert here(capsys, "run", STUDIES / "noisy.py", "--steps", "5", "--seeds", "3,7").code == 0
    run = only_run(tmp_path / "chosen")
    assert {path.name for path in (run / "cells").iterdir()} == {
        f"{variant}-s{seed}" for variant in ("contracting", "walking") for seed in (3, 7)
    }


def test_markup_in_names_stays_text(capsys, tmp_path):
    """Rich markup, HTML and control characters in what a study says."""
    nasty = '<script>alert("x")</script> [bold]not bold[/bold]'
    (tmp_path / "nasty.py").write_text(
        "from dataclasses import replace\nfrom innerloop.studies import load\n"
        f"plain = load({str(STUDIES / 'noisy.py')!r})\nNASTY = {nasty!r}\n"
        "def measure(config, cells):\n    if cells.variant == 'walking': raise ValueError(NASTY)\n"
        "    plain.measure(config, cells)\n"
        "study = replace(plain, claims=(replace(plain.claims[0], statement=NASTY),), measure=measure,\n"
        "    paper=replace(plain.paper, title=NASTY))\n"
    )
    result = here(capsys, "run", "nasty.py")
    assert result.code == 1 and nasty in result.err and nasty in result.out
    page = (tmp_path / "runs" / "report.html").read_text()
    assert "<script>alert" not in page and "&lt;script&gt;alert" in page
    assert "[bold]not bold[/bold]" in here(capsys, "show", "nasty.py", "--scale", "smoke").out


# ---- misuse ----


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("lst", "unknown command 'lst'; did you mean 'list'?"),
        ("--runs x list", "the command comes before its flags"),
        ("run", "which study?"),
        ("run --dim 3", "which study?"),
        ("run icl-dg", "did you mean 'icl-gd'?"),
        ("run nothing.py", "there is no file nothing.py"),
        ("run noisy.py --widht 3", "unknown flag '--widht'; did you mean '--width'?"),
        ("run noisy.py --sedes 3", "did you mean '--seeds'?"),
        ("run noisy.py --width x", "--width takes an integer, not 'x'"),
        ("run noisy.py --width 3.5", "--width takes an integer, not '3.5'"),
        ("run noisy.py --width", "--width takes a value"),
        ("run noisy.py --width -3", "innerloop: width must be positive, not -3"),
        ("run noisy.py --steps=-1", "innerloop: steps must not be negative, not -1"),
        ("run noisy.py --chunk-seconds soon", "--chunk-seconds takes a number, not 'soon'"),
        ("run noisy.py --scale huge", "unknown value of --scale 'huge'; allowed: laptop, paper, smoke"),
        ("run noisy.py --scale lap", "did you mean 'laptop'?"),
        ("run noisy.py --scale paper", "noisy has no scale 'paper'; it has smoke"),
        ("run noisy.py --seeds 0", "at least one seed"),
        ("run noisy.py --seeds -2", "at least one seed"),
        ("run noisy.py --seeds some", "a list such as 0,3,7; not 'some'"),
        ("run noisy.py --seeds 1,1", "different whole numbers"),
        ("run noisy.py --seeds 1,4294967296", "different whole numbers"),
        ("run noisy.py --seeds 20240501", "seed 20240501 alone is --seeds 20240501,"),
        ("run noisy.py --checkpoint-seconds -1", "--checkpoint-seconds must not be negative"),
        ("run noisy.py --checkpoint-seconds nan", "--checkpoint-seconds must not be negative"),
        ("run noisy.py --checkpoint-seconds often", "--checkpoint-seconds takes a number, not 'often'"),
        ("run noisy.py failing.py --width 3", "--width belongs to one study's configuration"),
        ("run noisy.py --fresh maybe", "unexpected argument 'maybe'"),
        ("run flags.py --task.dmi 3", "did you mean '--task.dim'?"),
        ("run flags.py --task.no-niosy", "did you mean '--task.no-noisy'?"),
        ("run flags.py --task.dim 0", "innerloop: dim must be positive, not 0"),
        ("run flags.py --widths 4 x", "--widths takes integers, not '4', 'x'"),
        ("run flags.py --rate fast", "--rate takes None or a number, not 'fast'"),
        ("run flags.py --pair 1", "--pair takes 2 values"),
        ("run flags.py --kind adm", "unknown value of --kind 'adm'; did you mean 'adam'?"),
        ("show", "`innerloop show` needs an argument: A name of the board"),
        ("show icl", "did you mean 'icl-gd'?"),
        ("show noisy.py --scale laptop", "noisy has no scale 'laptop'"),
        ("compare one", "`innerloop compare` needs an argument: The second run folder"),
        ("compare one two", "unknown run folder 'one'"),
        ("resume runs/noisy/smoke-1", "unknown run folder 'runs/noisy/smoke-1'"),
        ("export nothing", "unknown run folder 'nothing'"),
        ("report --runs nowhere", "there is no folder nowhere"),
        ("list more", "unexpected argument 'more'"),
        ("list --rnus x", "did you mean '--runs'?"),
        ("cite mesanett", "did you mean 'mesanet'?"),
        ("new studdy x", "did you mean 'study'?"),
        ("new study Big", "is not a name of lower-case letters"),
        ("bench nothing", "unknown benchmark 'nothing'"),
    ],
)
def test_misuse_is_explained_in_one_line(capsys, tmp_path, command, words):
    for name in ("noisy", "failing"):
        (tmp_path / f"{name}.py").symlink_to(STUDIES / f"{name}.py")
    (tmp_path / "flags.py").write_text(FLAGS.replace("NOISY", repr(str(STUDIES / "noisy.py"))))
    result = here(capsys, *command.split(), *([""] if command.endswith("=") else []))
    assert words in result.err
    assert result.code == 2 and is_one_line(result.err)
    assert not (tmp_path / "runs").exists(), "nothing is begun before everything was checked"


def test_a_study_that_is_not_built_yet(capsys, monkeypatch):
    from innerloop import studies
    from innerloop.lab.catalogue import PAPERS

    monkeypatch.setattr(studies, "built", lambda: ("icl-gd",))
    absent = next(name for name in PAPERS if name != "icl-gd")
    result = here(capsys, "run", absent)
    assert result.code == 2 and is_one_line(result.err) and "not built yet; built: icl-gd" in result.err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("import no_such_module", "no_such_module"),
        ("def f(:", "line 1"),
        ("study = 3", "does not end with `study = Study(...)`"),
    ],
)
def test_a_broken_study_file(capsys, tmp_path, content, words):
    (tmp_path / "broken.py").write_text(content)
    result = here(capsys, "run", "broken.py")
    assert result.code == 1 and is_one_line(result.err)
    assert "broken.py" in result.err and words in result.err


def test_debug_shows_the_traceback(capsys):
    assert "Traceback" not in here(capsys, "run", "icl-dg").err
    result = here(capsys, "run", "icl-dg", "--debug")
    assert result.code == 2 and "Traceback" in result.err and result.err.splitlines()[-1].startswith("innerloop: ")


@pytest.mark.parametrize(("error", "code"), [(RuntimeError("two\nlines"), 1), (KeyboardInterrupt(), 130)])
def test_what_nobody_expected_is_one_line_too(capsys, monkeypatch, error, code):
    def fail(self, rest):
        raise error

    monkeypatch.setattr(COMMANDS["list"], "execute", fail)
    result = here(capsys, "list")
    assert result.code == code and is_one_line(result.err)


def test_a_reader_that_goes_away_is_no_error(tmp_path):
    reader, writer = os.pipe()
    process = start("list", stdout=writer)
    os.close(writer)
    os.close(reader)
    assert finish(process).err == "" and process.returncode in (0, 1)  # rich says 1


# ---- flags ----


def test_flags_reach_the_configuration(tmp_path):
    (tmp_path / "flags.py").write_text(FLAGS.replace("NOISY", repr(str(STUDIES / "noisy.py"))))
    from innerloop.studies import load

    config = load("flags.py").configurations["smoke"]
    assert flags_of(config) == [
        "--task.dim", "--task.noisy", "--task.no-noisy", "--widths", "--pair", "--rate", "--kind", "--lr",
    ]  # fmt: skip
    given = [
        "--task.dim",
        "7",
        "--task.no-noisy",
        "--widths",
        "1",
        "2",
        "3",
        "--pair",
        "3",
        "4",
        "--rate",
        "0.5",
        "--kind",
        "sgd",
        "--lr=1e-3",
    ]
    changed = parse_config(config, given, study="flags.py")
    assert (changed.task.dim, changed.task.noisy, changed.widths, changed.pair) == (7, False, (1, 2, 3), (3, 4))
    assert (changed.rate, changed.kind, changed.lr) == (0.5, "sgd", 1e-3)


@pytest.mark.parametrize("command", ["", "--help", "run --help", "compare -h", "run noisy.py --help --scale smoke"])
def test_help(capsys, tmp_path, command):
    (tmp_path / "noisy.py").symlink_to(STUDIES / "noisy.py")
    result = here(capsys, *command.split())
    assert result.code == 0 and result.err == "" and "usage: innerloop" in result.out
    assert ("--width" in result.out) == ("noisy.py" in command)


def test_version(capsys):
    assert here(capsys, "--version").out == f"innerloop {innerloop.__version__}\n"


# ---- imports ----


def modules_after(code):
    """Which of the slow libraries a fresh interpreter has imported after `code`."""
    code = f"{code}\nimport sys; print(*sys.modules, sep='\\n', file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stderr.split()) & {"jax", "jaxlib", "matplotlib", "orbax", "equinox", "scipy", "numpy", "jinja2"}


@pytest.mark.parametrize("arguments", [["list"], ["--help"], ["run", "--help"], ["cite", "icl-gd"]])
def test_quick_commands_import_nothing_slow(arguments):
    code = f"from innerloop.cli import main\ntry: main({arguments})\nexcept SystemExit as stop: assert stop.code == 0"
    assert modules_after(code) == set()


def test_importing_the_package_imports_nothing_slow():
    assert modules_after("import innerloop") == set()
    assert "matplotlib" not in modules_after("import innerloop; innerloop.fit")


# ---- displays ----

COMMAND = ("run", STUDIES / "noisy.py", "--steps", "20", "--fresh")
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def test_plain_lines_in_a_pipe(tmp_path):
    """The second run reads its programs from the cache, of which jaxlib 0.10.1 tells long stories."""
    for _ in range(2):
        result = elsewhere(*COMMAND, cwd=tmp_path)
        assert result.code == 0
        assert not CONTROL.search(result.out + result.err)
        assert result.err.splitlines() == [
            "[1/2] contracting",
            "[1/2] contracting: compiling",
            "[2/2] walking",
            "[2/2] walking: compiling",
        ]


def test_a_bar_in_a_terminal(tmp_path):
    leader, follower = pty.openpty()
    process = start(*COMMAND, cwd=tmp_path, stderr=follower)
    os.close(follower)
    seen = b""
    while True:
        try:
            part = os.read(leader, 4096)
        except OSError:  # how Linux says that the other end has been closed
            break
        if not part:
            break
        seen += part
    os.close(leader)
    assert finish(process).code == 0
    text = seen.decode()
    assert "1/2 contracting" in text and "2/2 walking" in text and "20/20" in text and "\x1b[" in text
    assert "cpu_aot_loader" not in text and "Traceback" not in text


def test_a_heartbeat_is_printed_now_and_then(capsys):
    from innerloop.lab.progress import Lines
    from innerloop.train.loop import Progress

    display = Lines(every=0.0)
    display.begin("one", 1, 2)
    display.update(Progress(0, 100, 0.0, compiling=True))
    display.update(Progress(25, 100, 5.0, seconds_left=15.0))
    assert capsys.readouterr().err.splitlines() == [
        "[1/2] one",
        "[1/2] one: compiling",
        "[1/2] one: step 25/100, about 15 s left",
    ]


NATIVE = """
import os, sys
from innerloop.cli.platform import quiet_native_messages
with quiet_native_messages():
    print("from Python: é", file=sys.stderr)
    os.write(2, b"E0101 cpu_aot_loader.cc:195] a harmless line\\n")
    os.write(2, b"a native message\\n")
    os.write(2, b"last words")
    {ending}
"""


@pytest.mark.parametrize(
    ("ending", "code"),
    [("pass", 0), ("os._exit(3)", 3), ("os.abort()", -6), ("raise ValueError", 1), ("raise KeyboardInterrupt", -2)],
)
def test_only_harmless_native_lines_are_kept_back(ending, code):
    """Whatever else the native library says arrives, however the process ends."""
    program = [sys.executable, "-c", NATIVE.format(ending=ending)]
    done = subprocess.run(program, capture_output=True, timeout=30, check=False)
    told = done.stderr.decode()
    assert done.returncode == code
    assert "from Python: é" in told and "a native message" in told and "last words" in told
    assert "harmless" not in told


def test_stderr_is_put_back():
    from innerloop.cli.platform import quiet_native_messages

    before, identity = sys.stderr, os.fstat(2).st_ino
    for _ in range(2):
        with quiet_native_messages():
            assert os.fstat(2).st_ino != identity
    assert sys.stderr is before and os.fstat(2).st_ino == identity


def test_main_takes_its_arguments_from_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["innerloop", "--version"])
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 0
