"""The claims of the paper, each with the threshold it is held to and the control that must fail."""

import numpy as np

from ...lab.store import Records
from ...lab.study import Claim, Control, Measure, at_least, at_most

SOURCE = "Weis et al. (2026), arXiv 2602.16301"
OWN = "derived here"
DEEPER = ("laptop", "paper")


def value(variant: str, name: str) -> Measure:
    """A recorded number."""
    return lambda records: records.final(variant, name)


def best_response_margin(variant: str, agent: str) -> Measure:
    """How far an agent is inside of all three lines at once; it is the worst opponent that counts.

    Cooperation in the last rounds: at least 0.8 with TFT, at most 0.2 with AllC and with AllD.
    """

    def measure(records: Records) -> np.ndarray:
        late = {name: records.final(variant, f"{agent}/{name}/late_cooperation") for name in ("TFT", "AllC", "AllD")}
        return np.minimum(late["TFT"] - 0.8, np.minimum(0.2 - late["AllC"], 0.2 - late["AllD"]))

    return measure


def extortion_gap(victim: str) -> Measure:
    """What the extorter earns more than its victim, per round."""

    def measure(records: Records) -> np.ndarray:
        pair = [records.final("exact", f"extortion/{victim}/{who}") for who in ("extorter", "victim")]
        return pair[0] - pair[1]

    return measure


def rise(name: str) -> Measure:
    """The mean reward of both at its peak over training, above that at the start."""

    def measure(records: Records) -> np.ndarray:
        rewards = records.array("exact", name).mean(axis=2)
        return rewards.max(axis=1) - rewards[:, 0]

    return measure


def above_floor(side: str, loss: str = "loss") -> Measure:
    """Nats per round above the ideal predictor."""
    return lambda records: records.final("prediction", f"{side}_{loss}") - records.final("prediction", f"{side}_floor")


CLAIMS = (
    Claim(
        id="1a",
        statement="Learners in a mixed pool learn to cooperate with each other",
        source=SOURCE,
        paper="reward per round near 1, figure 1 (10 seeds, 30 phases of 20,000 episodes of 100 rounds)",
        quantity="reward per round of two learners with each other, mixed pool, predictive policy improvement",
        measure=value("mixed", "mutual_reward"),
        threshold=at_least(0.6),
        control=Control("no tabular players in the pool", value("learners", "mutual_reward")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="1b",
        statement="Without tabular players in the pool learners defect",
        source=SOURCE,
        paper="reward per round near 0, figure 1",
        quantity="reward per round of two learners with each other, learners only",
        measure=value("learners", "mutual_reward"),
        threshold=at_most(0.2),
        control=Control("the mixed pool", value("mixed", "mutual_reward")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="1c",
        statement="If they are told whom they play with, and need not infer it, learners defect",
        source=SOURCE,
        paper="reward per round near 0, figure 1",
        quantity="reward per round of two learners with each other, mixed pool, co-players identified",
        measure=value("identified", "mutual_reward"),
        threshold=at_most(0.2),
        control=Control("the mixed pool", value("mixed", "mutual_reward")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="2a",
        statement="An agent that infers its co-player within the episode answers best to each: exact inference, draws",
        source=SOURCE,
        paper="figures 2A, 2B, for learned agents: cooperation with tit-for-tat, defection with AllC and AllD",
        quantity="worst margin of late cooperation to >= 0.8 with TFT, <= 0.2 with AllC, <= 0.2 with AllD",
        measure=best_response_margin("exact", "thompson"),
        threshold=at_least(0.0),
        control=Control("the same planner without inference", best_response_margin("exact", "deaf")),
        over_seeds="every",
    ),
    Claim(
        id="2b",
        statement="Inference alone is not enough: who plans with the posterior mean does not explore and misses TFT",
        source=OWN,
        paper="not stated",
        quantity="late cooperation with TFT, exact inference, planning as if the posterior mean were true",
        measure=value("exact", "certainty/TFT/late_cooperation"),
        threshold=at_most(0.8),
        control=Control("planning with draws from the posterior", value("exact", "thompson/TFT/late_cooperation")),
        over_seeds="every",
    ),
    Claim(
        id="2c",
        statement="Training with diverse co-players makes a sequence model answer best to each within the episode",
        source=SOURCE,
        paper="figures 2A, 2B, 4A, 4B",
        quantity="worst margin of late cooperation to >= 0.8 with TFT, <= 0.2 with AllC, <= 0.2 with AllD",
        measure=best_response_margin("tabular", "learned"),
        threshold=at_least(0.0),
        control=Control("its memory is wiped before every round", best_response_margin("tabular", "forgetful")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="3a",
        statement="An agent that infers its co-player within the episode can be extorted",
        source=SOURCE,
        paper="extorters earn about 0.9 (predictive policy improvement) and 1.25 (A2C) per round",
        quantity="reward per round of an evolved memory-one player with the agent that infers exactly",
        measure=value("exact", "extortion/thompson/extorter"),
        threshold=at_least(0.8),
        control=Control("evolved against the planner without inference", value("exact", "extortion/deaf/extorter")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="3b",
        statement="The extorter earns more than its victim",
        source=SOURCE,
        paper="victims stay far below their extorters",
        quantity="reward per round of the extorter minus that of the agent that infers exactly",
        measure=extortion_gap("thompson"),
        threshold=at_least(0.3),
        control=Control("evolved against the planner without inference", extortion_gap("deaf")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="4",
        statement="Two extorters that learn from each other become cooperative",
        source=SOURCE,
        paper="figures 2E, 2F: cooperation rises within and over episodes; A2C may fall back",
        quantity="mean reward per round at its peak minus at the start; both climb their exact returns",
        measure=rise("mutual"),
        threshold=at_least(0.3),
        control=Control("two random memory-one players", rise("strangers")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="5a",
        statement="The sequence model predicts the co-player as well as can be",
        source=SOURCE,
        paper="implied",
        quantity="nats per round above the ideal predictor (0.540), actions of the co-player, 100 rounds, uniform law",
        measure=above_floor("other"),
        threshold=at_most(0.02),
        control=Control("before training", above_floor("other", "untrained_loss")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="5b",
        statement="The sequence model predicts the player itself as well as can be",
        source=SOURCE,
        paper="implied",
        quantity="nats per round above the ideal predictor (0.540), own actions, 100 rounds, uniform law",
        measure=above_floor("own"),
        threshold=at_most(0.02),
        control=Control("before training", above_floor("own", "untrained_loss")),
        over_seeds="every",
        scales=DEEPER,
    ),
    Claim(
        id="6",
        statement="The ideal predictor's loss at each visit to a view falls from log 2 to 1/2 as Laplace's rule says",
        source=OWN,
        paper="not stated; it follows from the uniform law",
        quantity="largest difference in nats between 20,000 players and the formula over the first 20 visits",
        measure=value("exact", "visit_error"),
        threshold=at_most(0.02),
        control=Control("a predictor that does not count", value("exact", "visit_error_without_counts")),
        over_seeds="every",
    ),
)
