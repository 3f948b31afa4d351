"""Advantages of an agent that shapes learners: batch lambda-returns over meta-trajectories (COALA-PG, M-FOS)."""

import enum
import warnings

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jaxtyping import Array, Float

from ...core.errors import require
from .returns import Scalar

LEAST_WEIGHT = 0.5  # of the last inner episode in the advantages of the first, below which we warn


class ShapingEstimator(enum.Enum):
    r"""How a policy gradient treats the inner batch: the parallel copies of a game against one learning co-player.

    An action in one copy earns its own episode's rewards (*current*); through the co-player's update, made from all
    copies, it moves the later rewards of all of them (*future*). With $c_{bl}$ the reward to the end of the inner
    episode, $f_{bl}$ that of all later ones and $\bar f_l$ its mean over the $B$ copies, the gradients are

    - `COALA`: $\sum_{bl} \nabla\log\pi(a_{bl})\,(c_{bl}/B + \bar f_l)$, the unbiased one;
    - `M_FOS`: $\sum_{bl} \nabla\log\pi(a_{bl})\,(c_{bl} + \bar f_l)$;
    - `BATCH_UNAWARE`: $\frac1B\sum_{bl} \nabla\log\pi(a_{bl})\,(c_{bl} + f_{bl})$, right when the copies do not touch
        each other: against co-players that do not learn within the trajectory.

    **Reference:** Meulemans et al. (2024), arXiv 2410.18636, equations 3 to 7 and 24 to 27.
    """

    COALA = "coala"
    M_FOS = "m-fos"
    BATCH_UNAWARE = "batch-unaware"

    @property
    def average_future(self) -> bool:
        """Whether the return of later inner episodes is averaged over the inner batch."""
        return self is not ShapingEstimator.BATCH_UNAWARE

    @property
    def normalise_current(self) -> bool:
        """Whether the return of the current inner episode is divided by the size of the inner batch."""
        return self is ShapingEstimator.COALA

    def weight(self, batch_size: int) -> float:
        """What the sum over the inner batch is multiplied by: 1, or `1 / batch_size` where it is a mean."""
        return 1.0 / batch_size if self is ShapingEstimator.BATCH_UNAWARE else 1.0


def batch_lambda_returns(
    rewards: Float[Array, "b l"],
    next_values: Float[Array, "b l"],
    *,
    discount: Scalar,
    trace_decay: Scalar,
    inner_length: int,
    average_future: bool,
    normalise_current: bool,
    bootstrap: float | Float[Array, "b"] = 0.0,
) -> Float[Array, "b l"]:
    r"""Lambda-returns of one meta-trajectory whose parallel copies share their future.

    Backwards in time, $G_b \leftarrow r_b / z + \gamma\,[(1-\lambda)\,v_b + \lambda\,G_b]$ and
    $g \leftarrow \operatorname{mean}_b(r_b + \gamma\,[(1-\lambda)\,v_b + \lambda\,g])$; at the last step of each inner
    episode, if the future is averaged, every $G_b$ first becomes $g$. Without flags these are ordinary
    $\lambda$-returns, which do not stop at the ends of inner episodes.

    **Arguments:**

    - `rewards`: of one co-player's `b` copies over all inner episodes.
    - `next_values`: the value of what each action **led to**: aligned as $v_{t+1}$.
    - `discount`: of one step.
    - `trace_decay`: 0 looks one step ahead, 1 to the end of the meta-trajectory.
    - `inner_length`: of an inner episode; `l` is a multiple of it.
    - `average_future`: whether what follows an inner episode is averaged over the copies.
    - `normalise_current`: whether the rewards of the current episode are divided by `b` ($z = b$, else 1).
    - `bootstrap`: the return after the last step: zero, because a meta-trajectory truly ends.

    **Reference:** Meulemans et al. (2024), arXiv 2410.18636, algorithm 1. The paper prints `next_values[:, -1]`
    as the bootstrap, which is wrong for advantages and for trajectories that end.

    **Errors:** `ValueError` if the length is not a multiple of `inner_length`.
    """
    batch_size, length = rewards.shape
    require(
        inner_length >= 1 and length % inner_length == 0,
        f"a meta-trajectory is whole inner episodes: its length {length} is not a multiple of {inner_length}",
    )
    divisor = batch_size if normalise_current else 1
    last = (jnp.arange(length) % inner_length == inner_length - 1) & average_future
    start = jnp.broadcast_to(jnp.asarray(bootstrap, rewards.dtype), (batch_size,))

    def back(later: tuple, now: tuple) -> tuple:
        own, mean = later
        reward, value, is_last = now
        own = jnp.where(is_last, jnp.broadcast_to(mean, own.shape), own)
        blended = (1 - trace_decay) * value
        own = reward / divisor + discount * (blended + trace_decay * own)
        mean = jnp.mean(reward + discount * blended) + discount * trace_decay * mean
        return (own, mean), own

    inputs = (rewards.T, next_values.T, last)
    return jax.lax.scan(back, (start, jnp.mean(start)), inputs, reverse=True)[1].T


