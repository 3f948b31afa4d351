"""A short seeded transcript of a world, readable and comparable."""

from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

GOLDEN = Path(__file__).parent
STEPS = 12


def golden_transcript(world):
    """Random actions from key 7, reset where an episode ends; planes of zeros and ones are the places of the ones."""
    reset, step = eqx.filter_jit(lambda world, key: world.reset(key)), eqx.filter_jit(_step)
    now, rows = reset(world, jax.random.key(7)), []
    for number in range(STEPS):
        action, after = step(world, jax.random.fold_in(jax.random.key(7), number), now.state)
        rows.append(
            {
                "seen": _readable(now.observation),
                "action": action.tolist(),
                "reward": after.reward.tolist(),
                "ended": [bool(after.terminated), bool(after.truncated)],
            }
        )
        now = after if not after.ended else reset(world, jax.random.fold_in(jax.random.key(8), number))
    return {"world": type(world).__name__, "version": world.version, "steps": rows}


def _step(world, key, state):
    act_key, step_key = jax.random.split(key)
    action = jax.random.randint(act_key, (world.num_agents,), 0, world.action_space.size)
    return action, world.step(step_key, state, action)


def _readable(observation):
    if jnp.issubdtype(observation.dtype, jnp.integer):
        return observation.tolist()
    return [np.flatnonzero(np.asarray(one)).tolist() for one in observation]
