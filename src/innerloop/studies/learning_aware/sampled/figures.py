"""The figures about agents that learn from sampled games."""

from typing import Any

import numpy as np

from ....envs.grids.clean_up import CleanUp
from ....envs.grids.clean_up_picture import draw_clean_up
from ....lab.report.plots import band, line_at, pivot
from ....lab.store import MissingCell, Records
from ....lab.study import Figure, Table
from ..tables import entries, table_of
from .balance import NAMES
from .pools import AGENTS

DEEPER = ("laptop", "paper")
METHODS = {
    "coala": "COALA-PG",
    "m-fos": "M-FOS",
    "unaware": "batch-unaware",
    "frozen": "COALA-PG, learners frozen",
    "evolution": "evolution (shaper)",
}
KINDS = {"tabular": "a tabular agent", "recurrent": "a recurrent agent"}
FRAMES = 8


def _shaping(records: Records) -> Table:
    rows = []
    for kind in KINDS:
        for method, label in METHODS.items():
            try:
                curves = records.array(f"{kind}-{method}", "curves")
            except MissingCell:
                continue
            rows += [
                (kind, label, who, int(seed), m + 1, float(value))
                for seed, both in zip(records.seeds, curves, strict=True)
                for who, curve in zip(("agent", "naive learners"), both, strict=True)
                for m, value in enumerate(curve)
                if np.isfinite(value)
            ]
    return table_of(("kind", "method", "who", "seed", "episode", "reward"), rows)


def _draw_shaping(canvas: Any, table: Table) -> None:
    kinds = list(dict.fromkeys(table["kind"]))
    panels = np.atleast_1d(canvas.subplots(1, len(kinds), sharey=True))
    colours = {label: f"C{i}" for i, label in enumerate(METHODS.values())}
    for axes, kind in zip(panels, kinds, strict=True):
        for method in [name for name in METHODS.values() if name in entries(table, "method", kind=kind)]:
            for who, style in (("agent", "-"), ("naive learners", "--")):
                _, episodes, values = pivot(table, "seed", "episode", "reward", kind=kind, method=method, who=who)
                # Wide where another line lies upon it.
                width = 3.5 if method == METHODS["m-fos"] else 1.6
                line = band(axes, episodes, values, method, color=colours[method], linestyle=style, linewidth=width)
                if who != "agent":
                    line.set_label("_")
        axes.set(title=KINDS[kind], xlabel="inner episode", xticks=(1, 5, 10, 15, 20))
        line_at(axes, 1.0, "mutual cooperation", side="start")
    panels[0].set_ylabel("reward per step")
    low, high = panels[0].get_ylim()
    panels[0].set_ylim(low, high + 0.35 * (high - low))
    panels[0].legend(loc="upper left", fontsize=8, ncols=2)


def _training(records: Records, variants: dict[str, str], metrics: dict[str, str]) -> Table:
    rows = []
    for variant, label in variants.items():
        for metric, who in metrics.items():
            try:
                steps, values = records.series(variant, metric)
            except MissingCell:
                continue
            rows += [
                (label, who, int(seed), int(step), float(value))
                for seed, row in zip(records.seeds, values, strict=True)
                for step, value in zip(steps, row, strict=True)
                if np.isfinite(value)
            ]
    return table_of(("curve", "who", "seed", "step", "reward"), rows)


def _draw_training(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for i, curve in enumerate(entries(table, "curve")):
        for who, style in zip(entries(table, "who"), ("-", "--"), strict=False):
            if who in entries(table, "who", curve=curve):
                _, steps, values = pivot(table, "seed", "step", "reward", curve=curve, who=who)
                width = 3.5 if curve == METHODS["m-fos"] else 1.6
                band(axes, steps, values, f"{curve}: {who}", color=f"C{i}", linestyle=style, linewidth=width)
    axes.set(xlabel="training step", ylabel="reward per step")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)


def _balance(records: Records) -> Table:
    lengths = records.array("balance", "lengths")
    sizes = records.config.sampled.balance.batch_sizes
    return table_of(
        ("estimator", "seed", "copies", "current", "future"),
        [
            (METHODS[name], int(seed), int(size), float(current), float(future))
            for seed, of_seed in zip(records.seeds, lengths, strict=True)
            for name, of_name in zip(NAMES, of_seed, strict=True)
            for size, (current, future) in zip(sizes, of_name, strict=True)
            if np.isfinite(current)
        ],
    )


