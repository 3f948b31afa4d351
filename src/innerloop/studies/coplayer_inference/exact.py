"""Agents that infer exactly: what they do with whom, who can extort them, what extorters do to each other."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from ...envs.agent import AbstractAgent
from ...envs.matrix_games import PRISONERS_DILEMMA, IteratedMatrixGame
from ...lab.cells import Cells
from ...rl.coplayer import (
    BayesPlanner,
    BetaPosterior,
    Planning,
    TabularPool,
    best_response,
    chain_rewards,
    expected_loss_at_visit,
    predictive_losses,
)
from ...rl.exact import naive_gradient
from ...rl.rollout import rollout
from ...rl.strategies import MemoryOne
from .configuration import Config

OPPONENTS = {
    "TFT": MemoryOne.tit_for_tat,
    "AllC": MemoryOne.always_cooperate,
    "AllD": MemoryOne.always_defect,
    "WSLS": MemoryOne.win_stay_lose_shift,
}
LATE = 15  # rounds at the end of an episode
VISITS, PLAYERS = 20, 20_000
COMMITMENT = 5  # rounds for which a draw from the posterior is kept
DISCOUNT = 0.95  # of the exact gradients by which two extorters learn
AGENTS = ("thompson", "certainty", "deaf", "oracle")


def opponents() -> Float[Array, "k 5"]:
    """The tables of the fixed strategies, in the order of their names."""
    return jnp.stack([make().cooperation for make in OPPONENTS.values()])


class Curves(NamedTuple):
    """An agent's episodes with each of several memory-one players."""

    rewards: Float[Array, "*n t"]  # means over games
    cooperation: Float[Array, "*n t"]
    views: Int[Array, "*n t"]  # of the co-player, in the first game
    actions: Int[Array, "*n t"]


def against(
    make: Callable[[Float[Array, "5"]], AbstractAgent],
    tables: Float[Array, "k 5"],
    rounds: int,
    games: int,
    key: Key[Array, ""],
) -> Curves:
    """Games of an agent with memory-one players.

    `make` is given the co-player's table, which nobody but an oracle looks at.
    """
    game = IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=rounds)

    def play(table: Float[Array, "5"], key: Key[Array, ""]) -> Curves:
        trajectory = rollout(game, (make(table), MemoryOne(table)), key, rounds)[0]
        cooperation = jnp.where(trajectory.action[:, 0] == 0, 1.0, 0.0)
        return Curves(trajectory.reward[:, 0], cooperation, trajectory.observation[:, 1], trajectory.action[:, 1])

    keys = jax.random.split(key, (len(tables), games))
    played = jax.vmap(jax.vmap(play, (None, 0)))(tables, keys)
    return Curves(
        played.rewards.mean(axis=1), played.cooperation.mean(axis=1), played.views[:, 0], played.actions[:, 0]
    )


class KnowingPlanner(AbstractAgent):
    """Answers best to a co-player whose table it was given: what inference can reach at most."""

    cooperation: Float[Array, "5"]
    horizon: int = eqx.field(static=True)

    def init_memory(self) -> None:
        """It has nothing to learn."""
        return None

    def act(self, key: Key[Array, ""], memory: None, observation: Array) -> tuple[None, Array]:
        """The first step of the best plan."""
        return None, best_response(self.cooperation, self.horizon).actions[-1, observation]


def planner(config: Config, name: str) -> Callable[[Float[Array, "5"]], AbstractAgent]:
    """The exact agents by name."""
    horizon, concentration = config.exact.horizon, config.concentration
    if name == "oracle":
        return lambda table: KnowingPlanner(table, horizon)
    planning = Planning.THOMPSON if name == "thompson" else Planning.CERTAINTY_EQUIVALENT
    agent = BayesPlanner(
        concentration, planning=planning, horizon=horizon, commitment=COMMITMENT, learns=name != "deaf"
    )
    return lambda table: agent


