"""Policy-gradient losses: their gradients, with respect to what a policy said, are the estimators."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ..policy import PolicyOutput
from .returns import Scalar
from .shaping import ShapingEstimator

Info = dict[str, Float[Array, ""]]


def reinforce_loss(log_probabilities: Float[Array, "*t"], advantages: Float[Array, "*t"]) -> Float[Array, ""]:
    r"""The mean of $-A_t \log\pi(a_t)$, whose gradient is minus the policy gradient of one step.

    **Arguments:**

    - `log_probabilities`: of the actions that were done, under the policy that learns and did them.
    - `advantages`: returns or advantages; no gradient flows through them.

    **Reference:** Williams (1992), Machine Learning 8.
    """
    return -jnp.mean(log_probabilities * jax.lax.stop_gradient(advantages))


def clipped_surrogate(
    log_probabilities: Float[Array, "*t"],
    old_log_probabilities: Float[Array, "*t"],
    advantages: Float[Array, "*t"],
    *,
    clip: Scalar,
) -> Float[Array, "*t"]:
    r"""$-\min(\rho A, \operatorname{clip}(\rho, 1 - \epsilon, 1 + \epsilon)\,A)$ of each step.

    $\rho = \pi(a)/\pi_{\text{old}}(a)$. Where the old policy is the new one, its gradient is that of
    $-A\log\pi(a)$. Not reduced, so that whoever weighs steps differently can.

    **Arguments:**

    - `log_probabilities`: of the actions that were done, under the policy that learns.
    - `old_log_probabilities`: under the policy that did them.
    - `advantages`: of each step.
    - `clip`: how far the ratio may move away from 1 with profit ($\epsilon$).

    **Reference:** Schulman, Wolski, Dhariwal, Radford & Klimov (2017), arXiv 1707.06347, equation 7.
    """
    advantages = jax.lax.stop_gradient(advantages)
    ratios = jnp.exp(log_probabilities - jax.lax.stop_gradient(old_log_probabilities))
    return -jnp.minimum(ratios * advantages, jnp.clip(ratios, 1 - clip, 1 + clip) * advantages)


def value_errors(
    values: Float[Array, "*t"],
    targets: Float[Array, "*t"],
    old_values: Float[Array, "*t"] | None = None,
    *,
    clip: Scalar | None = None,
) -> Float[Array, "*t"]:
    r"""Half the squared error of each value.

    With a `clip`, the larger of that and the error of the value held within `clip` of what it was when the data
    were made, so that one batch does not move the critic far.
    """
    targets = jax.lax.stop_gradient(targets)
    errors = (values - targets) ** 2
    if clip is not None and old_values is not None:
        old_values = jax.lax.stop_gradient(old_values)
        held = old_values + jnp.clip(values - old_values, -clip, clip)
        errors = jnp.maximum(errors, (held - targets) ** 2)
    return 0.5 * errors


def actor_critic_loss(
    output: PolicyOutput,
    actions: Int[Array, "*t"],
    advantages: Float[Array, "*t"],
    targets: Float[Array, "*t"],
    *,
    value_coefficient: Scalar = 0.5,
    entropy_coefficient: Scalar = 0.0,
) -> tuple[Float[Array, ""], Info]:
    """The advantage actor-critic (A2C) loss: REINFORCE with a critic, and a bonus for entropy; means over all steps.

    **Arguments:**

    - `output`: logits and values of the policy that learns and acted.
    - `actions`: what was done.
    - `advantages`: of each step.
    - `targets`: of the values.
    - `value_coefficient`: what half a squared error of a value weighs.
    - `entropy_coefficient`: what a nat weighs.

    **Returns:** the loss, and its parts.

    **Reference:** Mnih et al. (2016), arXiv 1602.01783.
    """
    log_probabilities, entropies = choices(output.logits, actions)
    policy_loss = reinforce_loss(log_probabilities, advantages)
    value_loss = jnp.mean(value_errors(output.value, targets))
    return _together(policy_loss, value_loss, jnp.mean(entropies), value_coefficient, entropy_coefficient)


def proximal_loss(
    output: PolicyOutput,
    actions: Int[Array, "*t"],
    advantages: Float[Array, "*t"],
    targets: Float[Array, "*t"],
    old_log_probabilities: Float[Array, "*t"],
    old_values: Float[Array, "*t"],
    *,
    clip: Scalar = 0.2,
    value_clip: Scalar | None = None,
    value_coefficient: Scalar = 0.5,
    entropy_coefficient: Scalar = 0.0,
) -> tuple[Float[Array, ""], Info]:
    """The loss of proximal policy optimisation (PPO): means over all steps.

    **Arguments:**

    - `output`: logits and values of the policy that learns.
    - `actions`: what was done.
    - `advantages`: of each step.
    - `targets`: of the values.
    - `old_log_probabilities`, `old_values`: what the policy that acted said.
    - `clip`: of the ratio of probabilities.
    - `value_clip`: of the change of the values, or `None`.
    - `value_coefficient`: what half a squared error of a value weighs.
    - `entropy_coefficient`: what a nat weighs.

    **Returns:** the loss, and its parts.

    **Reference:** Schulman et al. (2017), arXiv 1707.06347.
    """
    log_probabilities, entropies = choices(output.logits, actions)
    policy_loss = jnp.mean(clipped_surrogate(log_probabilities, old_log_probabilities, advantages, clip=clip))
    value_loss = jnp.mean(value_errors(output.value, targets, old_values, clip=value_clip))
    return _together(policy_loss, value_loss, jnp.mean(entropies), value_coefficient, entropy_coefficient)


def shaping_policy_gradient_loss(
    log_probabilities: Float[Array, "n b l"],
    advantages: Float[Array, "n b l"],
    *,
    estimator: ShapingEstimator = ShapingEstimator.COALA,
) -> Float[Array, ""]:
    r"""$-\frac1N\sum_n\sum_b\sum_l A_{nbl}\log\pi(a_{nbl})$: a **sum** over the inner batch and over time.

    One action moves the co-player's minibatch update by $O(1/B)$, and all $B$ copies feel it; a mean over $b$ would
    lose a factor of $B$. For `BATCH_UNAWARE` advantages it is a mean over $b$, as that estimator is defined.

    **Arguments:**

    - `log_probabilities`: of the agent's actions against `n` co-players, in `b` copies, over `l` steps.
    - `advantages`: `shaping_advantages` of each co-player.
    - `estimator`: with which the advantages were made.

    **Reference:** Meulemans et al. (2024), arXiv 2410.18636, equations 5, 24 and 26.
    """
    return _over_meta_batch(-log_probabilities * jax.lax.stop_gradient(advantages), estimator)


def shaping_proximal_loss(
    log_probabilities: Float[Array, "n b l"],
    old_log_probabilities: Float[Array, "n b l"],
    advantages: Float[Array, "n b l"],
    *,
    clip: Scalar = 0.2,
    estimator: ShapingEstimator = ShapingEstimator.COALA,
) -> Float[Array, ""]:
    """`clipped_surrogate`, summed and averaged as in `shaping_policy_gradient_loss`, whose gradient it has at first."""
    losses = clipped_surrogate(log_probabilities, old_log_probabilities, advantages, clip=clip)
    return _over_meta_batch(losses, estimator)


def normalise_advantages(
    advantages: Float[Array, "n *t"],
    groups: Int[Array, "n"] | None = None,
    num_groups: int = 1,
    *,
    scale: bool = True,
    epsilon: float = 1e-8,
) -> Float[Array, "n *t"]:
    r"""Advantages with mean zero and, if they are scaled, deviation one, in each group for itself.

    Advantages against different kinds of co-players differ in size and meaning; normalised together, the shaping of
    some would drown in the games against others.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.rl import normalise_advantages
    >>> advantages = jnp.asarray([[1.0, 3.0], [100.0, 300.0]])
    >>> normalise_advantages(advantages, jnp.asarray([0, 1]), 2).round(3).tolist()
    [[-1.0, 1.0], [-1.0, 1.0]]

    ```

    **Arguments:**

    - `advantages`: one row per co-player (or any other leading axis).
    - `groups`: of each row, from 0 to `num_groups - 1`; by default all are one group. Empty groups do no harm.
    - `num_groups`: how many groups there are.
    - `scale`: whether to divide by the deviation, or only to centre.
    - `epsilon`: added to the deviation.
    """
    rows = advantages.reshape(advantages.shape[0], -1)
    groups = jnp.zeros(rows.shape[0], jnp.int32) if groups is None else groups
    member = jax.nn.one_hot(groups, num_groups, dtype=rows.dtype)  # [n g]
    counts = jnp.maximum(jnp.sum(member, 0) * rows.shape[1], 1)

    def mean(values: Float[Array, "n k"]) -> Float[Array, "n 1"]:
        return (member @ ((jnp.sum(values, 1) @ member) / counts))[:, None]

    centred = rows - mean(rows)
    result = centred / (jnp.sqrt(mean(centred**2)) + epsilon) if scale else centred
    return result.reshape(advantages.shape)


def choices(logits: Float[Array, "*t a"], actions: Int[Array, "*t"]) -> tuple[Float[Array, "*t"], Float[Array, "*t"]]:
    """The log-probabilities of actions and the entropies of the distributions, by one softmax."""
    log_probabilities = jax.nn.log_softmax(logits)
    entropies = -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, axis=-1)
    # Masks, whose gradient is a mask: that of an index is a scatter, slow on a CPU.
    chosen = jax.nn.one_hot(actions, logits.shape[-1], dtype=bool)
    return jnp.sum(jnp.where(chosen, log_probabilities, 0), axis=-1), entropies


def _together(
    policy_loss: Float[Array, ""],
    value_loss: Float[Array, ""],
    entropy: Float[Array, ""],
    value_coefficient: Scalar,
    entropy_coefficient: Scalar,
) -> tuple[Float[Array, ""], Info]:
    loss = policy_loss + value_coefficient * value_loss - entropy_coefficient * entropy
    return loss, dict(loss=loss, policy_loss=policy_loss, value_loss=value_loss, entropy=entropy)


def _over_meta_batch(losses: Float[Array, "n b l"], estimator: ShapingEstimator) -> Float[Array, ""]:
    return estimator.weight(losses.shape[1]) * jnp.sum(losses) / losses.shape[0]
