"""Worlds from and to other libraries, against the libraries themselves."""

import importlib.util
import subprocess
import sys
import warnings
from typing import ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import innerloop as il
from innerloop.envs import adapters

PACKAGES = ("gymnax", "jaxmarl", "gymnasium", "pettingzoo")


def needs(*names):
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"needs {', '.join(missing)}: pip install 'innerloop[envs]'")


class CountState(NamedTuple):
    time: jax.Array
    offset: jax.Array


class Count(il.AbstractEnvironment):
    """Shows the time plus a random offset; ends at `end`, or is cut off at `limit`."""

    end: int = eqx.field(static=True)
    limit: int = eqx.field(static=True)
    agents: int = eqx.field(static=True, default=1)
    scale: float | jax.Array = 1.0

    num_agents = property(lambda self: self.agents)
    observation_space = property(lambda self: il.Box(-100.0, 100.0, (2,)))
    action_space = property(lambda self: il.Discrete(3))

    def _show(self, state, reward):
        seen = jnp.stack([state.time.astype(jnp.float32) * self.scale, state.offset])
        over = state.time >= self.end
        late = (state.time >= self.limit) & ~over
        who = jnp.arange(self.agents, dtype=jnp.float32)[:, None]
        return il.TimeStep(state, seen[None] + who, reward, over, late, {"time": state.time})

    def reset(self, key):
        offset = jax.random.uniform(key, (), jnp.float32)
        return self._show(CountState(jnp.asarray(0, jnp.int32), offset), jnp.zeros(self.agents))

    def step(self, key, state, action):
        noise = jax.random.normal(key, (), jnp.float32)
        return self._show(CountState(state.time + 1, noise), action.astype(jnp.float32) + noise)


class Last(il.AbstractAgent):
    """Always the same action; remembers how much it earned."""

    action: int = eqx.field(static=True, default=1)

    def init_memory(self):
        return jnp.asarray(0.0)

    def act(self, key, memory, observation):
        return memory, jnp.asarray(self.action, jnp.int32)

    def observe(self, memory, observation, action, reward):
        return memory + reward


def transcript(world, num_steps=4, seed=0):
    """A fixed choice of actions, without resets."""

    def play(key):
        now = world.reset(key)
        steps = [now._replace(state=None, info={})]
        for i in range(num_steps):
            action = (jnp.arange(world.num_agents, dtype=jnp.int32) + i) % world.action_space.size
            now = world.step(jax.random.fold_in(key, i), now.state, action)
            steps.append(now._replace(state=None, info={}))
        return steps

    return jax.jit(play)(jax.random.key(seed))


