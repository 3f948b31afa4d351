"""The exact part of `learning-aware`: thresholds as in its spec, trainings that are what they are called."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.core.errors import UnknownNameError
from innerloop.lab.runner import run_study
from innerloop.lab.store import Records
from innerloop.studies import load
from innerloop.studies.learning_aware import exact_training as training
from innerloop.studies.learning_aware.configuration import EXACT_VARIANTS, LAPTOP, SHORT, SMOKE, AgentSettings, Config
from innerloop.testing import check_study

TINY = replace(
    SHORT, naive_batch=2, naive_steps=3, steps=2, meeting_steps=2, pool_steps=2, pool_naive_batch=2, evaluation_naive=2
)


def test_thresholds_are_those_of_the_spec():
    expected = {
        "zero-determinant": "<= 1e-10",
        "signs-at-defection": "<= 0",
        "exact-extorts": ">= 0.5",
        "exact-extorts-from-defection": ">= 0.5",
        "exact-extorts-from-defection-raw": ">= 0.5",
        "exact-keeps-learners": "<= 0.25",
        "exact-zero-determinant-fit": ">= 0.9",
        "exact-extorters-start-low": "<= 0.2",
        "exact-extorters-cooperate": ">= 0.7",
        "exact-mixed-pool": ">= 0.5",
        "exact-pure-pool": ">= 0.5",
        "lola-few": ">= 0.3",
        "lola-extorts": ">= 0.5",
        "lola-trend": ">= 0",
        "lola-mixed": ">= 0.2",
    }
    claims = {claim.id: str(claim.threshold) for claim in load("learning-aware").claims}
    assert {name: claims[name] for name in expected} == expected


def test_settings_are_those_of_the_spec():
    exact = LAPTOP.exact
    assert (exact.discount, exact.naive_rate, exact.one_look_ahead_rate, exact.naive_steps) == (0.95, 5.0, 10.0, 20)
    assert (exact.learning_rate, exact.steps, exact.naive_batch) == (0.005, 3000, 32)
    assert (exact.pool_learning_rate, exact.pool_steps, exact.pool_naive_batch) == (0.01, 5000, 8)
    assert (exact.seeds, exact.lola_seeds) == (16, 64)
    # A step along the raw return is twenty times one along payoffs per step.
    assert training.rates_of(exact) == pytest.approx({"raw": 100.0, "scaled": 5.0})
    assert training.rates_of(exact, look_aheads=1)["raw"] == pytest.approx(200.0)


def pairs(shape):
    return jax.random.normal(jax.random.key(0), shape)


def test_shaping_goes_through_the_learning_and_the_control_does_not():
    naive = training.Naive(3, np.asarray([5.0]))
    policies = pairs((1, 2, 5))
    with_learning, without = (
        jax.jit(training.shaping_rule(("a",), naive, TINY, aware=aware))(jax.random.key(1), policies)
        for aware in (True, False)
    )
    np.testing.assert_allclose(with_learning.info["a/ego"], without.info["a/ego"], rtol=1e-5)
    assert np.abs(np.asarray(with_learning.ascent - without.ascent)).max() > 1e-3
    # Without a gradient through the learning it is the sum of partial gradients along the learner's way.
    learners = jax.random.normal(il.named_key(jax.random.key(1), "naive"), (1, 2, 2, 5))

    @jax.jit
    @jax.vmap
    @jax.vmap
    def along(policy, learner):
        game = (il.PRISONERS_DILEMMA, 0.95)
        way = il.rl.naive_trajectory(policy, learner, *game, num_steps=3, rate=5.0)
        return sum(il.rl.naive_gradient(policy, other, *game, normalised=True) for other in way.policies)

    wanted = along(jnp.broadcast_to(policies[0][:, None], (2, 2, 5)), learners[0]).sum(axis=1) / (2 * 4)
    np.testing.assert_allclose(without.ascent[0], wanted, atol=1e-5)


def test_looking_ahead_is_the_gradient_of_the_last_point_and_mixes_in_the_partial_one():
    policies = jnp.broadcast_to(pairs((2, 5)), (2, 2, 5))
    rule = training.look_ahead_rule(("a", "b"), training.Naive(2, np.asarray([5.0, 5.0])), np.asarray([1.0, 0.4]), 0.95)
    ascent = np.asarray(jax.jit(rule)(jax.random.key(0), policies).ascent)

    @jax.jit
    def expected(first, second):
        game = (il.PRISONERS_DILEMMA, 0.95)

        def ahead(ego):
            return il.rl.look_ahead_objective(ego, second, *game, look_aheads=2, rate=5.0, normalised=True)

        return jax.grad(ahead)(first), il.rl.naive_gradient(first, second, *game, normalised=True)

    wanted, partial = expected(*policies[0])
    np.testing.assert_allclose(ascent[0, 0], wanted, atol=1e-5)
    np.testing.assert_allclose(ascent[1, 0], 0.4 * wanted + 0.6 * partial, atol=1e-5)


def test_names_are_checked():
    with pytest.raises(UnknownNameError, match="mesa"):
        AgentSettings(layer="messa")
    with pytest.raises(UnknownNameError, match="mixed-pool"):
        Config(variants=("mixed-pol",))


@pytest.mark.slow
def test_every_exact_variant_is_recorded_judged_and_drawn(tmp_path):
    study = load("learning-aware")
    variants = ("theory", "extortion", "mixed-pool", "lola-10")
    assert set(variants) <= set(EXACT_VARIANTS)
    config = replace(LAPTOP, exact=TINY, variants=variants)
    outcome = run_study(study, scale="laptop", config=config, seeds=(0, 1), root=tmp_path)
    assert not outcome.errors
    records = Records(outcome.run, config)
    assert records.array("extortion", "policies").shape == (2, 4, 2, 5)
    assert records.array("lola-10", "shaping_curves").shape == (2, 4, 4, 2)
    verdicts = {judgement.id: judgement.verdict for judgement in outcome.judgements}
    assert verdicts["zero-determinant"] == verdicts["signs-at-defection"] == "holds"
    drawn = {path.stem for path in (outcome.run.path / "figures").glob("*.svg")}
    assert {"extortion-plane", "exact-shaping", "exact-policies", "exact-meeting", "exact-pools"} <= drawn
    assert {"look-aheads", "who-exploits-whom"} <= drawn


@pytest.mark.slow
def test_conforms_at_smoke_scale():
    check_study(load("learning-aware"), replace(SMOKE, exact=TINY, variants=("theory",)))


@pytest.mark.long
def test_exact_variants_conform_at_laptop_scale():
    check_study(load("learning-aware"), replace(LAPTOP, exact=TINY, variants=EXACT_VARIANTS), scale="laptop")
