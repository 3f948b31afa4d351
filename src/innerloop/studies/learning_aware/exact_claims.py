"""The claims about memory-one policies trained by exact gradients."""

from typing import Any

import numpy as np

from ...lab.store import Records
from ...lab.study import Claim, Control, Measure, at_least, at_most
from .configuration import LOOK_AHEADS

SOURCE = "Meulemans et al. (2025), arXiv 2410.18636"
DEEPER = ("laptop", "paper")
PLOT = "in a plot only"


def final(variant: str, name: str) -> Measure:
    """A recorded number."""
    return lambda records: records.final(variant, name)


def share(measure: Measure, *, least: float = -np.inf, most: float = np.inf) -> Measure:
    """Whether a number lies between two bounds, one for yes: the mean over seeds is the share of seeds."""

    def marked(records: Records) -> np.ndarray:
        values = np.asarray(measure(records), float)
        inside = ((values >= least) & (values <= most)).astype(float)
        return np.where(np.isfinite(values), inside, np.nan)

    return marked


def peak(name: str) -> Measure:
    """The most that two agents who have met earn per step."""
    return lambda records: records.series("extortion", f"{name}/pair", phase="meeting/train")[1].max(axis=1)


def gap(look_aheads: int, kind: str = "raw") -> Measure:
    """How much more a finished policy earns than the naive learners who learn against it."""
    variant = f"lola-{look_aheads}"
    return lambda records: records.final(variant, f"{kind}/ego") - records.final(variant, f"{kind}/naive")


def pair(look_aheads: int, name: str = "raw") -> Measure:
    """What two policies trained together earn from each other."""
    return final(f"lola-{look_aheads}", f"{name}/pair")


def difference(more: Measure, less: Measure) -> Measure:
    """One number less another."""
    return lambda records: more(records) - less(records)


def trend(measure: Any) -> Measure:
    """The slope of a number over the rank of the number of look-aheads."""

    def slope(records: Records) -> np.ndarray:
        values = np.stack([measure(k)(records) for k in LOOK_AHEADS])
        ranks = np.arange(len(LOOK_AHEADS)) - (len(LOOK_AHEADS) - 1) / 2
        return (ranks[:, None] * values).sum(axis=0) / (ranks**2).sum()

    return slope


def off_centre(measure: Measure, centre: float) -> Measure:
    """How far a number is from the middle of a range."""
    return lambda records: np.abs(measure(records) - centre)


THEORY: tuple[Claim, ...] = (
    Claim(
        id="zero-determinant",
        statement="Zero-determinant strategies force a linear relation between both payoffs, whoever the co-player is.",
        source=f"{SOURCE}, appendix C; Press and Dyson (2012); spec test 9",
        paper="exact",
        quantity="largest distance from the line over three strategies and 32 random co-players, float64",
        measure=final("theory", "line_error"),
        threshold=at_most(1e-10),
        control=Control("the same with one of four probabilities moved by 0.05", final("theory", "moved_line_error")),
        over_seeds="every",
    ),
    Claim(
        id="signs-at-defection",
        statement="At pure defection the gradient against a defector offers no way out, while the gradient through a "
        "naive learner's learning has one positive entry: cooperation after having exploited the other (DC).",
        source=f"{SOURCE}, section 4; spec test 12",
        paper="exact",
        quantity="entries of both gradients without the stated sign",
        measure=final("theory", "wrong_signs"),
        threshold=at_most(0.0),
        control=Control("naive learners who do not learn", final("theory", "wrong_signs_without_learning")),
        over_seeds="every",
    ),
)

