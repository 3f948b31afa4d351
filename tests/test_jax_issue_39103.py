"""jax and jaxlib 0.10.2 are silently wrong on the CPU (jax issue 39103): no such version may be installed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest


@pytest.mark.parametrize("rows", [32_768, 32_769, 40_000])
def test_vmapped_matrix_vector_product_and_reduction(rows):
    numbers = np.random.default_rng(0)
    matrices = numbers.standard_normal((rows, 3, 3)).astype(np.float32)
    vectors = numbers.standard_normal((rows, 3)).astype(np.float32)
    batched = jax.jit(lambda m, v: jnp.sum(jax.vmap(jnp.matmul)(m, v) ** 2, axis=-1))
    wanted = np.sum(np.einsum("bij,bj->bi", matrices, vectors, dtype=np.float64) ** 2, axis=-1)
    np.testing.assert_allclose(batched(matrices, vectors), wanted, rtol=1e-4, atol=1e-5)
