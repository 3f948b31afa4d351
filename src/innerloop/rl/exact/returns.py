"""Iterated matrix games in closed form: what two memory-one policies earn from each other, without sampling."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ...core.errors import require

Number = float | Float[Array, ""]
Payoffs = np.ndarray | Float[Array, "..."]  # [a, a] for both players alike, or [2, a, a]; own action first


def action_probabilities(logits: Float[Array, "s *a"]) -> Float[Array, "s a"]:
    """The probabilities of all actions: `[s]` are logits of the first of two actions, `[s, a]` of all."""
    if logits.ndim == 1:
        first = jax.nn.sigmoid(logits)
        return jnp.stack([first, jax.nn.sigmoid(-logits)], axis=1)
    return jax.nn.softmax(logits, axis=1)


def discounted_returns(
    first: Float[Array, "s *a"],
    second: Float[Array, "s *a"],
    payoffs: Payoffs,
    discount: Number,
    *,
    normalised: bool = False,
) -> Float[Array, "2"]:
    r"""What two memory-one policies earn from each other in a game without end.

    $$J_i = d^\top r_i, \qquad d = (I - \gamma P^\top)^{-1} s_0$$

    with $P$ the transition matrix between joint actions, $s_0$ the law of the first one and $r_i$ the payoffs.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.envs import PRISONERS_DILEMMA
    >>> from innerloop.rl import discounted_returns
    >>> always_defect, always_cooperate = jnp.full(5, -30.0), jnp.full(5, 30.0)
    >>> earned = discounted_returns(always_defect, always_cooperate, PRISONERS_DILEMMA, 0.95, normalised=True)
    >>> [round(float(value), 4) for value in earned]
    [2.0, -1.0]

    ```

    **Arguments:**

    - `first`, `second`: logits, one row per observation of `IteratedMatrixGame`: the start, then the joint actions,
      **own action first**. With two actions the logit of the first action is enough: `[5]`, ordered start, CC, CD,
      DC, DD.
    - `payoffs`: `[own action, other's action]` for both players alike, or one such table for each, `[2, a, a]`.
    - `discount`: $\gamma$ below 1.
    - `normalised`: whether returns are multiplied by $1 - \gamma$, which makes them payoffs per step.

    **Reference:** the occupancy form is that of Meulemans et al. (2024), arXiv 2410.18636, appendix C; it leaves
    out that the second player's observations name his own action first, which a symmetric game needs.

    **Errors:** `ValueError` for shapes that do not fit each other, and for a discount known not to lie in [0, 1).
    """
    joint, tables = _game(first, second, payoffs, discount)
    occupancy = _product(joint[0], _resolvent(joint, discount))
    returns = (tables * occupancy[None]).sum(axis=1)
    return returns * (1 - discount) if normalised else returns


def state_values(
    first: Float[Array, "s *a"],
    second: Float[Array, "s *a"],
    payoffs: Payoffs,
    discount: Number,
    *,
    normalised: bool = False,
) -> Float[Array, "2 s"]:
    r"""What each player can expect from every observation on, before acting: $V_i = \pi (r_i + \gamma V_i)$.

    Rows are players, columns are observations **of the first player**: the start, then joint actions.

    **Arguments:** as of `discounted_returns`; the values of the start are those returns.
    """
    joint, tables = _game(first, second, payoffs, discount)
    from_actions = jax.vmap(lambda rewards: _apply(_resolvent(joint, discount), rewards))(tables)
    values = jax.vmap(lambda worth: _apply(joint, worth))(from_actions)
    return values * (1 - discount) if normalised else values


def naive_gradient(
    learner: Float[Array, "s *a"],
    other: Float[Array, "s *a"],
    payoffs: Payoffs,
    discount: Number,
    *,
    normalised: bool = False,
) -> Float[Array, "s *a"]:
    r"""The gradient of a learner's own return, for a co-player who stays as he is: naive learning.

    By the policy gradient theorem, with $d$ the occupancy of an observation and $Q$ the value of an action there,

    $$\frac{\partial J}{\partial \pi(u \mid s)} = d(s) \, Q(s, u).$$

    That is what automatic differentiation of `discounted_returns` gives; this form costs one matrix inverse and is
    cheap to differentiate once more. Between two agents it is the **partial gradient**.

    **Arguments:** as of `discounted_returns`, the learner first; the first of two payoff tables is hers.
    """
    joint, tables = _game(learner, other, payoffs, discount)
    size = tables.shape[1]
    resolvent = _resolvent(joint, discount)
    occupancy = _product(joint[0], resolvent)
    reached = jnp.concatenate([jnp.ones(1, joint.dtype), discount * occupancy])
    worth = _apply(resolvent, tables[0])  # of a joint action: its payoff and all that follows
    probabilities, pull_back = jax.vjp(action_probabilities, learner)
    num_actions = probabilities.shape[1]
    reply = _seen_by_first(action_probabilities(other), num_actions)
    of_action = (reply[:, None, :] * worth.reshape(1, num_actions, size // num_actions)).sum(axis=2)
    (gradient,) = pull_back(reached[:, None] * of_action)
    return gradient * (1 - discount) if normalised else gradient


def stationary_rewards(
    first: Float[Array, "s *a"], second: Float[Array, "s *a"], payoffs: Payoffs
) -> Float[Array, "2"]:
    """What both earn per step in the long run; the start does not matter.

    Needs policies under which every joint action leads to one set of recurrent ones, such as all policies whose
    probabilities lie strictly between 0 and 1; of others, what is returned means nothing.

    **Arguments:** as of `discounted_returns`.
    """
    joint, tables = _game(first, second, payoffs, 0.0)
    size = tables.shape[1]
    # Balance of every joint action; adding the sum to each equation makes the solution unique, and its sum one.
    balance = jnp.eye(size, dtype=joint.dtype) - joint[1:].T + jnp.ones((size, size), joint.dtype)
    law = jnp.linalg.solve(balance, jnp.ones(size, joint.dtype))
    return (tables * law[None]).sum(axis=1)


def _game(
    first: Float[Array, "s *a"], second: Float[Array, "s *a"], payoffs: Payoffs, discount: Number
) -> tuple[Float[Array, "s j"], Float[Array, "2 j"]]:
    """The law of the joint action after every observation, and both players' payoffs for it."""
    require(
        not isinstance(discount, (int, float)) or 0 <= discount < 1,
        f"discount must lie in [0, 1): a game without end needs one below 1, not {discount}",
    )
    table = jnp.asarray(payoffs, first.dtype)
    num_actions = 2 if first.ndim == 1 else first.shape[1]
    require(
        table.shape in ((num_actions, num_actions), (2, num_actions, num_actions)),
        f"for {num_actions} actions payoffs are [{num_actions}, {num_actions}] for both players alike or"
        f" [2, {num_actions}, {num_actions}], not of shape {table.shape}",
    )
    for name, logits in (("first", first), ("second", second)):
        rows, width = logits.shape[0], 2 if logits.ndim == 1 else logits.shape[1]
        require(
            logits.ndim <= 2 and rows == 1 + num_actions**2 and width == num_actions,
            f"a memory-one policy of {num_actions} actions has {1 + num_actions**2} rows of logits (the start and all"
            f" joint actions), not shape {logits.shape} for the {name} player",
        )
    own, other = jnp.broadcast_to(table, (2, num_actions, num_actions))
    tables = jnp.stack([own.reshape(-1), other.T.reshape(-1)])
    reply = _seen_by_first(action_probabilities(second), num_actions)
    joint = action_probabilities(first)[:, :, None] * reply[:, None, :]
    return joint.reshape(joint.shape[0], -1), tables


def _seen_by_first(rows: Float[Array, "s a"], num_actions: int) -> Float[Array, "s a"]:
    """The second player's rows in the order in which the first player sees the joint actions."""
    order = np.arange(num_actions**2).reshape(num_actions, num_actions).T.reshape(-1)
    return rows[np.concatenate([[0], 1 + order])]


def _resolvent(joint: Float[Array, "s j"], discount: Number) -> Float[Array, "j j"]:
    size = joint.shape[1]
    return _inverse(jnp.eye(size, dtype=joint.dtype) - discount * joint[1:])


# Products of small matrices as sums: under `vmap` far faster on a CPU than a batch of matrix products.


def _product(row: Float[Array, "j"], matrix: Float[Array, "j k"]) -> Float[Array, "k"]:
    return (row[:, None] * matrix).sum(axis=0)


def _apply(matrix: Float[Array, "s j"], column: Float[Array, "j"]) -> Float[Array, "s"]:
    return (matrix * column[None, :]).sum(axis=1)


@jax.custom_jvp
def _inverse(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """Gauss-Jordan without pivots, which the diagonally dominant matrices of discounted games do not need."""
    size = matrix.shape[0]
    both = jnp.concatenate([matrix, jnp.eye(size, dtype=matrix.dtype)], axis=1)
    for k in range(size):
        row = both[k] / both[k, k]
        others = both[:, k].at[k].set(0.0)
        both = (both - others[:, None] * row[None, :]).at[k].set(row)
    return both[:, size:]


@_inverse.defjvp
def _inverse_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    inverse = _inverse(primals[0])

    def times(left: Array, right: Array) -> Array:
        return (left[:, :, None] * right[None, :, :]).sum(axis=1)

    return inverse, -times(inverse, times(tangents[0], inverse))