def _draw_balance(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    sizes = sorted(set(table["copies"]))
    for method, style in zip(entries(table, "estimator"), ("-", "-", ":"), strict=False):
        parts = [pivot(table, "seed", "copies", part, estimator=method)[2] for part in ("current", "future")]
        band(axes, sizes, parts[1] / parts[0], method, spread="range", marker="o", linestyle=style)
    ratios = np.asarray(table["future"]) / np.asarray(table["current"])
    start = float(np.median(ratios[np.asarray(table["copies"]) == sizes[0]]))
    axes.plot(sizes, start * sizes[0] / np.asarray(sizes), color="grey", linewidth=0.9, linestyle="--", label="1/B")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set(xlabel="copies in the inner batch (B)", ylabel="future part / current part")
    axes.legend()


def _film(records: Records) -> Table:
    seen, zapped = (records.array("clean-up-coala", name) for name in ("seen", "zapped"))
    seed = int(np.flatnonzero(np.isfinite(np.asarray(seen, float)).all(axis=(1, 2, 3)))[0])
    settings = records.config.sampled.clean_up
    rows = []
    steps = np.unique(np.linspace(0, seen.shape[1] - 1, FRAMES).round().astype(int))
    for step in steps:
        for agent in range(2):
            shown = "".join(str(int(x)) for x in seen[seed, step, agent])
            rows.append((int(step), agent, shown, int(zapped[seed, step, agent]), settings.height, settings.width))
    return table_of(("step", "agent", "observation", "zapped", "height", "width"), rows)


def _draw_film(canvas: Any, table: Table) -> None:
    steps = sorted(set(table["step"]))
    columns = (len(steps) + 1) // 2
    panels = canvas.subplots(2, columns).ravel()
    for axes in panels:
        axes.axis("off")
    for axes, step in zip(panels, steps, strict=False):
        lines = [i for i in range(len(table["step"])) if table["step"][i] == step]
        observation = np.asarray([[int(x) for x in table["observation"][i]] for i in lines], float)
        world = CleanUp(num_steps=1, height=table["height"][lines[0]], width=table["width"][lines[0]])
        axes.imshow(draw_clean_up(world, observation, zapped=np.asarray([table["zapped"][i] for i in lines])))
        axes.set_title(f"step {step}", fontsize=9)


FIGURES: tuple[Figure, ...] = (
    Figure(
        id="sampled-shaping",
        title="Rewards over the meta-episode, after training",
        caption="Finished agents (full lines) and fresh naive learners (broken lines), who are updated after each "
        "inner episode; means over seeds with 95% intervals.",
        paper="Figure 5A: COALA-PG extorts naive learners; M-FOS and the batch-unaware estimator end in defection.",
        data=_shaping,
        draw=_draw_shaping,
        size=(9.0, 4.0),
        scales=DEEPER,
    ),
    Figure(
        id="sampled-training",
        title="Rewards by training",
        caption="Mean rewards over the meta-episodes of a training step, of tabular agents and their naive learners, "
        "who do not learn at all where they are frozen.",
        paper="Figure 5A.",
        data=lambda records: _training(
            records,
            {f"tabular-{method}": label for method, label in METHODS.items()},
            {"reward_against_learners": "agent", "reward_of_learners": "naive learners"},
        ),
        draw=_draw_training,
        size=(9.0, 3.8),
        scales=DEEPER,
    ),
    Figure(
        id="gradient-balance",
        title="The part of later episodes in the gradient",
        caption="Length of the expected gradient that comes from later inner episodes, in units of that from the "
        "current one, at a fixed tabular policy; bands are ranges over seeds. M-FOS and the unaware estimator "
        "coincide.",
        paper="Figure 12: the balance of COALA-PG does not depend on the batch size.",
        data=_balance,
        draw=_draw_balance,
        scales=DEEPER,
    ),
    Figure(
        id="sampled-pool",
        title="A COALA-PG agent and an M-FOS agent in one pool",
        caption="What tabular agents earn from each other during training, with naive learners in the pool and "
        "without.",
        paper="Appendix H.3: both end at 0.85 (recurrent agents).",
        data=lambda records: _training(
            records,
            {"pool-mixed": "with naive learners", "pool-pure": "without"},
            {f"agent_{i}/reward_against_agents": METHODS[name] for i, name in enumerate(AGENTS)},
        ),
        draw=_draw_training,
        size=(9.0, 3.6),
        scales=DEEPER,
    ),
    Figure(
        id="clean-up-episode",
        title="An inner episode of CleanUp",
        caption="The last inner episode of two COALA-PG agents: orchard on the left, river on the right, red apples, "
        "brown dirt; a frozen agent has an icy frame, and a yellow ray is a hit.",
        paper="Figure 6 shows the world.",
        data=_film,
        draw=_draw_film,
        size=(8.0, 3.6),
        scales=DEEPER,
    ),
)
