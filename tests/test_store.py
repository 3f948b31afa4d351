import errno
import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

from innerloop.core.errors import InnerloopError
from innerloop.lab import store
from innerloop.lab.store import (
    CellFolder,
    MissingCell,
    Run,
    find_runs,
    locked,
    read_json,
    run_name,
    to_json,
    write_atomically,
)
from synthetic_runs import Optimiser, Settings, fill, make_run, records_of


def row(step, loss, phase="train"):
    return {"step": step, "phase": phase, "loss": loss}


# ---- files ----


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "file.json"
    write_atomically(path, "old")
    assert path.read_text() == "old"

    def full_disk(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match=r"No space left on device.*file\.json"):
            write_atomically(path, "new and longer")
    assert path.read_text() == "old"
    assert os.listdir(path.parent) == ["file.json"], "no temporary file is left behind"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_numbers_that_are_not_finite_become_null():
    content = {
        "a": math.nan,
        "b": [1.5, math.inf],
        "c": np.array([1.0, -np.inf]),
        "d": np.float32("nan"),
        "e": np.int64(3),
    }
    assert json.loads(to_json(content)) == {"a": None, "b": [1.5, None], "c": [1.0, None], "d": None, "e": 3}


def test_what_is_missing_or_damaged_is_named(tmp_path):
    with pytest.raises(InnerloopError, match=r"config\.json is missing: .* is not a whole run folder"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_text('{"format": 1, ')
    with pytest.raises(InnerloopError, match=r"config\.json is damaged .* cells are untouched"):
        read_json(tmp_path / "config.json")
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InnerloopError, match="damaged"):
        read_json(tmp_path / "config.json")


# ---- metrics.jsonl ----


def test_records_come_back(tmp_path):
    cell = CellFolder(tmp_path / "adam-s0")
    assert cell.read_metrics() == []
    assert cell.append_metrics([row(1, 0.5), row(2, math.nan)]) == []
    assert cell.append_metrics([row(2, 0.25, "test")]) == []
    assert cell.read_metrics() == [row(1, 0.5), row(2, None), row(2, 0.25, "test")]
    assert len((cell.path / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "torn", [b'{"step":3,"phase":"tr', b'{"step":3,"phase":"train","loss":1}', b'{"st\n', b"\xff\xfe\n"]
)
def test_a_torn_last_line_is_tolerated_and_then_cut_off(tmp_path, torn):
    cell = CellFolder(tmp_path / "adam-s0")
    cell.append_metrics([row(1, 0.5), row(2, 0.4)])
    path = cell.path / "metrics.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    assert cell.read_metrics() == [row(1, 0.5), row(2, 0.4)]
    assert path.read_bytes() == whole + torn, "reading changes nothing"
    [note] = cell.append_metrics([row(3, 0.3)])
    assert f"dropped {len(torn)} bytes" in note
    assert cell.read_metrics() == [row(1, 0.5), row(2, 0.4), row(3, 0.3)]
    assert path.read_bytes() == whole + b'{"step":3,"phase":"train","loss":0.3}\n'


def test_a_damaged_line_in_the_middle_costs_no_other_line(tmp_path):
    cell = CellFolder(tmp_path / "adam-s0")
    cell.append_metrics([row(1, 0.5), row(2, 0.4), row(3, 0.3)])
    path = cell.path / "metrics.jsonl"
    content = path.read_bytes().replace(b'"step":2', b'"st\xffp":2')
    path.write_bytes(content)
    assert cell.read_metrics() == [row(1, 0.5), row(3, 0.3)]
    again = CellFolder(cell.path)
    [note] = again.append_metrics([row(2, 0.4)])
    assert "1 damaged lines" in note
    assert path.read_bytes() == content + b'{"step":2,"phase":"train","loss":0.4}\n'


def test_replayed_lines_are_not_written_again(tmp_path):
    cell = CellFolder(tmp_path / "adam-s0")
    cell.append_metrics([row(1, 0.5), row(2, 0.4), row(3, math.nan)])
    before = (cell.path / "metrics.jsonl").read_bytes()
    assert cell.append_metrics([row(2, 0.4), row(3, math.nan)]) == []
    assert (cell.path / "metrics.jsonl").read_bytes() == before
    assert cell.append_metrics([row(3, math.nan), row(4, 0.2)]) == []
    assert [entry["step"] for entry in cell.read_metrics()] == [1, 2, 3, 4]


def test_a_differing_line_is_appended_reported_and_wins(tmp_path):
    run = make_run(tmp_path, seeds=(0,))
    cell = fill(run, "adam", 0, train=(3.0, 2.0), done=False)
    [note] = cell.append_metrics([row(20, 2.5)])
    assert "step 20 measured again" in note
    assert len(cell.read_metrics()) == 3, "nothing is ever overwritten"
    cell.append_metrics([row(20, 2.5)])
    assert len(cell.read_metrics()) == 3, "the newer line is the known one"
    cell.finish({"status": "finished", "reason": "", "step": None})
    steps, values = records_of(run).series("adam", "loss")
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_array_equal(values, [[3.0, 2.5]])


# ---- run folders ----


def test_the_same_command_finds_its_run_again(tmp_path):
    run = make_run(tmp_path)
    assert run.path == tmp_path / "demo" / run_name("demo", "laptop", (0, 1, 2), Settings())
    assert make_run(tmp_path).path == run.path
    assert make_run(tmp_path, seeds=(0, 1)).path != run.path
    assert make_run(tmp_path, scale="smoke").path != run.path
    assert make_run(tmp_path, config=Settings(optimiser=Optimiser(lr=0.1))).path != run.path
    fresh = make_run(tmp_path, fresh=True)
    assert fresh.path.name == f"{run.path.name}-2"
    assert make_run(tmp_path, fresh=True).path.name == f"{run.path.name}-3"
    assert Run.open(run.path) == run
    assert run.config == {"steps": 20, "widths": [4, 8], "optimiser": {"lr": 1e-3, "name": "adam"}}


def test_runs_are_found_oldest_first(tmp_path):
    assert find_runs(tmp_path / "nowhere") == []
    first, second = make_run(tmp_path, seeds=(0,)), make_run(tmp_path, seeds=(1,))
    for age, run in ((100, second), (50, first)):
        os.utime(run.path / "config.json", (age, age))
    assert find_runs(tmp_path) == [first.path, second.path]


def test_a_newer_format_is_refused(tmp_path):
    run = make_run(tmp_path)
    stored = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps(stored | {"format": store.FORMAT + 1}))
    with pytest.raises(InnerloopError, match=r"newer innerloop.*upgrade innerloop"):
        Run.open(run.path)


