"""The tables behind the figures of `coplayer-inference`: long, one line per point, from stored records alone."""

from typing import Any

import numpy as np
from scipy.special import betaincinv

from ...lab.store import Records
from ...lab.study import Table
from .exact import OPPONENTS

Columns = dict[str, list[Any]]
VIEWS = ("start", "CC", "CD", "DC", "DD")
EXACT_AGENTS = {"oracle": "oracle", "thompson": "infers, draws", "certainty": "infers, means"}
LEARNED_AGENTS = {"learned": "learned", "forgetful": "memory wiped"}
TRAININGS = {"mixed": "mixed pool", "identified": "co-players identified", "learners": "learners only"}


def _add(table: Columns, *items: Any) -> None:
    for column, item in zip(table.values(), items, strict=True):
        column.append(item)


def posterior(records: Records) -> Table:
    """What the planner believes of one co-player before each round: first seed."""
    table: Columns = {"view": [], "round": [], "truth": [], "mean": [], "low": [], "high": []}
    c, d, truth = (records.array("exact", f"trace_{name}")[0] for name in ("cooperations", "defections", "truth"))
    c, d, truth = (np.asarray(x, float) for x in (c, d, truth))
    low, high = betaincinv(c, d, 0.05), betaincinv(c, d, 0.95)
    for view, name in list(enumerate(VIEWS))[1:]:
        for time in range(len(c)):
            mean = c[time, view] / (c[time, view] + d[time, view])
            _add(table, name, time + 1, truth[view], mean, low[time, view], high[time, view])
    return table


def _within(records: Records, variant: str, agents: dict[str, str]) -> Table:
    table: Columns = {"agent": [], "opponent": [], "quantity": [], "seed": [], "round": [], "value": []}
    for agent, label in agents.items():
        for quantity in ("cooperation", "rewards"):
            curves = records.array(variant, f"{agent}_{quantity}")
            window = 2 * max(1, curves.shape[2] // 20)  # even: agents that alternate are no zigzag
            curves = curves[..., : curves.shape[2] // window * window]
            curves = curves.reshape(*curves.shape[:2], -1, window).mean(axis=3)
            for seed, rows in zip(records.seeds, curves, strict=True):
                for opponent, row in zip(OPPONENTS, rows, strict=True):
                    for time, value in enumerate(row):
                        _add(table, label, opponent, quantity, int(seed), (time + 0.5) * window, float(value))
    return table


def within_exact(records: Records) -> Table:
    """Cooperation and reward over the episode with each opponent: agents that infer exactly."""
    return _within(records, "exact", EXACT_AGENTS)


def within_learned(records: Records) -> Table:
    """The same for the agent trained with tabular co-players."""
    return _within(records, "tabular", LEARNED_AGENTS)


def training(records: Records) -> Table:
    """What learners earn from each other over training; zero before they have met is left out."""
    table: Columns = {"pool": [], "seed": [], "step": [], "value": []}
    for variant, label in TRAININGS.items():
        steps, values = records.series(variant, "mutual_reward", phase="train")
        last = records.final(variant, "mutual_reward")
        for seed, row, end in zip(records.seeds, values, last, strict=True):
            for step, value in zip(steps, row, strict=True):
                if value != 0.0:
                    _add(table, label, int(seed), int(step), float(value))
            _add(table, label, int(seed), int(steps[-1]) + 1, float(end))
    return table


def together(records: Records) -> Table:
    """How often learners cooperate with each other in each round, after training."""
    table: Columns = {"pool": [], "seed": [], "round": [], "value": []}
    for variant, label in TRAININGS.items():
        for seed, row in zip(records.seeds, records.array(variant, "mutual_cooperation"), strict=True):
            for time, value in enumerate(row):
                _add(table, label, int(seed), time + 1, float(value))
    return table


def extortion(records: Records) -> Table:
    """What the best member of each generation and its victim earn."""
    table: Columns = {"victim": [], "seed": [], "generation": [], "extorter": [], "victim's reward": []}
    for name, label in (("extortion_history", "infers"), ("deaf_extortion_history", "does not infer")):
        for seed, rows in zip(records.seeds, records.array("exact", name), strict=True):
            for generation, (own, other) in enumerate(rows):
                _add(table, label, int(seed), generation, float(own), float(other))
    return table


def mutual(records: Records) -> Table:
    """What two memory-one players earn while both learn."""
    table: Columns = {"players": [], "seed": [], "step": [], "value": []}
    for name, label in (("mutual", "two extorters"), ("strangers", "two random players")):
        curves = records.array("exact", name).mean(axis=2)
        every = max(1, records.config.extortion.learning_steps // 200)
        for seed, row in zip(records.seeds, curves, strict=True):
            for number, value in enumerate(row):
                _add(table, label, int(seed), number * every, float(value))
    return table


def prediction(records: Records) -> Table:
    """Losses in each round, of the trained model and of the ideal predictor."""
    table: Columns = {"side": [], "predictor": [], "seed": [], "round": [], "value": []}
    for label, name in (("sequence model", "losses"), ("ideal", "floor")):
        for seed, rows in zip(records.seeds, records.array("prediction", name), strict=True):
            for side, row in zip(("own action", "co-player's action"), rows, strict=True):
                for time, value in enumerate(row):
                    _add(table, side, label, int(seed), time + 1, float(value))
    return table


def visits(records: Records) -> Table:
    """The ideal predictor's loss at each visit to a view."""
    table: Columns = {"seed": [], "visit": [], "value": []}
    for seed, row in zip(records.seeds, records.array("exact", "visits"), strict=True):
        for visit, value in enumerate(row):
            _add(table, int(seed), visit + 1, float(value))
    return table
