import csv
import importlib
import json
import math
import os
import struct
import sys

import numpy as np
import pytest

from innerloop.core.errors import InnerloopError, UnknownNameError
from innerloop.lab.report.export import TARGETS, export
from innerloop.lab.store import to_json, write_atomically
from synthetic_runs import fill, make_run

CLAIM = {
    "id": "c1",
    "statement": 'It "holds", always;\nsays <the> paper',
    "source": "Figure 1",
    "paper": "0.5",
    "quantity": "loss",
    "estimate": 0.5,
    "low": 0.25,
    "high": None,
    "threshold": 1.0,
    "direction": "<=",
    "over_seeds": "mean",
    "per_seed": [0.5, None],
    "verdict": "holds",
    "reason": "",
    "control": {
        "statement": "untrained",
        "estimate": 2.0,
        "low": 1.5,
        "high": 2.5,
        "per_seed": [2.0, 2.0],
        "verdict": "fails",
        "failed_as_it_must": True,
    },
}


@pytest.fixture
def run(tmp_path):
    """Two seeds of one variant, the second failed, and a half-done cell of another."""
    made = make_run(tmp_path / "runs", seeds=(0, 1))
    fill(made, "adam", 0, train=(3.0, 2.0), final={"accuracy": 0.75}, arrays={"w": np.zeros((2, 3))})
    fill(made, "adam", 1, train=(5.0, math.nan), status="failed", step=20, reason="loss was not finite")
    fill(made, "long-name-s3", 0, train=(1.0,), done=False)
    write_atomically(made.path / "claims.json", to_json([CLAIM]))
    return made


# (variant, seed, phase, step, metric, value), as recorded above
EVERYTHING = [
    ("adam", 0, "train", 10, "loss", 3.0),
    ("adam", 0, "train", 20, "loss", 2.0),
    ("adam", 0, "final", 20, "accuracy", 0.75),
    ("adam", 1, "train", 10, "loss", 5.0),
    ("adam", 1, "train", 20, "loss", math.nan),
    ("long-name-s3", 0, "train", 10, "loss", 1.0),
]


def same(found, expected):
    """Equality in which NaN equals NaN."""
    plain = lambda rows: sorted(tuple("nan" if x != x else x for x in row) for row in rows)  # noqa: E731
    return plain(found) == plain(expected)


