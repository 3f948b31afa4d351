"""Verdicts: claims and their controls are judged from stored records alone, so a run can be judged anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import InnerloopError
from .stats import MISSING, Interval, mean_interval
from .store import LEFT_OUT, MissingCell, Records, Run, read_json, to_json, write_atomically
from .study import Claim, Control, Measure, Study, Threshold


@dataclass(frozen=True)
class ControlJudgement:
    """What came out of a claim's control; `failed_as_it_must` is what it is there for."""

    statement: str
    estimate: float
    low: float
    high: float
    per_seed: tuple[float, ...]
    verdict: str
    failed_as_it_must: bool


@dataclass(frozen=True)
class Judgement:
    """One claim as it stands in `claims.json`."""

    id: str
    statement: str
    source: str
    paper: str
    quantity: str
    estimate: float
    low: float
    high: float
    threshold: float
    direction: str
    over_seeds: str
    per_seed: tuple[float, ...]
    verdict: str
    reason: str
    control: ControlJudgement

    def to_dict(self) -> dict[str, Any]:
        """The judgement as plain values; `to_json` makes null of numbers that are not finite."""
        return asdict(self)


def judge(study: Study, records: Records) -> list[Judgement]:
    """The verdict on every claim of a study, in the study's order.

    - `holds` or `fails`: the whole interval lies on one side (`over_seeds="mean"`); every seed satisfies the
      threshold, or one does not (`"every"`).
    - `undecided`: the interval straddles the threshold, a value or a cell is missing, the measure raised an
      error, or the control came out otherwise than "fails", so the measurement proves nothing.
    - `not measured`: the claim is not for this scale, or its cells are not there.
    """
    return [_judge_claim(claim, records) for claim in study.claims]


def write_claims(run: Run, judgements: Sequence[Judgement]) -> Path:
    """Store verdicts as the run's `claims.json`, whole or not at all."""
    path = run.path / "claims.json"
    write_atomically(path, to_json([judgement.to_dict() for judgement in judgements]))
    return path


def read_claims(run_path: Path) -> list[dict[str, Any]]:
    """The stored verdicts of a run; numbers that were not finite are `None`."""
    path = run_path / "claims.json"
    if not path.exists():
        raise InnerloopError(f"{run_path} has not been judged yet; `innerloop report` judges finished runs")
    claims = read_json(path)
    if not isinstance(claims, list) or not all(isinstance(claim, dict) and "id" in claim for claim in claims):
        raise InnerloopError(f"{path} is not a list of claims; `innerloop report` writes it anew")
    return claims


@dataclass(frozen=True)
class _Outcome:
    """What one measure gave and how it compares with the threshold."""

    verdict: str
    reason: str
    interval: Interval = MISSING
    per_seed: tuple[float, ...] = ()


def _judge_claim(claim: Claim, records: Records) -> Judgement:
    if records.run.scale in claim.scales:
        outcome = _measure(claim.measure, claim, records)
        control = _measure(claim.control.measure, claim, records)
    else:
        outcome = control = _Outcome(
            "not measured", f"not judged at scale {records.run.scale}, only at {', '.join(claim.scales)}"
        )
    verdict, reason = outcome.verdict, outcome.reason
    if verdict != "not measured" and control.verdict != "fails":
        # A measurement that cannot tell the method from its control says nothing about the method.
        complaint = _complain(claim.control, control)
        if verdict != "undecided":
            verdict, reason = "undecided", complaint
        elif control.reason != reason:
            reason = f"{reason}; {complaint}"
    return Judgement(
        id=claim.id,
        statement=claim.statement,
        source=claim.source,
        paper=claim.paper,
        quantity=claim.quantity,
        estimate=outcome.interval.estimate,
        low=outcome.interval.low,
        high=outcome.interval.high,
        threshold=float(claim.threshold.value),
        direction=claim.threshold.direction,
        over_seeds=claim.over_seeds,
        per_seed=outcome.per_seed,
        verdict=verdict,
        reason=reason,
        control=ControlJudgement(
            statement=claim.control.statement,
            estimate=control.interval.estimate,
            low=control.interval.low,
            high=control.interval.high,
            per_seed=control.per_seed,
            verdict=control.verdict,
            failed_as_it_must=control.verdict == "fails",
        ),
    )


