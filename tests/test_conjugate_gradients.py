"""Conjugate gradients: exact after as many steps as unknowns, within the theory's bound, honest in what they report."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.solve.conjugate_gradients import conjugate_gradients

SYSTEMS, SIZE = 24, 12


def systems(condition, *, seed=0, count=SYSTEMS, size=SIZE):
    """Random symmetric matrices with eigenvalues from 1 to `condition`, and right-hand sides."""
    random = np.random.default_rng(seed)
    vectors = np.linalg.qr(random.standard_normal((count, size, size)))[0]
    values = np.exp(random.uniform(0, np.log(condition), (count, size)))
    values[:, 0], values[:, -1] = 1, condition
    matrices = np.einsum("nik,nk,njk->nij", vectors, values, vectors)
    return jnp.asarray(matrices, float), jnp.asarray(random.standard_normal((count, size)), float)


def product(matrices):
    return lambda x: jnp.einsum("nij,nj->ni", matrices, x)


def solve(matrices, right_hand_side, **options):
    return jax.jit(lambda a, b: conjugate_gradients(product(a), b, **options))(matrices, right_hand_side)


@pytest.mark.parametrize("tolerance", [None, 1e-12])
def test_exact_after_as_many_steps_as_unknowns(tolerance, x64):
    # With more unknowns or a worse condition rounding delays it, in float64 too: that is the method, not the code.
    matrices, right = systems(100.0, size=6)
    solution, info = solve(matrices, right, max_steps=6, tolerance=tolerance)
    np.testing.assert_allclose(solution, np.linalg.solve(matrices, right[..., None])[..., 0], atol=1e-8)
    assert np.all(info.iterations <= 6)


def test_residuals_are_those_of_the_solution(x64):
    matrices, right = systems(50.0)
    solution, info = solve(matrices, right, max_steps=5)
    wanted = np.linalg.norm(right - np.einsum("nij,nj->ni", matrices, solution), axis=-1)
    np.testing.assert_allclose(info.residual, wanted, rtol=1e-10)
    np.testing.assert_array_equal(info.iterations, 5)
    assert not np.any(info.converged)


@pytest.mark.parametrize("condition", [4.0, 60.0, 1000.0])
def test_no_more_steps_than_the_theory_allows(condition, x64):
    """In exact arithmetic also never more than unknowns: systems large enough that this is no help."""
    matrices, right = systems(condition, size=150, count=8)
    for tolerance in (1e-2, 1e-4, 1e-6):
        _, info = solve(matrices, right, max_steps=400, tolerance=tolerance)
        assert int(np.max(info.iterations)) <= np.ceil(0.5 * np.sqrt(condition) * np.log(2 / tolerance)) + 1
        assert np.all(info.converged)
        assert np.all(info.residual <= tolerance * np.linalg.norm(right, axis=-1) * (1 + 1e-6))


def test_a_converged_system_is_left_alone_bit_for_bit():
    easy, hard = systems(2.0, seed=1), systems(1000.0, seed=2)
    matrices, right = jnp.concatenate([easy[0], hard[0]]), jnp.concatenate([easy[1], hard[1]])
    solution, info = solve(matrices, right, max_steps=60, tolerance=1e-3)
    first = int(np.max(info.iterations[:SYSTEMS]))
    assert first < np.min(info.iterations[SYSTEMS:])
    early, _ = solve(matrices, right, max_steps=first, tolerance=1e-3)
    np.testing.assert_array_equal(solution[:SYSTEMS], early[:SYSTEMS])


def test_the_loop_ends_with_the_last_system():
    calls = []

    def operator(x):
        jax.debug.callback(lambda: calls.append(0))
        return 2 * x

    _, info = conjugate_gradients(operator, jnp.ones((3, 4)), max_steps=1000, tolerance=1e-4)
    jax.effects_barrier()
    np.testing.assert_array_equal(info.iterations, 1)
    assert len(calls) <= 3


def test_a_start_at_the_solution_takes_no_step():
    right = jnp.arange(8.0).reshape(2, 4)
    solution, info = conjugate_gradients(lambda x: 2 * x, right, start=right / 2, max_steps=9, tolerance=1e-4)
    np.testing.assert_array_equal(solution, right / 2)
    np.testing.assert_array_equal(info.iterations, 0)
    assert np.all(info.converged)


@pytest.mark.parametrize("exponent", [-110, 110])
def test_the_size_of_the_right_hand_side_does_not_matter(exponent):
    """Squares of these numbers are out of float32's range."""
    matrices, right = systems(20.0)
    plain, info = solve(matrices, right, max_steps=30, tolerance=1e-6)
    scaled, other = solve(matrices, jnp.ldexp(right, exponent), max_steps=30, tolerance=1e-6)
    np.testing.assert_array_equal(scaled, jnp.ldexp(plain, exponent))
    np.testing.assert_array_equal(other.iterations, info.iterations)


