"""Agents that infer exactly: what they do with whom, who can extort them, what extorters do to each other."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from ...core.rng import named_key
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
    "TFT": [1.0, 1.0, 0.0, 1.0, 0.0],
    "AllC": [1.0, 1.0, 1.0, 1.0, 1.0],
    "AllD": [0.0, 0.0, 0.0, 0.0, 0.0],
    "WSLS": [1.0, 1.0, 0.0, 0.0, 1.0],
}
LATE = 15  # rounds at the end of an episode
VISITS, PLAYERS = 20, 20_000
COMMITMENT = 5  # rounds for which a draw from the posterior is kept
DISCOUNT = 0.95  # of the exact gradients by which two extorters learn
AGENTS = ("thompson", "certainty", "deaf", "oracle")


def opponents() -> Float[Array, "k 5"]:
    """The tables of the fixed strategies, in the order of their names."""
    return jnp.asarray(list(OPPONENTS.values()))


def against_fixed(
    make: Callable[[Float[Array, "5"]], AbstractAgent], rounds: int, games: int, key: Key[Array, ""]
) -> tuple[Float[Array, "k t"], Float[Array, "k t"]]:
    """Mean reward and share of cooperation in each round with each fixed strategy.

    `make` is given the strategy's table, which nobody but an oracle looks at.
    """
    game = IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=rounds)

    def play(table: Float[Array, "5"], key: Key[Array, ""]) -> tuple[Array, Array]:
        trajectory = rollout(game, (make(table), MemoryOne(table)), key, rounds)[0]
        return trajectory.reward[:, 0], jnp.where(trajectory.action[:, 0] == 0, 1.0, 0.0)

    keys = jax.random.split(key, (len(OPPONENTS), games))
    rewards, cooperation = jax.vmap(jax.vmap(play, (None, 0)))(opponents(), keys)
    return rewards.mean(axis=1), cooperation.mean(axis=1)


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


def fitness(
    victim: AbstractAgent, tables: Float[Array, "p 5"], rounds: int, games: int, key: Key[Array, ""]
) -> Float[Array, "p 2"]:
    """What memory-one players and a victim earn from each other, per round."""
    game = IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=rounds)

    def play(table: Float[Array, "5"], key: Key[Array, ""]) -> Float[Array, "2"]:
        return rollout(game, (MemoryOne(table), victim), key, rounds)[0].reward.mean(axis=0)

    keys = jax.random.split(key, games)  # the same luck for everybody
    return jax.vmap(lambda table: jax.vmap(lambda one: play(table, one))(keys).mean(axis=0))(tables)


def extort(config: Config, victim: AbstractAgent, key: Key[Array, ""]) -> dict[str, Array]:
    """Evolve a memory-one player against an agent: the best quarter of a population makes the next one."""
    settings, rounds = config.extortion, config.exact.rounds
    elite = settings.population // 4

    def generation(carry: tuple, key: Key[Array, ""]) -> tuple[tuple, Float[Array, "2"]]:
        mean, spread = carry
        first, second = jax.random.split(key)
        logits = mean[None] + spread[None] * jax.random.normal(first, (settings.population, 5))
        earned = fitness(victim, jax.nn.sigmoid(logits), rounds, settings.games, second)
        best = logits[jax.lax.top_k(earned[:, 0], elite)[1]]
        # Half of the old spread stays: a few lucky members must not end the search.
        new = 0.5 * mean + 0.5 * best.mean(axis=0), 0.5 * spread + 0.5 * jnp.maximum(best.std(axis=0), 0.2)
        return new, earned[jnp.argmax(earned[:, 0])]

    start = jnp.zeros(5), jnp.full(5, 3.0)
    keys = jax.random.split(named_key(key, "generations"), settings.generations)
    (mean, _), history = jax.lax.scan(generation, start, keys)
    table = jax.nn.sigmoid(mean)
    earned = fitness(victim, table[None], rounds, settings.test_games, named_key(key, "test"))[0]
    return {"table": table, "logits": mean, "earned": earned, "history": history}


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


def posterior_trace(config: Config, key: Key[Array, ""]) -> dict[str, Array]:
    """One episode of the planner that samples: what it believes of one pool member before each round."""
    game = IteratedMatrixGame(PRISONERS_DILEMMA, num_steps=config.exact.rounds)
    table = TabularPool(config.concentration).sample(named_key(key, "player"))
    agents = (planner(config, "thompson")(table), MemoryOne(table))
    trajectory = rollout(game, agents, named_key(key, "game"), config.exact.rounds)[0]
    views, actions = trajectory.observation[:, 1], trajectory.action[:, 1]

    def advance(posterior: BetaPosterior, seen: tuple) -> tuple[BetaPosterior, BetaPosterior]:
        return posterior.update(*seen), posterior

    prior = BetaPosterior.prior(config.concentration)
    _, before = jax.lax.scan(advance, prior, (views, actions))
    return {"truth": table, "cooperations": before.cooperations, "defections": before.defections}


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
    curves: dict[str, Any] = {}
    for name in AGENTS:
        make = planner(config, name)
        play = eqx.filter_jit(
            lambda keys, make=make: jax.lax.map(
                lambda key: against_fixed(make, settings.rounds, settings.games, key), keys
            )
        )
        curves[name] = play(cells.keys("fixed opponents"))
    record_curves(cells, curves, step=0)

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
    trace = jax.jit(jax.vmap(lambda key: posterior_trace(config, key)))(cells.keys("trace"))
    cells.save(**{f"trace_{name}": value for name, value in trace.items()})


def record_curves(cells: Cells, curves: dict[str, Any], *, step: int) -> None:
    """Reward and cooperation early and late in the episode, for each agent and each opponent apart."""
    numbers = {}
    for name, (rewards, cooperation) in curves.items():
        rewards, cooperation = np.asarray(rewards), np.asarray(cooperation)
        cells.save(**{f"{name}_rewards": rewards, f"{name}_cooperation": cooperation})
        late = slice(-min(LATE, rewards.shape[2] // 2), None)
        early = slice(0, 5)
        for number, opponent in enumerate(OPPONENTS):
            for when, rounds in (("early", early), ("late", late)):
                numbers[f"{name}/{opponent}/{when}_reward"] = rewards[:, number, rounds].mean(axis=1)
                numbers[f"{name}/{opponent}/{when}_cooperation"] = cooperation[:, number, rounds].mean(axis=1)
            numbers[f"{name}/{opponent}/reward"] = rewards[:, number].mean(axis=1)
    cells.record(numbers, step=step)