def assert_same_transcript(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(x, y)


def test_import_is_lazy():
    code = f"import sys, innerloop.envs; assert not set({PACKAGES}) & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def test_a_missing_package_names_the_extra(monkeypatch):
    for name in ("gymnax", "innerloop.envs.adapters.gymnax"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "gymnax", None)
    monkeypatch.setitem(sys.modules, "gymnax.environments", None)
    monkeypatch.setitem(sys.modules, "flax", None)
    with pytest.raises(ImportError, match=r"from_gymnax needs .* pip install 'innerloop\[envs\]'"):
        adapters.from_gymnax  # noqa: B018
    with pytest.raises(AttributeError, match="no_such_name"):
        adapters.no_such_name  # noqa: B018


@needs("gymnax")
class TestGymnax:
    def test_there_and_back(self):
        for world in (Count(end=3, limit=9), Count(end=9, limit=3)):
            back = adapters.from_gymnax(adapters.to_gymnax(world))
            assert back.observation_space == world.observation_space and back.action_space == world.action_space
            assert_same_transcript(transcript(back), transcript(world))

    def test_the_end_of_an_episode(self):
        """Six values; the new observation is the next episode's, the old one is kept."""
        from gymnax.wrappers import LegacyStepAPIWrapper

        for end, limit, ends in ((2, 9, (True, False)), (9, 2, (False, True))):
            face = adapters.to_gymnax(Count(end=end, limit=limit))
            _, state = face.reset(jax.random.key(0), face.default_params)
            for i in range(2):
                seen, state, reward, terminated, truncated, info = face.step(jax.random.key(i), state, 1)
            assert (bool(terminated), bool(truncated)) == ends
            assert float(info["final_observation"][0]) == 2.0 and float(seen[0]) == 0.0
            assert float(info["discount"]) == 1.0 - ends[0] and reward.shape == ()
            legacy = LegacyStepAPIWrapper(face)
            _, state = legacy.reset(jax.random.key(0))
            for i in range(2):
                _, state, _, done, _ = legacy.step(jax.random.key(i), state, 1)
            assert bool(done)

    def test_numbers_of_a_world_are_parameters(self):
        face = adapters.to_gymnax(Count(end=9, limit=9))
        scales = jnp.asarray([1.0, 10.0])

        def second(scale):
            params = face.default_params.replace(world=Count(end=9, limit=9, scale=scale))
            _, state = face.reset(jax.random.key(0), params)
            return face.step(jax.random.key(0), state, 0, params)[0][0]

        np.testing.assert_array_equal(jax.vmap(second)(scales), scales)

    def test_cartpole_is_gymnax_cartpole(self):
        import gymnax

        cartpole, params = gymnax.make("CartPole-v1")
        world = adapters.from_gymnax(cartpole, params.replace(max_steps_in_episode=5))
        params = world.params
        key = jax.random.key(3)

        def both(key):
            now = world.reset(key)
            with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                seen, state = cartpole.reset_env(key, params)
            pairs = [(now.observation[0], seen)]
            for i in range(5):
                each = jax.random.fold_in(key, i)
                now = world.step(jax.random.split(each)[0], now.state, jnp.asarray([i % 2], jnp.int32))
                with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
                    _, state, reward, terminated, truncated, info = cartpole.step(each, state, i % 2, params)
                pairs.append((now.observation[0], info["final_observation"]))
                pairs += [(now.reward[0], reward), (now.terminated, terminated), (now.truncated, truncated)]
            return pairs

        pairs = jax.jit(both)(key)
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-6)
        assert bool(pairs[-1][0]) and not bool(pairs[-2][0]), "cut off by the limit, and not terminated"

    def test_cartpole_conforms(self):
        import gymnax

        cartpole, params = gymnax.make("CartPole-v1")
        limited = params.replace(max_steps_in_episode=8)
        il.testing.check_environment(adapters.from_gymnax(cartpole, limited))

    def test_what_cannot_be(self):
        import gymnax

        with pytest.raises(ValueError, match="to_jaxmarl"):
            adapters.to_gymnax(Count(end=3, limit=3, agents=2))

        class Old:
            pass

        with pytest.raises(ValueError, match=r"gymnax 1\.0"):
            adapters.from_gymnax(Old(), ())

        class Several(type(gymnax.make("CartPole-v1")[0])):
            def action_space(self, params=None):
                return gymnax.environments.spaces.Dict({})

        with pytest.raises(ValueError, match="action space of Several"):
            adapters.from_gymnax(Several())


@needs("jaxmarl")
class TestJaxMARL:
    def test_there_and_back(self):
        world = Count(end=3, limit=9, agents=3)
        back = adapters.from_jaxmarl(adapters.to_jaxmarl(world))
        assert back.num_agents == 3 and back.observation_space == world.observation_space
        assert_same_transcript(transcript(back), transcript(world))
        cut = Count(end=9, limit=3, agents=2)
        back = adapters.from_jaxmarl(adapters.to_jaxmarl(cut), cut_off=lambda state: state.now.truncated)
        assert_same_transcript(transcript(back), transcript(cut))

    def test_the_end_of_an_episode(self):
        face = adapters.to_jaxmarl(Count(end=9, limit=2, agents=2))
        _, state = face.reset(jax.random.key(0))
        for i in range(2):
            action = {"agent_0": jnp.asarray(0), "agent_1": jnp.asarray(2)}
            seen, state, reward, done, info = face.step(jax.random.key(i), state, action)
        assert done.keys() == {"agent_0", "agent_1", "__all__"} and all(bool(one) for one in done.values())
        assert bool(info["truncated"]) and not bool(info["terminated"])
        assert float(info["final_observation"]["agent_1"][0]) == 3.0 and float(seen["agent_1"][0]) == 1.0
        np.testing.assert_allclose(reward["agent_1"] - reward["agent_0"], 2.0, rtol=1e-6)

    def test_coin_game(self):
        from jaxmarl.environments.coin_game.coin_game import CoinGame

        theirs = CoinGame(num_inner_steps=3, num_outer_steps=1)
        world = adapters.from_jaxmarl(theirs)
        assert world.num_agents == 2 and world.action_space == il.Discrete(5)
        il.testing.check_environment(world, num_steps=6, only=["layout", "agents", "observations", "ends", "info"])

    def test_spaces_must_be_alike(self):
        class Unequal(type(adapters.to_jaxmarl(Count(end=3, limit=3, agents=2)))):
            pass

        face = Unequal(Count(end=3, limit=3, agents=2))
        face.action_spaces["agent_1"] = type(face.action_spaces["agent_0"])(7)
        with pytest.raises(ValueError, match=r"action space of agent 'agent_1' is Discrete\(size=7\)"):
            adapters.from_jaxmarl(face)