def earn(
    victim: AbstractAgent, tables: Float[Array, "p 5"], rounds: int, games: int, key: Key[Array, ""]
) -> Float[Array, "p 2"]:
    """What memory-one players and a victim earn from each other, per round."""
    game = IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=rounds)

    def play(table: Float[Array, "5"], key: Key[Array, ""]) -> Float[Array, "2"]:
        return rollout(game, (MemoryOne(table), victim), key, rounds)[0].reward.mean(axis=0)

    keys = jax.random.split(key, (tables.shape[0], games))
    return jax.vmap(jax.vmap(play, (None, 0)))(tables, keys).mean(axis=1)


def extort(config: Config, victim: AbstractAgent, key: Key[Array, ""]) -> dict[str, Array]:
    """Evolve a memory-one player against an agent: the best quarter of a population makes the next one.

    The last rounds of the scan measure the mean of the last population, in games of their own.
    """
    settings, rounds = config.extortion, config.exact.rounds
    elite = settings.population // 4
    tests = -(-settings.test_games // (settings.population * settings.games))

    def generation(carry: tuple, inputs: tuple) -> tuple[tuple, tuple]:
        mean, spread = carry
        key, testing = inputs
        first, second = jax.random.split(key)
        noise = jnp.where(testing, 0.0, 1.0) * jax.random.normal(first, (settings.population, 5))
        logits = mean[None] + spread[None] * noise
        earned = earn(victim, jax.nn.sigmoid(logits), rounds, settings.games, second)
        best = logits[jax.lax.top_k(earned[:, 0], elite)[1]]
        # Half of the old spread stays: a few lucky members must not end the search.
        new = 0.5 * mean + 0.5 * best.mean(axis=0), 0.5 * spread + 0.5 * jnp.maximum(best.std(axis=0), 0.2)
        return new, (earned[jnp.argmax(earned[:, 0])], earned.mean(axis=0))

    keys = jax.random.split(key, settings.generations + tests)
    testing = jnp.arange(settings.generations + tests) >= settings.generations
    (mean, _), (best, means) = jax.lax.scan(generation, (jnp.zeros(5), jnp.full(5, 3.0)), (keys, testing))
    return {
        "table": jax.nn.sigmoid(mean),
        "logits": mean,
        "earned": means[settings.generations :].mean(axis=0),
        "history": best[: settings.generations],
    }


def learn_together(config: Config, first: Float[Array, "5"], second: Float[Array, "5"]) -> Float[Array, "n 2"]:
    """Two memory-one players climb their own exact returns at once: what they earn per round over training."""
    settings = config.extortion
    rounds = config.exact.rounds

    def step(logits: tuple, _: None) -> tuple[tuple, Float[Array, "2"]]:
        a, b = logits
        earned = chain_rewards(jax.nn.sigmoid(a), jax.nn.sigmoid(b), rounds).mean(axis=0)
        up = naive_gradient(a, b, PRISONERS_DILEMMA, DISCOUNT), naive_gradient(b, a, PRISONERS_DILEMMA, DISCOUNT)
        rate = settings.learning_rate
        return (a + rate * up[0], b + rate * up[1]), earned

    return jax.lax.scan(step, (first, second), None, length=settings.learning_steps)[1]


def posterior_trace(config: Config, views: Array, actions: Array) -> dict[str, Array]:
    """What is known of a co-player before each round, from its own views and what it did."""

    def advance(posterior: BetaPosterior, seen: tuple) -> tuple[BetaPosterior, BetaPosterior]:
        return posterior.update(*seen), posterior

    before = jax.lax.scan(advance, BetaPosterior.prior(config.concentration), (views, actions))[1]
    return {"cooperations": before.cooperations, "defections": before.defections}


def loss_by_visit(key: Key[Array, ""], count: int) -> Float[Array, "n"]:
    """The ideal predictor's mean loss at each visit to one view, over uniformly random players.

    Not taken from games: how often a view is visited there depends on what the players do.
    """
    first, second = jax.random.split(key)
    q = jax.random.uniform(first, (count, 1))
    actions = jnp.where(jax.random.uniform(second, (count, VISITS)) < q, 0, 1).astype(jnp.int32)
    return jax.vmap(lambda some: predictive_losses(jnp.zeros(VISITS, jnp.int32), some))(actions).mean(axis=0)


def measure_exact(config: Config, cells: Cells) -> None:
    """Everything that needs no training of networks: claims 2 to 5 for agents that infer exactly."""
    settings = config.exact
    members = jax.vmap(TabularPool(config.concentration).sample)(cells.keys("pool member"))
    curves: dict[str, Curves] = {}
    for name in AGENTS:
        make = planner(config, name)

        def play(key: Key[Array, ""], member: Float[Array, "5"], make=make) -> Curves:
            tables = jnp.concatenate([opponents(), member[None]])
            return against(make, tables, settings.rounds, settings.games, key)

        run = eqx.filter_jit(lambda keys, members, play=play: jax.lax.map(lambda one: play(*one), (keys, members)))
        curves[name] = run(cells.keys("fixed opponents"), members)
    record_curves(cells, curves, step=0)
    seen = curves["thompson"].views[:, -1], curves["thompson"].actions[:, -1]
    trace = jax.jit(jax.vmap(lambda views, actions: posterior_trace(config, views, actions)))(*seen)
    cells.save(trace_truth=members, **{f"trace_{name}": value for name, value in trace.items()})

    victims = {name: planner(config, name)(jnp.zeros(5)) for name in ("thompson", "deaf")}
    keys = jnp.concatenate([cells.keys("extorter"), cells.keys("second extorter")])
    seeds = len(cells.seeds)
    evolved = {}
    for name, victim in victims.items():
        evolve = eqx.filter_jit(lambda keys, victim=victim: jax.lax.map(lambda key: extort(config, victim, key), keys))
        evolved[name] = evolve(keys)  # two extorters for each seed: one to be measured, two to meet each other
    found = {name: jax.tree.map(lambda leaf: leaf[:seeds], both) for name, both in evolved.items()}
    second = jax.tree.map(lambda leaf: leaf[seeds:], evolved["thompson"])
    numbers = {}
    for name, one in found.items():
        numbers |= {f"extortion/{name}/extorter": one["earned"][:, 0], f"extortion/{name}/victim": one["earned"][:, 1]}
    together = jax.jit(jax.vmap(lambda a, b: learn_together(config, a, b)))
    strangers = jax.vmap(lambda key: jax.random.normal(key, (2, 5)))(cells.keys("strangers"))
    mutual = together(found["thompson"]["logits"], second["logits"])
    control = together(strangers[:, 0], strangers[:, 1])
    visits = jax.jit(jax.vmap(lambda key: loss_by_visit(key, PLAYERS)))(cells.keys("visits"))
    formula = np.asarray([expected_loss_at_visit(visit) for visit in range(1, VISITS + 1)])
    numbers["visit_error"] = np.abs(np.asarray(visits) - formula).max(axis=1)
    numbers["visit_error_without_counts"] = np.full(len(cells.seeds), np.abs(np.log(2) - formula).max())
    cells.record(numbers)
    every = max(1, config.extortion.learning_steps // 200)
    cells.save(
        extorter_tables=np.stack([found["thompson"]["table"], second["table"]], axis=1),
        extortion_history=found["thompson"]["history"],
        deaf_extortion_history=found["deaf"]["history"],
        mutual=np.asarray(mutual)[:, ::every],
        strangers=np.asarray(control)[:, ::every],
        visits=visits,
    )


def record_curves(cells: Cells, curves: dict[str, Curves], *, step: int) -> None:
    """Reward and cooperation early and late in the episode, for each agent and each opponent apart."""
    numbers = {}
    for name, played in curves.items():
        rewards, cooperation = (np.asarray(x)[:, : len(OPPONENTS)] for x in (played.rewards, played.cooperation))
        cells.save(**{f"{name}_rewards": rewards, f"{name}_cooperation": cooperation})
        late = slice(-min(LATE, rewards.shape[2] // 2), None)
        early = slice(0, 5)
        for number, opponent in enumerate(OPPONENTS):
            for when, rounds in (("early", early), ("late", late)):
                numbers[f"{name}/{opponent}/{when}_reward"] = rewards[:, number, rounds].mean(axis=1)
                numbers[f"{name}/{opponent}/{when}_cooperation"] = cooperation[:, number, rounds].mean(axis=1)
            numbers[f"{name}/{opponent}/reward"] = rewards[:, number].mean(axis=1)
    cells.record(numbers, step=step)
