"""Runs that are killed, stopped or starved: repeating the command gives the uninterrupted result, bit for bit."""

import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest

from command_line import STUDIES, elsewhere, finish, is_one_line, lines_in, only_run, results_of, start, wait_until

NOISY = STUDIES / "noisy.py"
# Every window of five steps is a chunk, and every chunk ends with a checkpoint: many moments to be killed at.
COMMAND = ("run", NOISY, "--checkpoint-seconds", "0", "--runs")


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    root = tmp_path_factory.mktemp("uninterrupted")
    result = elsewhere(*COMMAND, root)
    assert result.code == 0, result.err
    found = results_of(only_run(root))
    assert len(found) == 4 * 3 + 1 and json.loads(found["claims.json"])[0]["verdict"] == "holds"
    return found


def kill(process):
    process.kill()
    process.communicate()


def kill_after_lines(root, process, count):
    """Kill as soon as so many lines of metrics have been written; whether it was still running."""
    alive = wait_until(lambda: lines_in(root, "*") >= count, process)
    kill(process)
    return alive


def kill_in_checkpoint(root, process, rng):
    """Kill at a random moment of the writing of a checkpoint, in a folder without the remains of another."""
    pattern = "*/*/checkpoints/*/train/*checkpoint-tmp*"
    lines = rng.randrange(4, 12)
    alive = wait_until(lambda: lines_in(root, "*") >= lines and any(root.glob(pattern)), process)
    time.sleep(rng.uniform(0, 0.005))
    kill(process)
    return alive and any(root.glob(pattern))


def test_killed_at_any_moment_and_repeated(tmp_path, uninterrupted):
    rng = random.Random(20)
    assert kill_in_checkpoint(tmp_path, start(*COMMAND, tmp_path), rng)
    assert kill_after_lines(tmp_path, start(*COMMAND, tmp_path), rng.randrange(20, 36))
    run = only_run(tmp_path)
    resumed = start("resume", run, "--study", NOISY, "--checkpoint-seconds", "0")
    assert kill_after_lines(tmp_path, resumed, rng.randrange(40, 55))
    assert elsewhere(*COMMAND, tmp_path).code == 0
    assert only_run(tmp_path) == run
    assert results_of(run) == uninterrupted
    starts = json.loads((run / "provenance.json").read_text())
    assert len(starts) == 4 and [entry["ended"] is None for entry in starts] == [True, True, True, False]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_killed_again_and_again(tmp_path, uninterrupted, seed):
    rng = random.Random(seed)
    for attempt in range(40):
        process = start(*COMMAND, tmp_path)
        if attempt == 0:
            kill_in_checkpoint(tmp_path, process, rng)
            continue
        wait_until(lambda: lines_in(tmp_path, "*") > 0, process)
        try:
            process.wait(rng.uniform(1.5, 6.0))
        except subprocess.TimeoutExpired:
            kill(process)
        else:
            result = finish(process)
            assert result.code == 0, result.err
            break
    assert results_of(only_run(tmp_path)) == uninterrupted


def test_ctrl_c_and_sigterm_save_and_say_how_to_go_on(tmp_path, uninterrupted):
    process = start(*COMMAND, tmp_path)
    said = []
    for number, lines in ((signal.SIGINT, 5), (signal.SIGTERM, 45)):
        assert wait_until(lambda: lines_in(tmp_path, "*") >= lines, process)  # noqa: B023
        process.send_signal(number)
        result = finish(process)
        assert result.code == 130, result.err
        assert "Traceback" not in result.err and "saving a checkpoint" in result.err
        assert "stopped at step" in result.err
        [line] = [line for line in result.out.splitlines() if line.startswith("go on:")]
        said.append(line)
        [program, *arguments] = shlex.split(line.removeprefix("go on:"))
        assert program == "innerloop" and arguments[0] == "resume"
        process = start(*arguments, "--checkpoint-seconds", "0")
    assert said[0] == said[1]
    assert finish(process).code == 0
    assert results_of(only_run(tmp_path)) == uninterrupted


def test_two_runs_at_once(tmp_path):
    """The same run is refused to the second process; two runs under one root do not disturb each other."""
    process = start(*COMMAND, tmp_path, "--steps", "400")
    assert wait_until(lambda: lines_in(tmp_path, "*") > 0, process)
    same, other = start(*COMMAND, tmp_path, "--steps", "400"), start(*COMMAND, tmp_path, "--steps", "20")
    refused, finished = finish(same), finish(other)
    assert process.poll() is None, "the first run must outlast the others; give it more steps"
    assert refused.code == 1 and is_one_line(refused.err) and "run by another process" in refused.err
    assert finished.code == 0, finished.err
    process.send_signal(signal.SIGINT)
    assert finish(process).code == 130
    assert len(list(tmp_path.glob("noisy/*/claims.json"))) == 2
    page = (tmp_path / "report.html").read_text()
    assert all(path.name in page for path in tmp_path.glob("noisy/*"))


# A program that starts the one after it with files limited to so many bytes.
LIMIT = "import os, resource as r, sys; r.setrlimit(r.RLIMIT_FSIZE, (1900, 1900)); os.execv(sys.argv[1], sys.argv[1:])"


def test_files_that_may_not_grow(tmp_path, uninterrupted):
    """A real error of the operating system, in the middle of a line of metrics."""
    result = elsewhere(*COMMAND, tmp_path, prefix=(sys.executable, "-c", LIMIT))
    assert result.code == 1
    assert "Traceback" not in result.err
    last = result.err.splitlines()[-1]
    assert last.startswith("innerloop: cannot write ") and "may not grow" in last and "repeat the command" in last
    assert lines_in(tmp_path, "*") > 10 and not any(tmp_path.glob("*/*/cells/*/done.json"))
    again = elsewhere(*COMMAND, tmp_path)
    assert again.code == 0
    assert results_of(only_run(tmp_path)) == uninterrupted


def can_mount():
    probe = "mount -t tmpfs tmpfs /mnt"
    return shutil.which("unshare") and subprocess.run(["unshare", "-m", "sh", "-c", probe], check=False).returncode == 0


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="mounting takes root")
def test_full_and_read_only_disks(tmp_path):
    if not can_mount():
        pytest.skip("this machine does not let us mount")
    wide = ("--width", "20000", "--steps", "30", "--runs", "disk")
    (tmp_path / "disk").mkdir()
    # Everything happens in one private namespace, with which the small disk disappears.
    script = """
        mount -t tmpfs -o size=350k tmpfs disk
        "$@" 2>full.err; echo $? >full.code
        mount -o remount,ro,size=50M disk
        "$@" 2>read-only.err; echo $? >read-only.code
        mount -o remount,rw disk
        "$@" 2>good.err; echo $? >good.code
        cp -r disk/noisy/* result
    """
    prefix = ("unshare", "-m", "sh", "-c", script, "sh")
    elsewhere("run", NOISY, "--checkpoint-seconds", "0", *wide, cwd=tmp_path, prefix=prefix)
    for name, words in (("full", "the disk is full"), ("read-only", "read-only")):
        told = (tmp_path / f"{name}.err").read_text()
        assert (tmp_path / f"{name}.code").read_text() == "1\n"
        assert "Traceback" not in told and words in told.splitlines()[-1], told
    assert (tmp_path / "good.code").read_text() == "0\n", (tmp_path / "good.err").read_text()
    assert elsewhere("run", NOISY, *wide[:4], "--runs", tmp_path / "untroubled").code == 0
    assert results_of(tmp_path / "result") == results_of(only_run(tmp_path / "untroubled"))
