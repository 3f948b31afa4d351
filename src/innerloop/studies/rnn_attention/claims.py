"""The claims of the paper, each with the threshold it is held to and the control that must fail."""

from collections.abc import Callable

import numpy as np

from ...lab.store import Records
from ...lab.study import Claim, Control, Measure, at_least, at_most

SOURCE = "Zucchet et al. (2023), arXiv 2309.01775"
SUCCESS = 3e-4  # a relative error below which a network counts as having found attention
Name = str | Callable[[Records], str]


def neurons(role: str) -> Callable[[Records], str]:
    """The variant with as many neurons as a construction has, or as many as double that."""

    def name(records: Records) -> str:
        imitation = records.config.imitation
        sizes = {"too few": imitation.too_few, "compressed": imitation.compressed, "generic": imitation.generic}
        sizes |= {"double": 2 * imitation.compressed, "most": max(imitation.sizes)}
        return f"neurons-{sizes[role]}"

    return name


def special(records: Records) -> str:
    """The regression variant with as many neurons as one step of gradient descent needs."""
    return f"regression-{records.config.regression.special}"


def generic(records: Records) -> str:
    """The regression variant with as many neurons as the compressed construction for any attention."""
    return f"regression-{records.config.regression.generic}"


def value(variant: Name, name: str) -> Measure:
    """A recorded number."""
    return lambda records: records.final(variant if isinstance(variant, str) else variant(records), name)


def ratio(above: Measure, below: Measure) -> Measure:
    """One number in units of another one of the same seed."""
    return lambda records: above(records) / below(records)


def error(variant: Name, prefix: str = "") -> Measure:
    """The relative error on held-out sequences."""
    return value(variant, f"{prefix}relative_error")


def median(measure: Measure) -> Measure:
    """The median over seeds, for every seed the same."""

    def of_all(records: Records) -> np.ndarray:
        values = measure(records)
        return np.full(len(values), np.median(values))

    return of_all


def success_rate(variant: Name) -> Measure:
    """The share of seeds whose error is at most `SUCCESS`, for every seed the same."""

    def of_all(records: Records) -> np.ndarray:
        errors = error(variant)(records)
        rate = np.mean(errors <= SUCCESS) if np.isfinite(errors).all() else np.nan
        return np.full(len(errors), rate)

    return of_all


def difference(first: Measure, second: Measure) -> Measure:
    return lambda records: first(records) - second(records)


TRAINED = ("laptop", "paper")

