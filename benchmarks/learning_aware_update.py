"""What does a COALA-PG update cost beside an ordinary policy gradient on the same data, and how does it grow?

The data: 16 co-players, 16 copies of the game against each, 20 inner episodes of 10 steps, two policies: a table and
one Hawk block of width 32. Both updates unroll the policy, make advantages and value targets, and take the gradient.
The ordinary one treats every inner episode for itself. Then copies, episodes and steps grow one at a time.
"""

import statistics

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import innerloop as il
from _measure import interleave, print_head, print_ratio, print_times

CO_PLAYERS, COPIES, EPISODES, STEPS = 16, 16, 20, 10
REPEATS = 9


def draw(co_players: int, copies: int, episodes: int, steps: int):
    """Observations, actions and rewards `[co-players, copies, time]` of the iterated prisoner's dilemma."""
    random = np.random.default_rng(0)
    shape = (co_players, copies, episodes * steps)
    observations = jnp.asarray(random.integers(0, 5, shape), jnp.int32)
    actions = jnp.asarray(random.integers(0, 2, shape), jnp.int32)
    return observations, actions, jnp.asarray(random.normal(size=shape), jnp.float32)


def said(policy, observations, resets=None):
    """Logits and values, every copy against every co-player unrolled over all inner episodes."""

    def unroll(one):
        return policy.unroll(one, resets=resets)[0]

    return jax.vmap(jax.vmap(unroll))(observations)


def value_loss(values, targets):
    return 0.5 * jnp.mean(il.value_errors(values, targets))


def learning_aware(steps: int):
    """The gradient of COALA-PG with its critic."""

    def loss(policy, data):
        observations, actions, rewards = data
        output = said(policy, observations)

        def advantages(rewards, values):
            return il.shaping_advantages(
                rewards,
                values,
                discount=1.0,
                trace_decay=1.0,
                inner_length=steps,
                estimator=il.ShapingEstimator.COALA,
            )

        values = jax.lax.stop_gradient(output.value)
        targets = jax.vmap(lambda r, v: il.shaping_value_targets(r, v, discount=1.0, trace_decay=1.0))(rewards, values)
        log_probabilities = il.log_probability(output.logits, actions)
        policy_loss = il.shaping_policy_gradient_loss(log_probabilities, jax.vmap(advantages)(rewards, values))
        return policy_loss + value_loss(output.value, targets)

    return eqx.filter_grad(loss)


def ordinary(steps: int):
    """The gradient of an actor-critic to which the end of an inner episode is an end."""

    def loss(policy, data):
        observations, actions, rewards = data
        last = jnp.arange(rewards.shape[2]) % steps == steps - 1
        output = said(policy, observations, jnp.roll(last, 1))
        values = jax.lax.stop_gradient(output.value)

        def advantages(rewards, values):
            following = jnp.roll(values, -1)  # never read across an end
            return il.generalised_advantages(rewards, values, following, last, discount=1.0, trace_decay=1.0)

        advantage = jax.vmap(jax.vmap(advantages))(rewards, values)
        policy_loss = il.reinforce_loss(il.log_probability(output.logits, actions), advantage)
        return policy_loss + value_loss(output.value, advantage + values)

    return eqx.filter_grad(loss)


def compiled(make, policy, co_players=CO_PLAYERS, copies=COPIES, episodes=EPISODES, steps=STEPS):
    """A call of a compiled update, and the bytes it needs beside its arguments."""
    arrays, static = eqx.partition(policy, eqx.is_array)
    data = draw(co_players, copies, episodes, steps)

    def update(arrays, data):
        return make(steps)(eqx.combine(arrays, static), data)

    program = jax.jit(update).lower(arrays, data).compile()
    return lambda: jax.block_until_ready(program(arrays, data)), program.memory_analysis().temp_size_in_bytes


def main() -> None:
    print_head("What does a COALA-PG update cost beside an ordinary policy gradient on the same data?")
    policies = {
        "table": il.TabularPolicy.uniform(5, 2),
        "Hawk": il.SequencePolicy.random(
            5, 2, lambda key: il.HawkLayer(32, num_heads=2, key=key), key=jax.random.key(0)
        ),
    }
    for name, policy in policies.items():
        made = {"COALA-PG": compiled(learning_aware, policy), "ordinary": compiled(ordinary, policy)}
        sides = {side: call for side, (call, _) in made.items()}
        interleave(sides, repeats=1)
        costs = interleave(sides, repeats=REPEATS)
        print(f"{name}: {CO_PLAYERS * COPIES * EPISODES * STEPS} steps")
        print_times(costs)
        print_ratio(costs, "COALA-PG", "ordinary", goal="<= 3")
        print(f"  memory, COALA-PG / ordinary: {made['COALA-PG'][1] / made['ordinary'][1]:.3g}\n")

    policy = policies["Hawk"]
    for axis, base in dict(co_players=CO_PLAYERS, copies=COPIES, episodes=EPISODES, steps=STEPS).items():
        sizes = [base // 2, base, 2 * base]
        made = {size: compiled(learning_aware, policy, **{axis: size}) for size in sizes}
        sides = {str(size): call for size, (call, _) in made.items()}
        interleave(sides, repeats=1)
        costs = interleave(sides, repeats=REPEATS)
        seconds = {size: statistics.median(cost.cpu for cost in costs[str(size)]) for size in sizes}
        print(f"{axis}: {sizes} (4 times as many; goal: at most 4 times the cost)")
        for what, values in {"CPU seconds": seconds, "bytes": {size: made[size][1] for size in sizes}}.items():
            listed = ", ".join(f"{values[size]:.3g}" for size in sizes)
            print(f"  {what}: {listed}; {values[sizes[2]] / values[sizes[0]]:.3g} times")


if __name__ == "__main__":
    main()
