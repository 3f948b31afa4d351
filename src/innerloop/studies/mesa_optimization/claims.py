"""The claims of the paper, each with the threshold it is held to and the control that must fail."""

import numpy as np

from ...lab.store import Records
from ...lab.study import Claim, Control, at_least, at_most
from .configuration import REGIMES
from .quantities import (
    BOUND,
    deepest,
    depths,
    deviation,
    growth,
    horizon,
    largest,
    last_over_first,
    last_shot,
    noise_loss,
    over_depths,
    probe_at,
    rank_correlation,
    ratio,
    ratio_across,
    shallow_against_deep,
    shot_ratio,
    smallest,
    spread,
    steepest,
)

SOURCE = "von Oswald et al. (2023), arXiv 2309.05858"
DEEPER = ("laptop", "paper")


def probe_claims(first: str, second: str, name: str, what: str) -> tuple[Claim, Claim]:
    """Claim 5 for one thing that is decoded from the tokens of the deepest model."""
    paper = "probe errors fall with depth and with the length of the context"

    def worst_untrained(records: Records) -> np.ndarray:
        found = deepest(rank_correlation(f"untrained_{name}_probes"))(records)
        return np.full(len(records.seeds), found.min())

    return (
        Claim(
            id=f"5{first}",
            statement=f"Layer by layer, more can be decoded of {what}",
            source=f"{SOURCE} (probing)",
            paper=paper,
            quantity="rank correlation of depth with the negative probe error at the last position",
            measure=deepest(rank_correlation(f"{name}_probes")),
            threshold=at_least(1.0),
            control=Control("the model before training, the worst seed counts", worst_untrained),
            over_seeds="every",
            scales=DEEPER,
        ),
        Claim(
            id=f"5{second}",
            statement=f"After the last layer, much more can be decoded than after the first of {what}",
            source=f"{SOURCE} (probing)",
            paper=paper,
            quantity="probe error after the last layer / after the first, at the last position",
            measure=deepest(last_over_first(f"{name}_probes")),
            threshold=at_most(0.6),
            control=Control("the model before training", deepest(last_over_first(f"untrained_{name}_probes"))),
            scales=DEEPER,
        ),
    )


