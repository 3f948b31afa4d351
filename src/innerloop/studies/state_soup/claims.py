"""The claims of the paper, each with the threshold it is held to and the control that must fail."""

import numpy as np

from ...lab.store import MissingCell, Records
from ...lab.study import Claim, Control, Measure, at_least, at_most
from ...tasks.corpora import BROWN_INSTALL
from .skills import WEIGHTS

SOURCE = "Pióro et al. (2024), arXiv 2406.08423"
OWN = "derived here"
DEEPER = ("laptop", "paper")
MIDDLE = (np.asarray(WEIGHTS) >= 0.25) & (np.asarray(WEIGHTS) <= 0.75)


def value(name: str, *, variant: str = "skills") -> Measure:
    """A recorded number."""
    return lambda records: records.final(variant, name)


def difference(above: str, below: str, *, variant: str = "skills") -> Measure:
    """How much larger one recorded number is than another."""
    return lambda records: records.final(variant, above) - records.final(variant, below)


def ratio(above: str, below: str, *, variant: str = "skills") -> Measure:
    """A recorded number in units of another one."""
    return lambda records: records.final(variant, above) / records.final(variant, below)


def gain(way: str) -> Measure:
    """Accuracy of a mixture of complementary contexts above the better one of both alone."""

    def measure(records: Records) -> np.ndarray:
        accuracy = [records.final("skills", f"complementary/{name}/accuracy") for name in (way, "first", "second")]
        return accuracy[0] - np.maximum(accuracy[1], accuracy[2])

    return measure


def gap_closed(way: str) -> Measure:
    """The part of the way from the better single context to reading both that a mixture goes."""

    def measure(records: Records) -> np.ndarray:
        accuracy = {
            name: records.final("skills", f"complementary/{name}/accuracy")
            for name in (way, "first", "second", "sequential")
        }
        single = np.maximum(accuracy["first"], accuracy["second"])
        return (accuracy[way] - single) / (accuracy["sequential"] - single)

    return measure


def valley(name: str) -> Measure:
    """The lowest loss of an interpolation at weights from 0.25 to 0.75 in units of that of its better end."""

    def measure(records: Records) -> np.ndarray:
        path = records.array("skills", name)
        return path[:, MIDDLE].min(axis=1) / np.minimum(path[:, 0], path[:, -1])

    return measure


def shots(name: str, which: int) -> Measure:
    """A number at the smallest (0) or the largest (-1) number of shots of the configuration."""
    return lambda records: records.final("skills", f"{name}/{records.config.shots[which]}")


def times_chance(name: str) -> Measure:
    return lambda records: shots(name, 0)(records) * records.config.library_size


def more_with_shots(name: str) -> Measure:
    return lambda records: shots(name, -1)(records) - shots("retrieval", 0)(records)


def at_four(name: str) -> Measure:
    """Accuracy with a library state above that of the few-shot state alone, at 4 shots."""
    return difference(f"{name}/4", "few_shot/4")


def of_better_single(way: str) -> Measure:
    """The squared error of a way of mixing in units of that of the better context alone."""

    def measure(records: Records) -> np.ndarray:
        errors = [records.final("regression", f"mesa/{name}") for name in (way, "first", "second")]
        return errors[0] / np.minimum(errors[1], errors[2])

    return measure


def of_text(name: str) -> Measure:
    def measure(records: Records) -> np.ndarray:
        try:
            return records.final("text", name)
        except MissingCell as error:
            raise MissingCell(f"{error}; it needs the Brown corpus: `{BROWN_INSTALL}`, then repeat the run") from error

    return measure


