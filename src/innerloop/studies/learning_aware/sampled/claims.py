"""The claims about agents that learn from sampled games."""

from typing import Any

import numpy as np

from ....lab.store import Records
from ....lab.study import Claim, Control, Measure, at_least, at_most
from .pools import AGENTS

SOURCE = "Meulemans et al. (2025), arXiv 2410.18636"
DEEPER = ("laptop", "paper")
PLOT = "in a plot only"


def earned(who: str, *variants: str) -> Measure:
    """What an agent or its co-players earn per step over fresh meta-episodes; the most of several trainings."""
    return lambda records: np.max([records.final(variant, who) for variant in variants], axis=0)


def above(variant: str, *others: str) -> Measure:
    """How much more an agent earns than the best of others."""
    return lambda records: earned("ego", variant)(records) - earned("ego", *others)(records)


def apart(one: str, other: str) -> Measure:
    """How far what two agents earn is apart."""
    return lambda records: np.abs(above(one, other)(records))


def final(variant: str, name: str) -> Measure:
    """A recorded number."""
    return lambda records: records.final(variant, name)


def from_inverse(estimator: str) -> Measure:
    """How far the slope of the balance over the batch size, in logarithms, is from that of 1/B."""
    return lambda records: np.abs(records.final("balance", f"{estimator}/slope") + 1)


def both(variant: str) -> Measure:
    """What the one of both agents earns that earns less."""
    return lambda records: np.min([records.final(variant, name) for name in AGENTS], axis=0)


def less(name: str, before: str = "") -> Measure:
    """How much less of something there is with COALA-PG, or with untrained agents, than with the unaware estimator."""

    def measure(records: Records) -> np.ndarray:
        return records.final("clean-up-unaware", name) - records.final("clean-up-coala", before + name)

    return measure


def more(name: str, before: str = "") -> Measure:
    """How much more of something there is."""
    return lambda records: -less(name, before)(records)


def _shaping(kind: str, baselines: tuple[str, ...], who: str) -> tuple[Claim, ...]:
    """Claim 1 for one kind of agent."""
    coala, others = f"{kind}-coala", tuple(f"{kind}-{name}" for name in baselines)
    named = " and ".join({"m-fos": "M-FOS", "unaware": "batch-unaware"}[name] for name in baselines)
    common: dict[str, Any] = dict(
        source=f"{SOURCE}, figure 5A; spec claim 1", paper=PLOT, over_seeds="every", scales=DEEPER
    )
    return (
        Claim(
            id=f"{kind}-extorts",
            statement=f"COALA-PG learns to extort naive learners ({who}).",
            quantity="the agent's reward per step against fresh naive learners",
            measure=earned("ego", coala),
            threshold=at_least(0.7),
            control=Control(f"the same agent trained with the {named} estimator", earned("ego", *others)),
            **common,
        ),
        Claim(
            id=f"{kind}-keeps-learners",
            statement=f"The naive learners that COALA-PG extorts still earn more than by mutual defection ({who}).",
            quantity="the naive learners' reward per step",
            measure=earned("naive", coala),
            threshold=at_least(0.1),
            control=Control(f"naive learners against the {named} agent", earned("naive", *others)),
            **common,
        ),
        Claim(
            id=f"{kind}-beats-baselines",
            statement=f"{named} policy gradients do not learn it ({who}).",
            quantity="COALA-PG's reward per step above the best of these",
            measure=above(coala, *others),
            threshold=at_least(0.4),
            control=CONTROLS[kind],
            **common,
        ),
    )


CONTROLS = {
    "tabular": Control(
        "the same estimator trained with co-players that do not learn",
        above("tabular-frozen", "tabular-m-fos", "tabular-unaware"),
    ),
    "recurrent": Control("the unaware recurrent agent above the unaware tabular one",
                         above("recurrent-unaware", "tabular-unaware")),
}  # fmt: skip

CLAIMS: tuple[Claim, ...] = (
    *_shaping("tabular", ("m-fos", "unaware"), "a tabular agent"),
    Claim(
        id="tabular-baselines-alike",
        statement="M-FOS and batch-unaware policy gradients perform alike.",
        source=f"{SOURCE}, section 5; spec claim 1",
        paper=PLOT,
        quantity="how far the rewards per step of both are apart",
        measure=apart("tabular-m-fos", "tabular-unaware"),
        threshold=at_most(0.05),
        control=Control("COALA-PG and the unaware one", apart("tabular-coala", "tabular-unaware")),
        over_seeds="every",
        scales=DEEPER,
    ),
    *_shaping("recurrent", ("m-fos", "unaware"), "a recurrent agent that remembers the meta-episode"),
    Claim(
        id="balance-coala",
        statement="COALA-PG keeps current and future episodes balanced whatever the size of the inner batch.",
        source=f"{SOURCE}, figure 12; spec claim 6",
        paper=PLOT,
        quantity="largest over smallest ratio of the future to the current part of the gradient, over batch sizes",
        measure=final("balance", "coala/spread"),
        threshold=at_most(2.0),
        control=Control("the batch-unaware estimator", final("balance", "unaware/spread")),
        scales=DEEPER,
    ),
    *(
        Claim(
            id=f"balance-{name}",
            statement=f"With the {title} estimator the future part vanishes as 1/B.",
            source=f"{SOURCE}, figure 12; spec claim 6",
            paper=PLOT,
            quantity="how far the slope of the ratio's logarithm over that of the batch size is from -1",
            measure=from_inverse(name),
            threshold=at_most(0.2),
            control=Control("COALA-PG", from_inverse("coala")),
            scales=DEEPER,
        )
        for name, title in (("m-fos", "M-FOS"), ("unaware", "batch-unaware"))
    ),
    Claim(
        id="pool-cooperates",
        statement="A COALA-PG agent and an M-FOS agent in one pool with naive learners come to cooperate.",
        source=f"{SOURCE}, appendix H.3; spec claim 7",
        paper="0.850 and 0.853, with recurrent agents",
        quantity="reward per step, from each other, of the one who earns less; at scale laptop both are tabular",
        measure=both("pool-mixed"),
        threshold=at_least(0.6),
        control=Control("the same pool without naive learners", both("pool-pure")),
        scales=DEEPER,
    ),
    *(
        Claim(
            id=f"clean-up-{name}",
            statement=statement,
            source=f"{SOURCE}, figures 6, 7, 13 and 14; spec claim 8 (direction only)",
            paper=PLOT,
            quantity=quantity,
            measure=compare(name),
            threshold=at_least(0.0),
            control=Control("untrained agents in place of COALA-PG's", compare(name, "untrained/")),
            scales=DEEPER,
        )
        for name, compare, statement, quantity in (
            ("reward", more, "COALA-PG agents earn more in CleanUp.", "difference in reward per step"),
            ("zaps", less, "They zap less.", "hits per agent and step, fewer than with the unaware estimator"),
            ("discrepancy", less, "They share the cleaning more evenly.",
             "difference between both agents' cleaning per step, less than with the unaware estimator"),
        )
    ),
)  # fmt: skip
