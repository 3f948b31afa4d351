"""The claims of the paper, each with the threshold it is held to and the control that must fail."""

from collections.abc import Callable

import numpy as np

from ...lab.store import Records
from ...lab.study import Claim, Control, Measure, at_least, at_most
from .measure import ALPHAS

SOURCE = "von Oswald et al. (2023), arXiv 2212.07677"


def value(variant: str, name: str, *, phase: str = "final") -> Measure:
    """A recorded number."""
    return lambda records: records.final(variant, name, phase=phase)


def ratio(variant: str, above: str, below: str) -> Measure:
    """A recorded number in units of another one of the same cells."""
    return lambda records: records.final(variant, above) / records.final(variant, below)


def ratio_across(above: tuple[str, str], below: tuple[str, str]) -> Measure:
    """A recorded number in units of one of another variant with the same seeds and test tasks."""
    return lambda records: records.final(*above) / records.final(*below)


def distribution_gap(variant: str) -> Measure:
    """The largest |log(loss of the model / loss of gradient descent)| over input ranges from 0.5 to 1.5."""

    def measure(records: Records) -> np.ndarray:
        losses = records.array(variant, "input_range_losses")[:, ALPHAS <= 1.5]
        return np.abs(np.log(losses[..., 0] / losses[..., 1])).max(axis=1)

    return measure


def worst_of(*measures: Callable[[Records], np.ndarray]) -> Measure:
    return lambda records: np.max([measure(records) for measure in measures], axis=0)


def deviation(measure: Measure) -> Measure:
    """How far a ratio is from one, in either direction."""
    return lambda records: np.abs(measure(records) - 1.0)


def own_and_following(prefix: str = "") -> Measure:
    def measure(records: Records) -> np.ndarray:
        names = (f"{prefix}own_share", f"{prefix}following_share")
        own, following = (records.final("interleaved", name, phase="copying") for name in names)
        return own + following

    return measure


DEEPER = ("laptop", "paper")

CLAIMS = (
    Claim(
        id="1",
        statement="A trained linear self-attention layer reaches the loss of one step of gradient descent",
        source=f"{SOURCE} (one layer against one step)",
        paper="the curves coincide; loss near 0.21 for 10 inputs and 10 examples (best possible step: 0.2062)",
        quantity="test loss of the trained layer / test loss of one tuned step, same tasks",
        measure=ratio("one-layer", "loss", "reference_loss"),
        threshold=at_most(1.02),
        control=Control("the layer before training", ratio("one-layer", "untrained/loss", "reference_loss")),
        over_seeds="every",
    ),
    Claim(
        id="2a",
        statement="Its sensitivity to the query points where that of gradient descent points",
        source=f"{SOURCE} (one layer against one step)",
        paper="cosine approaches 1",
        quantity="mean cosine of the two derivatives with respect to the query",
        measure=value("one-layer", "sensitivity_cosine"),
        threshold=at_least(0.98),
        control=Control("a layer trained as long with shuffled labels", value("shuffled-labels", "sensitivity_cosine")),
        over_seeds="every",
    ),
    Claim(
        id="2b",
        statement="Its sensitivity to the query has the size of that of gradient descent, too",
        source=f"{SOURCE} (one layer against one step)",
        paper="the difference approaches 0",
        quantity="mean norm of the difference of the derivatives / mean norm of gradient descent's own",
        measure=ratio("one-layer", "sensitivity_difference", "reference_sensitivity"),
        threshold=at_most(0.15),
        control=Control(
            "gradient descent with half the step size",
            ratio("one-layer", "halved_step/sensitivity_difference", "reference_sensitivity"),
        ),
        over_seeds="every",
    ),
    Claim(
        id="3",
        statement="Half-way between trained and constructed weights the loss is as low",
        source=f"{SOURCE} (one layer against one step)",
        paper="the curve of the interpolated model coincides",
        quantity="test loss with averaged weight products / test loss of one tuned step",
        measure=ratio("one-layer", "interpolated/loss", "reference_loss"),
        threshold=at_most(1.03),
        control=Control(
            "interpolation with a layer trained on shuffled labels",
            ratio("shuffled-labels", "interpolated/loss", "reference_loss"),
        ),
        over_seeds="every",
    ),
    Claim(
        id="4",
        statement="On inputs of another range it degrades as gradient descent does",
        source=f"{SOURCE}, appendix (out of distribution)",
        paper="the curves coincide",
        quantity="largest |log(loss of the layer / loss of gradient descent)| over input ranges 0.5 to 1.5 times",
        measure=distribution_gap("one-layer"),
        threshold=at_most(0.15),
        control=Control("a layer trained on shuffled labels", distribution_gap("shuffled-labels")),
        over_seeds="every",
    ),
    Claim(
        id="5a",
        statement="Two recurrent layers beat two steps of gradient descent",
        source=f"{SOURCE} (two layers)",
        paper="the trained model is clearly better",
        quantity="test loss of two shared layers / test loss of two tuned steps",
        measure=ratio("two-layers", "loss", "gd_loss"),
        threshold=at_most(0.85),
        control=Control("one trained layer", ratio_across(("one-layer", "loss"), ("two-layers", "gd_loss"))),
        scales=DEEPER,
    ),
    Claim(
        id="5b",
        statement="Two recurrent layers match two steps of GD++",
        source=f"{SOURCE} (GD++)",
        paper="the curves coincide",
        quantity="|test loss of two shared layers / test loss of two tuned steps of GD++ - 1|",
        measure=deviation(ratio("two-layers", "loss", "gd_plus_plus_loss")),
        threshold=at_most(0.10),
        control=Control(
            "two tuned steps of plain gradient descent", deviation(ratio("two-layers", "gd_loss", "gd_plus_plus_loss"))
        ),
        scales=DEEPER,
    ),
    Claim(
        id="6a",
        statement="With a network before it, a trained layer does gradient descent on learned features",
        source=f"{SOURCE} (sine waves)",
        paper="the curves coincide",
        quantity="test loss with trained attention / test loss with the construction, network trained in both",
        measure=deviation(ratio_across(("sine", "loss"), ("sine-gradient-descent", "loss"))),
        threshold=at_most(0.15),
        control=Control(
            "a trained layer without the network",
            deviation(ratio_across(("sine-without-network", "loss"), ("sine-gradient-descent", "loss"))),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="6b",
        statement="Both are far better than gradient descent on the raw input",
        source=f"{SOURCE} (sine waves)",
        paper="a linear model of the raw input cannot fit a sine wave",
        quantity="the larger of both test losses / test loss of one tuned step on the raw input",
        measure=worst_of(
            ratio("sine", "loss", "raw_input_gd_loss"),
            ratio("sine-gradient-descent", "loss", "raw_input_gd_loss"),
        ),
        threshold=at_most(0.3),
        control=Control(
            "a trained layer without the network", ratio("sine-without-network", "loss", "raw_input_gd_loss")
        ),
        scales=DEEPER,
    ),
    Claim(
        id="7",
        statement="With inputs and labels in tokens of their own, the first layer copies each label to its input",
        source=f"{SOURCE} (token construction)",
        paper="after training, the gradient norm lies on a token itself and on the next one",
        quantity="share of the derivative of the first layer's output that lies on the own and the next token",
        measure=own_and_following(),
        threshold=at_least(0.8),
        control=Control("the model before training", own_and_following("untrained/")),
        scales=DEEPER,
    ),
)
