"""The deployed policy of predictive policy improvement: the model's own prediction, tilted by its own foresight."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, PyTree

from ...core.errors import require
from ...envs.agent import AbstractAgent
from .tilt import boltzmann_tilt
from .world_model import AbstractWorldModel, action_values


class PredictivePolicy(AbstractAgent):
    r"""Acts a little better than its world model predicts that it will.

    $$\pi(a \mid x) \propto p(a \mid x)\, e^{\beta \hat Q(x, a)}$$

    with $p$ the model's prediction of the own next action and $\hat Q$ from futures drawn from the model. With
    $\beta = 0$ it does what the model predicts.

    ```python
    >>> import jax
    >>> import innerloop as il
    >>> agent = il.rl.PredictivePolicy(il.rl.MixtureModel(), beta=1.0, horizon=5, num_samples=4)
    >>> memory, action = agent.act(jax.random.key(0), agent.init_memory(), jax.numpy.asarray(0))
    >>> int(action) in (0, 1)
    True

    ```

    **Arguments:**

    - `model`: any world model, learned or exact.
    - `beta`: how far the policy moves from the prediction; $1/\beta$ is the price of one nat of divergence.
    - `discount`: of one round of the futures.
    - `horizon`: how many rounds ahead.
    - `num_samples`: futures for each action.

    **Reference:** Weis et al. (2026), arXiv 2602.16301.

    **Errors:** `ValueError` for a horizon or a number of samples below one.
    """

    model: AbstractWorldModel
    beta: float | Float[Array, ""] = 0.01
    discount: float | Float[Array, ""] = 1.0
    horizon: int = eqx.field(static=True, default=15)
    num_samples: int = eqx.field(static=True, default=16)
    num_actions: int = eqx.field(static=True, default=2)

    def __check_init__(self):
        require(self.horizon >= 1, f"horizon must be at least 1, not {self.horizon}")
        require(self.num_samples >= 1, f"num_samples must be at least 1, not {self.num_samples}")

    def init_memory(self) -> PyTree:
        """That of the model."""
        return self.model.init_memory()

    def policy(self, key: Key[Array, ""], memory: PyTree, prior: Float[Array, "a"]) -> Float[Array, "a"]:
        """The log-probabilities of the improved policy, from the memory after the present observation."""
        values = action_values(
            self.model,
            key,
            memory,
            num_actions=self.num_actions,
            horizon=self.horizon,
            num_samples=self.num_samples,
            discount=self.discount,
        )
        return boltzmann_tilt(prior, values, self.beta)

    def act(self, key: Key[Array, ""], memory: PyTree, observation: Int[Array, ""]) -> tuple[PyTree, Int[Array, ""]]:
        """Look, foresee, choose."""
        first, second = jax.random.split(key)
        memory, prior, _ = self.model.see(memory, observation)
        logits = self.policy(first, memory, prior)
        return memory, jax.random.categorical(second, logits).astype(jnp.int32)

    def observe(self, memory: PyTree, observation: Array, action: Array, reward: Float[Array, ""]) -> PyTree:
        """The own action is a part of the stream, too."""
        return self.model.do(memory, action)[0]
