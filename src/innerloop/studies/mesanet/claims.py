"""The claims of the paper, each with the threshold it is held to and the control that must fail."""

from collections.abc import Callable

import numpy as np
from scipy.stats import rankdata

from ...lab.store import MissingCell, Records
from ...lab.study import Claim, Control, Measure, at_least, at_most
from .configuration import Config
from .diagnosis import MANY, PAPER_TOLERANCE, STEPS, TOLERANCES
from .training_free import CHANNELS, LARGEST

SOURCE = "von Oswald et al. (2025), arXiv 2506.05233"
DEEPER = ("laptop", "paper")
SMALL = "width 64, 2 layers, a few hundred steps at laptop scale"


# ---- the parts of measures -----------------------------------------------------------------------------------------


def value(variant: str, name: str, *, phase: str = "final") -> Measure:
    """A recorded number."""
    return lambda records: records.final(variant, name, phase=phase)


def ratio(variant: str, above: str, below: str) -> Measure:
    """A recorded number in units of another one of the same cells."""
    return lambda records: records.final(variant, above) / records.final(variant, below)


def exact_recall(pairs: int) -> Measure:
    """The relative error of recall without regulariser: the root of what is recorded."""
    return lambda records: np.sqrt(records.final("recall-error", f"error/mesa-exact/{pairs}"))


def others(records: Records, benchmark: str, name: str, among: Callable[[str], bool]) -> np.ndarray:
    """The best value of a score among some layers of a benchmark, seed by seed."""
    config: Config = records.config
    layers = [layer for layer in config.layers if among(layer)]
    if not layers:
        raise MissingCell(f"{benchmark} was run with no layer to compare with")
    return np.max([records.final(f"{benchmark}-{layer}", name) for layer in layers], axis=0)


def recurrent(layer: str) -> bool:
    return layer not in ("mesa", "softmax")


def points(benchmark: str, name: str, among: Callable[[str], bool], *, prefix: str = "") -> Measure:
    """By how many points of accuracy the mesa layer is above the best of the others."""

    def measure(records: Records) -> np.ndarray:
        own = records.final(f"{benchmark}-mesa", prefix + name)
        return 100.0 * (own - others(records, benchmark, name, among))

    return measure


def excess_bits(name: str) -> Measure:
    """By which part bits per character of the mesa layer are above those of gated linear attention."""
    return lambda records: records.final("text-mesa", name) / records.final("text-gla", "bits") - 1.0


def orders(gate: float) -> Measure:
    """By how many powers of ten the error of recursive least squares is above that of conjugate gradients."""

    def measure(records: Records) -> np.ndarray:
        names = (f"least_squares_error/{gate:g}", f"solver_error/{gate:g}")
        worse, better = (np.minimum(records.final("stability", name), LARGEST) for name in names)
        return np.log10(worse / better)

    return measure


def loss_gap(steps: int | None) -> Measure:
    """|loss at the paper's tolerance (or after so many steps) / loss after many steps - 1|."""

    def measure(records: Records) -> np.ndarray:
        by_steps = records.array("text-mesa", "loss_by_steps")
        many = by_steps[:, STEPS.index(MANY)]
        if steps is None:
            stopped = records.array("text-mesa", "loss_by_tolerance")[:, TOLERANCES.index(PAPER_TOLERANCE)]
        else:
            stopped = by_steps[:, STEPS.index(steps)]
        return np.abs(stopped / many - 1.0)

    return measure


def largest_rise(*, backwards: bool = False) -> Measure:
    """The largest relative rise of the loss from one number of steps to the next larger one."""

    def measure(records: Records) -> np.ndarray:
        losses = records.array("text-mesa", "loss_by_steps")
        losses = losses[:, ::-1] if backwards else losses
        return (losses[:, 1:] / losses[:, :-1] - 1.0).max(axis=1)

    return measure


def mean_steps(name: str) -> Measure:
    """Steps of conjugate gradients, averaged over positions, layers and heads."""
    return lambda records: records.array("text-mesa", name).mean(axis=(1, 2, 3))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's."""
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def gates_and_steps(*, mismatched: bool = False) -> Measure:
    """The rank correlation over heads of the mean forget gate with the mean steps; with the gates of other heads."""

    def measure(records: Records) -> np.ndarray:
        gates = records.array("text-mesa", "gate").reshape(len(records.seeds), -1)
        steps = records.array("text-mesa", "steps_at").mean(axis=2).reshape(len(records.seeds), -1)
        shifts = range(1, gates.shape[1]) if mismatched else (0,)
        return np.asarray(
            [
                np.mean([rank_correlation(np.roll(gate, shift), step) for shift in shifts])
                for gate, step in zip(gates, steps, strict=True)
            ]
        )

    return measure


