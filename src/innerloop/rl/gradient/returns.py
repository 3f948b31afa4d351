"""Returns and advantages of one trajectory: what came after each action, termination and truncation kept apart."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

Scalar = float | Float[Array, ""]


def rewards_to_go(
    rewards: Float[Array, "t"],
    terminated: Bool[Array, "t"] | None = None,
    truncated: Bool[Array, "t"] | None = None,
    next_values: Float[Array, "t"] | None = None,
    *,
    discount: Scalar,
) -> Float[Array, "t"]:
    r"""The discounted sum of the rewards from each step to the end of its episode.

    $G_t = r_t + \gamma G_{t+1}$ within an episode, $G_t = r_t$ where it terminates, and $G_t = r_t + \gamma v_{t+1}$
    where it is cut off, by `truncated` or because the trajectory stops there.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.rl import rewards_to_go
    >>> rewards_to_go(jnp.ones(4), jnp.asarray([False, True, False, False]), discount=0.5).tolist()
    [1.5, 1.0, 1.5, 1.0]

    ```

    **Arguments:**

    - `rewards`: for the action of each step.
    - `terminated`: whether the episode ended for good with it; by default never.
    - `truncated`: whether the episode was cut off after it; by default never.
    - `next_values`: the value of what each action led to (`Trajectory.next_observation`); read only where an
        episode is cut off, and zero by default.
    - `discount`: of one step.
    """
    next_values = jnp.zeros_like(rewards) if next_values is None else next_values
    return lambda_returns(rewards, next_values, terminated, truncated, discount=discount, trace_decay=1.0)


def lambda_returns(
    rewards: Float[Array, "t"],
    next_values: Float[Array, "t"],
    terminated: Bool[Array, "t"] | None = None,
    truncated: Bool[Array, "t"] | None = None,
    *,
    discount: Scalar,
    trace_decay: Scalar,
) -> Float[Array, "t"]:
    r"""TD($\lambda$) targets of a value function.

    $G_t = r_t + \gamma\,[(1 - \lambda)\,v_{t+1} + \lambda\,G_{t+1}]$. Where the episode terminates the bracket is zero;
    where it is cut off, or the trajectory stops, the bracket is $v_{t+1}$.

    **Arguments:**

    - `rewards`: for the action of each step.
    - `next_values`: aligned with the rewards: the value of what the action **led to**, never that of the first
        observation of another episode.
    - `terminated`: whether the episode ended for good; by default never.
    - `truncated`: whether the episode was cut off; by default never.
    - `discount`: of one step.
    - `trace_decay`: 0 looks one step ahead, 1 to the end.

    **Reference:** Sutton & Barto, Reinforcement Learning (2018), chapter 12.
    """
    terminated, truncated = _flags(rewards, terminated, truncated)

    def back(later: Float[Array, ""], now: tuple) -> tuple[Float[Array, ""], Float[Array, ""]]:
        reward, value, dead, cut = now
        future = jnp.where(cut, value, (1 - trace_decay) * value + trace_decay * later)
        result = reward + discount * jnp.where(dead, jnp.zeros_like(future), future)
        return result, result

    return jax.lax.scan(back, next_values[-1], (rewards, next_values, terminated, truncated), reverse=True)[1]


def generalised_advantages(
    rewards: Float[Array, "t"],
    values: Float[Array, "t"],
    next_values: Float[Array, "t"],
    terminated: Bool[Array, "t"] | None = None,
    truncated: Bool[Array, "t"] | None = None,
    *,
    discount: Scalar,
    trace_decay: Scalar,
) -> Float[Array, "t"]:
    r"""Generalised advantage estimates (GAE).

    $A_t = \sum_{k \ge 0} (\gamma\lambda)^k \delta_{t+k}$ to the end of the episode, with
    $\delta_t = r_t + \gamma v_{t+1} - v_t$. Where an episode terminates its future is worth nothing; where it is
    truncated, $v_{t+1}$ is the value of the observation that would have been acted on next.

    **Arguments:**

    - `rewards`: for the action of each step.
    - `values`: of what was seen before each action.
    - `next_values`: of what each action led to, never that of the first observation of another episode.
    - `terminated`: whether the episode ended for good; by default never.
    - `truncated`: whether the episode was cut off; by default never.
    - `discount`: of one step.
    - `trace_decay`: 0 has the least variance, 1 no bias by the values.

    **Reference:** Schulman, Moritz, Levine, Jordan & Abbeel (2016), arXiv 1506.02438.
    """
    terminated, truncated = _flags(rewards, terminated, truncated)
    alive = jnp.where(terminated, jnp.zeros_like(rewards), jnp.ones_like(rewards))
    differences = rewards + discount * alive * next_values - values
    goes_on = jnp.where(terminated | truncated, jnp.zeros_like(rewards), jnp.ones_like(rewards))

    def back(later: Float[Array, ""], now: tuple) -> tuple[Float[Array, ""], Float[Array, ""]]:
        difference, on = now
        result = difference + discount * trace_decay * on * later
        return result, result

    return jax.lax.scan(back, jnp.zeros_like(rewards[0]), (differences, goes_on), reverse=True)[1]


def _flags(
    rewards: Float[Array, "t"], terminated: Bool[Array, "t"] | None, truncated: Bool[Array, "t"] | None
) -> tuple[Bool[Array, "t"], Bool[Array, "t"]]:
    never = jnp.zeros(rewards.shape, bool)
    return never if terminated is None else terminated, never if truncated is None else truncated
