"""One step of an Optax optimiser, for every training step there is."""

import equinox as eqx
import jax
import optax
from jaxtyping import PyTree

from .tree import trainable


def apply_gradients(
    model: PyTree, optimiser: optax.GradientTransformation, optimiser_state: PyTree, gradients: PyTree
) -> tuple[PyTree, PyTree]:
    """The model and the optimiser's state after one step along `gradients`.

    `gradients` have the structure of the model's floating-point arrays, `None` elsewhere.
    """
    # Optax mixes Python floats with integer counters, which strict promotion (if the user asks for it) refuses.
    with jax.numpy_dtype_promotion("standard"):
        updates, optimiser_state = optimiser.update(gradients, optimiser_state, trainable(model))
    return eqx.apply_updates(model, updates), optimiser_state
