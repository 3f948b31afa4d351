import json
import math
from dataclasses import replace

import numpy as np
import pytest

from innerloop.core.errors import InnerloopError
from innerloop.lab.judge import Judgement, judge, read_claims, write_claims
from innerloop.lab.paper import Paper
from innerloop.lab.report.contents import recorded_cells
from innerloop.lab.runner import run_study
from innerloop.lab.store import CellFolder
from innerloop.lab.study import Claim, Control, Study, at_least, at_most
from synthetic_runs import Settings, fill, make_run, records_of

SEEDS = (0, 1, 2)


def constant(values):
    return lambda records: np.asarray(values, dtype=float)


FAILING = constant([9.0, 9.1, 9.2])
AT_MOST_ONE = at_most(1.0)


def claim(measure, *, control=FAILING, threshold=AT_MOST_ONE, id="c1", **options):
    """A claim `<= 1` whose control fails unless said otherwise."""
    return Claim(
        id=id,
        statement="The method is good.",
        source="Figure 1; spec claim 1",
        paper="0.5",
        quantity="final loss",
        measure=measure,
        threshold=threshold,
        control=Control("an untrained network", control),
        **options,
    )


def study_of(*claims):
    return Study(
        name="demo",
        paper=Paper("demo", "A title", ("Ada Lovelace",), 2020, "2001.00001"),
        configurations={"laptop": Settings()},
        seeds={"laptop": 3},
        variants=lambda config: ("adam",),
        measure=lambda config, cells: None,
        claims=claims,
    )


def verdict(tmp_path, *claims, seeds=SEEDS, scale="laptop") -> Judgement:
    run = make_run(tmp_path, seeds=seeds, scale=scale)
    return judge(study_of(*claims), records_of(run))[0]


@pytest.mark.parametrize(
    ("values", "threshold", "expected"),
    [
        ([0.5, 0.6, 0.7], at_most(1.0), "holds"),
        ([1.5, 1.6, 1.7], at_most(1.0), "fails"),
        ([0.5, 1.0, 1.6], at_most(1.0), "undecided"),
        ([0.1, 0.5, 0.9], at_most(1.0), "undecided"),  # the mean is on the right side, its interval is not
        ([1.0, 1.0, 1.0], at_most(1.0), "holds"),  # the line itself is allowed
        ([0.1, 0.1, 0.1], at_most(0.1), "holds"),
        ([1.5, 1.6, 1.7], at_least(1.0), "holds"),
        ([0.5, 0.6, 0.7], at_least(1.0), "fails"),
    ],
)
def test_the_mean_is_judged_by_its_whole_interval(tmp_path, values, threshold, expected):
    wrong = [9.0, 9.1, 9.2] if threshold.direction == "<=" else [-9.0, -9.1, -9.2]
    found = verdict(tmp_path, claim(constant(values), threshold=threshold, control=constant(wrong)))
    assert found.verdict == expected
    assert found.estimate == pytest.approx(np.mean(values))
    assert found.low <= found.estimate <= found.high
    assert found.per_seed == tuple(values)
    assert (found.threshold, found.direction) == (threshold.value, threshold.direction)
    assert found.control.failed_as_it_must
    assert found.control.verdict == "fails"
    assert ("straddles" in found.reason) == (expected == "undecided")


def test_every_seed_must_satisfy(tmp_path):
    control = constant([9.0, 0.0, 9.0])  # one wrong seed is enough for "every" to fail
    good = verdict(tmp_path, claim(constant([0.1, 0.9, 1.0]), over_seeds="every", control=control))
    assert (good.verdict, good.low, good.high) == ("holds", 0.1, 1.0)
    assert good.control.failed_as_it_must
    bad = verdict(tmp_path, claim(constant([0.1, 1.1, 0.2]), over_seeds="every", control=control))
    assert (bad.verdict, bad.low, bad.high) == ("fails", 0.1, 1.1)
    assert "seed 1" in bad.reason


def test_one_seed(tmp_path):
    mean = verdict(tmp_path, claim(constant([0.5]), control=constant([9.0])), seeds=(0,))
    assert mean.verdict == "undecided"
    assert mean.reason == "one seed gives no interval; run more seeds, for example --seeds 5"
    assert (mean.estimate, mean.low, mean.high) == (0.5, -math.inf, math.inf)
    every = verdict(tmp_path, claim(constant([0.5]), control=constant([9.0]), over_seeds="every"), seeds=(0,))
    assert every.verdict == "holds"