def test_csv_reads_back(run, tmp_path):
    path = export(run, "csv", tmp_path / "out")
    assert path == tmp_path / "out"
    assert sorted(os.listdir(path)) == ["claims.csv", "config.csv", "metrics.csv"]
    with open(path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [
        (row["variant"], int(row["seed"]), row["phase"], int(row["step"]), row["metric"], float(row["value"]))
        for row in rows
    ]
    assert same(found, EVERYTHING)
    assert {(row["study"], row["run"]) for row in rows} == {("demo", run.path.name)}
    with open(path / "claims.csv", newline="") as file:
        [claim] = csv.DictReader(file)
    assert claim["statement"] == CLAIM["statement"]
    assert (float(claim["estimate"]), claim["high"]) == (0.5, "")
    assert json.loads(claim["per_seed"]) == [0.5, None]
    assert (claim["control_verdict"], claim["control_failed_as_it_must"]) == ("fails", "True")
    with open(path / "config.csv", newline="") as file:
        config = {row["name"]: json.loads(row["value"]) for row in csv.DictReader(file)}
    assert config == {
        "study": "demo",
        "run": run.path.name,
        "scale": "laptop",
        "seeds": [0, 1],
        "config.steps": 20,
        "config.widths": [4, 8],
        "config.optimiser.lr": 1e-3,
        "config.optimiser.name": "adam",
    }


def test_a_step_measured_again_counts_once(run, tmp_path):
    run.cell("adam", 0).append_metrics([{"step": 10, "phase": "train", "loss": 33.0}])
    path = export(run, "csv", tmp_path / "out")
    with open(path / "metrics.csv", newline="") as file:
        values = [float(row["value"]) for row in csv.DictReader(file) if row["seed"] == "0" and row["step"] == "10"]
    assert values == [33.0, 1.0]


def test_lines_of_one_step_are_put_together(run, tmp_path):
    run.cell("adam", 0).append_metrics([{"step": 20, "phase": "final", "rank": 3.0}])
    found = json.loads(export(run, "json", tmp_path / "out.json").read_text())
    last = found["cells"][0]["metrics"][-1]
    assert last == {"step": 20, "phase": "final", "accuracy": 0.75, "rank": 3.0}


def test_json_reads_back(run, tmp_path):
    path = export(run, "json", tmp_path / "deep" / "run.json")
    found = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert found["config"] == run.config
    assert found["claims"] == [CLAIM]
    assert found["provenance"] is None
    cells = {(cell["variant"], cell["seed"]): cell for cell in found["cells"]}
    assert cells["adam", 0]["arrays"] == {"w": [2, 3]}
    assert cells["adam", 1]["outcome"] == {"status": "failed", "reason": "loss was not finite", "step": 20}
    assert cells["adam", 1]["metrics"][1] == {"step": 20, "phase": "train", "loss": None}
    assert cells["long-name-s3", 0]["outcome"]["status"] == "unfinished"


def test_parquet_reads_back(run, tmp_path):
    polars = pytest.importorskip("polars", reason="needs polars: pip install 'innerloop[export]'")
    path = export(run, "parquet", tmp_path / "out")
    metrics = polars.read_parquet(path / "metrics.parquet")
    assert same(metrics.select("variant", "seed", "phase", "step", "metric", "value").rows(), EVERYTHING)
    assert metrics.schema["value"] == polars.Float64
    [claim] = polars.read_parquet(path / "claims.parquet").to_dicts()
    assert claim["statement"] == CLAIM["statement"]
    assert claim["high"] is None
    assert claim["control_failed_as_it_must"] is True
    assert len(polars.read_parquet(path / "config.parquet")) == 8


def test_parquet_of_a_run_without_anything(tmp_path):
    polars = pytest.importorskip("polars", reason="needs polars: pip install 'innerloop[export]'")
    path = export(make_run(tmp_path), "parquet", tmp_path / "out")
    assert polars.read_parquet(path / "metrics.parquet").schema["step"] == polars.Int64
    assert polars.read_parquet(path / "claims.parquet").is_empty()


def events(path):
    """The events of a TensorBoard file, read without TensorBoard: length, checksum, payload, checksum."""
    event_pb2 = importlib.import_module("tensorboardX.proto.event_pb2")
    data = path.read_bytes()
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        yield event_pb2.Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]


def test_tensorboard_reads_back(run, tmp_path):
    pytest.importorskip("tensorboardX", reason="needs tensorboardx: pip install 'innerloop[track]'")
    path = export(run, "tensorboard", tmp_path / "out")
    assert sorted(os.listdir(path)) == ["adam-s0", "adam-s1", "long-name-s3-s0"]
    found, texts = [], []
    for variant, seed in (("adam", 0), ("adam", 1), ("long-name-s3", 0)):
        [file] = (path / f"{variant}-s{seed}").iterdir()
        for event in events(file):
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    phase, metric = value.tag.split("/")
                    found.append((variant, seed, phase, event.step, metric, value.simple_value))
                else:
                    texts.append(value.tensor.string_val[0].decode())
    assert same(found, EVERYTHING)
    assert all("config.optimiser.lr: 0.001" in text and "verdict.c1: holds" in text for text in texts)
    assert ["status: failed" in text for text in texts] == [False, True, False]


