"""What can be known of a memory-one player from what it did: Beta posteriors, and the least possible loss."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Float, Int, Key

from ...core.errors import require
from .tabular_pool import NUM_VIEWS, TabularPool, swap_view


class BetaPosterior(NamedTuple):
    r"""Independent Beta laws, one for each view of a player: $q_s \sim \mathrm{Beta}(c_s, d_s)$.

    ```python
    >>> import jax.numpy as jnp
    >>> from innerloop.rl import BetaPosterior
    >>> after = BetaPosterior.prior(1.0).update(jnp.asarray(0), jnp.asarray(1))
    >>> [round(float(one), 3) for one in after.mean]
    [0.333, 0.5, 0.5, 0.5, 0.5]

    ```
    """

    cooperations: Float[Array, "5"]  # how often the player cooperated at each view, plus those of the prior
    defections: Float[Array, "5"]

    @classmethod
    def prior(cls, concentration: float | Float[Array, ""] = 1.0) -> "BetaPosterior":
        """Before anything was seen: the law of `TabularPool(concentration)`."""
        start = jnp.full(NUM_VIEWS, concentration, jnp.zeros(()).dtype)
        return cls(start, start)

    def update(self, view: Int[Array, ""], action: Int[Array, ""]) -> "BetaPosterior":
        """After the player did `action` (0 cooperates) at its own `view`."""
        here = jnp.arange(NUM_VIEWS, dtype=view.dtype) == view
        one = jnp.ones_like(self.cooperations)
        zero = jnp.zeros_like(one)
        return BetaPosterior(
            self.cooperations + jnp.where(here & (action == 0), one, zero),
            self.defections + jnp.where(here & (action != 0), one, zero),
        )

    @property
    def mean(self) -> Float[Array, "5"]:
        """The predictive probability of cooperation at each view; Laplace's rule for the uniform law."""
        return self.cooperations / (self.cooperations + self.defections)

    def sample(self, key: Key[Array, ""]) -> Float[Array, "5"]:
        """A player drawn from the posterior."""
        return jax.random.dirichlet(key, jnp.stack([self.cooperations, self.defections], axis=1))[:, 0]

    def logits(self, view: Int[Array, ""]) -> Float[Array, "2"]:
        """The predictive log-probabilities of both actions at a view."""
        counts = jnp.stack([self.cooperations[view], self.defections[view]])
        return jnp.log(counts) - jnp.log(jnp.sum(counts))


def predictive_losses(
    views: Int[Array, "t"], actions: Int[Array, "t"], concentration: float | Float[Array, ""] = 1.0
) -> Float[Array, "t"]:
    r"""The loss, in nats, of the ideal predictor at each action of one player.

    $-\log p(a_t \mid a_{<t})$ under the Beta mixture. Where a view was visited $n$ times with $k$ cooperations, the
    sum over these visits is $-\log [k!\,(n-k)!/(n+1)!]$ for the uniform law. No predictor does better on average.

    **Arguments:**

    - `views`: what the player saw before each action, from its own side.
    - `actions`: what it did.
    - `concentration`: of the law it was drawn from.
    """

    def advance(posterior: BetaPosterior, seen: tuple) -> tuple[BetaPosterior, Float[Array, ""]]:
        view, action = seen
        return posterior.update(view, action), -posterior.logits(view)[action]

    return jax.lax.scan(advance, BetaPosterior.prior(concentration), (views, actions))[1]


def log_sequence_probability(
    cooperations: Float[Array, "*s"], visits: Float[Array, "*s"], concentration: float = 1.0
) -> Float[Array, "*s"]:
    r"""The log-probability of a given order of $k$ cooperations among $n$ visits: $\log B(k+a, n-k+a)/B(a, a)$.

    $k!\,(n-k)!/(n+1)!$ for the uniform law.
    """
    a = jnp.asarray(concentration, cooperations.dtype)
    return _log_beta(cooperations + a, visits - cooperations + a) - _log_beta(a, a)


def expected_loss_at_visit(visit: int, concentration: float = 1.0) -> float:
    r"""The expected loss of the ideal predictor at the $n$-th visit to a view, in nats.

    The mean of the entropy of the prediction $(k + a)/(n - 1 + 2a)$ over the Beta-binomial law of the number $k$ of
    earlier cooperations. For the uniform law it falls from $\log 2$ to $1/2$.

    **Errors:** `ValueError` for a visit below the first.
    """
    from scipy.special import betaln, binom, entr  # not needed by whoever imports this module for something else

    require(visit >= 1, f"visits are counted from 1, not {visit}")
    k, n, a = np.arange(visit), visit - 1, concentration
    weights = binom(n, k) * np.exp(betaln(k + a, n - k + a) - betaln(a, a))
    p = (k + a) / (n + 2 * a)
    return float(np.sum(weights * (entr(p) + entr(1 - p))))


class RandomGames(NamedTuple):
    """Games of two tabular players, both sides."""

    views: Int[Array, "g t 2"]
    actions: Int[Array, "g t 2"]
    cooperation: Float[Array, "g 2 5"]


def random_games(key: Key[Array, ""], pool: TabularPool, *, num_games: int, num_rounds: int) -> RandomGames:
    """Fresh pairs of tabular players who play `num_rounds` rounds each."""
    first, second = jax.random.split(key)
    q = jax.vmap(pool.sample)(jax.random.split(first, 2 * num_games)).reshape(num_games, 2, NUM_VIEWS)
    draws = jax.random.uniform(second, (num_rounds, num_games, 2), q.dtype)

    def advance(view: Int[Array, "g"], draw: Float[Array, "g 2"]):
        views = jnp.stack([view, swap_view(view)], axis=1)
        actions = (draw >= jnp.take_along_axis(q, views[:, :, None], axis=2)[..., 0]).astype(jnp.int32)
        return 1 + 2 * actions[:, 0] + actions[:, 1], (views, actions)

    _, (views, actions) = jax.lax.scan(advance, jnp.zeros(num_games, jnp.int32), draws)
    return RandomGames(jnp.swapaxes(views, 0, 1), jnp.swapaxes(actions, 0, 1), q)


def loss_floor(
    key: Key[Array, ""], pool: TabularPool, *, num_games: int = 3000, num_rounds: int = 100
) -> Float[Array, "g 2"]:
    """The mean loss per round of the ideal predictor, in nats, for either player of each of many random games."""
    games = random_games(key, pool, num_games=num_games, num_rounds=num_rounds)
    both = jax.vmap(jax.vmap(lambda v, a: predictive_losses(v, a, pool.concentration), (1, 1)))
    return both(games.views, games.actions).mean(axis=-1)


def _log_beta(a: Float[Array, "*n"], b: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """`jax.scipy.special.betaln` is good to seven digits only, in float64 too."""
    return gammaln(a) + gammaln(b) - gammaln(a + b)