@pytest.mark.parametrize(
    ("control", "given"),
    [
        (constant([0.1, 0.2, 0.3]), "holds"),
        (constant([0.5, 1.0, 1.5]), "undecided"),
        (lambda records: records.final("absent", "loss"), "not measured"),
    ],
)
@pytest.mark.parametrize("values", [[0.5, 0.6, 0.7], [1.5, 1.6, 1.7]])
def test_a_control_that_does_not_fail_leaves_the_claim_undecided(tmp_path, control, given, values):
    found = verdict(tmp_path, claim(constant(values), control=control))
    assert found.control.verdict == given
    assert not found.control.failed_as_it_must
    assert found.verdict == "undecided"
    assert found.reason.startswith("the control did not fail: 'an untrained network'")
    assert found.estimate == pytest.approx(np.mean(values)), "the measurement is still shown"


def test_a_claim_for_another_scale_is_not_measured_at_all(tmp_path):
    def never(records):
        raise AssertionError("measured although it is not for this scale")

    found = verdict(tmp_path, claim(never, control=never, scales=("laptop", "paper")), scale="smoke")
    assert found.verdict == "not measured"
    assert "smoke" in found.reason
    assert "laptop" in found.reason
    assert found.control.verdict == "not measured"
    assert not found.control.failed_as_it_must


def test_a_missing_cell_is_not_measured(tmp_path):
    run = make_run(tmp_path)
    for seed in SEEDS:
        fill(run, "adam", seed, final={"loss": 0.5}, done=seed < 2)
    unfinished = claim(lambda records: records.final("adam", "loss"), id="unfinished")
    [found] = judge(study_of(unfinished), records_of(run))
    assert found.verdict == "not measured"
    assert "adam-s2" in found.reason
    assert found.control.failed_as_it_must


def test_a_failed_cell_is_named_with_its_step(tmp_path):
    run = make_run(tmp_path)
    fill(run, "adam", 0, final={"loss": 0.5})
    fill(run, "adam", 1, final={"loss": 0.6})
    fill(run, "adam", 2, final={"loss": math.nan}, status="failed", step=20, reason="loss was not finite")
    final = claim(lambda records: records.final("adam", "loss"))
    [found] = judge(study_of(final), records_of(run))
    assert found.verdict == "undecided"
    assert "cell adam-s2 failed at step 20: loss was not finite" in found.reason
    assert "adam-s0" not in found.reason
    assert math.isnan(found.estimate)
    assert found.per_seed[:2] == (0.5, 0.6)

    # A measure that hides the missing seed does not hide the failed cell.
    hiding = claim(lambda records: np.nan_to_num(records.final("adam", "loss")))
    assert judge(study_of(hiding), records_of(run))[0].verdict == "undecided"


def test_each_claim_is_held_to_its_own_cells(tmp_path):
    run = make_run(tmp_path)
    for seed in SEEDS:
        fill(run, "adam", seed, final={"loss": 0.5 + 0.01 * seed})
        fill(run, "sgd", seed, final={"loss": math.nan}, status="failed", step=3, reason="loss was not finite")
    of_sgd = claim(lambda records: records.final("sgd", "loss"), id="sgd")
    of_adam = claim(lambda records: records.final("adam", "loss"), id="adam")
    again = claim(lambda records: records.final("sgd", "loss"), id="again")  # now from the cache
    found = judge(study_of(of_sgd, of_adam, again), records_of(run))
    assert [item.verdict for item in found] == ["undecided", "holds", "undecided"]
    assert "sgd-s1 failed at step 3" in found[2].reason


def test_a_cell_is_read_from_disk_once(tmp_path, monkeypatch):
    run = make_run(tmp_path)
    for seed in SEEDS:
        fill(run, "adam", seed, final={"loss": 0.5 + 0.01 * seed})
    read = []
    original = CellFolder.read_metrics
    monkeypatch.setattr(CellFolder, "read_metrics", lambda cell: read.append(cell.path.name) or original(cell))
    loss = [claim(lambda records: records.final("adam", "loss"), id=f"c{i}") for i in range(4)]
    assert [item.verdict for item in judge(study_of(*loss), records_of(run))] == ["holds"] * 4
    assert sorted(read) == ["adam-s0", "adam-s1", "adam-s2"]


def test_a_nan_from_sound_cells_names_the_seed(tmp_path):
    run = make_run(tmp_path)
    for seed in SEEDS:
        fill(run, "adam", seed, final={"loss": 0.5})
    ratio = claim(lambda records: np.where(records.final("adam", "loss") > 0, [1.0, math.nan, 1.0], 0.0))
    [found] = judge(study_of(ratio), records_of(run))
    assert found.verdict == "undecided"
    assert "seed 1 is nan (from cell adam-s1)" in found.reason


