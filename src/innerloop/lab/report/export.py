"""A run for other tools: plain tables, one JSON file, Parquet, or a local MLflow, W&B or TensorBoard store.

Nothing is sent anywhere, and nothing that exists is overwritten.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.config import flatten
from ...core.errors import InnerloopError, UnknownNameError
from ..judge import read_claims
from ..store import Run, read_json, to_json, write_atomically
from .contents import RecordedCell, recorded_cells
from .figures import to_csv

Columns = dict[str, list[Any]]


def export(run: Run, target: str, output: Path) -> Path:
    """Export a run; return the path that was made, a file for `json` and a folder for every other target.

    **Arguments:**

    - `target`: `csv` (three tidy tables), `json` (one file), `parquet` (the tables; extra `[export]`),
      `mlflow`, `wandb`, `tensorboard` (one run per cell; extra `[track]`).
    - `output`: where to; it must not exist yet. A half-written export never stands under this name.
    """
    if target not in TARGETS:
        raise UnknownNameError("export target", target, TARGETS)
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InnerloopError(f"{output} exists already and is not overwritten; choose another --output")
    write = TARGETS[target]
    if target == "json":
        write(run, output, output)
        return output
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.name}.{os.getpid()}.partial")
    partial.mkdir()
    try:
        write(run, partial, output)
        os.replace(partial, output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return output


# ---- tables ----


def metrics_table(run: Run) -> Columns:
    """One line per number: `study, run, variant, seed, phase, step, metric, value`; NaN if not finite."""
    table: Columns = {name: [] for name in ("study", "run", "variant", "seed", "phase", "step", "metric", "value")}
    for cell in recorded_cells(run):
        for phase, step, metric, value in cell.measurements():
            line = (run.study, run.path.name, cell.variant, cell.seed, phase, step, metric, value)
            for name, entry in zip(table, line, strict=True):
                table[name].append(entry)
    return table


_CLAIM_TEXTS = (
    "id",
    "statement",
    "source",
    "paper",
    "quantity",
    "direction",
    "over_seeds",
    "verdict",
    "reason",
)
_CLAIM_NUMBERS = ("estimate", "low", "high", "threshold")
_CONTROL_TEXTS = ("statement", "verdict")
_CONTROL_NUMBERS = ("estimate", "low", "high")


def claims_table(run: Run) -> Columns:
    """One line per claim, its control as `control_...`, values per seed as JSON; empty if unjudged."""
    claims = _claims(run)
    controls = [claim.get("control") or {} for claim in claims]
    table: Columns = {name: [claim.get(name) for claim in claims] for name in (*_CLAIM_TEXTS, *_CLAIM_NUMBERS)}
    table["per_seed"] = [json.dumps(claim.get("per_seed")) for claim in claims]
    for name in (*_CONTROL_TEXTS, *_CONTROL_NUMBERS, "failed_as_it_must"):
        table[f"control_{name}"] = [control.get(name) for control in controls]
    table["control_per_seed"] = [json.dumps(control.get("per_seed")) for control in controls]
    return table


def config_table(run: Run) -> Columns:
    """`name, value` of everything the run was asked for, values as JSON."""
    settings = {"study": run.study, "run": run.path.name, "scale": run.scale, "seeds": list(run.seeds)}
    settings |= {f"config.{name}": value for name, value in flatten(run.config).items()}
    return {"name": list(settings), "value": [json.dumps(value) for value in settings.values()]}


def _claims(run: Run) -> list[dict[str, Any]]:
    return read_claims(run.path) if (run.path / "claims.json").exists() else []


def _tables(run: Run) -> dict[str, Columns]:
    return {"metrics": metrics_table(run), "claims": claims_table(run), "config": config_table(run)}


# ---- files ----


def _to_csv(run: Run, folder: Path, _: Path) -> None:
    for name, table in _tables(run).items():
        write_atomically(folder / f"{name}.csv", to_csv(table))


def _to_json(run: Run, path: Path, _: Path) -> None:
    provenance = run.path / "provenance.json"
    content = {
        "study": run.study,
        "run": run.path.name,
        "scale": run.scale,
        "seeds": list(run.seeds),
        "config": run.config,
        "provenance": read_json(provenance) if provenance.exists() else None,
        "claims": _claims(run),
        "cells": [
            {
                "variant": cell.variant,
                "seed": cell.seed,
                "outcome": cell.outcome(),
                "metrics": cell.rows(),
                # The numbers stay in arrays.npz; here is what there is.
                "arrays": {name: list(array.shape) for name, array in cell.folder.read_arrays().items()},
            }
            for cell in recorded_cells(run)
        ],
    }
    write_atomically(path, to_json(content))


def _to_parquet(run: Run, folder: Path, _: Path) -> None:
    polars = _need("polars", "export")
    kinds = {"seed": polars.Int64, "step": polars.Int64, "value": polars.Float64}
    for name, table in _tables(run).items():
        schema: dict[str, Any] = dict.fromkeys(table, polars.String)
        if name == "metrics":
            schema |= kinds
        if name == "claims":
            schema |= dict.fromkeys(
                (*_CLAIM_NUMBERS, *(f"control_{part}" for part in _CONTROL_NUMBERS)), polars.Float64
            )
            schema["control_failed_as_it_must"] = polars.Boolean
        polars.DataFrame(table, schema=schema).write_parquet(folder / f"{name}.parquet")


# ---- trackers: one run per cell ----


def _to_mlflow(run: Run, folder: Path, final: Path) -> None:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # an export stays on this machine
    _need("mlflow", "track")
    entities = importlib.import_module("mlflow.entities")
    client = importlib.import_module("mlflow.tracking").MlflowClient(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    # The store remembers this path, so it names the place where the folder is going to stand.
    experiment = client.create_experiment(run.study, artifact_location=(final.resolve() / "artifacts").as_uri())
    for cell in recorded_cells(run):
        when = _recorded_at(cell)
        tracked = client.create_run(experiment, start_time=when, run_name=f"{run.path.name}/{cell.name}").info.run_id
        for name, value in {**_settings_of(run), **_identity(run, cell)}.items():
            client.log_param(tracked, _plain(name), str(value)[:6000])
        for name, value in {**_identity(run, cell), **_verdicts(run)}.items():
            client.set_tag(tracked, _plain(name), value)
        metrics = [
            entities.Metric(_plain(f"{phase}/{metric}"), value, when, step)
            for phase, step, metric, value in cell.measurements()
        ]
        for start in range(0, len(metrics), 1000):  # what one batch may hold
            client.log_batch(tracked, metrics=metrics[start : start + 1000])
        status = {"finished": "FINISHED", "failed": "FAILED"}.get(cell.outcome()["status"], "KILLED")
        client.set_terminated(tracked, status=status, end_time=when)


def _to_wandb(run: Run, folder: Path, _: Path) -> None:
    wandb = _need("wandb", "track")
    settings = wandb.Settings(console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True)
    for cell in recorded_cells(run):
        tracked = wandb.init(
            mode="offline",
            dir=str(folder),
            project=f"innerloop-{run.study}",
            group=run.path.name,
            name=cell.name,
            config={**_settings_of(run), **_identity(run, cell)},
            tags=[run.study, cell.variant[:64]],
            settings=settings,
        )
        by_step: dict[int, dict[str, float]] = {}
        for phase, step, metric, value in cell.measurements():
            by_step.setdefault(step, {})[f"{phase}/{metric}"] = value
        for step, values in sorted(by_step.items()):
            tracked.log(values, step=step)
        tracked.summary.update(_verdicts(run))
        tracked.finish(exit_code=0 if cell.outcome()["status"] == "finished" else 1)
    wandb.teardown()  # `finish` returns before its service has written the file; this waits for it


def _to_tensorboard(run: Run, folder: Path, _: Path) -> None:
    tensorboard = _need("tensorboardX", "track")
    for cell in recorded_cells(run):
        with tensorboard.SummaryWriter(logdir=str(folder / cell.name), flush_secs=3600) as writer:
            described = {**_identity(run, cell), **_verdicts(run), **_settings_of(run)}
            writer.add_text("run", "\n".join(f"    {name}: {value}" for name, value in described.items()))
            for phase, step, metric, value in cell.measurements():
                writer.add_scalar(f"{phase}/{metric}", value, step)


TARGETS: dict[str, Callable[[Run, Path, Path], None]] = {
    "csv": _to_csv,
    "json": _to_json,
    "parquet": _to_parquet,
    "mlflow": _to_mlflow,
    "wandb": _to_wandb,
    "tensorboard": _to_tensorboard,
}


def _settings_of(run: Run) -> dict[str, Any]:
    return {f"config.{name}": value for name, value in flatten(run.config).items()}


def _identity(run: Run, cell: RecordedCell) -> dict[str, str]:
    return {
        "study": run.study,
        "run": run.path.name,
        "scale": run.scale,
        "variant": cell.variant,
        "seed": str(cell.seed),
        "status": cell.outcome()["status"],
    }


def _verdicts(run: Run) -> dict[str, str]:
    return {f"verdict.{claim['id']}": str(claim.get("verdict")) for claim in _claims(run)}


def _recorded_at(cell: RecordedCell) -> int:
    """When the cell last wrote, in milliseconds."""
    path = cell.folder.path / "metrics.jsonl"
    return int((path if path.exists() else cell.folder.path).stat().st_mtime * 1000)


def _plain(name: str) -> str:
    """A name with nothing but what MLflow takes."""
    return "".join(letter if letter.isalnum() or letter in "_-. :/" else "_" for letter in name)


def _need(package: str, extra: str) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InnerloopError(
            f"this export needs {package}, which is not installed: pip install 'innerloop[{extra}]'"
        ) from error