@pytest.mark.parametrize("content", ["[]", "{}", '"text"'])
def test_another_json_file_is_not_a_run(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InnerloopError, match="not a run's configuration"):
        Run.open(tmp_path)


def test_a_second_process_is_refused_and_the_lock_is_freed(tmp_path):
    run = make_run(tmp_path)
    other = (
        "import sys, pathlib; from innerloop.lab.store import Run, locked;"
        " run = Run.open(pathlib.Path(sys.argv[1])); lock = locked(run); lock.__enter__(); print('locked')"
    )

    def try_elsewhere():
        return subprocess.run([sys.executable, "-c", other, str(run.path)], capture_output=True, text=True)

    with locked(run):
        refused = try_elsewhere()
        assert refused.returncode != 0
        assert "is being run by another process" in refused.stderr
    assert try_elsewhere().stdout == "locked\n"
    with locked(run):  # the other process is gone, and its lock with it
        pass


def test_the_log_grows_by_lines(tmp_path):
    run = make_run(tmp_path)
    run.log("one\n")
    run.log("two")
    assert (run.path / "log.txt").read_text() == "one\ntwo\n"


# ---- records ----


def test_records_have_a_leading_seed_axis(tmp_path):
    run = make_run(tmp_path, seeds=(0, 3))
    fill(run, "adam", 0, train=(3.0, 2.0), final={"loss": 2.0, "accuracy": 0.5}, arrays={"w": np.arange(3.0)})
    fill(run, "adam", 3, train=(5.0, 4.0), final={"loss": 4.0, "accuracy": 0.7}, arrays={"w": np.ones(3)})
    records = records_of(run)
    steps, values = records.series("adam", "loss")
    np.testing.assert_array_equal(steps, [10, 20])
    np.testing.assert_array_equal(values, [[3.0, 2.0], [5.0, 4.0]])
    np.testing.assert_array_equal(records.final("adam", "accuracy"), [0.5, 0.7])
    np.testing.assert_array_equal(records.final("adam", "loss", phase="train"), [2.0, 4.0])
    np.testing.assert_array_equal(records.array("adam", "w"), [[0, 1, 2], [1, 1, 1]])
    assert records.seeds == (0, 3)
    assert records.outcome("adam", 3)["status"] == "finished"


def test_what_a_failed_cell_lacks_is_nan(tmp_path):
    run = make_run(tmp_path, seeds=(0, 1))
    fill(run, "adam", 0, train=(3.0, 2.0), arrays={"w": np.ones(2)})
    fill(run, "adam", 1, train=(5.0,), status="failed", step=11, reason="loss was not finite")
    records = records_of(run)
    np.testing.assert_array_equal(records.series("adam", "loss")[1], [[3.0, 2.0], [5.0, math.nan]])
    np.testing.assert_array_equal(records.final("adam", "loss", phase="train"), [2.0, math.nan])
    np.testing.assert_array_equal(records.array("adam", "w"), [[1.0, 1.0], [math.nan, math.nan]])


def test_what_was_not_measured_is_a_missing_cell(tmp_path):
    run = make_run(tmp_path, seeds=(0,))
    with pytest.raises(MissingCell, match="adam-s0 is not finished"):
        records_of(run).final("adam", "loss")
    fill(run, "adam", 0)
    with pytest.raises(MissingCell, match="recorded no 'loss' in phase 'final'"):
        records_of(run).final("adam", "loss")
    with pytest.raises(MissingCell, match="stored no array 'w'"):
        records_of(run).array("adam", "w")


def test_arrays_are_never_unpickled(tmp_path):
    cell = CellFolder(tmp_path / "adam-s0")
    cell.path.mkdir()
    np.savez(cell.path / "arrays.npz", w=np.array([{"a": 1}], dtype=object))
    with pytest.raises(ValueError, match="allow_pickle"):
        cell.read_arrays()