def _complain(control: Control, outcome: _Outcome) -> str:
    came_out = f"holds with {outcome.interval}" if outcome.verdict == "holds" else f"is {outcome.verdict}"
    because = f", as {outcome.reason}" if outcome.reason else ""
    return f"the control did not fail: {control.statement!r} {came_out}{because}"


def _measure(measure: Measure, claim: Claim, records: Records) -> _Outcome:
    """Run one measure and judge its values; whatever goes wrong in it becomes a reason, not an exception."""
    reads = _Reads(records._cells)
    watched = Records(records.run, records.config, reads)
    try:
        values = np.asarray(measure(watched), dtype=float)
    except MissingCell as error:
        return _Outcome("not measured", str(error))
    except Exception as error:  # a study's own code: one broken claim must not take the others along
        return _Outcome("undecided", f"the measure raised {type(error).__name__}: {error}")
    finally:
        records._cells.update(reads)
    if values.shape != (len(records.seeds),):
        return _Outcome(
            "undecided",
            f"the measure gave shape {values.shape}, not one value per seed ({len(records.seeds)},)",
        )
    per_seed = tuple(float(value) for value in values)
    outcomes = {cell: records.outcome(*cell) for cell in reads.asked}
    left_out = {seed for (_, seed), outcome in outcomes.items() if outcome.get("status") == LEFT_OUT}
    kept = {seed: value for seed, value in zip(records.seeds, per_seed, strict=True) if seed not in left_out}
    missing = _what_is_missing(kept, outcomes)
    if missing:
        return _Outcome("undecided", missing, per_seed=per_seed)
    judged = _judge_every(kept, claim.threshold) if claim.over_seeds == "every" else _judge_mean(kept, claim.threshold)
    return replace(judged, per_seed=tuple(kept.get(seed, math.nan) for seed in records.seeds))


def _judge_every(per_seed: Mapping[int, float], threshold: Threshold) -> _Outcome:
    values = tuple(per_seed.values())
    interval = Interval(mean_interval(values).estimate, min(values), max(values))
    wrong = [str(seed) for seed, value in per_seed.items() if not threshold.allows(value)]
    if not wrong:
        return _Outcome("holds", "", interval)
    return _Outcome("fails", f"not {threshold} for seed {', '.join(wrong)}", interval)


def _judge_mean(per_seed: Mapping[int, float], threshold: Threshold) -> _Outcome:
    interval = mean_interval(tuple(per_seed.values()))
    if len(per_seed) == 1:
        return _Outcome("undecided", "one seed gives no interval; run more seeds, for example --seeds 5", interval)
    ends = {threshold.allows(interval.low), threshold.allows(interval.high)}
    if ends == {True}:
        return _Outcome("holds", "", interval)
    text = f"the 95% interval [{interval.low:.4g}, {interval.high:.4g}]"
    if ends == {False}:
        return _Outcome("fails", f"{text} lies wholly on the wrong side of {threshold}", interval)
    return _Outcome("undecided", f"{text} straddles {threshold}; run more seeds", interval)


class _Reads(dict[tuple[str, int], Any]):
    """The cache of `Records`, which remembers the cells that one measure asked for."""

    def __init__(self, known: dict[tuple[str, int], Any]):
        super().__init__(known)
        self.asked: dict[tuple[str, int], None] = {}  # a set that keeps the order

    def __contains__(self, cell: object) -> bool:
        # `Records` always looks here first; run-time type checkers look at items, which must not count.
        if isinstance(cell, tuple):
            self.asked[cell] = None
        return super().__contains__(cell)


def _what_is_missing(per_seed: Mapping[int, float], outcomes: Mapping[tuple[str, int], Mapping[str, Any]]) -> str:
    """Which cells failed, and which seeds have no finite value; empty if all is there."""
    found, failed = [], set()
    for (variant, seed), outcome in outcomes.items():
        if outcome.get("status") == "failed":
            at = f" at step {outcome['step']}" if outcome.get("step") is not None else ""
            found.append(f"cell {variant}-s{seed} failed{at}: {outcome.get('reason') or 'no reason recorded'}")
            failed.add(seed)
    for seed, value in per_seed.items():
        if not math.isfinite(value) and seed not in failed:
            cells = ", ".join(f"{variant}-s{seed}" for variant, of_seed in outcomes if of_seed == seed)
            found.append(f"the value of seed {seed} is {value} (from {f'cell {cells}' if cells else 'no cell'})")
    return "; ".join(found)
