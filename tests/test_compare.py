import csv
import math
from xml.etree import ElementTree

import numpy as np
import pytest

from innerloop.core.errors import InnerloopError
from innerloop.lab.report.compare import compare, draw_curves, write_comparison
from innerloop.lab.stats import mean_interval
from innerloop.lab.store import to_json, write_atomically
from synthetic_runs import Optimiser, Settings, fill, make_run

SHARED = (0.0, 10.0, 20.0)  # what the seeds have in common in both runs


def two_runs(tmp_path, *, seeds_b=(0, 1, 2)):
    a = make_run(tmp_path)
    b = make_run(tmp_path, config=Settings(steps=30, optimiser=Optimiser(lr=0.1)), seeds=seeds_b)
    for seed in a.seeds:
        fill(a, "adam", seed, train=(9.0, 8.0, SHARED[seed]), final={"loss": SHARED[seed], "only_a": 1.0})
    for seed in b.seeds:
        value = SHARED[seed] + 1.0 + 0.01 * seed
        fill(b, "adam", seed, train=(9.0, 7.0, 6.0, value), final={"loss": value})
    return a, b


def rows_of(comparison):
    return {(row.variant, row.phase, row.metric): row for row in comparison.metrics}


def test_what_was_set_differently(tmp_path):
    found = compare(*two_runs(tmp_path))
    assert found.settings == {"steps": (20, 30), "optimiser.lr": (1e-3, 0.1)}
    other = make_run(tmp_path, scale="smoke", seeds=(0,))
    assert compare(found.a, other).settings == {
        "run.scale": ("laptop", "smoke"),
        "run.seeds": ([0, 1, 2], [0]),
    }


def test_metrics_are_paired_by_seed(tmp_path):
    found = compare(*two_runs(tmp_path))
    rows = rows_of(found)
    assert set(rows) == {("adam", "train", "loss"), ("adam", "final", "loss")}
    row = rows["adam", "final", "loss"]
    assert row.a == mean_interval(SHARED)
    assert row.b.estimate == pytest.approx(11.01)
    assert row.difference.estimate == pytest.approx(1.01)
    # Unpaired, the spread of the seeds (-20 ... 40) would hide a difference of one.
    assert 1.0 <= row.difference.low <= row.difference.high <= 1.02 + 1e-9
    assert rows["adam", "train", "loss"].difference == row.difference, "the last step counts, whatever its number"
    assert "only A recorded only_a of adam in phase final" in found.notes


def test_the_ratio_is_b_over_a(tmp_path):
    a, b = make_run(tmp_path), make_run(tmp_path, scale="paper")
    for seed in a.seeds:
        fill(a, "adam", seed, final={"loss": 2.0 + seed})
        fill(b, "adam", seed, final={"loss": 6.0 + 3.0 * seed})
    row = rows_of(compare(a, b))["adam", "final", "loss"]
    assert row.ratio.estimate == pytest.approx(3.0)
    assert row.difference.estimate == pytest.approx(6.0)
    back = rows_of(compare(b, a))["adam", "final", "loss"]
    assert back.ratio.estimate == pytest.approx(1 / 3)
    assert back.difference.estimate == pytest.approx(-6.0)


def test_other_seeds_cannot_be_paired(tmp_path):
    found = compare(*two_runs(tmp_path, seeds_b=(0, 1)))
    row = rows_of(found)["adam", "final", "loss"]
    assert row.difference is None
    assert row.ratio is None
    assert row.b.estimate == pytest.approx(6.005)
    assert any("seeds 0, 1, 2, B 0, 1" in note for note in found.notes)


def test_a_failed_or_unfinished_cell_is_noted_and_never_left_out(tmp_path):
    a, b = two_runs(tmp_path)
    fill(b, "sgd", 0, final={"loss": 1.0})
    fill(b, "sgd", 1, train=(2.0,), status="failed", step=11, reason="loss was not finite")
    fill(b, "sgd", 2, train=(2.0,), done=False)
    for seed in a.seeds:
        fill(a, "sgd", seed, final={"loss": 1.0})
    found = compare(a, b)
    row = rows_of(found)["sgd", "train", "loss"]
    assert row.a.estimate == 1.0
    assert row.b.missing
    assert row.difference.missing
    assert rows_of(found)["sgd", "final", "loss"].b.missing
    assert "B: cell sgd-s1 failed at step 11: loss was not finite" in found.notes
    assert "B: cell sgd-s2 unfinished: not run to its end" in found.notes
    assert not any("adam" in note and "cell" in note for note in found.notes)