CLAIMS = (
    Claim(
        id="1a",
        statement="A stored state stands for its examples: the model goes on from it as from the whole prompt",
        source=SOURCE,
        paper="states are computed once and used in place of the examples",
        quantity="relative difference of the logits: state written to a file and read back, against the whole prompt",
        measure=value("stored_difference"),
        threshold=at_most(1e-5),
        control=Control("the state of another skill", value("other_difference")),
        over_seeds="every",
    ),
    Claim(
        id="1b",
        statement="A state made of examples solves the task without the examples",
        source=SOURCE,
        paper="states work as task vectors",
        quantity="accuracy of the library's states on the keys that their examples have shown",
        measure=value("library_seen"),
        threshold=at_least(0.95),
        control=Control("no state (chance level)", value("no_state_seen")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="2a",
        statement="One example is enough to find the right skill far more often than by chance",
        source=SOURCE,
        paper="few examples retrieve the right state",
        quantity="top-1 accuracy of retrieval with 1 example, in units of chance, in the layer the library chooses",
        measure=times_chance("retrieval"),
        threshold=at_least(5.0),
        control=Control("a library with permuted labels", times_chance("shuffled")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="2b",
        statement="A few examples find the right skill more often than not",
        source=SOURCE,
        paper="retrieval is reliable with few examples",
        quantity="top-1 accuracy of retrieval with 8 examples, in the layer that the library chooses",
        measure=shots("retrieval", -1),
        threshold=at_least(0.6),
        control=Control("a library with permuted labels", shots("shuffled", -1)),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="2c",
        statement="Retrieval gets better with the number of examples",
        source=SOURCE,
        paper="accuracy rises with the number of shots",
        quantity="top-1 accuracy with 8 examples minus that with 1 example",
        measure=more_with_shots("retrieval"),
        threshold=at_least(0.0),
        control=Control("all further examples are those of another skill", more_with_shots("strangers")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="3a",
        statement="The average of two states is better than each: it knows what either has seen",
        source=SOURCE,
        paper="lower perplexity, higher accuracy",
        quantity="accuracy of the averaged state of complementary contexts minus that of the better one alone",
        measure=gain("average"),
        threshold=at_least(0.3),
        control=Control("the second state is one of another skill", gain("foreign average")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="3b",
        statement="Mixing with decay is better than each state, too",
        source=SOURCE,
        paper="lower perplexity, higher accuracy",
        quantity="accuracy of the state mixed with decay minus that of the better one alone",
        measure=gain("decay"),
        threshold=at_least(0.3),
        control=Control("the second state is one of another skill", gain("foreign decay")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="3c",
        statement="Mixing with decay does what reading both contexts one after the other does",
        source=SOURCE,
        paper="the concatenation rule of the recurrence",
        quantity="part of the gap in accuracy from the better state alone to reading both contexts that it closes",
        measure=gap_closed("decay"),
        threshold=at_least(0.9),
        control=Control("the second state is one of another skill", gap_closed("foreign decay")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="4",
        statement="On the straight line between two states the best point lies inside",
        source=SOURCE,
        paper="smooth paths with their optimum inside",
        quantity="lowest cross-entropy at weights from 0.25 to 0.75 / cross-entropy of the better end",
        measure=valley("complementary_path_loss"),
        threshold=at_most(1.0),
        control=Control("the line to a state of another skill", valley("complementary_foreign_path_loss")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="5a",
        statement="Where gates forget, mixing with decay is at least as good as the average",
        source=SOURCE,
        paper="mixing with decay does better",
        quantity="cross-entropy with decay / with the average, trained from gates that start lower",
        measure=ratio("complementary/decay/loss", "complementary/average/loss", variant="forgetful"),
        threshold=at_most(1.0),
        control=Control(
            "decays of zero: the second context alone",
            ratio("complementary/second/loss", "complementary/average/loss", variant="forgetful"),
        ),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="5b",
        statement="Where the order of examples matters, mixing with decay is at least as good as the average",
        source=SOURCE,
        paper="mixing with decay does better",
        quantity="cross-entropy with decay / with the average, the second context showing new values of the same keys",
        measure=ratio("newest/decay/loss", "newest/average/loss", variant="changing"),
        threshold=at_most(1.0),
        control=Control(
            "decay with the contexts in the wrong order",
            ratio("newest/reversed decay/loss", "newest/average/loss", variant="changing"),
        ),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="6",
        statement="A retrieved state mixed with the own few-shot state beats the few-shot state alone",
        source=SOURCE,
        paper="retrieval and mixing raise few-shot accuracy",
        quantity="accuracy over all keys with the average of both minus that of the 4-shot state alone",
        measure=at_four("retrieved_mix"),
        threshold=at_least(0.1),
        control=Control("a state of the library that was not looked up", at_four("unrelated_mix")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="7a",
        statement="The average of the states of two documents of one class lowers the loss of what follows",
        source=SOURCE,
        paper="lower perplexity of next tokens",
        quantity="share of pairs of one genre in which the average predicts better than the own state",
        measure=of_text("better/average"),
        threshold=at_least(0.6),
        control=Control("the other document's characters in random order", of_text("better/shuffled average")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="7b",
        statement="So does mixing them with decay",
        source=SOURCE,
        paper="lower perplexity of next tokens",
        quantity="share of pairs of one genre in which the mixture with decay predicts better than the own state",
        measure=of_text("better/decay"),
        threshold=at_least(0.6),
        control=Control("the other document's characters in random order", of_text("better/shuffled decay")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="8",
        statement="Mixing with decay is exact in the first layer, and only there",
        source=OWN,
        paper="not stated; it follows from the linear recurrence",
        quantity="relative error of the first layer's state against reading both contexts, convolutions continued",
        measure=value("composition/carried/layer 0"),
        threshold=at_most(1e-5),
        control=Control("the second layer's state", value("composition/carried/layer 1")),
        over_seeds="every",
    ),
    Claim(
        id="9",
        statement="The summed state of two contexts of a mesa layer reads as if it had seen both",
        source=OWN,
        paper="not stated; sums of the layer's statistics are those of the union",
        quantity="|squared error of the summed state / of reading both contexts - 1|, trained mesa layer",
        measure=lambda records: np.abs(
            records.final("regression", "mesa/sum") / records.final("regression", "mesa/sequential") - 1.0
        ),
        threshold=at_most(1e-3),
        control=Control(
            "the average, which counts the ridge twice",
            lambda records: np.abs(
                records.final("regression", "mesa/average") / records.final("regression", "mesa/sequential") - 1.0
            ),
        ),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="10",
        statement="Two contexts that are too short alone make one state that knows the map",
        source=OWN,
        paper="not stated; the error falls with the union of examples",
        quantity="squared error of the summed state / of the better context alone, trained mesa layer",
        measure=of_better_single("sum"),
        threshold=at_most(1.0),
        control=Control("the second context is one of another map", of_better_single("foreign sum")),
        over_seeds="every",
        scales=DEEPER,
    ),
)
