"""The conformance battery of environments."""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key, PyTree

from ..core.errors import UnknownNameError
from ..envs.environment import AbstractEnvironment, TimeStep
from .battery import run_checks
from .comparison import assert_same

# Enough to see whether a world without `jit` is the same; every new operation compiles there.
_PLAIN_STEPS = 3
# Enough resets to tell what is the same at the start of every episode.
_STARTS = 8


class _Move(NamedTuple):
    """One step of a transcript."""

    before: TimeStep
    action: Array
    after: TimeStep


def check_environment(
    environment: AbstractEnvironment,
    *,
    key: Key[Array, ""] | None = None,
    num_steps: int = 24,
    only: Sequence[str] | None = None,
    expected_failures: Mapping[str, str] | None = None,
) -> None:
    """Whether an environment keeps what the interface promises, on random actions.

    | check | promise |
    |---|---|
    | `layout` | reset and step agree in structure, shapes and dtypes: a time step can be carried by a scan |
    | `agents` | observations, actions and rewards have a leading agent axis |
    | `observations` | observations lie in the observation space and have its dtype |
    | `rewards` | rewards are finite floating-point numbers, and zero after a reset |
    | `ends` | terminated and truncated are boolean scalars, and false after a reset |
    | `info` | the same names at reset and step, and arrays |
    | `never_resets` | the end of an episode is reported, and `step` leaves the reset to others |
    | `determinism` | a key gives one transcript, with `jit` and without |
    | `keys` | other keys, and keys of another kind, work too |
    | `vmap_over_keys` | worlds side by side are the same as one by one |
    | `vmap_over_numbers` | so are worlds with numbers of their own |
    | `inputs_are_kept` | neither the world nor its state nor an action is changed in place |
    | `one_trace` | `step` compiles once, for the state of a reset and for its own |

    `never_resets` goes by what is the same at the start of every episode (such as a clock at zero): a step after
    which all of that is as at the start has started anew. Give `num_steps` beyond the length of an episode, or no
    end is seen.

    ```python
    >>> import innerloop as il
    >>> il.testing.check_environment(il.IteratedMatrixGame(il.STAG_HUNT, num_steps=5))

    ```

    **Arguments:**

    - `environment`: the world.
    - `key`: of the transcripts; by default `jax.random.key(0)`.
    - `num_steps`: how long a transcript is.
    - `only`: the checks to run, all by default.
    - `expected_failures`: checks known to fail, each with the reason.

    **Errors:** `AssertionError` that lists every failed check; `UnknownNameError` for a check that does not exist.
    """
    key = jax.random.key(0) if key is None else key
    agents = environment.num_agents

    @jax.jit
    def act(key: Key[Array, ""]) -> Array:
        return jax.vmap(environment.action_space.sample)(jax.random.split(key, agents))

    traces: list[int] = []
    traced: list[int] = []

    def count_and_step(world: AbstractEnvironment, key: Key[Array, ""], state: PyTree, action: Array) -> TimeStep:
        traces.append(1)
        return world.step(key, state, action)

    reset = eqx.filter_jit(lambda world, key: world.reset(key))
    step = eqx.filter_jit(count_and_step)

    def play(key: Key[Array, ""], num_steps: int = num_steps, reset: Any = reset, step: Any = step) -> list[_Move]:
        """The transcript of a key: random actions, reset where an episode ends."""
        key, start = jax.random.split(key)
        now, moves = reset(environment, start), []
        for each in jax.random.split(key, num_steps):
            act_key, step_key, reset_key = jax.random.split(each, 3)
            action = act(act_key)
            moves.append(_Move(now, action, step(environment, step_key, now.state, action)))
            over = bool(moves[-1].after.terminated) or bool(moves[-1].after.truncated)
            now = reset(environment, reset_key) if over else moves[-1].after
        return moves

    played: list[list[_Move]] = []

    def transcript() -> list[_Move]:
        if not played:
            played.append(play(key))
            traced.append(len(traces))
        return played[0]

    def shown() -> list[tuple[str, TimeStep]]:
        """Every time step of the transcript, with its name."""
        moves = transcript()
        return [("after a reset", moves[0].before), *((f"step {i}", move.after) for i, move in enumerate(moves))]

    def layout() -> None:
        start = jax.eval_shape(environment.reset, key)
        assert isinstance(start, TimeStep), f"reset gives a {type(start).__name__}, not a TimeStep"
        after = jax.eval_shape(environment.step, key, start.state, jax.eval_shape(act, key))
        assert isinstance(after, TimeStep), f"step gives a {type(after).__name__}, not a TimeStep"
        for name in TimeStep._fields:
            first, then = getattr(start, name), getattr(after, name)
            assert jax.tree.structure(first) == jax.tree.structure(then), (
                f"{name}: structure {jax.tree.structure(then)} after a step, {jax.tree.structure(first)} after a reset"
            )
            for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(then), strict=True):
                assert (a.shape, a.dtype) == (b.shape, b.dtype), (
                    f"{name}: {b.dtype}{list(b.shape)} after a step, {a.dtype}{list(a.shape)} after a reset"
                )

    def leading_axis() -> None:
        assert agents >= 1, f"num_agents is {agents}"
        wanted = (agents, *environment.action_space.shape)
        assert act(key).shape == wanted, f"actions of shape {act(key).shape}, not {wanted}"
        for when, time_step in shown():
            for leaf in jax.tree.leaves(time_step.observation):
                assert jnp.ndim(leaf) >= 1 and jnp.shape(leaf)[0] == agents, (
                    f"{when}: an observation of shape {jnp.shape(leaf)} for {agents} agents"
                )
            shape = jnp.shape(time_step.reward)
            assert shape == (agents,), f"{when}: a reward of shape {shape} for {agents} agents"

    def observations() -> None:
        space = environment.observation_space
        for when, time_step in shown():
            [observation] = jax.tree.leaves(time_step.observation)
            assert observation.shape == (agents, *space.shape), (
                f"{when}: observations of shape {observation.shape}, not {(agents, *space.shape)}"
            )
            assert observation.dtype == space.dtype, f"{when}: an observation of {observation.dtype}, not {space.dtype}"
            inside = np.asarray(jax.vmap(space.contains)(observation))
            assert inside.all(), f"{when}: the observation of agent {int(np.argmin(inside))} is not in {space}"

    def rewards() -> None:
        for when, time_step in shown():
            kind = jnp.result_type(time_step.reward)
            assert jnp.issubdtype(kind, jnp.floating), f"{when}: a reward of {kind}"
            assert np.all(np.isfinite(np.asarray(time_step.reward))), f"{when}: a reward of {time_step.reward}"
        first = transcript()[0].before.reward
        assert not np.any(np.asarray(first)), f"a reward of {first} after a reset, before anybody acted"

    def ends() -> None:
        for when, time_step in shown():
            for name in ("terminated", "truncated"):
                value = getattr(time_step, name)
                assert isinstance(value, jax.Array) and value.dtype == bool and value.shape == (), (
                    f"{when}: {name} is {value!r}, not a boolean scalar"
                )
        for move in transcript():
            first = reset(environment, key) if move is transcript()[0] else move.before
            assert not bool(first.terminated) and not bool(first.truncated), "an episode is over before it begins"

    def info() -> None:
        moves = transcript()
        wanted = set(moves[0].before.info)
        for when, time_step in shown():
            assert set(time_step.info) == wanted, f"{when}: {sorted(time_step.info)}, not {sorted(wanted)}"
            for name, value in time_step.info.items():
                assert isinstance(value, jax.Array), f"{when}: {name!r} is a {type(value).__name__}, not an array"

    def never_resets() -> None:
        starts = [jax.tree.leaves(_plain(reset(environment, one).state)) for one in jax.random.split(key, _STARTS)]
        fixed = [i for i, leaf in enumerate(starts[0]) if all(np.array_equal(leaf, other[i]) for other in starts)]

        def anew(state: PyTree) -> bool:
            leaves = jax.tree.leaves(_plain(state))
            return all(np.array_equal(leaves[i], starts[0][i]) for i in fixed)

        for number, move in enumerate(transcript()):
            if not fixed or anew(move.before.state) or not anew(move.after.state):
                continue
            over = bool(move.after.terminated) or bool(move.after.truncated)
            assert not over, f"step {number} ends an episode and resets the world: the last state is lost"
            raise AssertionError(f"step {number} starts anew, but reports no end of an episode")

    def determinism() -> None:
        _equal(play(key), transcript(), "a second time")
        plain = play(key, min(_PLAIN_STEPS, num_steps), reset=type(environment).reset, step=type(environment).step)
        for number, (given, wanted) in enumerate(zip(plain, transcript(), strict=False)):
            assert_same(_plain(given), _plain(wanted), f"step {number} without jit")

    def keys() -> None:
        play(jax.random.fold_in(key, 1))
        other = jax.random.key(1, impl="rbg")
        step(environment, other, reset(environment, other).state, act(key))

    def start_and_step(key: Key[Array, ""], world: AbstractEnvironment) -> tuple[TimeStep, Array, TimeStep]:
        start, action = world.reset(key), act(key)
        return start, action, world.step(key, start.state, action)

    def side_by_side(over_numbers: bool) -> None:
        numbers, rest = eqx.partition(environment, eqx.is_inexact_array)
        if over_numbers:
            numbers = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), numbers)
        keys = jax.random.split(jax.random.fold_in(key, 2))
        several = jax.vmap(
            lambda numbers, key: start_and_step(key, eqx.combine(numbers, rest)), (0 if over_numbers else None, 0)
        )
        given = jax.jit(several)(numbers, keys)
        for i, one in enumerate(keys):
            start = reset(environment, one)
            action = given[1][i]
            wanted = (start, action, step(environment, one, start.state, action))
            _same(jax.tree.map(lambda leaf, i=i: leaf[i], given), wanted, f"world {i} of 2")

    # Compiling is nearly all that a battery costs: both ways of being side by side are tried at once, and only if
    # that fails the one without the other.
    @functools.cache
    def over_both() -> Exception | None:
        try:
            side_by_side(over_numbers=True)
        except Exception as error:
            return error
        return None

    def vmap_over_keys() -> None:
        if over_both() is not None:
            side_by_side(over_numbers=False)

    def vmap_over_numbers() -> None:
        error = over_both()
        if error is not None:
            raise error

    def inputs_are_kept() -> None:
        inputs = {"state": reset(environment, key).state, "action": act(key), "world": environment}
        copies = jax.tree.map(lambda leaf: leaf, inputs)
        before = [np.array(leaf) for leaf in jax.tree.leaves(_plain(eqx.filter(inputs, eqx.is_array)))]
        environment.step(key, inputs["state"], inputs["action"])
        for name in inputs:
            assert jax.tree.structure(inputs[name]) == jax.tree.structure(copies[name]), f"step changes the {name}"
            for a, b in zip(jax.tree.leaves(inputs[name]), jax.tree.leaves(copies[name]), strict=True):
                assert a is b, f"step changes the {name}"
        after = jax.tree.leaves(_plain(eqx.filter(inputs, eqx.is_array)))
        assert all(np.array_equal(a, b) for a, b in zip(after, before, strict=True)), "step changes an array in place"

    def one_trace() -> None:
        transcript()
        assert traced == [1], (
            f"the steps of a transcript are traced {traced[0]} times: the state of a reset and that of a step differ "
            "in dtypes, in weak types (`jnp.asarray(0.0)` has one), or in what is an array"
        )

    checks = dict(
        layout=layout,
        agents=leading_axis,
        observations=observations,
        rewards=rewards,
        ends=ends,
        info=info,
        never_resets=never_resets,
        determinism=determinism,
        keys=keys,
        vmap_over_keys=vmap_over_keys,
        vmap_over_numbers=vmap_over_numbers,
        inputs_are_kept=inputs_are_kept,
        one_trace=one_trace,
    )
    for name in only or ():
        if name not in checks:
            raise UnknownNameError("check", name, checks)
    chosen = {name: check for name, check in checks.items() if only is None or name in only}
    run_checks(type(environment).__name__, chosen, expected_failures)


def _plain(tree: PyTree) -> PyTree:
    """Random keys as the numbers that they are."""

    def plain(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key_data(leaf)
        return leaf

    return jax.tree.map(plain, tree)


def _same(given: PyTree, wanted: PyTree, what: str) -> None:
    assert_same(_plain(given), _plain(wanted), what)


def _equal(given: PyTree, wanted: PyTree, what: str) -> None:
    pairs = zip(jax.tree.leaves(_plain(given)), jax.tree.leaves(_plain(wanted)), strict=True)
    assert all(np.array_equal(a, b) for a, b in pairs), f"one key gives another transcript {what}"
