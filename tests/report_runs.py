"""A root of run folders as a report may find it: good runs, failures, damage, names that try to be markup.

`python tests/report_runs.py FOLDER` writes it with its report, to look at.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from innerloop.lab.paper import Paper
from innerloop.lab.report.plots import band, curve_table, heat, line_at, pivot
from innerloop.lab.store import Run, create_run, to_json
from innerloop.lab.study import Claim, Control, Figure, Study, at_most

NASTY = '<script>alert("x")</script>'


@dataclass(frozen=True)
class Task:
    dim: int = 10
    points: int = 10


@dataclass(frozen=True)
class Settings:
    task: Task = Task()
    lr: float = 3e-3
    steps: int = 1500
    widths: tuple[int, ...] = (64, 64)


VARIANTS = ("trained", "untrained", "shuffled")


def _losses(records: Any) -> Any:
    names = {"trained": "trained layer", "untrained": "untrained", "shuffled": "shuffled labels"}
    return curve_table(records, names, "loss")


def _draw_losses(canvas: Any, table: Any) -> None:
    axes = canvas.subplots()
    for name in dict.fromkeys(table["curve"]):
        _, steps, values = pivot(table, "seed", "step", "value", curve=name)
        band(axes, steps, values, name)
    line_at(axes, 0.2094, "one step of gradient descent", side="start")
    axes.set(xlabel="step", ylabel="loss on new tasks")
    axes.legend(loc="center right")


def _weights(records: Any) -> Any:
    matrix = records.array("trained", "weights").mean(axis=0)
    rows, columns = np.indices(matrix.shape)
    return {"row": rows.ravel(), "column": columns.ravel(), "weight": matrix.ravel()}


def _draw_weights(canvas: Any, table: Any) -> None:
    rows, columns, matrix = pivot(table, "row", "column", "weight")
    heat(canvas.subplots(), matrix, rows=rows, columns=columns, label="weight", diverging=True)


def _missing(records: Any) -> Any:
    return {"value": records.final("two-layers", "loss")}


def _nothing(canvas: Any, table: Any) -> None:
    raise AssertionError("never reached")


def _measure(records: Any) -> np.ndarray:
    return records.final("trained", "loss")


def make_study(paper: Paper) -> Study:
    """A study with three figures, one of which cannot be drawn."""
    return Study(
        name=paper.study,
        paper=paper,
        configurations={"smoke": Settings(steps=100), "laptop": Settings()},
        seeds={"smoke": 2, "laptop": 5},
        variants=lambda config: VARIANTS,
        measure=lambda config, cells: None,
        claims=(Claim("loss", "", "", "", "", _measure, at_most(1.02), Control("", _measure)),),
        figures=(
            Figure(
                "losses",
                "Loss while training",
                "Mean over seeds with its 95% interval, evaluated on 4,000 new tasks.",
                "Figure 2, left: the trained layer's curve meets the dashed line of gradient descent.",
                _losses,
                _draw_losses,
            ),
            Figure(
                "weights",
                "The product of the trained weights",
                "Mean over seeds of the upper left block.",
                "Figure 2, right: a multiple of the identity.",
                _weights,
                _draw_weights,
            ),
            Figure("depth", "Loss by depth", "One to five layers.", "Figure 3.", _missing, _nothing),
        ),
        substitutes="ridge-regression tasks stand for the paper's own data set.",
    )


def claim(
    name: str,
    verdict: str,
    per_seed: list[float | None],
    *,
    threshold: float = 1.02,
    direction: str = "<=",
    control: list[float | None] | None = None,
    over_seeds: str = "mean",
    **texts: str,
) -> dict[str, Any]:
    """An entry of `claims.json`."""

    def measured(values: list[float | None]) -> dict[str, Any]:
        finite = [x for x in values if x is not None]
        if len(finite) < len(values) or not values:
            return {"estimate": None, "low": None, "high": None, "per_seed": values}
        mean, half = float(np.mean(finite)), 1.2 * float(np.std(finite, ddof=1))
        low, high = (min(finite), max(finite)) if over_seeds == "every" else (mean - half, mean + half)
        return {"estimate": mean, "low": low, "high": high, "per_seed": values}

    other = {
        "statement": texts.pop("control_statement", "the same layer, untrained"),
        **measured(control if control is not None else [1.91, 1.98, 2.04, 1.95, 1.99]),
        "verdict": texts.pop("control_verdict", "fails"),
    }
    return {
        "id": name,
        "statement": "A trained layer reaches the loss of one step of gradient descent.",
        "source": "Section 3, Figure 2; spec 13, claim 1",
        "paper": "the curves coincide",
        "quantity": "loss on new tasks, model divided by gradient descent",
        "reason": "",
        **texts,
        **measured(per_seed),
        "threshold": threshold,
        "direction": direction,
        "over_seeds": over_seeds,
        "verdict": verdict,
        "control": {**other, "failed_as_it_must": other["verdict"] == "fails"},
    }


LAPTOP_CLAIMS = [
    claim("gd-loss", "holds", [1.0112, 1.0087, 1.0141, 1.0103, 1.0129], over_seeds="every"),
    claim(
        "alignment",
        "holds",
        [0.9921, 0.9954, 0.9902, 0.9937, 0.9948],
        threshold=0.98,
        direction=">=",
        control=[0.02, -0.05, 0.11, 0.04, -0.01],
        statement="The sensitivities of the trained layer point where those of gradient descent point.",
        quantity="cosine of sensitivities, trained layer and gradient descent",
        paper="cosine tends to 1",
    ),
    claim(
        "out-of-distribution",
        "undecided",
        [0.121, 0.158, 0.139, 0.166, 0.127],
        threshold=0.15,
        control=[0.81, 0.92, 0.88, 0.79, 0.95],
        statement="Outside the training distribution the layer behaves as gradient descent does.",
        quantity="largest gap of log loss over input scales 0.5 to 1.5",
        reason="the 95% interval [0.1185, 0.1659] straddles <= 0.15; run more seeds",
    ),
    claim(
        "recurrent-layers",
        "fails",
        [0.91, 0.93, 0.90, 0.95, 0.92],
        threshold=0.85,
        control=[1.0, 1.01, 0.99, 1.0, 1.02],
        statement="Two recurrent layers beat two steps of gradient descent.",
        quantity="loss, two shared layers divided by two steps of gradient descent",
        paper="about 0.75, read off Figure 3",
        reason="the 95% interval [0.8988, 0.9452] lies wholly on the wrong side of <= 0.85",
    ),
    claim(
        "interpolation",
        "undecided",
        [1.004, 1.011, 1.008, 1.002, 1.013],
        threshold=1.03,
        control=[1.01, 1.02, 1.0, 1.015, 1.012],
        control_verdict="holds",
        control_statement="weights of two unrelated layers, averaged",
        statement="The average of the trained and the constructed weights loses nothing.",
        reason="the control did not fail: 'weights of two unrelated layers, averaged' holds with 1.011",
    ),
    claim(
        "copying",
        "undecided",
        [0.91, None, 0.88, 0.93, 0.9],
        threshold=0.8,
        direction=">=",
        control=[0.2, 0.21, 0.19, 0.2, 0.22],
        statement="The first layer copies each target beside its input.",
        quantity="share of the gradient that falls on a token and its successor",
        reason="cell trained-s1 failed at step 640: loss is NaN",
    ),
    claim(
        "sine",
        "not measured",
        [],
        control=[],
        control_verdict="not measured",
        statement="A sine is learned alike.",
    ),
]


def make_run(root: Path, study: str, scale: str, seeds: tuple[int, ...], config: Any, *, fresh: bool = False) -> Run:
    """A whole run: cells of every variant, claims, provenance, log."""
    run = create_run(root, study, scale, seeds, config, fresh=fresh)
    random = np.random.default_rng(0)
    steps = np.arange(0, 1501, 25)
    for variant in VARIANTS:
        for seed in seeds:
            floor = {"trained": 0.211, "untrained": 0.41, "shuffled": 0.405}[variant]
            rate = 260 if variant == "trained" else 2000
            values = floor + (0.43 - floor) * np.exp(-steps / rate) + 0.004 * random.standard_normal(len(steps))
            lines: list[dict[str, Any]] = [
                {"step": int(step), "phase": "train", "loss": float(value)}
                for step, value in zip(steps, values, strict=True)
            ]
            broken = variant == "trained" and seed == 1 and scale == "laptop"
            if broken:
                lines = [{**line, "loss": line["loss"] if line["step"] < 640 else None} for line in lines]
            cell = run.cell(variant, seed)
            cell.append_metrics(lines)
            cell.write_arrays({"weights": 0.8 * np.eye(6) + 0.05 * random.standard_normal((6, 6))})
            cell.finish(
                {"status": "failed", "reason": f"loss is NaN {NASTY}", "step": 640}
                if broken
                else {"status": "finished", "reason": "", "step": 1500}
            )
    start = {
        "command": f"innerloop run {study} --scale {scale} --task.dim 10",
        "started": "2026-03-01T09:12:44+00:00",
        "ended": "2026-03-01T09:25:10+00:00",
        "seconds": 746.2,
        "innerloop": "0.1.0",
        "python": "3.11.9",
        "jax": "0.10.1",
        "jaxlib": "0.10.1",
        "packages": {"equinox": "0.13.8", "optax": "0.2.8", "numpy": "2.4.0"},
        "git": {"commit": "c0895847f0d2ab61", "dirty": None},
        "hardware": {"cpu": "AMD EPYC 7763", "cores": 2, "memory_gib": 7.8, "devices": ["cpu"]},
    }
    (run.path / "provenance.json").write_text(to_json([{**start, "ended": None, "seconds": None}, start]))
    run.log(f"2026-03-01T09:12:44 innerloop run {study}\nvariant trained: seed 1 stopped at step 640 {NASTY}")
    return run


def write_claims(run: Run, claims: Any) -> None:
    (run.path / "claims.json").write_text(to_json(claims))


def make_root(root: Path, papers: dict[str, Paper]) -> dict[str, Study]:
    """Fill `root`; returns the studies whose code is loaded."""
    laptop = make_run(root, "icl-gd", "laptop", (0, 1, 2, 3, 4), Settings(lr=1e-3))
    write_claims(laptop, LAPTOP_CLAIMS)
    smoke = make_run(root, "icl-gd", "smoke", (0, 1), Settings(steps=100))
    write_claims(
        smoke,
        [*LAPTOP_CLAIMS[:1], {**LAPTOP_CLAIMS[3], "verdict": "not measured", "reason": "only at laptop"}],
    )
    write_claims(make_run(root, "icl-gd", "smoke", (0, 1), Settings(steps=90)), LAPTOP_CLAIMS[:1])

    nasty = make_run(root, "cocoa", "laptop", (0, 1, 2), Settings())
    text = {
        "statement": f"Claim {NASTY}",
        "source": NASTY,
        "paper": NASTY,
        "quantity": NASTY,
        "reason": NASTY,
    }
    write_claims(nasty, [claim(NASTY, "fails", [1e9, 2e9, 3e9], control=[None], **text)])
    (nasty.path / "cells" / "<img src=x onerror=alert(1)>-s0").mkdir()

    unfinished = make_run(root, "late-phase", "laptop", (0, 1), Settings())
    (unfinished.path / "cells" / "trained-s0" / "done.json").unlink()

    newer = create_run(root, "mesanet", "laptop", (0,), Settings()).path / "config.json"
    newer.write_text(json.dumps({**json.loads(newer.read_text()), "format": 99}))
    for name, content in (("damaged", "{ not json"), (f"list-{NASTY.replace('/', '')}", "[1, 2]")):
        (root / "mesanet" / name).mkdir(parents=True)
        (root / "mesanet" / name / "config.json").write_text(content)
    (root / "cocoa" / "torn" / "cells").mkdir(parents=True)
    create_run(root, "no-such-study", "laptop", (0,), Settings())
    return {name: make_study(papers[name]) for name in ("icl-gd", "late-phase")}


if __name__ == "__main__":
    from innerloop.lab.catalogue import PAPERS
    from innerloop.lab.report.page import build_report

    folder = Path(sys.argv[1])
    known = make_root(folder, PAPERS)
    print(build_report(folder, PAPERS, known, built=["icl-gd", "late-phase", "cocoa", "mesanet", "online-lru"]))
