"""The figures of `coplayer-inference`: each makes a table from records and draws nothing but that table."""

from typing import Any

import numpy as np

from ...lab.report.figures import INK
from ...lab.report.plots import band, line_at, pivot
from ...lab.study import Figure, Table
from ...rl.coplayer import expected_loss_at_visit
from . import tables
from .exact import OPPONENTS

DEEPER = ("laptop", "paper")


def _draw_posterior(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(2, 2, sharex=True, sharey=True)
    for axes, view in zip(panels.ravel(), tables.VIEWS[1:], strict=True):
        rows = [i for i, name in enumerate(table["view"]) if name == view]
        x, mean, low, high = ([table[name][i] for i in rows] for name in ("round", "mean", "low", "high"))
        (line,) = axes.plot(x, mean, label="posterior mean")
        axes.fill_between(x, low, high, alpha=0.2, color=line.get_color(), linewidth=0, label="90 % interval")
        line_at(axes, table["truth"][rows[0]], "")
        axes.set(title=f"after {view}", ylim=(-0.03, 1.03))
    for axes in panels[1]:
        axes.set_xlabel("round")
    for axes in panels[:, 0]:
        axes.set_ylabel("P(cooperates)")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def _draw_within(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(2, len(OPPONENTS), sharex=True, sharey="row")
    for column, opponent in enumerate(OPPONENTS):
        for row, (quantity, label) in enumerate((("cooperation", "cooperates"), ("rewards", "reward"))):
            axes = panels[row, column]
            for agent in dict.fromkeys(table["agent"]):
                _, rounds, values = pivot(
                    table, "seed", "round", "value", agent=agent, opponent=opponent, quantity=quantity
                )
                band(axes, rounds, values, agent, spread="range")
            if column == 0:
                axes.set_ylabel(label)
        panels[0, column].set(title=f"with {opponent}", ylim=(-0.03, 1.03))
        panels[1, column].set_xlabel("round")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    canvas.legend(handles, labels, loc="outside upper center", ncols=len(labels))


def _draw_training(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for pool in dict.fromkeys(table["pool"]):
        _, steps, values = pivot(table, "seed", "step", "value", pool=pool)
        band(axes, steps, values, pool, spread="range")
    line_at(axes, 0.6, "")
    axes.set(xlabel="update of the model", ylabel="reward per round with a learner", ylim=(-0.1, 1.05))
    axes.legend(loc="upper right")


def _draw_together(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for pool in dict.fromkeys(table["pool"]):
        _, rounds, values = pivot(table, "seed", "round", "value", pool=pool)
        band(axes, rounds, values, pool, spread="range")
    axes.set(xlabel="round", ylabel="cooperates with a learner", ylim=(-0.03, 1.03))
    axes.legend(loc="upper left")


def _draw_extortion(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    corners = np.asarray([[0, 0], [-1, 2], [1, 1], [2, -1], [0, 0]], float)
    axes.plot(corners[:, 0], corners[:, 1], color=INK, linewidth=0.8, alpha=0.6)
    axes.plot([0, 1], [0, 1], color=INK, linewidth=0.8, linestyle=":")
    last = max(table["generation"])
    for victim, marker in zip(dict.fromkeys(table["victim"]), "os", strict=False):
        rows = [i for i, name in enumerate(table["victim"]) if name == victim]
        x, y = ([table[name][i] for i in rows] for name in ("victim's reward", "extorter"))
        (line,) = axes.plot(x, y, marker, markersize=3, alpha=0.35, linestyle="none")
        ends = [i for i in rows if table["generation"][i] == last]
        x, y = ([table[name][i] for i in ends] for name in ("victim's reward", "extorter"))
        label = f"victim {victim}"
        axes.plot(x, y, marker, markersize=8, color=line.get_color(), linestyle="none", label=label)
    axes.set(xlabel="reward of the victim", ylabel="reward of the extorter")
    axes.legend(loc="upper right")


def _draw_mutual(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for players in dict.fromkeys(table["players"]):
        _, steps, values = pivot(table, "seed", "step", "value", players=players)
        line = band(axes, steps, values, players, spread="range")
        for row in values:
            axes.plot(steps, row, color=line.get_color(), linewidth=0.7, alpha=0.6)
    axes.set(xlabel="step of both learners", ylabel="reward per round", ylim=(-0.1, 1.3))
    axes.legend(loc="upper right", ncols=2)


def _draw_prediction(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, 2, sharey=True)
    for axes, side in zip(panels, dict.fromkeys(table["side"]), strict=True):
        for predictor in dict.fromkeys(table["predictor"]):
            _, rounds, values = pivot(table, "seed", "round", "value", side=side, predictor=predictor)
            band(axes, rounds, values, predictor, spread="range")
        axes.set(title=side, xlabel="round")
    panels[0].set_ylabel("loss in nats")
    panels[0].legend(loc="upper right")


def _draw_visits(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    _, visits, values = pivot(table, "seed", "visit", "value")
    formula = [expected_loss_at_visit(int(visit)) for visit in visits]
    axes.plot(visits, formula, label="formula")
    for number, row in enumerate(values):
        axes.plot(visits, row, ".", color=INK, markersize=4, label="" if number else "20,000 players per seed")
    line_at(axes, 0.5, "")
    axes.set(xlabel="visit to a view", ylabel="loss in nats", xticks=range(2, len(visits) + 1, 2))
    axes.legend(loc="upper right")


FIGURES = (
    Figure(
        id="training",
        title="Who cooperates with whom after which training",
        caption="Reward per round of two learners with each other, measured with the policies deployed after each phase"
        " and drawn over the updates of the next model; the band is the range over seeds, the line the threshold.",
        paper="Figure 1: near 1 in the mixed pool, near 0 in both ablations.",
        data=tables.training,
        draw=_draw_training,
        scales=DEEPER,
    ),
    Figure(
        id="together",
        title="Within an episode: two learners with each other",
        caption="Share of cooperation in each round of games of the two learners, with the policies deployed after the"
        " last phase; the band is the range over seeds.",
        paper="Figure 1 and its discussion: cooperation within the episode.",
        data=tables.together,
        draw=_draw_together,
        scales=DEEPER,
    ),
    Figure(
        id="within-exact",
        title="Within an episode: agents that infer exactly",
        caption="Share of cooperation and reward, means over a tenth of the episode, with four fixed strategies. Nobody"
        " is told which. The oracle knows the table. Planning with the posterior mean explores too little to find out"
        " that tit-for-tat rewards cooperation; planning with draws finds out.",
        paper="Figures 2A and 2B, for learned agents.",
        data=tables.within_exact,
        draw=_draw_within,
        size=(9.2, 4.6),
    ),
    Figure(
        id="within-learned",
        title="Within an episode: the learned agent",
        caption="The same for the agent trained with tabular co-players by predictive policy improvement, and for the"
        " same agent with its memory wiped before every round.",
        paper="Figures 2A, 2B, 4A and 4B.",
        data=tables.within_learned,
        draw=_draw_within,
        size=(9.2, 4.6),
        scales=DEEPER,
    ),
    Figure(
        id="posterior",
        title="What is known of a co-player, round by round",
        caption="One episode of the planner that samples, with one member of the pool: posterior mean and 90 % interval"
        " of the probability that the co-player cooperates after each joint action (its own first); the line is the"
        " truth. Views that never occur are never learned.",
        paper="No such figure; the companion makes visible what the sequence model has to infer.",
        data=tables.posterior,
        draw=_draw_posterior,
        size=(6.4, 4.6),
    ),
    Figure(
        id="extortion",
        title="Extortion of an agent that infers",
        caption="What the best member of each generation of memory-one players and its victim earn per round; large:"
        " the last generation. On the dotted line both earn the same; the polygon is all that the game allows.",
        paper="Figures 2C and 2D: about 0.9 to 1.25 for the extorter.",
        data=tables.extortion,
        draw=_draw_extortion,
    ),
    Figure(
        id="mutual",
        title="Two extorters learn from each other",
        caption="Mean reward per round of two evolved extorters while both climb their own exact return, and of two"
        " random memory-one players that do the same.",
        paper="Figures 2E and 2F.",
        data=tables.mutual,
        draw=_draw_mutual,
    ),
    Figure(
        id="prediction",
        title="Prediction of actions and the least possible loss",
        caption="Mean loss in each round of held-out games of two uniformly random memory-one players.",
        paper="Implied: the model must infer who it plays with.",
        data=tables.prediction,
        draw=_draw_prediction,
        scales=DEEPER,
    ),
    Figure(
        id="visits",
        title="The ideal predictor at each visit to a view",
        caption="Mean loss of Laplace's rule at the first, second, ... action after one and the same view.",
        paper="No such figure.",
        data=tables.visits,
        draw=_draw_visits,
    ),
)