@needs("gymnasium")
class TestGymnasium:
    def test_it_passes_gymnasium_s_own_check(self):
        from gymnasium.utils.env_checker import check_env

        with warnings.catch_warnings():
            warnings.simplefilter("error")
            check_env(adapters.to_gymnasium(il.DelayedCue(delay=2)), skip_render_check=True)
            check_env(adapters.to_gymnasium(Count(end=3, limit=9)), skip_render_check=True)

    def test_ends_and_seeds(self):
        face = adapters.to_gymnasium(Count(end=9, limit=2), seed=5)
        first, _ = face.reset()
        _, _, terminated, truncated, _ = face.step(0)
        seen, _, terminated, truncated, info = face.step(0)
        assert (terminated, truncated) == (False, True) and seen[0] == 2.0 and info["time"] == 2
        with pytest.raises(ValueError, match="reset"):
            face.step(0)
        np.testing.assert_array_equal(face.reset(seed=5)[0], first)
        assert face.reset()[0][1] != first[1]
        with pytest.raises(ValueError, match="to_pettingzoo"):
            adapters.to_gymnasium(Count(end=3, limit=3, agents=2))

    def test_our_agents_play(self):
        face = adapters.to_gymnasium(Count(end=9, limit=3))
        life = adapters.play_gymnasium(face, Last(), jax.random.key(0), seed=1)
        np.testing.assert_array_equal(life.observation[:, 0], [0.0, 1.0, 2.0, 3.0])
        assert life.action.tolist() == [1, 1, 1] and life.reward.shape == (3,)
        assert (life.terminated, life.truncated) == (False, True)
        assert adapters.play_gymnasium(face, Last(), jax.random.key(0), max_steps=2).truncated is False

    def test_integers_may_start_anywhere(self):
        import gymnasium

        class Shifted(gymnasium.Env):
            observation_space = gymnasium.spaces.Discrete(3, start=5)
            action_space = gymnasium.spaces.Discrete(2, start=-1)
            done: ClassVar[list[int]] = []

            def reset(self, *, seed=None, options=None):
                return 6, {}

            def step(self, action):
                self.done.append(int(action))
                return 7, 1.0, True, False, {}

        life = adapters.play_gymnasium(Shifted(), Last(), jax.random.key(0))
        assert life.observation.tolist() == [1, 2] and life.action.tolist() == [1] and Shifted.done == [0]


@needs("pettingzoo")
class TestPettingZoo:
    @pytest.mark.parametrize("limits", [(3, 9), (9, 3)])
    def test_it_passes_pettingzoo_s_own_check(self, limits):
        from pettingzoo.test import parallel_api_test

        end, limit = limits
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            parallel_api_test(adapters.to_pettingzoo(Count(end=end, limit=limit, agents=3)), num_cycles=10)

    def test_seeds_and_bad_actions(self):
        face = adapters.to_pettingzoo(il.IteratedMatrixGame(il.PRISONERS_DILEMMA, num_steps=1), seed=1)
        face.reset()
        with pytest.raises(ValueError, match="no action of agent_1"):
            face.step({"agent_0": 0})
        with pytest.raises(il.InnerloopError, match="agent_2"):
            face.step({"agent_0": 0, "agent_1": 0, "agent_2": 0})
        seen, reward, terminated, _, _ = face.step({"agent_0": 0, "agent_1": 1})
        assert seen == {"agent_0": 2, "agent_1": 3} and reward == {"agent_0": -1.0, "agent_1": 2.0}
        assert all(terminated.values()) and face.agents == []
        with pytest.raises(ValueError, match="reset"):
            face.step({})
        other = adapters.to_pettingzoo(Count(end=3, limit=3, agents=2))
        np.testing.assert_array_equal(*(other.reset(seed=4)[0]["agent_1"] for _ in range(2)))

    def test_our_agents_play(self):
        face = adapters.to_pettingzoo(Count(end=2, limit=9, agents=2))
        agents = {"agent_0": Last(0), "agent_1": Last(2)}
        lives = adapters.play_pettingzoo(face, agents, jax.random.key(0), seed=0)
        assert lives["agent_1"].action.tolist() == [2, 2] and lives["agent_0"].terminated
        np.testing.assert_array_equal(lives["agent_1"].observation[:, 0], [1.0, 2.0, 3.0])
        np.testing.assert_allclose(lives["agent_1"].reward - lives["agent_0"].reward, 2.0, rtol=1e-6)
        with pytest.raises(il.InnerloopError, match="agent_1"):
            adapters.play_pettingzoo(face, {"agent_0": Last()}, jax.random.key(0))