EXTORTION: tuple[Claim, ...] = (
    *(
        Claim(
            id=f"exact-extorts{name}",
            statement=f"Learning-aware agents that begin {begin} learn to extort naive learners{how}.",
            source=f"{SOURCE}, figure 3A; spec claim 2",
            paper=PLOT,
            quantity="share of seeds in which the agent earns at least 1.0 per step while naive learners learn (of "
            "which a half means that the median does)",
            measure=share(final("extortion", f"{kind}/ego"), least=1.0),
            threshold=at_least(0.5),
            control=Control(
                "agents without a gradient through the learning", share(final("extortion", "unaware/ego"), least=1.0)
            ),
            scales=DEEPER,
        )
        for name, kind, begin, how in (
            ("", "anywhere", "anywhere", ", whose steps go along raw returns"),
            ("-from-defection", "scaled", "near defection", ", whose steps go along payoffs per step"),
            ("-from-defection-raw", "raw", "near defection", ", whose steps go along raw returns"),
        )
    ),
    Claim(
        id="exact-keeps-learners",
        statement="The extorted naive learners still earn a little more than by mutual defection.",
        source=f"{SOURCE}, figure 3A; spec claim 2",
        paper=PLOT,
        quantity="distance of the naive learners' payoff per step from 0.25, the middle of 0 to 0.5; agents that begin "
        "anywhere",
        measure=off_centre(final("extortion", "anywhere/naive"), 0.25),
        threshold=at_most(0.25),
        control=Control(
            "naive learners against agents without a gradient through the learning",
            off_centre(final("extortion", "unaware/naive"), 0.25),
        ),
        scales=DEEPER,
    ),
    Claim(
        id="exact-zero-determinant-fit",
        statement="The shaping policies are near zero-determinant extortion strategies.",
        source=f"{SOURCE}, appendix C; spec claim 2",
        paper=PLOT,
        quantity="share of random policies which a zero-determinant strategy fits worse; agents that begin anywhere",
        measure=final("extortion", "anywhere/fits_better"),
        threshold=at_least(0.9),
        control=Control("agents without a gradient through the learning", final("extortion", "unaware/fits_better")),
        scales=DEEPER,
    ),
    Claim(
        id="exact-extorters-start-low",
        statement="Two extorters who meet earn little at first.",
        source=f"{SOURCE}, figure 3B; spec claim 3",
        paper=PLOT,
        quantity="what both earn per step from each other before they learn on; naive learners' steps along payoffs "
        "per step",
        measure=final("extortion", "scaled/start"),
        threshold=at_most(0.2),
        control=Control("what the same agents earn from naive learners", final("extortion", "scaled/ego")),
        scales=DEEPER,
    ),
    Claim(
        id="exact-extorters-cooperate",
        statement="Extortion turns into cooperation when two extorters meet and learn on.",
        source=f"{SOURCE}, figure 3B; spec claim 3",
        paper=PLOT,
        quantity="share of seeds in which both earn 0.6 per step at some time within the steps after meeting; naive "
        "learners' steps along payoffs per step",
        measure=share(peak("scaled"), least=0.6),
        threshold=at_least(0.7),
        control=Control("two agents who have learned to defect", share(peak("unaware"), least=0.6)),
        scales=DEEPER,
    ),
)

POOLS: tuple[Claim, ...] = (
    Claim(
        id="exact-mixed-pool",
        statement="Learning-aware agents in a pool with naive learners come to cooperate.",
        source=f"{SOURCE}, figure 3C; spec claim 4",
        paper=PLOT,
        quantity="share of seeds in which two agents end at 0.9 per step or more from each other (of which a half "
        "means that the median does); naive learners weigh 0.25",
        measure=share(final("mixed-pool", "0.25/pair"), least=0.9),
        threshold=at_least(0.5),
        control=Control("a pool without naive learners", share(final("pure-pool", "0/pair"), least=0.9)),
        scales=DEEPER,
    ),
    Claim(
        id="exact-pure-pool",
        statement="Among themselves learning-aware agents defect.",
        source=f"{SOURCE}, figure 3C; spec claim 4",
        paper=PLOT,
        quantity="share of seeds in which two agents end at 0.1 per step or less",
        measure=share(final("pure-pool", "0/pair"), most=0.1),
        threshold=at_least(0.5),
        control=Control("the mixed pool", share(final("mixed-pool", "0.25/pair"), most=0.1)),
        scales=DEEPER,
    ),
)

LOLA: tuple[Claim, ...] = (
    Claim(
        id="lola-few",
        statement="LOLA agents cooperate with few look-aheads and not with many.",
        source=f"{SOURCE}, figure 4; spec claim 5",
        paper=PLOT,
        quantity="payoff per step from each other with one look-ahead, above that with ten",
        measure=difference(pair(1), pair(10)),
        threshold=at_least(0.3),
        control=Control("twenty look-aheads in place of one", difference(pair(20), pair(10))),
        scales=DEEPER,
    ),
    Claim(
        id="lola-extorts",
        statement="With many look-aheads LOLA learns to extort naive learners.",
        source=f"{SOURCE}, figure 4; spec claim 5",
        paper=PLOT,
        quantity="payoff per step of the finished policy with ten look-aheads, above that of naive learners",
        measure=gap(10),
        threshold=at_least(0.5),
        control=Control("one look-ahead", gap(1)),
        scales=DEEPER,
    ),
    Claim(
        id="lola-trend",
        statement="The more look-aheads, the more extortion.",
        source=f"{SOURCE}, figure 4; spec claim 5",
        paper=PLOT,
        quantity="change of the gap between agent and naive learners from one number of look-aheads to the next",
        measure=trend(gap),
        threshold=at_least(0.0),
        control=Control("the payoff from each other in place of the gap", trend(pair)),
        scales=DEEPER,
    ),
    Claim(
        id="lola-mixed",
        statement="Mixing the partial gradient in restores cooperation with many look-aheads.",
        source=f"{SOURCE}, figure 4; spec claim 5",
        paper=PLOT,
        quantity="payoff per step from each other with ten look-aheads and 0.4 of the partial gradient, above that "
        "without",
        measure=difference(pair(10, "mixed raw"), pair(10)),
        threshold=at_least(0.2),
        control=Control("the partial gradient alone", difference(final("pure-pool", "0/pair"), pair(10))),
        scales=DEEPER,
    ),
)

CLAIMS = (*THEORY, *EXTORTION, *POOLS, *LOLA)
