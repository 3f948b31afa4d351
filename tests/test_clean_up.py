"""CleanUp-lite: against the rules as they are written, the order of events, chances, symmetry, pictures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from innerloop.core.errors import UnknownNameError
from innerloop.envs import CleanUp, CleanUpState, draw_clean_up, save_gif, save_png
from innerloop.envs.grids.chance import one_bit, two_words, unit
from innerloop.envs.grids.clean_up import DOWN, LEFT, NOTHING, RIGHT, UP, ZAP
from oracles import worlds

WORLD = CleanUp()


def state(places=((0, 1), (4, 2)), *, frozen=(0, 0), dirt=0, apple=0, world=WORLD):
    position = tuple(jnp.asarray(row * world.width + column, jnp.int32) for row, column in places)
    bits = (jnp.asarray(value, jnp.int32) for value in (dirt, apple, 0))
    return CleanUpState(position, tuple(jnp.asarray(steps, jnp.int32) for steps in frozen), *bits)


@jax.jit
def step(world, key, state, first, second):
    return world.step(key, state, jnp.stack([first, second]))


def do(state, *actions, key=0, world=WORLD):
    return step(world, jax.random.key(key), state, *(jnp.asarray(a, jnp.int32) for a in actions))


def places(state, world=WORLD):
    return [divmod(int(cell), world.width) for cell in state.position]


def sure(**changes):
    """A world in which nothing falls and every zap hits, unless something else is said."""
    return CleanUp(**({"dirt_probability": 0.0, "hit_probability": 1.0} | changes))


def pairs(tree):
    """States with what belongs to the two agents side by side, as in rewards."""
    return tree._replace(position=np.stack(tree.position, -1), frozen=np.stack(tree.frozen, -1))


def random_episodes(world, num_worlds, num_steps, policy=None):
    def episode(key):
        def advance(now, key):
            act_key, step_key = jax.random.split(key)
            action = jax.random.randint(act_key, (2,), 0, 6)
            action = action if policy is None else policy(now, action)
            after = world.step(step_key, now.state, action)
            return after, (now, step_key, action, after)

        start, rest = jax.random.split(key)
        return jax.lax.scan(advance, world.reset(start), jax.random.split(rest, num_steps))[1]

    return jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(0), num_worlds))


@pytest.fixture(scope="module")
def played():
    """Sixty random worlds of eighty steps each."""
    return random_episodes(WORLD, 60, 80)


# ---- the rules ----


def columns(bits, column, world):
    grid = np.zeros((world.height, world.width), bool)
    grid[:, column] = [(int(bits) >> row) & 1 for row in range(world.height)]
    return grid


@pytest.mark.parametrize(
    "options", [{}, {"height": 3, "width": 2, "distance": "manhattan", "dirt_probability": 0.7}], ids=["paper", "other"]
)
def test_the_rules_as_they_are_written(options, played):
    world = CleanUp(**options)
    oracle = worlds.CleanUp(
        world.height, world.width, float(world.dirt_probability), 3.0, float(world.hit_probability), world.distance
    )
    before, keys, actions, after = jax.tree.map(
        lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), played if not options else random_episodes(world, 30, 40)
    )
    words = jax.vmap(two_words)(keys)
    chances = np.stack([np.asarray(unit(word), np.float64) for word in words], 1)
    before, after, actions = jax.tree.map(np.asarray, (before, after, actions))
    before, after = (one._replace(state=pairs(one.state)) for one in (before, after))
    seen = {"rewards": 0, "cleaned": 0, "hits": 0}
    for t in range(len(chances)):
        now = [
            [divmod(int(cell), world.width) for cell in before.state.position[t]],
            before.state.frozen[t],
            columns(before.state.dirt[t], world.width - 1, world),
            columns(before.state.apple[t], 0, world),
        ]
        *then, rewards, cleaned, hits = oracle.step(*now, chances[t], actions[t])
        assert then[0] == [divmod(int(cell), world.width) for cell in after.state.position[t]]
        np.testing.assert_array_equal(after.state.frozen[t], then[1])
        np.testing.assert_array_equal(columns(after.state.dirt[t], world.width - 1, world), then[2])
        np.testing.assert_array_equal(columns(after.state.apple[t], 0, world), then[3])
        np.testing.assert_array_equal(after.reward[t], rewards)
        np.testing.assert_array_equal(after.observation[t], oracle.observe(*then))
        info = {name: value[t] for name, value in after.info.items()}
        np.testing.assert_array_equal(info["collected"], rewards)
        np.testing.assert_array_equal(info["cleaned"], cleaned)
        np.testing.assert_array_equal(info["zapped"], hits)
        assert (info["dirt"], info["apples"]) == (then[2].sum(), then[3].sum())
        seen = {name: seen[name] + sum(each) for name, each in zip(seen, (rewards, cleaned, hits), strict=True)}
    assert min(seen.values()) > 10, seen


def test_an_episode_begins_with_three_patches_of_dirt_and_ends_in_time():
    keys = jax.random.split(jax.random.key(1), 4000)
    start = jax.jit(jax.vmap(WORLD.reset))(keys)
    assert set(np.asarray(start.info["dirt"])) == {3} and set(np.asarray(start.info["apples"])) == {0}
    assert not np.any(pairs(start.state).frozen) and not np.any(start.observation[:, :, -2:])
    ways, counts = np.unique(np.asarray(start.state.dirt), return_counts=True)
    assert len(ways) == 10
    within(counts, 4000, 1 / 10)
    cells = pairs(start.state).position
    for agent in range(2):
        within(np.bincount(cells[:, agent], minlength=20), 4000, 1 / 20)
    within(np.sum(cells[:, 0] == cells[:, 1]), 4000, 1 / 20)
    last = state()._replace(time=jnp.asarray(62, jnp.int32))
    assert not do(last, NOTHING, NOTHING).terminated
    assert do(do(last, NOTHING, NOTHING).state, NOTHING, NOTHING).terminated


def within(counts, trials, probability, deviations=5.0):
    """Counts of independent events, within so many standard deviations."""
    limit = deviations * np.sqrt(trials * probability * (1 - probability)) + 1e-9
    assert np.all(np.abs(np.asarray(counts) - trials * probability) <= limit), (counts, trials * probability, limit)


def test_chances():
    many = 20000
    keys = jax.random.split(jax.random.key(2), many)

    def after(world, begin, *actions):
        return jax.jit(jax.vmap(lambda key: world.step(key, begin, jnp.asarray(actions))))(keys)

    # Two clean cells (rows 1 and 3), three dirty ones: dirt on each with 0.35 / 2, and no apples.
    begin = state(((2, 1), (2, 2)), dirt=0b10101)
    dirt = np.asarray(after(WORLD, begin, ZAP, ZAP).state.dirt)
    for new in (0b10111, 0b11101):
        within(np.sum(dirt == new), many, 0.35 / 2)
    within(np.sum(dirt == 0b10101), many, 0.65)
    # One dirty cell, nothing falls: an apple on each of four empty cells with (1 - 1/3) / 4.
    begin = state(((2, 1), (2, 2)), dirt=0b00100, apple=0b01000)
    ended = after(CleanUp(dirt_probability=0.0), begin, ZAP, ZAP)
    apple = np.asarray(ended.state.apple)
    for new in (0b01001, 0b01010, 0b01100, 0b11000):
        within(np.sum(apple == new), many, 2 / 3 / 4)
    # Hits are independent of each other, and of what fell and grew.
    begin = state(((2, 1), (2, 2)), dirt=0b00001)
    ended = after(WORLD, begin, ZAP, ZAP)
    hits, fell = np.asarray(ended.info["zapped"]), np.asarray(ended.info["dirt"] > 1)
    for outcome, probability in (((1, 1), 0.81), ((1, 0), 0.09), ((0, 1), 0.09), ((0, 0), 0.01)):
        within(np.sum(np.all(hits == outcome, axis=1)), many, probability)
        within(np.sum(np.all(hits == outcome, axis=1) & fell), many, probability * 0.35)


def test_one_bit_covers_the_unit_interval():
    """Every chance belongs to the piece of one bit, or to none; what is left of it is uniform."""
    chances = (jnp.arange(4800, dtype=jnp.float32) + 0.5) / 4800
    for bits, probability in ((0b10110, 0.25), (0b1, 1.0), (0b11111, 0.0), (0b0, 0.5), (0b11, 1.0)):
        chosen, rest = jax.vmap(lambda c, b=bits, p=probability: one_bit(jnp.asarray(b), 5, jnp.asarray(p), c))(chances)
        chosen, rest = np.asarray(chosen), np.asarray(rest)
        set_bits = [1 << i for i in range(5) if bits >> i & 1]
        for bit in set_bits:
            assert abs(np.sum(chosen == bit) - 4800 * probability / len(set_bits)) <= 1
        assert set(np.unique(chosen)) <= {0, *set_bits}
        assert np.all((rest >= 0) & (rest < 1)) and abs(np.mean(rest) - 0.5) < 0.01


# ---- what must always hold ----


def test_without_cleaning_the_river_gets_dirtier_and_no_apple_grows():
    """Three dirty cells at the start: no apple may grow until somebody cleans."""
    world = CleanUp(width=6)

    def away(action):
        return jnp.where(action == RIGHT, LEFT, jnp.where(action == ZAP, NOTHING, action))

    def far_from_the_river(key):
        start = world.reset(key)
        moved = start.state._replace(position=(jnp.asarray(0, jnp.int32), jnp.asarray(13, jnp.int32)))
        return start._replace(state=moved)

    def episode(key):
        def advance(now, key):
            act_key, step_key = jax.random.split(key)
            after = world.step(step_key, now.state, away(jax.random.randint(act_key, (2,), 0, 6)))
            return after, after.info

        return jax.lax.scan(advance, far_from_the_river(key), jax.random.split(key, 64))[1]

    info = jax.jit(jax.vmap(episode))(jax.random.split(jax.random.key(3), 50))
    assert np.all(np.diff(np.asarray(info["dirt"]), axis=1) >= 0)
    assert not np.any(info["apples"]) and not np.any(info["cleaned"]) and not np.any(info["collected"])
    assert np.all(np.asarray(info["dirt"])[:, -1] == 5)  # fails with a probability of 1e-7


def test_frozen_agents_do_nothing_and_what_lies_there_fits(played):
    before, _, actions, after = played
    then, now = pairs(before.state), pairs(after.state)
    frozen = then.frozen > 0
    assert 0.02 < frozen.mean() < 0.9
    for name in ("collected", "cleaned", "zapped"):
        assert not np.any(np.asarray(after.info[name])[frozen]), name
    assert np.array_equal(then.position[frozen], now.position[frozen])
    assert not np.any(np.asarray(after.reward)[frozen])
    assert not np.any(np.asarray(after.info["zapped"])[frozen[:, :, ::-1]]), "a frozen agent was hit again"
    for bits in (after.state.dirt, after.state.apple):
        assert np.all((np.asarray(bits) >= 0) & (np.asarray(bits) < 2**WORLD.height))
    assert np.all(np.asarray(actions)[np.asarray(after.info["zapped"]) == 1] == ZAP)


@pytest.mark.parametrize("distance", ["chebyshev", "manhattan"])
def test_zaps_reach_two_cells(distance):
    world = sure(height=4, distance=distance)
    cells = np.asarray([(row, column) for row in range(4) for column in range(4)])
    both = np.asarray([(a, b) for a in range(16) for b in range(16)], np.int32)
    begin = state(world=world)
    zap = jax.jit(jax.vmap(lambda at: world.step(jax.random.key(0), begin._replace(position=at), jnp.asarray([4, 5]))))
    apart = np.abs(cells[both[:, 0]] - cells[both[:, 1]])
    far = apart.max(axis=1) if distance == "chebyshev" else apart.sum(axis=1)
    hits = np.asarray(zap((jnp.asarray(both[:, 0]), jnp.asarray(both[:, 1]))).info["zapped"])
    np.testing.assert_array_equal(hits[:, 0], far <= 2)
    assert not hits[:, 1].any()


# ---- the order of events ----


def test_dirt_falls_before_apples_grow():
    """Two dirty cells and a third that falls now: nothing grows."""
    world = sure(dirt_probability=1.0)
    assert not any(do(state(dirt=0b11), NOTHING, NOTHING, key=key, world=world).info["apples"] for key in range(20))


def test_an_apple_that_grows_under_an_agent_is_collected_at_once():
    world = sure(height=1, initial_dirt=0)
    after = do(state(((0, 0), (0, 2)), world=world), NOTHING, NOTHING, world=world)
    assert after.reward.tolist() == [1.0, 0.0] and after.info["apples"] == 0


def test_dirt_that_falls_on_an_agent_is_cleaned_at_once_but_counts_for_this_step():
    world = sure(height=1, initial_dirt=0, dirt_probability=1.0, dirt_limit=1.0)
    after = do(state(((0, 0), (0, 3)), world=world), NOTHING, NOTHING, world=world)
    assert after.info["cleaned"].tolist() == [0, 1] and after.info["dirt"] == 0
    assert after.reward.tolist() == [0.0, 0.0] and after.info["apples"] == 0


def test_a_zap_comes_after_collecting_and_before_moving():
    world = sure()
    begin = state(((1, 0), (1, 2)), dirt=0b11111, apple=0b00010)
    after = do(begin, RIGHT, ZAP, world=world)
    assert after.reward.tolist() == [1.0, 0.0], "who is hit has collected before"
    assert places(after.state)[0] == (1, 0), "who is hit does not move any more"
    # Range is measured before the moves: from three cells away, a step nearer is too late.
    after = do(state(((1, 0), (1, 3)), dirt=0b11111), ZAP, LEFT, world=world)
    assert after.info["zapped"].tolist() == [0, 0] and places(after.state)[1] == (1, 2)


def test_a_hit_freezes_for_the_next_five_steps():
    world = sure()
    now = do(state(((1, 1), (1, 2)), dirt=0b11111), ZAP, RIGHT, world=world)
    assert now.observation[:, -2:].tolist() == [[0.0, 1.0], [1.0, 0.0]]
    moved = []
    for _ in range(7):
        now = do(now.state, NOTHING, LEFT, world=world)
        moved.append(places(now.state)[1][1])
    assert moved == [2, 2, 2, 2, 2, 1, 0]


def test_nobody_who_is_frozen_is_hit_again_and_two_can_freeze_each_other():
    world = sure()
    after = do(state(((1, 1), (1, 2)), frozen=(0, 3)), ZAP, ZAP, world=world)
    assert after.info["zapped"].tolist() == [0, 0] and [int(steps) for steps in after.state.frozen] == [0, 2]
    after = do(state(((1, 1), (1, 2))), ZAP, ZAP, world=world)
    assert after.info["zapped"].tolist() == [1, 1] and [int(steps) for steps in after.state.frozen] == [5, 5]


def test_two_in_one_cell_both_collect_and_both_clean():
    world = sure()
    after = do(state(((1, 0), (1, 0)), dirt=0b11111, apple=0b00010), NOTHING, NOTHING, world=world)
    assert after.reward.tolist() == [1.0, 1.0] and after.info["apples"] == 0
    after = do(state(((1, 3), (1, 3)), dirt=0b00010), NOTHING, NOTHING, world=world)
    assert after.info["cleaned"].tolist() == [1, 1] and after.info["dirt"] == 0


def test_walls_block_and_actions_move_as_they_say():
    world = sure()
    for action, corner, moved in (
        (RIGHT, (0, 3), (2, 2)),
        (LEFT, (0, 0), (2, 0)),
        (UP, (0, 0), (1, 1)),
        (DOWN, (4, 0), (3, 1)),
    ):
        after = do(state((corner, (2, 1)), dirt=0b11111), action, action, world=world)
        assert places(after.state) == [corner, moved]


def test_swapping_the_players_swaps_everything(played):
    """With zaps that always hit nothing depends on who is who."""
    before, keys, actions, _ = jax.tree.map(lambda leaf: leaf[:, 10], played)
    world = sure(dirt_probability=0.35)
    run = jax.jit(jax.vmap(world.step))
    mirrored = before.state._replace(position=before.state.position[::-1], frozen=before.state.frozen[::-1])
    after, swapped = run(keys, before.state, actions), run(keys, mirrored, actions[:, ::-1])
    for name in ("collected", "cleaned", "zapped"):
        np.testing.assert_array_equal(after.info[name], swapped.info[name][:, ::-1])
    np.testing.assert_array_equal(after.observation, swapped.observation[:, ::-1])
    np.testing.assert_array_equal(after.reward, swapped.reward[:, ::-1])
    np.testing.assert_array_equal(after.state.dirt, swapped.state.dirt)


# ---- refusals and pictures ----


def test_refusals():
    with pytest.raises(ValueError, match="at least two columns"):
        CleanUp(width=1)
    with pytest.raises(ValueError, match="6 dirty ones"):
        CleanUp(initial_dirt=6)
    with pytest.raises(ValueError, match="155117520 ways"):
        CleanUp(height=30, initial_dirt=15)
    with pytest.raises(ValueError, match="num_steps"):
        CleanUp(num_steps=0)
    with pytest.raises(UnknownNameError, match="did you mean 'manhattan'"):
        CleanUp(distance="manhatten")


def test_pictures(tmp_path):
    begin = state(((1, 1), (3, 3)), frozen=(0, 2), dirt=0b00011, apple=0b00100)
    observation = WORLD._observe(begin)
    picture = draw_clean_up(WORLD, observation, pixels=16)
    assert picture.shape == (80, 64, 3) and picture.dtype == np.uint8
    grid = [(row, column) for row in range(5) for column in range(4)]
    cells = {(i, j): picture[16 * i : 16 * i + 16, 16 * j : 16 * j + 16] for i, j in grid}
    plain = {name: len(np.unique(cell.reshape(-1, 3), axis=0)) for name, cell in cells.items()}
    something = {(0, 3), (1, 3), (2, 0), (1, 1), (3, 3)}
    assert all((count > 2) == (name in something) for name, count in plain.items()), plain
    zapped = draw_clean_up(WORLD, observation, zapped=np.asarray([1, 0]), pixels=16)
    assert np.any(zapped != picture)

    written = save_png(tmp_path / "one.png", picture)
    film = save_gif(tmp_path / "film.gif", [picture, zapped, picture])
    from PIL import Image

    with Image.open(written) as image:
        np.testing.assert_array_equal(np.asarray(image), picture)
    with Image.open(film) as image:
        assert image.n_frames == 3 and image.size == (64, 80)
    for write, name in ((save_png, "one.png"), (lambda path, one: save_gif(path, [one]), "film.gif")):
        with pytest.raises(FileExistsError, match="choose another name"):
            write(tmp_path / name, picture)
    with pytest.raises(ValueError, match=r"ends in \.png"):
        save_png(tmp_path / "one.jpg", picture)
    with pytest.raises(ValueError, match="shape"):
        draw_clean_up(WORLD, observation[0])