CLAIMS = (
    Claim(
        id="1",
        statement="A gated linear recurrent network can be exactly linear self-attention",
        source=f"{SOURCE} (construction); the compressed construction is derived here",
        paper="a theorem",
        quantity="largest relative error of both constructions in float64, dimensions 2 to 8",
        measure=lambda records: np.maximum(
            records.final("construction", "compressed"), records.final("construction", "generic")
        ),
        threshold=at_most(1e-10),
        control=Control("the construction with a memory that fades by 1% per token", value("construction", "fading")),
        over_seeds="every",
    ),
    Claim(
        id="2a",
        statement="With the neurons of the compressed construction the error collapses",
        source=f"{SOURCE} (students of a linear attention teacher); the neuron count is derived here",
        paper="the error vanishes when neurons suffice",
        quantity="median error with d(d+3)/2 neurons / median error with d(d+1)/2",
        measure=ratio(median(error(neurons("compressed"))), median(error(neurons("too few")))),
        threshold=at_most(0.1),
        control=Control(
            "the same networks before training",
            ratio(median(error(neurons("compressed"), "untrained/")), median(error(neurons("too few"), "untrained/"))),
        ),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="2b",
        statement="With the neurons of the construction for attention a trained student has almost no error",
        source=f"{SOURCE} (students of a linear attention teacher)",
        paper="vanishing error",
        quantity="median relative error with d^2 + d neurons",
        measure=median(error(neurons("generic"))),
        threshold=at_most(3e-4),
        control=Control("as many neurons, trained without the output gate", median(error("no-output-gate"))),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="3a",
        statement="The neurons that matter keep everything or nothing",
        source=f"{SOURCE} (multipliers after training)",
        paper="the multipliers of active neurons are close to one or to zero",
        quantity="share of the contribution that comes from neurons with a multiplier above 0.99 or below 0.02",
        measure=value(neurons("most"), "extreme_share"),
        threshold=at_least(0.9),
        control=Control("the network before training", value(neurons("most"), "untrained/extreme_share")),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="3b",
        statement="What they compute together is the teacher's attention",
        source=f"{SOURCE} (the algorithm read out of the weights); the tensor is derived here",
        paper="the trained weights are the construction, up to its invariances",
        quantity="relative error of the cubic tensor of neurons that keep and neurons that forget",
        measure=value(neurons("most"), "tensor_error"),
        threshold=at_most(0.05),
        control=Control("the teacher of another seed", value(neurons("most"), "mismatched_tensor_error")),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="3c",
        statement="With multipliers of exactly zero and one it is the teacher's attention, and nothing else",
        source=f"{SOURCE} (the algorithm read out of the weights); the rounding is ours",
        paper="the trained weights are the construction, up to its invariances",
        quantity="relative error of the cubic tensor after rounding all multipliers and some more training",
        measure=value(neurons("most"), "refit/tensor_error"),
        threshold=at_most(0.05),
        control=Control("the teacher of another seed", value(neurons("most"), "refit/mismatched_tensor_error")),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="4a",
        statement="Without the gate after the neurons attention is not found",
        source=f"{SOURCE} (one-sided gating)",
        paper="networks without it fail",
        quantity="error without the output gate / error with both gates, as many neurons",
        measure=ratio(error("no-output-gate"), error(neurons("generic"))),
        threshold=at_least(10.0),
        control=Control("both gates, more neurons", ratio(error(neurons("most")), error(neurons("generic")))),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="4b",
        statement="Without the gate before the neurons attention is not found",
        source=f"{SOURCE} (one-sided gating)",
        paper="networks without it fail",
        quantity="error without the input gate / error with both gates, as many neurons",
        measure=ratio(error("no-input-gate"), error(neurons("generic"))),
        threshold=at_least(10.0),
        control=Control("both gates, more neurons", ratio(error(neurons("most")), error(neurons("generic")))),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="5a",
        statement="Trained on regression in context, it reaches the loss of one step of gradient descent",
        source=f"{SOURCE} (in-context regression)",
        paper="the loss of linear attention, which is that of one step of gradient descent",
        quantity="test loss with d_y d_x + d_x neurons / test loss of one optimal step",
        measure=ratio(value(special, "loss"), value(special, "gd_loss")),
        threshold=at_most(1.02),
        control=Control(
            "trained on shuffled labels",
            ratio(value("regression-shuffled", "loss"), value("regression-shuffled", "gd_loss")),
        ),
        over_seeds="every",
    ),
    Claim(
        id="5b",
        statement="Its predictions are those of one step of gradient descent",
        source=f"{SOURCE} (in-context regression)",
        paper="the same algorithm, with fewer neurons than the construction for any attention",
        quantity="squared distance of the predictions / their power, with d_y d_x + d_x neurons",
        measure=value(special, "distance"),
        threshold=at_most(0.01),
        control=Control("trained on shuffled labels", value("regression-shuffled", "distance")),
        over_seeds="every",
    ),
    Claim(
        id="5c",
        statement="With more neurons than gradient descent needs its predictions are those of gradient descent, too",
        source=f"{SOURCE} (in-context regression)",
        paper="the same algorithm",
        quantity="squared distance of the predictions / their power, neurons as for any attention on these tokens",
        measure=value(generic, "distance"),
        threshold=at_most(0.01),
        control=Control("trained on shuffled labels", value("regression-shuffled", "distance")),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="6a",
        statement="The gated linear network imitates attention at least as well as an LSTM",
        source=f"{SOURCE} (other architectures)",
        paper="the LSTM approaches it",
        quantity="median error of the gated network / median error of an LSTM, 40 neurons each",
        measure=ratio(median(error(neurons("most"))), median(error("lstm"))),
        threshold=at_most(1.0),
        control=Control(
            "the gated network before training",
            ratio(median(error(neurons("most"), "untrained/")), median(error("lstm"))),
        ),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="6b",
        statement="The LSTM imitates attention at least as well as a GRU",
        source=f"{SOURCE} (other architectures)",
        paper="one layer of a GRU cannot multiply its memory with its input",
        quantity="median error of an LSTM / median error of a GRU, 40 neurons each",
        measure=ratio(median(error("lstm")), median(error("gru"))),
        threshold=at_most(1.0),
        control=Control("the LSTM before training", ratio(median(error("lstm", "untrained/")), median(error("gru")))),
        over_seeds="every",
        scales=TRAINED,
    ),
    Claim(
        id="7",
        statement="More neurons than needed make training easier",
        source=f"{SOURCE} (overparameterisation)",
        paper="the success rate grows with the number of neurons",
        quantity=f"share of seeds with an error of at most {SUCCESS:g}: with d(d+3) neurons minus with d(d+3)/2",
        measure=difference(success_rate(neurons("double")), success_rate(neurons("compressed"))),
        threshold=at_least(0.0),
        control=Control(
            "with d(d+1)/2 neurons, which are too few, minus with d(d+3)",
            difference(success_rate(neurons("too few")), success_rate(neurons("double"))),
        ),
        over_seeds="every",
        scales=TRAINED,
    ),
)