# ---- the claims ----------------------------------------------------------------------------------------------------

_MAD = (
    "MAD averages: mesa 76.1, transformer 75.8, xLSTM 73.2, GLA 72.0, gated DeltaNet 71.0, DeltaNet 67.7, Mamba-2 66.0,"
    " Hawk 64.5"
)
_PERPLEXITY = (
    "perplexity on SlimPajama (1 billion parameters, 50 billion tokens): mesa 10.83, gated DeltaNet 10.89, GLA 10.99,"
    " xLSTM and DeltaNet 11.01, Hawk 11.24, Mamba-2 11.39, transformer 10.86"
)
_HALF = CHANNELS // 2

CLAIMS = (
    Claim(
        id="1a",
        statement="On MAD, MesaNet is the best of the recurrent layers on average",
        source=f"{SOURCE} (MAD; claim 1)",
        paper=_MAD,
        quantity=f"accuracy averaged over the six tasks, mesa less the best other recurrent layer, in points ({SMALL})",
        measure=points("mad", "accuracy", recurrent),
        threshold=at_least(-1.0),
        control=Control("the mesa model before training", points("mad", "accuracy", recurrent, prefix="untrained/")),
        scales=DEEPER,
    ),
    Claim(
        id="1b",
        statement="On fuzzy recall it is strictly above gated linear attention and DeltaNet",
        source=f"{SOURCE} (MAD; claim 1)",
        paper="fuzzy recall: mesa 58.5, the others below",
        quantity=f"accuracy on fuzzy recall, mesa less the better of the two, in points ({SMALL})",
        measure=points("mad", "accuracy/fuzzy recall", lambda layer: layer in ("gla", "delta")),
        threshold=at_least(0.0),
        control=Control(
            "the trained mesa model without a step of conjugate gradients",
            points("mad", "accuracy/fuzzy recall", lambda layer: layer in ("gla", "delta"), prefix="no_steps/"),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="2a",
        statement="On RegBench it is as good as the best other recurrent layer",
        source=f"{SOURCE} (RegBench; claim 2)",
        paper="the best recurrent layer in the figure",
        quantity=f"accuracy on held-out languages, mesa less the best other recurrent layer, in points ({SMALL})",
        measure=points("regbench", "accuracy", recurrent),
        threshold=at_least(-0.5),
        control=Control(
            "the trained mesa model, made to forget everything before each token",
            points("regbench", "accuracy", recurrent, prefix="forgetful/"),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="2b",
        statement="On RegBench it is as good as softmax attention",
        source=f"{SOURCE} (RegBench; claim 2)",
        paper="close to the transformer in the figure",
        quantity=f"accuracy on held-out languages, mesa less softmax attention, in points ({SMALL})",
        measure=points("regbench", "accuracy", lambda layer: layer == "softmax"),
        threshold=at_least(-3.0),
        control=Control(
            "the trained mesa model, made to forget everything before each token",
            points("regbench", "accuracy", lambda layer: layer == "softmax", prefix="forgetful/"),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="3a",
        statement="Without any training, the optimal memory recalls more than the delta rule",
        source=f"{SOURCE} (one-shot storage; claim 3)",
        paper="no figure; derived here: 0.105 against 0.279",
        quantity=f"relative squared error of recall of {_HALF} random pairs in {CHANNELS} channels, mesa / DeltaNet",
        measure=ratio("recall-error", f"error/mesa/{_HALF}", f"error/delta/{_HALF}"),
        threshold=at_most(0.5),
        control=Control(
            "conjugate gradients without a step",
            ratio("recall-error", f"error/mesa-no-steps/{_HALF}", f"error/delta/{_HALF}"),
        ),
    ),
    Claim(
        id="3b",
        statement="Without any training, the optimal memory recalls more than linear attention",
        source=f"{SOURCE} (one-shot storage; claim 3)",
        paper="no figure; derived here: 0.105 against 0.452",
        quantity=f"relative squared error of recall of {_HALF} random pairs in {CHANNELS} channels, mesa / GLA",
        measure=ratio("recall-error", f"error/mesa/{_HALF}", f"error/gla/{_HALF}"),
        threshold=at_most(0.3),
        control=Control(
            "conjugate gradients without a step",
            ratio("recall-error", f"error/mesa-no-steps/{_HALF}", f"error/gla/{_HALF}"),
        ),
    ),
    Claim(
        id="3c",
        statement="Without regulariser, it recalls as many pairs as it has channels without error",
        source=f"{SOURCE} (one-shot storage; claim 3)",
        paper="exact",
        quantity=f"relative error of recall of {_HALF} and of {CHANNELS} random pairs, the larger; regulariser 1e-13",
        measure=lambda records: np.max([exact_recall(pairs)(records) for pairs in (_HALF, CHANNELS)], axis=0),
        threshold=at_most(1e-6),
        control=Control("twice as many pairs as channels", exact_recall(2 * CHANNELS)),
        over_seeds="every",
    ),
    Claim(
        id="4a",
        statement="Stopping each token at a tolerance of 1e-4 costs nothing against 30 steps for all",
        source=f"{SOURCE} (test-time compute; claim 4)",
        paper="the same quality with 9 steps on average",
        quantity=f"|loss at tolerance 1e-4 / loss after {MANY} steps - 1|, text model",
        measure=loss_gap(None),
        threshold=at_most(0.005),
        control=Control("no step at all", loss_gap(0)),
        scales=DEEPER,
    ),
    Claim(
        id="4b",
        statement="It needs about nine steps on average",
        source=f"{SOURCE} (test-time compute; claim 4)",
        paper="about 9 steps, with 128 channels per key",
        quantity="mean steps at tolerance 1e-4, text model (16 channels per key at laptop scale)",
        measure=mean_steps("steps_at"),
        threshold=at_most(15.0),
        control=Control("the same keys with a thousandth of the regulariser", mean_steps("steps_of_weak_regulariser")),
        scales=DEEPER,
    ),
    Claim(
        id="4c",
        statement="More steps never hurt: the loss falls and saturates",
        source=f"{SOURCE} (test-time compute; claim 4)",
        paper="falling curves that saturate between 10 and 15 steps",
        quantity=f"largest relative rise of the loss from one to the next of {STEPS} steps",
        measure=largest_rise(),
        threshold=at_most(0.005),
        control=Control("the same curve read backwards", largest_rise(backwards=True)),
        scales=DEEPER,
    ),
    Claim(
        id="5",
        statement="Heads that forget little need more steps",
        source=f"{SOURCE} (condition numbers; claim 5)",
        paper="two groups of heads by condition number; gates near one need most steps",
        quantity="rank correlation over all heads of the text model of mean gate and mean steps",
        measure=gates_and_steps(),
        threshold=at_least(0.5),
        control=Control("each head with the gates of another, all shifts", gates_and_steps(mismatched=True)),
        scales=DEEPER,
    ),
    Claim(
        id="6",
        statement="As a language model it is at least as good as gated linear attention",
        source=f"{SOURCE} (language modelling; claim 6, direction only)",
        paper=_PERPLEXITY,
        quantity=f"bits per character of real text, mesa / gated linear attention - 1 ({SMALL}: weak evidence)",
        measure=excess_bits("bits"),
        threshold=at_most(0.002),
        control=Control(
            "the trained mesa model, made to forget everything before each token", excess_bits("forgetful/bits")
        ),
        scales=DEEPER,
    ),
    Claim(
        id="7a",
        statement="With forget gates below zero it learns parity",
        source=f"{SOURCE} (parity; claim 7)",
        paper="parity up to 256 bits, trained with 40",
        quantity="accuracy at 40 bits, the length of training",
        measure=value("parity-signed", "accuracy/short"),
        threshold=at_least(0.99),
        control=Control("gates between 0 and 1", value("parity-positive", "accuracy/short")),
        scales=DEEPER,
    ),
    Claim(
        id="7b",
        statement="With forget gates below zero it generalises to longer parity",
        source=f"{SOURCE} (parity; claim 7)",
        paper="parity up to 256 bits, trained with 40",
        quantity="accuracy at 128 bits, trained with 40",
        measure=value("parity-signed", "accuracy/long"),
        threshold=at_least(0.95),
        control=Control("gates between 0 and 1", value("parity-positive", "accuracy/long")),
        scales=DEEPER,
    ),
    Claim(
        id="7c",
        statement="With gates between 0 and 1 it does not learn parity that lasts",
        source=f"{SOURCE} (parity; claim 7)",
        paper="fails",
        quantity="accuracy at 128 bits with gates between 0 and 1, trained with 40",
        measure=value("parity-positive", "accuracy/long"),
        threshold=at_most(0.6),
        control=Control("gates below zero", value("parity-signed", "accuracy/long")),
        scales=DEEPER,
    ),
    Claim(
        id="8",
        statement="Recursive least squares with forgetting, the first mesa layer, are unstable",
        source=f"{SOURCE} (why conjugate gradients; claim 8)",
        paper="unstable",
        quantity="log10(error of recursive least squares / error of conjugate gradients) in the last window, gate 0.9,"
        " float32; 2 is the factor 100",
        measure=orders(0.9),
        threshold=at_least(2.0),
        control=Control("without forgetting", orders(1.0)),
        over_seeds="every",
    ),
)