# MLflow itself uses what its own dependencies call deprecated.
@pytest.mark.filterwarnings("ignore")
def test_mlflow_reads_back(run, tmp_path):
    pytest.importorskip("mlflow", reason="needs mlflow: pip install 'innerloop[track]'")
    path = export(run, "mlflow", tmp_path / "out")
    client = importlib.import_module("mlflow.tracking").MlflowClient(f"sqlite:///{path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("demo")
    assert experiment.artifact_location == (path / "artifacts").as_uri()
    tracked = {
        item.data.tags["variant"] + item.data.tags["seed"]: item
        for item in client.search_runs([experiment.experiment_id])
    }
    assert set(tracked) == {"adam0", "adam1", "long-name-s30"}
    assert {name: item.info.status for name, item in tracked.items()} == {
        "adam0": "FINISHED",
        "adam1": "FAILED",
        "long-name-s30": "KILLED",
    }
    first = tracked["adam0"]
    assert first.data.params["config.optimiser.lr"] == "0.001"
    assert first.data.params["config.widths"] == "[4, 8]"
    assert first.data.tags["study"] == "demo"
    assert first.data.tags["verdict.c1"] == "holds"
    found = []
    for variant, seed, phase, metric in {(row[0], row[1], row[2], row[4]) for row in EVERYTHING}:
        history = client.get_metric_history(tracked[f"{variant}{seed}"].info.run_id, f"{phase}/{metric}")
        found += [(variant, seed, phase, point.step, metric, point.value) for point in history]
    assert same(found, EVERYTHING)


def offline_records(path):
    """Records of an offline W&B file, a LevelDB log in blocks of 32 KiB: checksum, length, kind, payload."""
    data, at, whole = path.read_bytes(), 7, b""
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        whole += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a full record, or the last part of one
            yield whole
            whole = b""


@pytest.mark.filterwarnings("ignore")
def test_wandb_reads_back(run, tmp_path):
    pytest.importorskip("wandb", reason="needs wandb: pip install 'innerloop[track]'")
    kinds = importlib.import_module("wandb.proto.wandb_internal_pb2")
    path = export(run, "wandb", tmp_path / "out")
    found, names, exits, summaries = [], {}, {}, {}
    for file in sorted(path.glob("wandb/offline-run-*/*.wandb")):
        name = ""
        for record in map(kinds.Record.FromString, offline_records(file)):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                name = record.run.display_name
                names[name] = record.run.project
            elif kind == "history":
                items = [("/".join(item.nested_key) or item.key, item.value_json) for item in record.history.item]
                variant, seed = name.rsplit("-s", 1)
                for key, value in items:
                    if not key.startswith("_"):
                        phase, metric = key.split("/")
                        step = int(dict(items)["_step"])
                        found.append((variant, int(seed), phase, step, metric, float(json.loads(value))))
            elif kind == "summary":
                for item in record.summary.update:
                    summaries.setdefault(name, {})["/".join(item.nested_key) or item.key] = item.value_json
            elif kind == "exit":
                exits[name] = record.exit.exit_code
    assert names == dict.fromkeys(("adam-s0", "adam-s1", "long-name-s3-s0"), "innerloop-demo")
    assert exits == {"adam-s0": 0, "adam-s1": 1, "long-name-s3-s0": 1}
    assert set(summaries) == set(names)
    assert all(summary["verdict.c1"] == '"holds"' for summary in summaries.values())
    assert same(found, EVERYTHING)


@pytest.mark.parametrize("target", ["csv", "json"])
def test_nothing_is_overwritten(run, tmp_path, target):
    path = export(run, target, tmp_path / "out")
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    before = [file.read_bytes() for file in files]
    for again in TARGETS:
        with pytest.raises(InnerloopError, match=r"out exists already and is not overwritten; choose another --output"):
            export(run, again, path)
    assert [file.read_bytes() for file in files] == before


def test_an_empty_folder_is_no_export(run, tmp_path):
    (tmp_path / "out").mkdir()
    assert len(os.listdir(export(run, "csv", tmp_path / "out"))) == 3


def test_a_failed_export_leaves_nothing_behind(run, tmp_path):
    (run.path / "claims.json").write_text("[{")
    with pytest.raises(InnerloopError, match="damaged"):
        export(run, "csv", tmp_path / "out" / "tables")
    assert os.listdir(tmp_path / "out") == []


def test_an_unknown_target_names_the_nearest(run, tmp_path):
    with pytest.raises(UnknownNameError, match="unknown export target 'parket'; did you mean 'parquet'"):
        export(run, "parket", tmp_path / "out")


@pytest.mark.parametrize(
    ("target", "package", "extra"),
    [
        ("parquet", "polars", "export"),
        ("mlflow", "mlflow", "track"),
        ("wandb", "wandb", "track"),
        ("tensorboard", "tensorboardX", "track"),
    ],
)
def test_a_missing_package_names_its_extra(run, tmp_path, monkeypatch, target, package, extra):
    monkeypatch.setitem(sys.modules, package, None)  # Python's way to say: not installed
    with pytest.raises(InnerloopError, match=rf"needs {package}, .* pip install 'innerloop\[{extra}\]'"):
        export(run, target, tmp_path / "out")
    assert not (tmp_path / "out").exists()