def judged(run, **verdicts):
    claims = [
        {"id": name, "statement": f"{name} is so", "verdict": verdict, "estimate": 0.5}
        for name, verdict in verdicts.items()
    ]
    write_atomically(run.path / "claims.json", to_json(claims))


def test_verdicts_side_by_side(tmp_path):
    a, b = two_runs(tmp_path)
    judged(a, c1="holds", c2="fails")
    judged(b, c1="holds", c2="holds", c3="undecided")
    rows = {row.id: row for row in compare(a, b).verdicts}
    assert [(row.verdict_a, row.verdict_b, row.changed) for row in rows.values()] == [
        ("holds", "holds", False),
        ("fails", "holds", True),
        ("not judged", "undecided", True),
    ]
    assert rows["c3"].statement == "c3 is so"
    assert (rows["c3"].estimate_a, rows["c3"].estimate_b) == (None, 0.5)
    (b.path / "claims.json").unlink()
    assert {row.verdict_b for row in compare(a, b).verdicts} == {"not judged"}


def test_runs_of_two_studies_are_refused(tmp_path):
    a, b = make_run(tmp_path), make_run(tmp_path, study="other")
    with pytest.raises(InnerloopError, match=r"only runs of one study.*'demo'.*'other'"):
        compare(a, b)
    with pytest.raises(InnerloopError, match="not a whole run folder"):
        compare(a.path, tmp_path / "nowhere")


def test_paths_will_do(tmp_path):
    a, b = two_runs(tmp_path)
    assert compare(a.path, b.path).metrics == compare(a, b).metrics


def test_curves_are_drawn_of_both_runs_with_bands(tmp_path):
    canvas = draw_curves(compare(*two_runs(tmp_path)))
    [axes] = [axes for axes in canvas.axes if axes.get_visible()]  # "final" has one step: no curve
    lines = {line.get_label(): line for line in axes.get_lines()}
    assert set(lines) == {"A: adam", "B: adam"}
    np.testing.assert_allclose(lines["A: adam"].get_xydata(), [[10, 9], [20, 8], [30, 10]])
    np.testing.assert_allclose(lines["B: adam"].get_xydata(), [[10, 9], [20, 7], [30, 6], [40, 11.01]])
    assert len(axes.collections) == 2
    assert lines["A: adam"].get_linestyle() != lines["B: adam"].get_linestyle()
    top = max(vertex[1] for path in axes.collections[0].get_paths() for vertex in path.vertices)
    assert top == pytest.approx(mean_interval(SHARED).high)


def test_one_seed_has_no_band_and_no_curves_is_said(tmp_path):
    a, b = make_run(tmp_path, seeds=(0,)), make_run(tmp_path, seeds=(0,), fresh=True)
    assert "neither run" in draw_curves(compare(a, b)).texts[0].get_text()
    fill(a, "adam", 0)
    fill(b, "adam", 0)
    [axes] = draw_curves(compare(a, b)).axes
    assert len(axes.get_lines()) == 2
    assert len(axes.collections) == 0


def test_a_comparison_is_written(tmp_path):
    a, b = two_runs(tmp_path)
    fill(a, "sgd", 0, final={"loss": math.nan})
    fill(b, "sgd", 0, final={"loss": 1.0})
    judged(a, c1="holds")
    found = compare(a, b)
    paths = write_comparison(found, tmp_path / "out")
    assert [path.name for path in paths] == ["settings.csv", "metrics.csv", "verdicts.csv", "curves.svg"]
    tables = [list(csv.DictReader(path.read_text().splitlines())) for path in paths[:3]]
    assert {"setting": "steps", "a": "20", "b": "30"} in tables[0]
    by_name = {(row["variant"], row["phase"], row["metric"]): row for row in tables[1]}
    line = by_name["adam", "final", "loss"]
    assert float(line["a"]) == 10.0
    assert float(line["a_low"]) == mean_interval(SHARED).low
    assert float(line["difference"]) == pytest.approx(1.01)
    assert by_name["sgd", "final", "loss"]["a"] == "nan"
    assert tables[2][0]["verdict_a"] == "holds"
    assert tables[2][0]["verdict_b"] == "not judged"
    assert ElementTree.parse(paths[3]).getroot().tag.endswith("svg")
    before = paths[3].read_bytes()
    write_comparison(compare(a, b), tmp_path / "out")
    assert paths[3].read_bytes() == before, "the same comparison gives the same picture"
