"""What the claims of `mesa-optimization` measure, from stored records alone."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np

from ...lab.store import MissingCell, Records
from ...lab.study import Measure
from .configuration import DEPTHS

BOUND = 0.1  # the normalised error below which a probe has found what it looked for


def value(variant: str, name: str) -> Measure:
    """A recorded number."""
    return lambda records: records.final(variant, name)


def ratio(variant: str, above: str, below: str) -> Measure:
    """A recorded number in units of another one of the same cells."""
    return lambda records: records.final(variant, above) / records.final(variant, below)


def ratio_across(above: tuple[str, str], below: tuple[str, str]) -> Measure:
    """A recorded number in units of one of another variant with the same seeds and test sequences."""
    return lambda records: records.final(*above) / records.final(*below)


def deviation(measure: Measure) -> Measure:
    """How far a ratio is from one, in either direction."""
    return lambda records: np.abs(measure(records) - 1.0)


def largest(*measures: Callable[[Records], np.ndarray]) -> Measure:
    return lambda records: np.max([measure(records) for measure in measures], axis=0)


def smallest(*measures: Callable[[Records], np.ndarray]) -> Measure:
    return lambda records: np.min([measure(records) for measure in measures], axis=0)


# ---- depth -----------------------------------------------------------------------------------------------------


def depths(records: Records) -> list[int]:
    """The depths that this run has trained."""
    found = [depth for depth in DEPTHS if f"linear-{depth}" in records.config.variants]
    if not found:
        raise MissingCell("this run has trained no linear self-attention")
    return found


def deepest(measure: Callable[[str], Measure]) -> Measure:
    """A measure of the deepest stack of linear self-attention."""
    return lambda records: measure(f"linear-{depths(records)[-1]}")(records)


def steepest(name: str) -> Measure:
    """The largest ratio of a loss to that of the next shallower model: below one if depth always helps."""

    def measure(records: Records) -> np.ndarray:
        losses = [records.final(f"linear-{depth}", name) for depth in depths(records)]
        return np.max([after / before for before, after in pairwise(losses)], axis=0)

    return measure


def over_depths(choose: Callable[..., np.ndarray], above: str, below: str) -> Measure:
    def measure(records: Records) -> np.ndarray:
        found = [ratio(f"linear-{depth}", above, below)(records) for depth in depths(records)]
        return choose(found, axis=0)

    return measure


def noise_loss(records: Records) -> float:
    """The loss that is left for one who knows the system."""
    return 0.5 * records.config.systems.size * records.config.systems.process_noise


def shallow_against_deep(records: Records) -> np.ndarray:
    """One trained layer against the preconditioned comparator of the deepest model."""
    return ratio_across(("linear-1", "loss"), (f"linear-{depths(records)[-1]}", "preconditioned_loss"))(records)


# ---- probes ----------------------------------------------------------------------------------------------------


def rank_correlation(name: str) -> Callable[[str], Measure]:
    """Spearman's correlation of depth with the negative error of a probe at the last position, tokens included."""

    def of_variant(variant: str) -> Measure:
        def measure(records: Records) -> np.ndarray:
            errors = records.array(variant, name)[:, :, -1]
            ranks = np.argsort(np.argsort(-errors, axis=1), axis=1).astype(float)
            places = np.arange(errors.shape[1]) - (errors.shape[1] - 1) / 2
            found = (ranks - ranks.mean(axis=1, keepdims=True)) @ places / np.sum(places**2)
            return np.where(np.isfinite(errors).all(axis=1), np.round(found, 12), np.nan)

        return measure

    return of_variant


def last_over_first(name: str) -> Callable[[str], Measure]:
    """The error of a probe after the last layer over that after the first, at the last position."""

    def of_variant(variant: str) -> Measure:
        def measure(records: Records) -> np.ndarray:
            errors = records.array(variant, name)[:, :, -1]
            return errors[:, -1] / errors[:, 1]

        return measure

    return of_variant


def probe_at(variant: str, offsets: tuple[int, ...], name: str = "binding_probes") -> Measure:
    """The largest error of decoding the observations so many tokens back."""
    return lambda records: records.array(variant, name)[:, list(offsets)].max(axis=1)


def horizon(variant: str, name: str = "binding_probes") -> Measure:
    """How many observations in a row, from the last one back, are decoded from the last token."""

    def measure(records: Records) -> np.ndarray:
        errors = records.array(variant, name)
        found = np.cumprod(errors < BOUND, axis=1).sum(axis=1).astype(float)
        return np.where(np.isfinite(errors).all(axis=1), found, np.nan)

    return measure


# ---- curves ----------------------------------------------------------------------------------------------------


def spread(name: str) -> Measure:
    """By how much a relative loss varies over sizes: largest over smallest, minus one."""

    def measure(records: Records) -> np.ndarray:
        losses = records.array("predictors", f"{name}_losses")
        return losses.max(axis=1) / losses.min(axis=1) - 1.0

    return measure


def growth(name: str) -> Measure:
    """A relative loss at the largest size over that at the smallest."""

    def measure(records: Records) -> np.ndarray:
        losses = records.array("predictors", f"{name}_losses")
        return losses[:, -1] / losses[:, 0]

    return measure


def shot_ratio(name: str, above: int, below: int) -> Measure:
    """A few-shot loss at one pair over that at another, counted from one."""

    def measure(records: Records) -> np.ndarray:
        losses = records.array("few-shot", name)
        return losses[:, above - 1] / losses[:, below - 1]

    return measure


def last_shot(name: str) -> Measure:
    def measure(records: Records) -> np.ndarray:
        losses = records.array("few-shot", name)
        return losses[:, -1] / losses[:, 1]

    return measure
