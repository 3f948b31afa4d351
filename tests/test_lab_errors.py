"""What the disk may do to a run: one line with what to do, nothing lost, and the repeated command goes on.

Real full and read-only disks, and files that may not grow, are in `test_kill.py`.
"""

import errno
import os

import jax
import pytest

from command_line import STUDIES, here, is_one_line, only_run, results_of
from innerloop.lab import store

NOISY = STUDIES / "noisy.py"


@pytest.fixture(autouse=True)
def elsewhere_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)


def run_here(capsys, root):
    return here(capsys, "run", NOISY, "--steps", "20", "--checkpoint-seconds", "0", "--runs", root)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    from innerloop.lab.runner import run_study
    from innerloop.studies import load

    study = load(str(NOISY))
    config = type(study.configurations["smoke"])(steps=20)
    outcome = run_study(study, scale="smoke", config=config, seeds=(0, 1), root=tmp_path_factory.mktemp("runs"))
    return results_of(outcome.run.path)


def last_line(text):
    return text.splitlines(keepends=True)[-1]


def test_a_folder_below_a_file(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    result = run_here(capsys, tmp_path / "file" / "runs")
    assert result.code == 1 and is_one_line(result.err)
    assert "file, not a folder: choose another folder with --runs" in result.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(capsys, tmp_path):
    (tmp_path / "runs").mkdir(mode=0o500)
    result = run_here(capsys, tmp_path / "runs")
    assert result.code == 1 and is_one_line(result.err) and "no permission" in result.err


class FailingDisk:
    """`os.fsync` of the lab's files that fails from the `count`-th call on, as a disk that fills up does."""

    def __init__(self, number, count):
        self.number, self.left = number, count
        self.sync = os.fsync

    def __call__(self, descriptor):
        self.left -= 1
        if self.left < 0:
            raise OSError(self.number, os.strerror(self.number))
        self.sync(descriptor)


@pytest.mark.parametrize("count", [0, 1, 4, 9, 17, 23])
def test_a_disk_that_fills_up_at_any_moment(capsys, tmp_path, monkeypatch, uninterrupted, count):
    """At the first write, in the metrics, in the arrays, in what is derived: the run never breaks for good."""
    with monkeypatch.context() as patch:
        patch.setattr(store.os, "fsync", FailingDisk(errno.ENOSPC, count))
        result = run_here(capsys, tmp_path)
    assert result.code == 1 and "Traceback" not in result.err
    assert is_one_line(last_line(result.err)) and "the disk is full: free some space" in result.err
    assert "[2/2]" not in result.err or count > 12, "what comes next is not even tried"
    assert run_here(capsys, tmp_path).code == 0
    assert results_of(only_run(tmp_path)) == uninterrupted


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EROFS, "read-only: choose another folder with --runs"),
        (errno.EACCES, "no permission to write there"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "may not grow"),
    ],
)
def test_what_else_a_disk_may_say(capsys, tmp_path, monkeypatch, number, words):
    monkeypatch.setattr(store.os, "fsync", FailingDisk(number, 3))
    result = run_here(capsys, tmp_path)
    assert result.code == 1 and is_one_line(last_line(result.err)) and words in result.err


def test_a_report_that_cannot_be_written_costs_no_result(capsys, tmp_path, uninterrupted):
    (tmp_path / "report.html").mkdir()
    result = run_here(capsys, tmp_path)
    assert result.code == 1 and "Traceback" not in result.err
    assert is_one_line(last_line(result.err)) and "report.html" in result.err
    assert "holds" in result.out and str(only_run(tmp_path)) in result.out
    assert results_of(only_run(tmp_path)) == uninterrupted


def test_an_export_that_cannot_be_written(capsys, tmp_path):
    run_here(capsys, tmp_path / "runs")
    (tmp_path / "file").write_text("")
    result = here(capsys, "export", only_run(tmp_path / "runs"), "--output", tmp_path / "file" / "table")
    assert result.code == 1 and is_one_line(result.err)
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


@pytest.mark.parametrize(
    ("name", "content"),
    [("provenance.json", "{torn"), ("provenance.json", "{}"), ("claims.json", "{torn"), ("cells", None)],
)
def test_a_damaged_run_folder_never_gives_a_traceback(capsys, tmp_path, name, content):
    run_here(capsys, tmp_path)
    run = only_run(tmp_path)
    if content is None:
        for path in run.glob("cells/*/arrays.npz"):
            path.write_bytes(b"not an archive")
    else:
        (run / name).write_text(content)
    for command in (
        ("report", NOISY, "--runs", tmp_path),
        ("resume", run, "--study", NOISY),
        ("compare", run, run),
        ("export", run, "--output", tmp_path / "out"),
        ("list", "--runs", tmp_path),
    ):
        result = here(capsys, *command)
        assert "Traceback" not in result.err and "unexpected" not in result.err, (command, result.err)
        assert result.code in (0, 1)
        assert all(is_one_line(line) for line in result.err.splitlines(keepends=True))
