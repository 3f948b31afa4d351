"""The figures about memory-one policies trained by exact gradients."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ...envs.matrix_games import PRISONERS_DILEMMA
from ...lab.report.plots import band, heat, line_at, pivot
from ...lab.store import MissingCell, Records
from ...lab.study import Figure, Table
from ...rl.exact.returns import discounted_returns
from ...rl.strategies import OBSERVATIONS, MemoryOne
from .configuration import LOOK_AHEADS
from .tables import entries, table_of

DEEPER = ("laptop", "paper")
KINDS = {
    "raw": "raw steps, from defection",
    "scaled": "scaled steps, from defection",
    "anywhere": "raw steps, from anywhere",
    "unaware": "unaware of learning",
}  # in the order in which their policies are stored
TRAINED = {"scaled": "shaper, scaled", "anywhere": "shaper, raw", "unaware": "unaware"}
COARSE = 5  # of the points of single seeds one in so many is drawn: there are many seeds
FEASIBLE = ((1, 1), (-1, 2), (0, 0), (2, -1), (1, 1))  # own payoff, other's


# ---- the extortion plane -------------------------------------------------------------------------------------------


def _plane(records: Records) -> Table:
    rows = []
    for kind, label in KINDS.items():
        phase = f"{'unaware' if kind == 'unaware' else 'aware'}/train"
        steps, own = records.series("extortion", f"{kind}/ego", phase=phase)
        theirs = records.series("extortion", f"{kind}/naive", phase=phase)[1]
        phi, product = (records.final("extortion", f"{kind}/{name}") for name in ("phi", "phi_chi"))
        rows += [
            (label, int(seed), int(step), float(own[s, t]), float(theirs[s, t]), float(product[s] / max(phi[s], 1e-9)))
            for s, seed in enumerate(records.seeds)
            for t, step in enumerate(steps)
            if np.isfinite(own[s, t])
        ]
    return table_of(("kind", "seed", "step", "own", "other", "chi"), rows)


def _draw_plane(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    axes.fill(*np.asarray(FEASIBLE).T, color="grey", alpha=0.12, linewidth=0)
    for i, kind in enumerate(entries(table, "kind")):
        own, other = (pivot(table, "seed", "step", name, kind=kind)[2] for name in ("own", "other"))
        for s in range(len(own)):
            axes.plot(own[s, ::2], other[s, ::2], color=f"C{i}", linewidth=0.7, alpha=0.4)
        axes.plot(own[:, -1], other[:, -1], "o", color=f"C{i}", label=kind, markersize=4)
        chi = float(np.median(pivot(table, "seed", "step", "chi", kind=kind)[2][:, -1]))
        if own[:, -1].mean() > 0.5:  # who has stayed with defection forces no line
            ends = np.asarray([-0.25, 1.6])
            label = rf"zero-determinant line, $\chi$ = {chi:.1f}"
            axes.plot(ends, ends / chi, color=f"C{i}", linestyle="--", linewidth=0.9, label=label)
    axes.set(xlabel="own payoff per step", ylabel="naive learners' payoff per step", xlim=(-1.1, 2.1), ylim=(-1.1, 2.1))
    axes.set_aspect("equal")
    axes.legend(loc="center left", bbox_to_anchor=(1.02, 0.5), fontsize=8)


# ---- curves --------------------------------------------------------------------------------------------------------


def _shaping(records: Records) -> Table:
    curves = records.array("extortion", "shaping_curves")
    return table_of(
        ("kind", "who", "seed", "naive_step", "payoff"),
        [
            (label, who, int(seed), m, float(curves[s, k, m, i]))
            for k, label in enumerate(KINDS.values())
            for i, who in enumerate(("agent", "naive learners"))
            for s, seed in enumerate(records.seeds)
            for m in range(curves.shape[2])
            if np.isfinite(curves[s, k, m, i])
        ],
    )


def _draw_shaping(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for i, kind in enumerate(entries(table, "kind")):
        for who, style in (("agent", "-"), ("naive learners", "--")):
            _, steps, values = pivot(table, "seed", "naive_step", "payoff", kind=kind, who=who)
            band(axes, steps, values, f"{kind}: {who}", color=f"C{i}", linestyle=style)
    line_at(axes, 1.0, "mutual cooperation", side="start")
    axes.set(xlabel="steps that the naive learner has made", ylabel="payoff per step")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)


def _curves(records: Records, sources: dict[str, tuple[str, str, str]]) -> Table:
    """Learning curves: label -> variant, metric, phase."""
    rows = []
    for label, (variant, metric, phase) in sources.items():
        try:
            steps, values = records.series(variant, metric, phase=phase)
        except MissingCell:
            continue
        rows += [
            (label, int(seed), int(step), float(value))
            for seed, row in zip(records.seeds, values, strict=True)
            for step, value in zip(steps, row, strict=True)
            if np.isfinite(value)
        ]
    return table_of(("curve", "seed", "step", "payoff"), rows)


def _draw_curves(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    for curve in entries(table, "curve"):
        _, steps, values = pivot(table, "seed", "step", "payoff", curve=curve)
        every = max(1, len(steps) // 100)
        steps, values = steps[::every], values[:, ::every]
        line = band(axes, steps, values, curve)
        for row in values:
            axes.plot(steps[::COARSE], row[::COARSE], color=line.get_color(), linewidth=0.4, alpha=0.35)
    line_at(axes, 1.0, "mutual cooperation", side="start")
    axes.set(xlabel="training step", ylabel="payoff per step from each other")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)


def _pools(records: Records) -> Table:
    sources = {"no naive learners": ("pure-pool", "0/pair", "train")}
    for weight in records.config.exact.naive_shares:
        sources[f"naive learners weigh {weight:g}"] = ("mixed-pool", f"{weight:g}/pair", "train")
    return _curves(records, sources)


# ---- looking ahead -------------------------------------------------------------------------------------------------


def _look_ahead(records: Records) -> Table:
    rows = []
    for k in LOOK_AHEADS:
        for kind in ("raw", "scaled", "mixed raw", "mixed scaled"):
            for who in ("pair", "ego", "naive"):
                try:
                    values = records.final(f"lola-{k}", f"{kind}/{who}")
                except MissingCell:
                    continue
                rows += [
                    (kind, who, k, int(seed), float(value))
                    for seed, value in zip(records.seeds, values, strict=True)
                    if np.isfinite(value)
                ]
    return table_of(("kind", "who", "look_aheads", "seed", "payoff"), rows)


def _draw_look_ahead(canvas: Any, table: Table) -> None:
    panels = canvas.subplots(1, 2, sharey=True)
    names = {"raw": "raw steps", "scaled": "scaled steps", "mixed raw": "raw, mixed", "mixed scaled": "scaled, mixed"}
    for i, (kind, label) in enumerate(names.items()):
        if kind not in entries(table, "kind"):
            continue
        style = "--" if kind.startswith("mixed") else "-"
        _, ahead, values = pivot(table, "seed", "look_aheads", "payoff", kind=kind, who="pair")
        band(panels[0], ahead, values, label, color=f"C{i}", linestyle=style, marker="o", markersize=3)
        if style == "--":
            continue
        for who, mark in (("ego", "-"), ("naive", ":")):
            _, ahead, values = pivot(table, "seed", "look_aheads", "payoff", kind=kind, who=who)
            title = f"{label}: {'policy' if who == 'ego' else 'naive learners'}"
            band(panels[1], ahead, values, title, color=f"C{i}", linestyle=mark, marker="o", markersize=3)
    for axes, title in zip(panels, ("from each other", "finished policy and fresh naive learners"), strict=True):
        axes.set_xscale("log")
        axes.set_xticks(LOOK_AHEADS, [str(k) for k in LOOK_AHEADS])
        axes.minorticks_off()
        axes.set(xlabel="look-aheads", title=title)
        axes.set_ylim(-0.1, 1.9)
        axes.legend(fontsize=8, loc="upper left", ncols=2)
    panels[0].set_ylabel("payoff per step")


# ---- policies ------------------------------------------------------------------------------------------------------


def _policies(records: Records) -> Table:
    rows = []
    for when in ("policies", "met"):
        chances = 1 / (1 + np.exp(-records.array("extortion", when).astype(float)))
        for k, label in enumerate(KINDS.values()):
            for i, state in enumerate(OBSERVATIONS):
                values = chances[:, k, :, i]
                for seed, pair in zip(records.seeds, values, strict=True):
                    rows += [
                        (label, "after meeting" if when == "met" else "before", state, int(seed), agent, float(value))
                        for agent, value in enumerate(pair)
                        if np.isfinite(value)
                    ]
    return table_of(("kind", "when", "state", "seed", "agent", "cooperation"), rows)


def _draw_policies(canvas: Any, table: Table) -> None:
    kinds = entries(table, "kind")
    panels = np.atleast_1d(canvas.subplots(1, len(kinds), sharey=True))
    for axes, kind in zip(panels, kinds, strict=True):
        for i, when in enumerate(("before", "after meeting")):
            _, states, values = pivot(table, "seed", "state", "cooperation", kind=kind, when=when, agent=0)
            spread = 0.36 * (i - 0.5) + np.linspace(-0.12, 0.12, len(values))
            x = np.arange(len(states))[None] + spread[:, None]
            axes.plot(x.ravel(), values.ravel(), ".", color=f"C{i}", markersize=3, alpha=0.6, label=when)
        axes.set_xticks(range(len(OBSERVATIONS)), OBSERVATIONS)
        axes.set_title(kind.replace(", ", ",\n"), fontsize=9)
    panels[0].set_ylabel("probability of cooperation")
    panels[-1].legend(fontsize=8, loc="upper right", markerscale=2)


# ---- who exploits whom ---------------------------------------------------------------------------------------------


def _matrix(records: Records) -> Table:
    """What each of a pool earns from each, exactly; trained ones are the first of every seed, and means over seeds."""
    discount = records.config.exact.discount
    trained = records.array("extortion", "policies")
    trained = trained[np.isfinite(trained).all(axis=(1, 2, 3))]
    pool = {
        "always C": MemoryOne.always_cooperate(),
        "always D": MemoryOne.always_defect(),
        "tit-for-tat": MemoryOne.tit_for_tat(),
        "win-stay": MemoryOne.win_stay_lose_shift(),
        "grim": MemoryOne.grim(),
        "extortion, 3": MemoryOne.zero_determinant(3.0, 0.1),
    }
    logits = {name: jnp.broadcast_to(one.logits(), (len(trained), 5)) for name, one in pool.items()}
    logits |= {label: jnp.asarray(trained[:, list(KINDS).index(kind), 0]) for kind, label in TRAINED.items()}
    stacked = jnp.stack(list(logits.values()))

    def earn(first: Any, second: Any) -> Any:
        return discounted_returns(first, second, PRISONERS_DILEMMA, discount, normalised=True)[0]

    over_seeds = jax.vmap(earn)
    earned = jax.jit(jax.vmap(jax.vmap(over_seeds, (None, 0)), (0, None)))(stacked, stacked)
    means = np.asarray(earned).mean(axis=2)
    return table_of(
        ("player", "against", "payoff"),
        [(a, b, float(means[i, j])) for i, a in enumerate(logits) for j, b in enumerate(logits)],
    )


def _draw_matrix(canvas: Any, table: Table) -> None:
    axes = canvas.subplots()
    rows, columns, matrix = pivot(table, "player", "against", "payoff")
    heat(axes, matrix, rows=rows, columns=columns, label="payoff per step of the row", diverging=True, values=True)
    axes.set(ylabel="player", xlabel="against")
    axes.tick_params(axis="x", rotation=35)


FIGURES: tuple[Figure, ...] = (
    Figure(
        id="extortion-plane",
        title="The extortion plane",
        caption="Own payoff and that of naive learners, per step and over their whole learning: one line per seed over "
        "training, a dot at its end, among all payoffs that are possible (grey). Broken: the line that the nearest "
        "zero-determinant strategy forces in the long run.",
        paper="Figure 3A: learning-aware agents extort.",
        data=_plane,
        draw=_draw_plane,
        size=(8.0, 4.4),
        scales=DEEPER,
    ),
    Figure(
        id="exact-shaping",
        title="Payoffs while a naive learner learns",
        caption="Finished policies against fresh naive learners; means over seeds with 95% intervals.",
        paper="Figures 3A and 10.",
        data=_shaping,
        draw=_draw_shaping,
        size=(8.4, 3.6),
        scales=DEEPER,
    ),
    Figure(
        id="exact-policies",
        title="What the policies are",
        caption="Probability of cooperation after each joint action (own action first), before two such agents meet "
        "and after they have learned from each other; one dot per seed, the first agent of each pair.",
        paper="Figure 3: extortion strategies, before and after they meet.",
        data=_policies,
        draw=_draw_policies,
        size=(9.0, 3.4),
        scales=DEEPER,
    ),
    Figure(
        id="exact-meeting",
        title="Two extorters meet",
        caption="What two agents earn from each other from the moment when they meet; thin lines are seeds.",
        paper="Figure 3B: extortion turns into cooperation.",
        data=lambda records: _curves(
            records, {label: ("extortion", f"{kind}/pair", "meeting/train") for kind, label in KINDS.items()}
        ),
        draw=_draw_curves,
        size=(8.4, 3.6),
        scales=DEEPER,
    ),
    Figure(
        id="exact-pools",
        title="Pools with and without naive learners",
        caption="What two learning-aware agents earn from each other during training, by the weight of naive learners "
        "in the pool; thin lines are seeds.",
        paper="Figure 3C: mixed pools cooperate, pure ones defect.",
        data=_pools,
        draw=_draw_curves,
        size=(8.4, 3.6),
        scales=DEEPER,
    ),
    Figure(
        id="look-aheads",
        title="LOLA by the number of look-aheads",
        caption="Left: what two LOLA agents earn from each other after training. Right: a finished policy and fresh "
        "naive learners. Steps of the imagined co-player go along raw or scaled payoffs; means over seeds with 95% "
        "intervals.",
        paper="Figure 4: few look-aheads cooperate, many extort, mixing repairs it.",
        data=_look_ahead,
        draw=_draw_look_ahead,
        size=(9.0, 3.8),
        scales=DEEPER,
    ),
    Figure(
        id="who-exploits-whom",
        title="Who exploits whom",
        caption="What the player of a row earns per step from that of a column, exactly; trained policies are means "
        "over seeds. Below the payoff of mutual cooperation on one side and above it on the other is exploitation.",
        paper="No figure of the paper; the strategies of Press and Dyson (2012) beside the trained ones.",
        data=_matrix,
        draw=_draw_matrix,
        size=(7.6, 5.4),
        scales=DEEPER,
    ),
)
