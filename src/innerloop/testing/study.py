"""The public conformance battery of studies."""

import dataclasses
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..core.config import from_dict, to_dict
from ..lab.progress import Lines
from ..lab.report.figures import draw_figures
from ..lab.runner import run_study
from ..lab.store import Records, Run
from ..lab.study import Figure, Scale, Study
from .battery import run_checks


class _Silent(Lines):
    """Says nothing."""

    def tell(self, text: str) -> None:
        pass


def check_study(
    study: Study,
    config: Any,
    *,
    scale: Scale = "smoke",
    seeds: tuple[int, ...] = (0, 1),
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Raise an `AssertionError` that names everything in which a study breaks the interface.

    `config` should be a tiny configuration of the study's own kind: it is run twice, in temporary folders. Checked:
    configurations survive storage, names are usable as file names, every cell finishes, every claim of the scale
    and its control are judged on finite numbers, every figure is drawn, a second run records the same bits.
    """
    folder = tempfile.TemporaryDirectory()
    outcomes: dict[str, Any] = {}

    def outcome(place: str = "first") -> Any:
        if place not in outcomes:
            outcomes[place] = run_study(
                study, scale=scale, config=config, seeds=seeds, root=Path(folder.name) / place, display=_Silent()
            )
        return outcomes[place]

    def configurations_survive_storage() -> None:
        for name, one in {**study.configurations, "given": config}.items():
            assert from_dict(type(one), to_dict(one)) == one, f"configuration {name} is not read back as it was"

    def names_are_file_names() -> None:
        for one in study.configurations.values():
            variants = study.variants(one)
            assert variants, "a configuration has no variants"
            assert len(set(variants)) == len(variants), f"variants repeat: {variants}"
            for name in (study.name, *variants, *(figure.id for figure in study.figures)):
                assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+-]*", name), f"{name!r} cannot name a file"

    def every_cell_finishes() -> None:
        result = outcome()
        assert not result.errors, result.errors
        for variant in study.variants(config):
            for seed in seeds:
                cell = result.run.cell(variant, seed)
                assert cell.finished, f"{cell.path.name} did not finish"

    def claims_are_judged() -> None:
        for judgement, claim in zip(outcome().judgements, study.claims, strict=True):
            if scale in claim.scales:
                assert judgement.verdict != "not measured", f"claim {claim.id}: {judgement.reason}"
                assert np.isfinite(judgement.estimate), f"claim {claim.id} is not finite: {judgement.reason}"
                assert np.isfinite(judgement.control.estimate), f"the control of claim {claim.id} is not finite"

    def why_not(figure: Figure) -> str:
        only = dataclasses.replace(study, figures=(figure,))
        return draw_figures(only, Records(outcome().run, config))[0].reason

    def figures_are_drawn() -> None:
        for figure in study.figures:
            if scale in figure.scales:
                path = outcome().run.path / "figures" / f"{figure.id}.svg"
                assert path.exists(), f"figure {figure.id} was not drawn: {why_not(figure)}"

    def same_bits_again() -> None:
        first, second = outcome().run, outcome("second").run
        assert _records(first) == _records(second), "a second run of the same configuration recorded other numbers"

    checks = (
        configurations_survive_storage,
        names_are_file_names,
        every_cell_finishes,
        claims_are_judged,
        figures_are_drawn,
        same_bits_again,
    )
    with folder:
        run_checks(f"study {study.name}", {check.__name__: check for check in checks}, expected_failures)


def _records(run: Run) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in sorted((run.path / "cells").glob("*/*")):
        found[str(path.relative_to(run.path))] = path.read_bytes()
    return found
