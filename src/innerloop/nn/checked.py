"""A sequence layer that looks at its tokens while it runs."""

import equinox as eqx
import jax
from jaxtyping import Array, Bool, Float, PyTree

from ..core.tree import all_finite
from .sequence import AbstractSequenceLayer, Form


class Checked(AbstractSequenceLayer):
    """A layer that refuses tokens, states and outputs that are not finite, also inside `jit`, with a run-time error.

    Outside `jit` every layer refuses tokens that are not finite. Inside, values are not known before the program
    runs, and looking at them costs time, so it is asked for.

    ```python
    >>> import equinox as eqx, jax, jax.numpy as jnp
    >>> import innerloop as il
    >>> layer = il.Checked(il.LinearSelfAttention(il.Projections.random(4, 2, 3, key=jax.random.key(0))))
    >>> outputs, state = eqx.filter_jit(layer)(jnp.ones((5, 4)))
    >>> outputs.shape
    (5, 4)

    ```

    **Arguments:**

    - `layer`: the layer.

    **Errors:** a run-time error (`equinox.EquinoxRuntimeError`) that says what is not finite.
    """

    layer: AbstractSequenceLayer

    @property
    def width(self) -> int:
        """The size of one input token."""
        return self.layer.width

    def init_state(self) -> PyTree:
        """The state before the first token."""
        return self.layer.init_state()

    def step(self, state: PyTree, x: Float[Array, "d"]) -> tuple[PyTree, Float[Array, "e"]]:
        """One token: the state after it, and its output."""
        state, output = self.layer.step(self._finite(state, "the state"), self._finite(x, "the token (axis 'd')"))
        return state, self._finite(output, "the output (axis 'e')")

    def __call__(
        self,
        xs: Float[Array, "t d"],
        state: PyTree | None = None,
        *,
        form: Form = "chunk",
        resets: Bool[Array, "t"] | None = None,
    ) -> tuple[Float[Array, "t e"], PyTree]:
        """A whole sequence, causally; see `AbstractSequenceLayer`."""
        tokens = self._finite(xs, "a token (axes 't d')")
        outputs, state = self.layer(tokens, self._finite(state, "the state"), form=form, resets=resets)
        return self._finite(outputs, "an output (axes 't e')"), state

    def _finite(self, tree: PyTree, what: str) -> PyTree:
        if not jax.tree.leaves(eqx.filter(tree, eqx.is_inexact_array)):
            return tree
        bad = ~all_finite(tree)
        return eqx.error_if(tree, bad, f"{type(self.layer).__name__}: {what} is not finite")
