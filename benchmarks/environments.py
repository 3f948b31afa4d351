"""How many steps per second do the worlds make, beside JaxMARL's coin game, and how far is that from the bare loop?

Random actions, 100 steps of 1024 copies in one compiled scan, observations carried as every rollout does, then 1 and
64 copies. Episodes are as long as the scan. JaxMARL resets inside its step; ours are measured without a reset and
with one, in which every step also makes a new start and takes it where an episode has ended, as `rollout` does. The
bare loop has the keys, the actions and an observation as large, but no world. The peer is measured where it is
installed (`pip install jaxmarl`); rewards of both coin games are compared before anything is timed.
"""

import importlib.util
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import innerloop as il
from _measure import cost_of, interleave, print_head, print_ratio

COPIES, STEPS, REPEATS = (1024, 64, 1), 100, 9
LIKE_THE_PEER = dict(num_coins=2, may_stay=True)


class Loop(NamedTuple):
    """A world as the scan sees it; `start` and `advance` give (what is carried, rewards)."""

    start: Any  # key -> carried
    advance: Any  # key, carried, action -> carried, reward
    num_actions: int


def ours(world: il.AbstractEnvironment, *, resets: bool = False) -> Loop:
    """A world of this library."""

    def start(key):
        first = world.reset(key)
        return first.observation, first.state

    def advance(key, carried, action):
        after = world.step(key, carried[1], action)
        following = (after.observation, after.state)
        if resets:
            fresh = start(jax.random.fold_in(key, 1))
            following = jax.tree.map(lambda a, b: jnp.where(after.ended, a, b), fresh, following)
        return following, after.reward

    return Loop(start, advance, world.action_space.size)


def bare(world: il.AbstractEnvironment) -> Loop:
    """The loop with an observation as large, but no world."""
    like = world.reset(jax.random.key(0)).observation

    def advance(key, carried, action):
        number = carried[1] + action[0]
        observation = jnp.broadcast_to(number, like.shape).astype(like.dtype)
        return (observation, number), jnp.stack([number, number]).astype(jnp.float32)

    return Loop(lambda key: (jnp.zeros_like(like), jnp.asarray(0, jnp.int32)), advance, world.action_space.size)


def peer() -> Loop:
    """JaxMARL's coin game."""
    from jaxmarl.environments.coin_game.coin_game import CoinGame

    world = CoinGame(num_inner_steps=STEPS, num_outer_steps=1)

    def start(key):
        observation, state = world.reset(key)
        return jnp.stack([observation["0"], observation["1"]]), state

    def advance(key, carried, action):
        observation, state, reward, _, _ = world.step(key, carried[1], {"0": action[0], "1": action[1]})
        carried = (jnp.stack([observation["0"], observation["1"]]), state)
        return carried, jnp.stack([reward["0"], reward["1"]]).astype(jnp.float32)

    return Loop(start, advance, 5)


def compiled(loop: Loop, copies: int):
    """A call that plays, and how long it took to compile."""

    def play(key):
        start_key, step_key, act_key = jax.random.split(key, 3)
        # As bytes: a quarter of the random words, and the same actions for all sides.
        actions = jax.random.randint(act_key, (STEPS, copies, 2), 0, loop.num_actions, jnp.uint8)

        def body(carried, now):
            key, action = now
            return jax.vmap(loop.advance)(key, carried, action.astype(jnp.int32))

        carried = jax.vmap(loop.start)(jax.random.split(start_key, copies))
        carried, rewards = jax.lax.scan(body, carried, (jax.random.split(step_key, (STEPS, copies)), actions))
        return carried[0], jnp.mean(rewards)

    began = time.perf_counter()
    program = jax.jit(play).lower(jax.random.key(0)).compile()
    seconds = time.perf_counter() - began
    return lambda: jax.block_until_ready(program(jax.random.key(1))), seconds


def rewards_agree() -> None:
    """The same places, coins and actions give the same rewards in both coin games."""
    from jaxmarl.environments.coin_game.coin_game import CoinGame

    theirs, game = CoinGame(num_inner_steps=STEPS), il.CoinGame(num_steps=STEPS, **LIKE_THE_PEER)
    _, like = theirs.reset(jax.random.key(0))

    def both(key):
        draw_key, act_key = jax.random.split(key)
        cells = jax.random.randint(draw_key, (4,), 0, 9)
        action = jax.random.randint(act_key, (2,), 0, 5)
        places = [jnp.stack([cell // 3, cell % 3]) for cell in cells]
        state = like.replace(red_pos=places[0], blue_pos=places[1], red_coin_pos=places[2], blue_coin_pos=places[3])
        reward = theirs.step_env(key, state, {"0": action[0], "1": action[1]})[2]
        begin = il.CoinGameState((cells[0], cells[1]), (cells[2], cells[3]), jnp.asarray(0, jnp.int32))
        mine = game.step(key, begin, action)
        return jnp.stack([reward["0"], reward["1"]]), mine.reward

    given, wanted = jax.jit(jax.vmap(both))(jax.random.split(jax.random.key(0), 4096))
    np.testing.assert_array_equal(given, wanted)
    print("4096 random states and actions earn the same in both coin games")


def main() -> None:
    print_head("How many steps per second do the worlds make, and how far is that from JaxMARL and the bare loop?")
    worlds = {
        "matrix game": il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=STEPS),
        "public goods": il.PublicGoods(2, num_steps=STEPS),
        "coin game": il.CoinGame(num_steps=STEPS),
        "coin game like JaxMARL's": il.CoinGame(num_steps=STEPS, **LIKE_THE_PEER),
        "CleanUp-lite": il.CleanUp(num_steps=STEPS),
    }
    loops = {name: ours(world) for name, world in worlds.items()}
    loops |= {f"{name}, resets": ours(world, resets=True) for name, world in worlds.items()}
    loops |= {f"{name}, bare loop": bare(worlds[name]) for name in ("matrix game", "coin game", "CleanUp-lite")}
    if importlib.util.find_spec("jaxmarl") is None:
        print("no peer: install jaxmarl")
    else:
        rewards_agree()
        loops["JaxMARL's coin game"] = peer()
    for copies in COPIES:
        calls, compiling = {}, {}
        for name, loop in loops.items():
            calls[name], compiling[name] = compiled(loop, copies)
            cost_of(calls[name])
        costs = interleave(calls, repeats=REPEATS)
        print(f"\n{copies} copies x {STEPS} steps")
        for name, each in costs.items():
            wall, cpu = (statistics.median(getattr(cost, kind) for cost in each) for kind in ("wall", "cpu"))
            count = copies * STEPS
            print(
                f"  {name:<34} {count / wall / 1e6:8.3f} M steps/s, {1e9 * cpu / count:9.1f} CPU ns per step; "
                f"compiled in {compiling[name]:.2f} s"
            )
        if copies == COPIES[0]:
            print("  goal for the matrix game: 25 M steps/s")
            if "JaxMARL's coin game" in costs:
                for name in ("coin game", "coin game like JaxMARL's", "CleanUp-lite"):
                    for side in (name, f"{name}, resets"):
                        goal = "at least 10" if side == name else ""
                        print_ratio(costs, "JaxMARL's coin game", side, goal=goal)


if __name__ == "__main__":
    main()