@pytest.mark.parametrize("tolerance", [None, 1e-5])
def test_nothing_to_solve(tolerance):
    matrices, _ = systems(20.0)
    solution, info = solve(matrices, jnp.zeros((SYSTEMS, SIZE)), max_steps=30, tolerance=tolerance)
    np.testing.assert_array_equal(solution, 0)
    np.testing.assert_array_equal(info.iterations, 0)
    assert np.all(info.converged)


@pytest.mark.parametrize("tolerance", [None, 1e-5])
def test_many_steps_too_many_do_no_harm(tolerance):
    """In float32: from step 30 on nothing is left but rounding."""
    matrices, right = systems(10.0)
    solution, info = solve(matrices, right, max_steps=400, tolerance=tolerance)
    wanted = np.linalg.solve(np.asarray(matrices, np.float64), np.asarray(right)[..., None])[..., 0]
    np.testing.assert_allclose(solution, wanted, atol=1e-5 if tolerance else 5e-6)
    assert np.all(info.converged)


def test_what_does_not_converge_says_so():
    matrices, right = systems(1000.0, size=40)
    few = solve(matrices, right, max_steps=3, tolerance=1e-5)[1]
    assert not np.any(few.converged)
    np.testing.assert_array_equal(few.iterations, 3)
    indefinite = matrices.at[0].set(-matrices[0]).at[1, 0, 0].set(jnp.nan)
    solution, info = solve(indefinite, right, max_steps=1000, tolerance=1e-4)
    np.testing.assert_array_equal(info.converged[:2], False)
    np.testing.assert_array_equal(info.converged[2:], True)
    assert np.all(np.isfinite(solution[0]))
    assert np.all(np.isfinite(solution[2:]))
    assert int(jnp.max(info.iterations)) < 400


def test_implicit_and_unrolled_gradients_agree(x64):
    matrices, right = systems(10.0)

    def loss(matrices, right, implicit):
        operator = product(matrices)

        def solver(_, b):
            # Unrolled, a step divides by squares of what is left: stop while these are numbers.
            return conjugate_gradients(operator, b, max_steps=25, guard=1e-9)

        if implicit:
            solution, _ = jax.lax.custom_linear_solve(operator, right, solver, symmetric=True, has_aux=True)
        else:
            solution = solver(operator, right)[0]
        return jnp.sum(jnp.sin(solution))

    by_matrix, by_right = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)(matrices, right, True)
    also_by_matrix, also_by_right = jax.jit(jax.grad(loss, argnums=(0, 1)), static_argnums=2)(matrices, right, False)
    for given, wanted in [(by_matrix, also_by_matrix), (by_right, also_by_right)]:
        # Steps know that matrices are symmetric: only the symmetric part of the derivative is the same.
        given, wanted = (x + jnp.swapaxes(x, -1, -2) if x.ndim == 3 else x for x in (given, wanted))
        assert np.linalg.norm(given - wanted) <= 1e-6 * np.linalg.norm(wanted)


def test_vmap_is_one_more_axis():
    matrices, right = systems(30.0)
    halves = (matrices.reshape(2, -1, SIZE, SIZE), right.reshape(2, -1, SIZE))
    together, info = solve(matrices, right, max_steps=40, tolerance=1e-5)
    apart, other = jax.vmap(lambda a, b: solve(a, b, max_steps=40, tolerance=1e-5))(*halves)
    np.testing.assert_allclose(apart.reshape(together.shape), together, atol=1e-6)
    np.testing.assert_array_equal(other.iterations.reshape(-1), info.iterations)


def test_refusals():
    with pytest.raises(ValueError, match="max_steps must be at least 0"):
        conjugate_gradients(lambda x: x, jnp.ones(3), max_steps=-1)
    with pytest.raises(ValueError, match="tolerance must be at least 0"):
        conjugate_gradients(lambda x: x, jnp.ones(3), max_steps=1, tolerance=-1.0)
