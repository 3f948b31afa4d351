import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as oracle

from innerloop.lab.stats import (
    bootstrap_interval,
    mean_band,
    mean_interval,
    paired_difference,
    paired_ratio,
)

numbers = st.floats(-1e3, 1e3, allow_nan=False).map(lambda x: round(x, 3))


@settings(derandomize=True, deadline=None, max_examples=60)
@given(st.lists(numbers, min_size=2, max_size=12).filter(lambda v: len(set(v)) > 1), st.floats(0.5, 0.999))
def test_mean_interval_equals_scipy(values, confidence):
    found = mean_interval(values, confidence)
    low, high = oracle.t.interval(confidence, len(values) - 1, np.mean(values), oracle.sem(values))
    np.testing.assert_allclose([found.estimate, found.low, found.high], [np.mean(values), low, high], rtol=1e-9)


def test_a_known_interval():
    # t of 2 degrees of freedom at 0.975 is 4.302653, the standard error of 1, 2, 3 is 1/sqrt(3).
    found = mean_interval([1.0, 2.0, 3.0])
    assert found.estimate == 2.0
    assert found.high - 2.0 == pytest.approx(4.302652730 / math.sqrt(3), rel=1e-8)
    assert 2.0 - found.low == pytest.approx(found.high - 2.0)


def test_one_seed_is_unbounded():
    found = mean_interval([0.25])
    assert (found.estimate, found.low, found.high) == (0.25, -math.inf, math.inf)


def test_equal_values_keep_their_exact_value():
    # The plain mean of three times 0.1 is 0.10000000000000002, which would miss the threshold "at most 0.1".
    found = mean_interval([0.1, 0.1, 0.1])
    assert (found.estimate, found.low, found.high) == (0.1, 0.1, 0.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_missing_value_is_never_dropped(bad):
    for found in (mean_interval([1.0, bad, 3.0]), bootstrap_interval([1.0, bad, 3.0])):
        assert found.missing
        assert math.isnan(found.low)
        assert math.isnan(found.high)
    assert mean_interval([bad]).missing
    assert paired_difference([1.0, 2.0], [1.0, bad]).missing
    assert paired_ratio([1.0, bad], [1.0, 2.0]).missing


@pytest.mark.parametrize("function", [mean_interval, bootstrap_interval])
def test_no_value_is_refused(function):
    with pytest.raises(ValueError, match="at least one value"):
        function([])


def test_wrong_shapes_and_confidence_are_refused():
    with pytest.raises(ValueError, match="one value per seed"):
        mean_interval(np.zeros((2, 2)))
    with pytest.raises(ValueError, match="confidence"):
        mean_interval([1.0, 2.0], 95.0)
    with pytest.raises(ValueError, match="same seeds"):
        paired_difference([1.0, 2.0], [1.0])


def test_a_band_is_an_interval_at_every_step():
    values = np.array([[1.0, 5.0, math.nan], [2.0, 5.0, 1.0], [4.0, 5.0, 1.0]])
    mean, low, high = mean_band(values)
    for k in range(3):
        one = mean_interval(values[:, k])
        np.testing.assert_array_equal([mean[k], low[k], high[k]], [one.estimate, one.low, one.high])


def test_bootstrap_is_reproducible_and_depends_on_its_seed():
    values = np.random.default_rng(3).normal(size=8)
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values)


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(0).normal(2.0, 1.0, size=30)
    ours = bootstrap_interval(values, resamples=20_000)
    theirs = oracle.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    assert ours.estimate == pytest.approx(values.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.02)
    assert ours.high == pytest.approx(theirs.high, abs=0.02)


def test_bootstrap_covers_about_as_often_as_it_says():
    random = np.random.default_rng(1)
    draws = [bootstrap_interval(random.normal(size=40), resamples=500) for _ in range(300)]
    covered = np.mean([found.low <= 0.0 <= found.high for found in draws])
    assert 0.88 <= covered <= 0.98


def test_pairing_removes_what_seeds_share():
    shared = np.array([0.0, 10.0, -10.0, 5.0, 20.0])
    found = paired_difference(shared, shared + np.array([1.0, 1.1, 0.9, 1.0, 1.0]))
    assert found.estimate == pytest.approx(1.0)
    assert 0.9 <= found.low < found.high <= 1.1


def test_ratio_is_of_means_and_keeps_pairs():
    first = np.array([1.0, 2.0, 4.0, 8.0])
    found = paired_ratio(first, 3.0 * first)
    assert found.estimate == pytest.approx(3.0)
    assert found.low == pytest.approx(3.0)
    assert found.high == pytest.approx(3.0)
    assert paired_ratio([1.0, 3.0], [3.0, 3.0]).estimate == pytest.approx(1.5)  # not the mean of ratios, 2


def test_ratio_with_a_denominator_that_may_be_zero_is_missing():
    assert paired_ratio([0.0, 1.0, 2.0], [1.0, 1.0, 1.0]).missing  # a resample of three zeros exists


def test_one_pair_is_unbounded():
    found = paired_difference([1.0], [3.0])
    assert (found.estimate, found.low, found.high) == (2.0, -math.inf, math.inf)