def shaping_advantages(
    rewards: Float[Array, "b l"],
    values: Float[Array, "b l"],
    *,
    discount: Scalar,
    trace_decay: Scalar,
    inner_length: int,
    estimator: ShapingEstimator,
) -> Float[Array, "b l"]:
    r"""Generalised advantages over one meta-trajectory.

    Algorithm 1 on $\delta_t = r_t + \gamma v_{t+1} - v_t$, with no masks at the ends of inner episodes and nothing
    after the last. At $\gamma = \lambda = 1$, `COALA` gives
    $(c_{bl} - v_{bl})/B + \bar f_l - \frac1B\sum_{b' \ne b} v_{b'}(\text{start of the next inner episode})$, whose
    baseline leaves the gradient unbiased whatever the values are.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.rl import ShapingEstimator, shaping_advantages
    >>> rewards = jnp.asarray([[1.0, 0.0, -1.0, 2.0], [2.0, -1.0, 1.0, 0.0]])
    >>> how = dict(discount=1.0, trace_decay=1.0, inner_length=2)
    >>> shaping_advantages(rewards, jnp.zeros((2, 4)), estimator=ShapingEstimator.COALA, **how).tolist()
    [[1.5, 1.0, 0.5, 1.0], [1.5, 0.5, 0.5, 0.0]]

    ```

    **Arguments:**

    - `rewards`: of one co-player's `b` copies over all inner episodes. Independent co-players are a `vmap`: nothing
        is averaged over them.
    - `values`: of each history before its action: the expected sum of **all** own future rewards of that copy
        (`shaping_value_targets`), whatever the estimator.
    - `discount`, `trace_decay`: both 1 unless meta-episodes are short.
    - `inner_length`: of an inner episode.
    - `estimator`: how the inner batch is treated.

    **Warns:** if $\gamma\lambda < 1$ forgets the later inner episodes (`warn_of_lost_shaping`).
    """
    warn_of_lost_shaping(discount, trace_decay, rewards.shape[1], inner_length)
    differences = rewards + discount * following(values) - values
    return batch_lambda_returns(
        differences,
        jnp.zeros_like(values),
        discount=discount * trace_decay,
        trace_decay=1.0,
        inner_length=inner_length,
        average_future=estimator.average_future,
        normalise_current=estimator.normalise_current,
    )


def shaping_value_targets(
    rewards: Float[Array, "b l"], values: Float[Array, "b l"], *, discount: Scalar, trace_decay: Scalar
) -> Float[Array, "b l"]:
    """TD targets of the critic of `shaping_advantages`: each copy's own return to the end of the meta-trajectory.

    The same for every estimator, so that one value head serves against learners and non-learners: a critic of
    COALA's own returns would become blind to the current episode in large inner batches.

    **Reference:** Meulemans et al. (2024), arXiv 2410.18636, equation 10.
    """
    return batch_lambda_returns(
        rewards,
        following(values),
        discount=discount,
        trace_decay=trace_decay,
        inner_length=1,
        average_future=False,
        normalise_current=False,
    )


def following(values: Float[Array, "b l"]) -> Float[Array, "b l"]:
    """From the value of each history to that of the next: shifted by one step, with nothing after the last."""
    return jnp.concatenate([values[:, 1:], jnp.zeros_like(values[:, :1])], axis=1)


def warn_of_lost_shaping(discount: Scalar, trace_decay: Scalar, length: int, inner_length: int) -> None:
    r"""Warn if the advantages of the first inner episode hardly see the last one.

    They weigh it by $(\gamma\lambda)^{l - t}$ for meta-trajectories of $l$ and inner episodes of $t$ steps. For
    whoever knows the numbers before any tracing; traced numbers are not looked at.
    """
    if isinstance(discount, Tracer) or isinstance(trace_decay, Tracer):
        return
    decay = float(discount) * float(trace_decay)
    weight = decay ** max(length - inner_length, 0)
    if weight < LEAST_WEIGHT:
        warnings.warn(
            f"discount * trace_decay = {decay:g} is below 1: over a meta-episode of {length} "
            f"steps the last inner episode weighs only {weight:.1e} in the advantages of the first, so hardly anything "
            "is learned about how actions change the co-player. Use 1 for both, or shorter meta-episodes",
            stacklevel=3,
        )