CLAIMS = (
    Claim(
        id="1a",
        statement="A trained layer of linear self-attention is as good as one step of gradient descent",
        source=f"{SOURCE} (one layer)",
        paper="the curves coincide",
        quantity="|test loss of the trained layer / test loss of one tuned step with the same clip - 1|",
        measure=deviation(ratio("linear-1", "loss", "gd_loss")),
        threshold=at_most(0.05),
        control=Control("the layer before training", deviation(ratio("linear-1", "untrained/loss", "gd_loss"))),
    ),
    Claim(
        id="1b",
        statement="Half-way between its weights and those of gradient descent the loss is the same",
        source=f"{SOURCE} (one layer, interpolation)",
        paper="the curve of the interpolated model coincides",
        quantity="|test loss with products averaged with their own descent blocks / test loss of the layer - 1|",
        measure=deviation(ratio("linear-1", "interpolated_with_descent/loss", "loss")),
        threshold=at_most(0.05),
        control=Control(
            "averaged with the products of the layer before training",
            deviation(ratio("linear-1", "interpolated_with_untrained/loss", "loss")),
        ),
    ),
    Claim(
        id="2a",
        statement="The deeper the model, the lower the loss",
        source=f"{SOURCE} (depth)",
        paper="the loss falls with every layer, six layers are near the mesa layer",
        quantity="largest ratio of a test loss to that of the next shallower model",
        measure=steepest("loss"),
        threshold=at_most(1.0),
        control=Control("the same models on observations without a system behind them", steepest("unrelated_loss")),
        scales=DEEPER,
    ),
    Claim(
        id="2b",
        statement="k layers are as good as k - 1 steps of preconditioning and one of gradient descent",
        source=f"{SOURCE} (proposition 2)",
        paper="the curves lie together",
        quantity="largest ratio of a test loss to that of the tuned comparator of the same depth",
        measure=over_depths(np.max, "loss", "preconditioned_loss"),
        threshold=at_most(1.15),
        control=Control("one layer against the comparator of the deepest model", shallow_against_deep),
        scales=DEEPER,
    ),
    Claim(
        id="2c",
        statement="No depth is as good as least squares",
        source=f"{SOURCE} (depth)",
        paper="the loss approaches least squares from above",
        quantity="smallest ratio of a test loss to that of tuned least squares",
        measure=over_depths(np.min, "loss", "least_squares_loss"),
        threshold=at_least(1.0),
        control=Control(
            "who knows the system, whose loss is that of the noise alone",
            lambda records: noise_loss(records) / records.final("linear-1", "least_squares_loss"),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="3a",
        statement="A single mesa layer is as good as least squares",
        source=f"{SOURCE} (mesa layer)",
        paper="one mesa layer outperforms linear self-attention of all depths",
        quantity="|test loss of the mesa layer / test loss of tuned least squares with the same clip - 1|",
        measure=deviation(ratio("mesa", "loss", "least_squares_loss")),
        threshold=at_most(0.05),
        control=Control(
            "the deepest linear self-attention",
            deviation(deepest(lambda variant: ratio(variant, "loss", "least_squares_loss"))),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="3b",
        statement="A single mesa layer beats linear self-attention of every depth",
        source=f"{SOURCE} (mesa layer)",
        paper="one mesa layer outperforms linear self-attention of all depths",
        quantity="test loss of the mesa layer / least test loss over depths",
        measure=lambda records: largest(
            *(ratio_across(("mesa", "loss"), (f"linear-{depth}", "loss")) for depth in depths(records))
        )(records),
        threshold=at_most(1.0),
        control=Control(
            "the mesa layer before training",
            lambda records: largest(
                *(ratio_across(("mesa", "untrained/loss"), (f"linear-{depth}", "loss")) for depth in depths(records))
            )(records),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="4a",
        statement="The first layer binds an observation and the one before it together",
        source=f"{SOURCE} (token binding)",
        paper="probe error near 0 for the last two observations only",
        quantity="largest normalised error of probes for the last two observations, both models",
        measure=largest(*(probe_at(f"{kind}-full", (0, 1)) for kind in ("softmax", "hybrid"))),
        threshold=at_most(BOUND),
        control=Control(
            "the better of both models before training",
            smallest(*(probe_at(f"{kind}-full", (0, 1), "untrained_binding_probes") for kind in ("softmax", "hybrid"))),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="4b",
        statement="and nothing that is further back",
        source=f"{SOURCE} (token binding)",
        paper="probe error near 0 for the last two observations only",
        quantity="smallest normalised error of probes for the observation four tokens back, both models",
        measure=smallest(*(probe_at(f"{kind}-full", (4,)) for kind in ("softmax", "hybrid"))),
        threshold=at_least(0.5),
        control=Control(
            "the same probe of the token of that observation itself",
            smallest(*(probe_at(f"{kind}-full", (4,), "own_probes") for kind in ("softmax", "hybrid"))),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="4c",
        statement="Where systems are observed in part, it binds more observations together",
        source=f"{SOURCE} (partial observations)",
        paper="probe error near 0 for the last four observations",
        quantity="how many observations in a row are decoded with a normalised error below 0.1, fewer of both models",
        measure=smallest(*(horizon(f"{kind}-partial") for kind in ("softmax", "hybrid"))),
        threshold=at_least(3.0),
        control=Control(
            "the same models before training",
            largest(*(horizon(f"{kind}-partial", "untrained_binding_probes") for kind in ("softmax", "hybrid"))),
        ),
        scales=DEEPER,
    ),
    *probe_claims("a", "b", "target", "the next observation"),
    *probe_claims("c", "d", "preconditioning", "the preconditioned observation, solved for exactly"),
    *probe_claims("e", "f", "six_steps", "the preconditioned observation, approximated by six steps"),
    Claim(
        id="6",
        statement="A softmax layer and a mesa layer are as good as a deep softmax model, on all three kinds of systems",
        source=f"{SOURCE} (hybrid models)",
        paper="two layers of the hybrid outperform seven softmax layers",
        quantity="largest ratio of the hybrid's test loss to that of the deep softmax model",
        measure=largest(
            *(ratio_across((f"hybrid-{regime}", "loss"), (f"softmax-{regime}", "loss")) for regime in REGIMES)
        ),
        threshold=at_most(1.02),
        control=Control(
            "two softmax layers, fully observed", ratio_across(("softmax-shallow", "loss"), ("softmax-full", "loss"))
        ),
        scales=DEEPER,
    ),
    Claim(
        id="7a",
        statement="Least squares does not depend on the size of the system if the context grows with it",
        source=f"{SOURCE} (linearisation over sizes)",
        paper="the linear model's loss stays where it is",
        quantity="largest over smallest relative test loss of least squares over sizes, minus 1 (1 is predicting zero)",
        measure=spread("least_squares"),
        threshold=at_most(0.25),
        control=Control("kernel regression", spread("kernel_regression")),
    ),
    Claim(
        id="7b",
        statement="Softmax kernel regression gets worse with the size of the system",
        source=f"{SOURCE} (linearisation over sizes)",
        paper="the gap between softmax and linear attention grows",
        quantity="relative test loss of kernel regression at the largest size / at the smallest",
        measure=growth("kernel_regression"),
        threshold=at_least(1.5),
        control=Control("least squares", growth("least_squares")),
    ),
    Claim(
        id="8a",
        statement="A model of sequences does few-shot regression without being trained for it",
        source=f"{SOURCE} (few-shot learning)",
        paper="the loss falls with the number of pairs",
        quantity="few-shot loss at the last pair / at the second",
        measure=last_shot("losses"),
        threshold=at_most(0.6),
        control=Control("pairs with the label of another sequence's input", last_shot("shuffled_losses")),
        scales=DEEPER,
    ),
    Claim(
        id="8b",
        statement="A learned separator between pairs helps",
        source=f"{SOURCE} (prompt tuning)",
        paper="the early ascent of the loss disappears",
        quantity="mean few-shot loss with the separator / without",
        measure=ratio("few-shot", "separator_loss", "loss"),
        threshold=at_most(0.85),
        control=Control("a random separator", ratio("few-shot", "untuned_separator_loss", "loss")),
        scales=DEEPER,
    ),
    Claim(
        id="8c",
        statement="At first more pairs make it worse, as they do for least squares with spurious pairs",
        source=f"{SOURCE} (few-shot learning)",
        paper="an early ascent of the loss, which the spurious pairs (label, next input) explain",
        quantity="few-shot loss at the second pair / at the first, smaller of the model and least squares",
        measure=smallest(shot_ratio("losses", 2, 1), shot_ratio("spurious_losses", 2, 1)),
        threshold=at_least(1.0),
        control=Control("least squares on true pairs alone", shot_ratio("clean_losses", 2, 1)),
        scales=DEEPER,
    ),
    Claim(
        id="9",
        statement="Trained on one and the same system, a layer does not do gradient descent",
        source=f"{SOURCE}, appendix (fixed system)",
        paper="no match with gradient descent",
        quantity="test loss of the trained layer / test loss of one tuned step, on that system",
        measure=ratio("fixed-system", "loss", "gd_loss"),
        threshold=at_most(0.7),
        control=Control("a layer trained on many systems", ratio("linear-1", "loss", "gd_loss")),
        scales=DEEPER,
    ),
    Claim(
        id="10a",
        statement="One number per block of the weight products says what a model has learned",
        source=f"{SOURCE} (compressed algorithm)",
        paper="0.5% of the parameters explain the loss",
        quantity="|test loss of the deepest model with block-scalar products / test loss of the model - 1|",
        measure=deviation(deepest(lambda variant: ratio(variant, "compressed/loss", "loss"))),
        threshold=at_most(0.2),
        control=Control(
            "only the blocks of plain gradient descent",
            deviation(deepest(lambda variant: ratio(variant, "descent_blocks/loss", "loss"))),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="10b",
        statement="Half-way between a model and its compression the loss is the same",
        source=f"{SOURCE} (compressed algorithm)",
        paper="the interpolated model performs as the trained one",
        quantity="|test loss of the deepest model with averaged products / test loss of the model - 1|",
        measure=deviation(deepest(lambda variant: ratio(variant, "interpolated/loss", "loss"))),
        threshold=at_most(0.05),
        control=Control(
            "averaged with the products of the model before training",
            deviation(deepest(lambda variant: ratio(variant, "interpolated_with_untrained/loss", "loss"))),
        ),
        scales=DEEPER,
    ),
)
