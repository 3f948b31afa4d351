"""`innerloop doctor` and `innerloop bench`."""

import importlib.metadata
import importlib.util

import jax
import pytest

from command_line import here, is_one_line
from innerloop.cli import doctor


@pytest.fixture(autouse=True)
def elsewhere_to_be(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("INNERLOOP_RUNS", raising=False)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", jax.config.jax_compilation_cache_dir)
    monkeypatch.setenv("COLUMNS", "200")


def test_a_healthy_installation(capsys):
    result = here(capsys, "doctor")
    assert result.code == 0 and result.err == ""
    assert "BAD" not in result.out and "0 wrong rows of 40000" in result.out
    assert jax.__version__ in result.out and "extra [track]" in result.out


def test_the_release_that_computes_wrong_results_is_named(capsys, monkeypatch):
    version = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.10.2" if name == "jaxlib" else version(name))
    monkeypatch.setattr(doctor, "count_wrong_rows", lambda: 7231)
    result = here(capsys, "doctor")
    assert result.code == 1 and result.err == ""
    assert result.out.count("BAD") == 2
    assert "0.10.2: computes wrong results" in result.out and "7231 wrong rows" in result.out


def test_a_run_folder_that_cannot_be_written(capsys, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("INNERLOOP_RUNS", str(tmp_path / "file" / "runs"))
    result = here(capsys, "doctor")
    assert result.code == 1 and "not writable" in result.out


def test_a_missing_extra_is_a_note(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "polars" else find(name, *rest)
    )
    result = here(capsys, "doctor")
    assert result.code == 0 and "pip install 'innerloop[export]'" in result.out


def test_a_full_disk_is_a_note(capsys, monkeypatch):
    usage = type("Usage", (), {"free": 5 * 2**20})
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: usage)
    result = here(capsys, "doctor")
    assert result.code == 0 and "0.0 GiB" in result.out and "note" in result.out


def test_bench_without_a_checkout(capsys, tmp_path, monkeypatch):
    from innerloop.cli import look

    monkeypatch.setattr(look, "__file__", str(tmp_path / "a" / "b" / "c" / "look.py"))
    result = here(capsys, "bench")
    assert result.code == 1 and is_one_line(result.err) and "source checkout" in result.err
