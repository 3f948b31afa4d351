"""How many steps per second does PPO train for on CartPole, beside rejax and Stable-Baselines3, and does it learn?

Equal settings: two perceptrons of two layers with 64 tanh units, 64 worlds x 64 steps, 4 epochs of 16 minibatches,
Adam. Each side has a process of its own with one thread, compiles and warms up, and then trains whenever it is told
to, in turn with the others. Seconds are those of training: steps in the world and updates, without compilation.

    python benchmarks/ppo_cartpole.py [--rejax PYTHON] [--sb3 PYTHON]

Peers need environments of their own, since rejax 0.1.3 needs gymnax below 1.0: PYTHON is the interpreter of one in
which it is installed. Where distrax cannot be imported, as with JAX 0.10, its categorical distribution is written
out here, with the same operations.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import time

REPEATS, ITERATIONS = 7, 20
WORLDS, STEPS, EPOCHS, MINIBATCHES = 64, 64, 4, 16
LEARNING_RATE, DISCOUNT, TRACE_DECAY = 3e-4, 0.99, 0.95
COUNT = WORLDS * STEPS * ITERATIONS
SEEDS, SOLVED, BUDGET = 8, 475.0, 100_000


def make_ours(**changes):
    """A training step on CartPole, as it comes from gymnax, and a policy."""
    import gymnax
    import jax
    import optax

    import innerloop as il

    settings = dict(num_worlds=WORLDS, num_steps=STEPS, num_epochs=EPOCHS, num_minibatches=MINIBATCHES)
    settings |= dict(discount=DISCOUNT, trace_decay=TRACE_DECAY) | changes
    rate = settings.pop("learning_rate", LEARNING_RATE)
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate, eps=1e-5))
    world = il.envs.adapters.from_gymnax(*gymnax.make("CartPole-v1"))
    step = il.ProximalPolicyOptimisation(world, optimiser, **settings)
    return step, lambda key: step.init(key, il.PerceptronPolicy.random(4, 2, key=jax.random.fold_in(key, 1)))


def ours():
    """A call that trains."""
    import equinox as eqx
    import jax

    step, start = make_ours()
    arrays, static = eqx.partition(start(jax.random.key(0)), eqx.is_array)

    def train(key, arrays):
        def body(arrays, key):
            learner, info = step(key, eqx.combine(arrays, static))
            return eqx.filter(learner, eqx.is_array), info["episode_return"]

        return jax.lax.scan(body, arrays, jax.random.split(key, ITERATIONS))

    program = jax.jit(train).lower(jax.random.key(0), arrays).compile()
    return lambda seed: float(jax.block_until_ready(program(jax.random.key(seed), arrays))[1][-1])


def rejax():
    """A call that trains with rejax."""
    import jax
    import jax.numpy as jnp

    stand_in_for_distrax()
    import rejax

    algorithm = rejax.get_algo("ppo").create(
        env="CartPole-v1",
        total_timesteps=COUNT,
        eval_freq=COUNT,
        num_envs=WORLDS,
        num_steps=STEPS,
        num_epochs=EPOCHS,
        num_minibatches=MINIBATCHES,
        learning_rate=LEARNING_RATE,
        max_grad_norm=0.5,
        gamma=DISCOUNT,
        gae_lambda=TRACE_DECAY,
        skip_initial_evaluation=True,
        agent_kwargs=dict(hidden_layer_sizes=(64, 64), activation="tanh"),
    )
    algorithm = algorithm.replace(eval_callback=lambda *_: jnp.zeros(()))
    program = jax.jit(algorithm.train).lower(jax.random.key(0)).compile()
    return lambda seed: float(jax.block_until_ready(program(jax.random.key(seed)))[1][0])


def stand_in_for_distrax():
    """What rejax needs of distrax, if that cannot be imported."""
    import types

    import jax
    import jax.numpy as jnp

    class Categorical:
        def __init__(self, logits):
            self.logits = jax.nn.log_softmax(logits)

        def sample(self, seed):
            return jax.random.categorical(seed, self.logits)

        def log_prob(self, action):
            return jnp.sum(self.logits * jax.nn.one_hot(action, self.logits.shape[-1]), -1)

        def entropy(self):
            return -jnp.sum(jnp.exp(self.logits) * self.logits, -1)

        def sample_and_log_prob(self, seed):
            action = self.sample(seed)
            return action, self.log_prob(action)

    try:
        import distrax  # noqa: F401  # pyright: ignore
    except Exception:  # whatever breaks in TensorFlow Probability under a new JAX
        for name in [name for name in sys.modules if name.split(".")[0] in ("distrax", "tensorflow_probability")]:
            del sys.modules[name]
        module = types.ModuleType("distrax")
        module.__dict__.update(Categorical=Categorical, Normal=None, MultivariateNormalDiag=None)
        sys.modules["distrax"] = module


def sb3():
    """A call that trains with Stable-Baselines3, all worlds in one process; its minibatches have 256 moments too."""
    import torch
    from stable_baselines3 import PPO
    from stable_baselines3.common.env_util import make_vec_env

    torch.set_num_threads(1)
    model = PPO(
        "MlpPolicy",
        make_vec_env("CartPole-v1", n_envs=WORLDS, seed=0),
        n_steps=STEPS,
        n_epochs=EPOCHS,
        batch_size=WORLDS * STEPS // MINIBATCHES,
        learning_rate=LEARNING_RATE,
        gamma=DISCOUNT,
        gae_lambda=TRACE_DECAY,
        device="cpu",
    )

    def train(seed):
        model.learn(COUNT // 10, reset_num_timesteps=False)  # a tenth: two iterations take seconds
        return 0.0

    return train


def serve(side):
    """Train whenever a line comes in; answer with the seconds per step in the world."""
    began = time.perf_counter()
    train = dict(ours=ours, rejax=rejax, sb3=sb3)[side]()
    train(0)
    print(json.dumps({"ready": time.perf_counter() - began}), flush=True)
    for line in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        result = train(int(line))
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        part = COUNT // 10 if side == "sb3" else COUNT
        part = -(-part // (WORLDS * STEPS)) * WORLDS * STEPS
        print(json.dumps({"wall": wall / part, "cpu": cpu / part, "result": result}), flush=True)


def learns():
    """The reference curve: at which step is the mean return of all worlds' last episodes at least 475?"""
    import jax
    import numpy as np

    import innerloop as il

    # 8 worlds, whose episodes end often enough to be counted; larger steps than in the race above.
    few = dict(num_worlds=8, num_steps=128, num_epochs=10, num_minibatches=8, learning_rate=1e-3)
    step, start = make_ours(**few)
    per_iteration = few["num_worlds"] * few["num_steps"]
    solved = []
    for seed in range(SEEDS):
        began = time.perf_counter()
        result = il.fit(step, start(jax.random.key(seed)), steps=BUDGET // per_iteration, seeds=seed)
        returns = result.history("train", "episode_return")
        over = np.flatnonzero(returns >= SOLVED)
        solved.append(len(over) > 0)
        when = f"{(over[0] + 1) * per_iteration} steps" if len(over) else f"never (best {returns.max():.0f})"
        print(f"  seed {seed}: 475 after {when}; {time.perf_counter() - began:.1f} s with compilation", flush=True)
    print(f"  {sum(solved)} of {SEEDS} seeds solve CartPole within {BUDGET} steps")


def main():
    """Run all sides in turn."""
    from _measure import Cost, interleave, print_head, print_ratio, print_times

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rejax", metavar="PYTHON", help="the interpreter of an environment with rejax")
    parser.add_argument("--sb3", metavar="PYTHON", help="the interpreter of one with Stable-Baselines3")
    parser.add_argument("--no-curve", action="store_true", help="leave out the reference curve")
    given = parser.parse_args()
    print_head("How many steps per second does PPO train for on CartPole?")
    assert importlib.util.find_spec("gymnax"), "CartPole comes from gymnax: pip install 'innerloop[envs]'"
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    environment = {**os.environ, **threads, "XLA_FLAGS": flags.strip(), "JAX_PLATFORMS": "cpu"}
    interpreters = {"ours": sys.executable, "rejax": given.rejax, "sb3": given.sb3}
    running, calls = {}, {}
    for side, python in interpreters.items():
        if python is None:
            print(f"no {side}: give --{side} PYTHON")
            continue
        running[side] = process = subprocess.Popen(
            [python, __file__, "--serve", side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        print(f"  {side}: ready after {_answer(process)['ready']:.1f} s with imports, compilation and one training")
        calls[side] = lambda process=process: _measured(process, Cost)
    costs = interleave(calls, repeats=REPEATS)
    print("\nseconds per step in the world")
    print_times(costs)
    for side, each in costs.items():
        middle = sorted(cost.wall for cost in each)[len(each) // 2]
        print(f"  {side}: {1 / middle:,.0f} steps/s")
    for side, goal in (("rejax", "at least 1.2"), ("sb3", "at least 15")):
        if side in costs:
            print_ratio(costs, side, "ours", goal=goal)
    for process in running.values():
        process.communicate()
    if not given.no_curve:
        print("\ndoes it learn?")
        learns()


def _answer(process):
    for line in process.stdout:
        if line.startswith("{"):
            return json.loads(line)
    raise RuntimeError("a side has died; what it said is above")


def _measured(process, kind):
    process.stdin.write("1\n")
    process.stdin.flush()
    answer = _answer(process)
    return kind(answer["wall"], answer["cpu"])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main()