def test_a_nan_control_does_not_count_as_failing(tmp_path):
    found = verdict(tmp_path, claim(constant([0.5, 0.5, 0.6]), control=constant([9.0, math.nan, 9.0])))
    assert found.verdict == "undecided"
    assert found.control.verdict == "undecided"


@pytest.mark.parametrize(
    ("measure", "text"),
    [
        (lambda records: {}["loss"], "KeyError: 'loss'"),
        (lambda records: np.zeros((3, 2)), "shape (3, 2)"),
        (lambda records: 0.5, "shape ()"),
        (lambda records: ["a", "b", "c"], "ValueError"),
    ],
)
def test_a_broken_measure_takes_nobody_along(tmp_path, measure, text):
    run = make_run(tmp_path)
    sound = claim(constant([0.5, 0.6, 0.7]), id="sound")
    found = judge(study_of(claim(measure, id="broken"), sound), records_of(run))
    assert [item.verdict for item in found] == ["undecided", "holds"]
    assert text in found[0].reason
    assert found[0].per_seed == ()


def test_claims_file(tmp_path):
    run = make_run(tmp_path)
    found = judge(
        study_of(claim(constant([0.5, 0.6, 0.7])), claim(constant([0.5, math.nan, 1.0]), id="c2")),
        records_of(run),
    )
    path = write_claims(run, found)
    assert path == run.path / "claims.json"
    json.loads(path.read_text(), parse_constant=pytest.fail)  # strict: no NaN, no Infinity
    first, second = read_claims(run.path)
    names = "id statement source paper quantity estimate low high threshold direction over_seeds per_seed"
    assert " ".join(first) == f"{names} verdict reason control"
    assert " ".join(first["control"]) == "statement estimate low high per_seed verdict failed_as_it_must"
    assert first["verdict"] == "holds"
    assert first["per_seed"] == [0.5, 0.6, 0.7]
    assert first["threshold"] == 1.0
    assert first["control"]["failed_as_it_must"] is True
    assert second["estimate"] is None
    assert second["per_seed"] == [0.5, None, 1.0]


def test_reading_claims_that_are_not_there_or_not_claims(tmp_path):
    run = make_run(tmp_path)
    with pytest.raises(InnerloopError, match="not been judged yet"):
        read_claims(run.path)
    for content in ('{"id": 1}', "[1, 2]", "[{}]"):
        (run.path / "claims.json").write_text(content)
        with pytest.raises(InnerloopError, match="not a list of claims"):
            read_claims(run.path)
    (run.path / "claims.json").write_text("[{")
    with pytest.raises(InnerloopError, match="damaged"):
        read_claims(run.path)


def test_seeds_that_a_variant_leaves_out_are_not_judged(tmp_path):
    run = make_run(tmp_path, seeds=(0, 1, 2, 3))
    for seed in (0, 1, 2):
        fill(run, "adam", seed, final={"loss": 0.5 + 0.01 * seed})
        fill(run, "cheap", seed, final={"loss": 9.0 + seed})
    fill(run, "cheap", 3, final={"loss": 9.5})
    run.cell("adam", 3).leave_out()
    both = claim(
        lambda records: records.final("adam", "loss"),
        control=lambda records: records.final("cheap", "loss"),
    )
    judged = judge(study_of(both), records_of(run))[0]
    assert judged.verdict == "holds", judged.reason
    assert judged.per_seed[:3] == (0.5, 0.51, 0.52) and math.isnan(judged.per_seed[3])
    assert judged.control.per_seed == (9.0, 10.0, 11.0, 9.5)
    every = claim(both.measure, control=both.control.measure, over_seeds="every")
    assert judge(study_of(every), records_of(run))[0].verdict == "holds"


def test_a_study_may_measure_a_variant_with_fewer_seeds(tmp_path):
    measured = {}

    def measure(config, cells):
        measured[cells.variant] = cells.seeds
        cells.record({"loss": np.full(len(cells.seeds), 0.5)})

    study = replace(
        study_of(),
        variants=lambda config: ("adam", "cheap"),
        measure=measure,
        variant_seeds=lambda config, variant: 2 if variant == "adam" else 99,
    )
    outcome = run_study(study, scale="laptop", config=Settings(), seeds=SEEDS, root=tmp_path)
    assert measured == {"adam": (0, 1), "cheap": (0, 1, 2)} and not outcome.errors
    assert outcome.run.cell("adam", 2).finished
    assert [cell.name for cell in recorded_cells(outcome.run)] == ["adam-s0", "adam-s1"] + [
        f"cheap-s{seed}" for seed in SEEDS
    ]
    measured.clear()
    run_study(study, scale="laptop", config=Settings(), seeds=SEEDS, root=tmp_path)
    assert not measured
