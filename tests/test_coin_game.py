"""The coin game: against the rules as they are written, where coins appear, symmetry."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.envs import CoinGame, CoinGameState
from innerloop.envs.grids.chance import draw, two_words, unit
from innerloop.envs.grids.lights import Field, light, place, two_actions
from oracles import worlds

OPTIONS = {
    "papers": {},
    "two coins": {"num_coins": 2, "may_stay": True},
    "oblong": {"height": 2, "width": 4, "coin_reward": 3.0, "stolen_reward": -5.0},
}


def random_steps(game, num_worlds=40, num_steps=50):
    """States, actions and what followed, of random games side by side."""

    def episode(key):
        def advance(now, key):
            act_key, step_key = jax.random.split(key)
            action = jax.random.randint(act_key, (2,), 0, game.action_space.size)
            after = game.step(step_key, now.state, action)
            return after, (now, action, after)

        return jax.lax.scan(advance, game.reset(key), jax.random.split(key, num_steps))[1]

    steps = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), num_worlds))
    return jax.tree.map(lambda leaf: np.asarray(leaf).reshape(-1, *leaf.shape[2:]), steps)


def side_by_side(state):
    """What belongs to the two players side by side, as in rewards."""
    return state._replace(position=np.stack(state.position, -1), coin=np.stack(state.coin, -1))


@pytest.mark.parametrize("name", OPTIONS)
def test_the_rules_as_they_are_written(name):
    game = CoinGame(num_steps=20, **OPTIONS[name])
    size = (game.height, game.width)

    def place(cell):
        return None if cell < 0 else divmod(int(cell), game.width)

    before, actions, after = random_steps(game)
    before, after = (one._replace(state=side_by_side(one.state)) for one in (before, after))
    taken = 0
    for t in range(len(actions)):
        coins = [place(cell) for cell in before.state.coin[t]]
        places, rewards, gone = worlds.coin_game(
            [place(cell) for cell in before.state.position[t]],
            coins,
            actions[t],
            size,
            float(game.coin_reward),
            float(game.stolen_reward),
        )
        assert [place(cell) for cell in after.state.position[t]] == places
        np.testing.assert_array_equal(after.reward[t], rewards)
        now = [place(cell) for cell in after.state.coin[t]]
        if game.num_coins == 1:
            assert (now != coins) == any(gone)
            assert sum(coin is None for coin in now) == 1
            assert (now[0] is None) == ((coins[0] is None) != any(gone)), "colours alternate"
        for colour in range(2):
            if gone[colour] and game.num_coins == 2:
                assert now[colour] not in places, "no coin appears under a player"
            elif not any(gone):
                assert now[colour] == coins[colour]
        if any(gone):
            assert not {coin for coin in now if coin} & set(places) or game.num_coins == 2
        own = [after.info["own_coins"][t].sum(), after.info["other_coins"][t].sum()]
        assert (sum(own) > 0) == any(gone)
        taken += any(gone)
        planes = np.zeros((2, 4, *size))
        for agent in range(2):
            shown = (places[agent], places[1 - agent], now[agent], now[1 - agent])
            for plane, cell in zip(planes[agent], shown, strict=True):
                if cell is not None:
                    plane[cell] = 1
        np.testing.assert_array_equal(after.observation[t].reshape(planes.shape), planes)
    assert taken > 100


def within(counts, trials, probability, deviations=5.0):
    limit = deviations * np.sqrt(trials * probability * (1 - probability)) + 1e-9
    assert np.all(np.abs(np.asarray(counts) - trials * probability) <= limit), (counts, trials * probability, limit)


def test_where_everything_is_at_the_start():
    many = 20000
    for num_coins in (1, 2):
        state = jax.jit(jax.vmap(CoinGame(num_steps=5, num_coins=num_coins).reset))(
            jax.random.split(jax.random.key(0), many)
        ).state
        position, coin = side_by_side(state).position, side_by_side(state).coin
        pairs = np.bincount(9 * position[:, 0] + position[:, 1], minlength=81).reshape(9, 9)
        assert not np.any(np.diag(pairs))
        within(pairs[~np.eye(9, dtype=bool)], many, 1 / 72)
        assert not np.any(coin[:, :, None] == position[:, None, :])
        for colour in range(2):
            there = coin[:, colour] >= 0
            within(np.sum(there), many, 1 / 2 if num_coins == 1 else 1.0)
            within(np.bincount(coin[there, colour], minlength=9), np.sum(there), 1 / 9)


@pytest.mark.parametrize("num_coins", [1, 2])
@pytest.mark.parametrize("places", [(4, 8), (8, 4), (4, 4)], ids=["apart", "other way round", "together"])
def test_new_coins_are_uniform_over_the_cells_without_players(num_coins, places):
    """Player 0 takes its own coin in cell 4, the other one moves into cell 4 too, or from 8 to 7."""
    game = CoinGame(num_steps=5, num_coins=num_coins, may_stay=True)
    four, eight, coin = (jnp.asarray(cell, jnp.int32) for cell in (4, 8, -1 if num_coins == 1 else 0))
    state = CoinGameState(tuple(four if cell == 4 else eight for cell in places), (four, coin), jnp.int32(0))
    many = 14000
    keys = jax.random.split(jax.random.key(1), many)
    after = jax.jit(jax.vmap(lambda key: game.step(key, state, jnp.asarray([4, 4], jnp.int32))))(keys)
    coin = side_by_side(after.state).coin
    free = sorted(set(range(9)) - set(places))
    new = coin[:, 1] if num_coins == 1 else coin[:, 0]
    counts = np.bincount(new, minlength=9)
    within(counts[free], many, 1 / len(free))
    assert counts.sum() == counts[free].sum()
    assert np.all(coin[:, 0] == -1 if num_coins == 1 else coin[:, 1] == 0)


def test_swapping_the_players_swaps_everything():
    """Up to where new coins appear, which is random."""
    game = CoinGame(num_steps=20, num_coins=2, may_stay=True)
    before, actions, _ = random_steps(game, 20, 20)
    run = jax.jit(jax.vmap(lambda state, action: game.step(jax.random.key(0), state, action)))
    mirrored = before.state._replace(position=before.state.position[::-1], coin=before.state.coin[::-1])
    after, swapped = run(before.state, actions), run(mirrored, actions[:, ::-1])
    np.testing.assert_array_equal(after.reward, swapped.reward[:, ::-1])
    for name in ("own_coins", "other_coins"):
        np.testing.assert_array_equal(after.info[name], swapped.info[name][:, ::-1])
    places = [np.asarray(one.observation).reshape(-1, 2, 4, 9)[:, :, :2] for one in (after, swapped)]
    np.testing.assert_array_equal(places[0], places[1][:, ::-1])
    quiet = (after.info["own_coins"] + after.info["other_coins"]).sum(axis=1) == 0
    np.testing.assert_array_equal(after.observation[quiet], swapped.observation[quiet][:, ::-1])


def test_refusals():
    for options, words in (
        ({"height": 1, "width": 2}, "3 to 256 cells, not 1 x 2"),
        ({"num_coins": 3}, "num_coins is 1 or 2, not 3"),
        ({"num_steps": 0}, "at least 1, not 0"),
    ):
        with pytest.raises(ValueError, match=words):
            CoinGame(**({"num_steps": 5} | options))


def test_lights_and_actions():
    """Fields of all widths, packed into words; cells of grids beyond a word; both actions out of one sum."""
    cells = jnp.asarray([0, 30, 31, 99, -1, 100], jnp.int32)
    lit = jax.vmap(lambda cell: light(place(cell, 100), np.arange(100, dtype=np.int32)))(cells)
    np.testing.assert_array_equal(lit, np.asarray(cells)[:, None] == np.arange(100))
    widths, random = [5, 31, 1, 30, 2, 17], np.random.default_rng(0)
    values = [int(random.integers(0, 2**width)) for width in widths]
    bits = [value >> i & 1 for value, width in zip(values, widths, strict=True) for i in range(width)]
    wires = random.permutation(sum(widths)).astype(np.int32).reshape(2, -1)
    fields = [Field(jnp.asarray(value, jnp.int32), width) for value, width in zip(values, widths, strict=True)]
    np.testing.assert_array_equal(light(fields, wires), np.asarray(bits)[wires])
    assert [int(one) for one in two_actions(jnp.asarray([3, 255]))] == [3, 255]


def test_random_words():
    """Two words of any kind of key; numbers drawn one after the other are uniform together."""
    for kind in ("threefry2x32", "rbg"):
        keys = jax.random.split(jax.random.key(0, impl=kind), 4096)
        words = np.stack(jax.vmap(two_words)(keys), 1)
        assert words.shape == (4096, 2) and words.dtype == np.uint32
        bits = (words[:, :, None] >> np.arange(32, dtype=np.uint32)) & 1
        within(bits.sum(axis=0), 4096, 0.5)
        assert abs(np.corrcoef(words.T)[0, 1]) < 5 / 64
    lattice = jnp.arange(72 * 512, dtype=jnp.uint32) * jnp.uint32(2**32 // (72 * 512)) + jnp.uint32(2**12)

    def two(word):
        first, rest = draw(word, 9)
        return first, draw(rest, 8)[0]

    first, second = jax.vmap(two)(lattice)
    assert set(np.bincount(8 * np.asarray(first) + np.asarray(second))) <= {511, 512, 513}
    assert float(unit(jnp.uint32(2**32 - 1))) < 1.0 and float(unit(jnp.uint32(0))) == 0.0
