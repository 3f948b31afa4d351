"""The sampled part of `learning-aware`, at sizes at which nothing is learned: everything runs and is recorded."""

from dataclasses import replace

import pytest

from innerloop.lab.runner import run_study
from innerloop.lab.store import Records
from innerloop.studies.learning_aware import study
from innerloop.studies.learning_aware.sampled import configuration as sampled

TINY = sampled.SampledSettings(
    seeds=2,
    few_seeds=1,
    game=sampled.Game(copies=4, episodes=3, steps=4),
    tabular=sampled.Training(co_players=4, iterations=4),
    recurrent=sampled.Training(co_players=2, iterations=3),
    balance=sampled.Balance(batch_sizes=(2, 4), copies=64, parts=4),
    pool=sampled.MixedPool(co_players=4, iterations=4),
    clean_up=sampled.CleanUpGame(steps=4, episodes=2, copies=2, co_players=4, iterations=2),
    evaluation_co_players=4,
)


def run(tmp_path, *variants):
    config = replace(study.configurations["laptop"], sampled=TINY, variants=variants)
    outcome = run_study(study, scale="laptop", config=config, seeds=(0, 1), root=tmp_path)
    assert not outcome.errors
    return Records(outcome.run, config), outcome


@pytest.mark.slow
def test_tabular_trainings_are_recorded_and_judged(tmp_path):
    records, outcome = run(tmp_path, "tabular-coala", "tabular-evolution", "balance", "pool-mixed", "pool-pure")
    assert records.array("tabular-coala", "curves").shape == (2, 2, 3)
    assert records.array("balance", "lengths").shape == (2, 3, 2, 2)
    assert records.outcome("tabular-evolution", 1)["status"] == "left out"
    verdicts = {judgement.id: judgement.verdict for judgement in outcome.judgements}
    assert verdicts["pool-cooperates"] in ("holds", "fails", "undecided")
    assert verdicts["tabular-extorts"] == "undecided"  # nobody to compare it with
    drawn = {path.stem for path in (outcome.run.path / "figures").glob("*.svg")}
    assert {"sampled-shaping", "sampled-training", "gradient-balance", "sampled-pool"} <= drawn


@pytest.mark.slow
def test_recurrent_trainings_are_recorded_and_a_film_is_drawn(tmp_path):
    records, outcome = run(tmp_path, "recurrent-unaware", "clean-up-coala")
    assert records.array("recurrent-unaware", "curves").shape == (2, 2, 3)
    assert records.array("clean-up-coala", "seen").shape == (2, 4, 2, 62)
    assert (outcome.run.path / "figures" / "clean-up-episode.svg").exists()
