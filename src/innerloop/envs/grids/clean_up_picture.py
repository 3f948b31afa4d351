"""CleanUp in pictures: one step as an array of pixels, an episode as an animated GIF."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import ArrayLike, UInt8

from ...core.errors import require
from .clean_up import CleanUp

_GROUND = (243, 240, 232)
_ORCHARD = (200, 222, 178)
_RIVER = (164, 205, 232)
_LINE = (255, 254, 251)
_APPLE = (196, 52, 45)
_STALK = (74, 96, 42)
_DIRT = (110, 84, 52)
_AGENTS = ((15, 108, 177), (201, 81, 12))
_EYE = (255, 254, 251)
_ICE = (70, 178, 212)
_RAY = (232, 186, 20)


def draw_clean_up(
    world: CleanUp, observation: ArrayLike, *, zapped: ArrayLike | None = None, pixels: int = 32
) -> UInt8[np.ndarray, "rows columns 3"]:
    """A picture of the world at one step.

    The orchard is green and the river blue; apples are red, dirt is brown. Agent 0 is blue and agent 1 orange; a
    frozen one has an icy frame. Agents that share a cell share its halves.

    ```python
    >>> import jax
    >>> from innerloop.envs import CleanUp, draw_clean_up
    >>> world = CleanUp()
    >>> draw_clean_up(world, world.reset(jax.random.key(0)).observation, pixels=16).shape
    (80, 64, 3)

    ```

    **Arguments:**

    - `world`: for the size of the grid.
    - `observation`: of both agents at one step, `[2, ...]`: it shows all that there is.
    - `zapped`: `info["zapped"]` of that step, to draw a ray from each who hit.
    - `pixels`: the side of a cell, at least 8.

    **Errors:** `ValueError` for observations of another shape and cells too small to see anything.
    """
    shape = (2, *world.observation_space.shape)
    seen = np.asarray(observation)
    require(seen.shape == shape, f"an observation of both agents has shape {shape}, not {seen.shape}")
    require(pixels >= 8, f"a cell has at least 8 pixels, not {pixels}")
    planes = seen[0, :-2].reshape(5, world.height, world.width) > 0.5
    picture = np.empty((world.height * pixels, world.width * pixels, 3), np.uint8)
    for row in range(world.height):
        for column in range(world.width):
            ground = _ORCHARD if column == 0 else _RIVER if column == world.width - 1 else _GROUND
            cell = _cell(picture, row, column, pixels)
            cell[:] = _LINE
            cell[:-1, :-1] = ground
            if planes[2, row, column]:
                _disc(cell, _APPLE, 0.5, 0.56, 0.27)
                _box(cell, _STALK, 0.47, 0.18, 0.54, 0.34)
            if planes[3, row, column]:
                for x, y, radius in ((0.32, 0.4, 0.17), (0.62, 0.34, 0.14), (0.52, 0.68, 0.19)):
                    _disc(cell, _DIRT, x, y, radius)
    places = [tuple(int(i) for i in np.argwhere(planes[agent])[0]) for agent in range(2)]
    if zapped is not None:
        for agent in np.flatnonzero(np.asarray(zapped)):
            _ray(picture, places[agent], places[1 - agent], pixels)
    for agent, (row, column) in enumerate(places):
        middle = 0.5 if places[0] != places[1] else (0.3, 0.7)[agent]
        cell = _cell(picture, row, column, pixels)
        if seen[0, -2 + agent] > 0.5:
            _disc(cell, _ICE, middle, 0.5, 0.4)
        _disc(cell, _AGENTS[agent], middle, 0.5, 0.3)
        for x in (middle - 0.1, middle + 0.1):
            _disc(cell, _EYE, x, 0.43, 0.06)
    return picture


def save_png(path: str | Path, picture: UInt8[np.ndarray, "rows columns 3"]) -> Path:
    """Write one picture.

    **Errors:** `FileExistsError`: nothing is overwritten.
    """
    target = _new_file(path, ".png")
    _image(picture).save(target)
    return target


def save_gif(
    path: str | Path, pictures: Iterable[UInt8[np.ndarray, "rows columns 3"]], *, seconds_per_step: float = 0.25
) -> Path:
    """Write pictures of one size as an animation that repeats.

    **Errors:** `FileExistsError`: nothing is overwritten. `ValueError` for no pictures.
    """
    target = _new_file(path, ".gif")
    frames = [_image(picture) for picture in pictures]
    require(len(frames) > 0, "an animation has at least one picture")
    frames[0].save(target, save_all=True, append_images=frames[1:], duration=round(1000 * seconds_per_step), loop=0)
    return target


def _new_file(path: str | Path, ending: str) -> Path:
    target = Path(path)
    require(target.suffix == ending, f"the name of this file ends in {ending}: {str(path)!r} does not")
    if target.exists():
        raise FileExistsError(f"{target} is there already; choose another name, or remove it first")
    return target


def _image(picture: np.ndarray) -> Any:
    from PIL import Image  # comes with matplotlib, and is needed here only

    return Image.fromarray(picture)


def _cell(picture: np.ndarray, row: int, column: int, pixels: int) -> np.ndarray:
    return picture[row * pixels : (row + 1) * pixels, column * pixels : (column + 1) * pixels]


def _disc(cell: np.ndarray, colour: tuple[int, int, int], x: float, y: float, radius: float) -> None:
    """A disc; places and sizes are shares of the cell."""
    side = len(cell)
    rows, columns = (np.indices((side, side)) + 0.5) / side
    cell[(columns - x) ** 2 + (rows - y) ** 2 <= radius**2] = colour


def _box(cell: np.ndarray, colour: tuple[int, int, int], left: float, top: float, right: float, bottom: float) -> None:
    a, b, c, d = (round(len(cell) * share) for share in (left, top, right, bottom))
    cell[b : max(d, b + 1), a : max(c, a + 1)] = colour


def _ray(picture: np.ndarray, start: tuple[int, ...], end: tuple[int, ...], pixels: int) -> None:
    for share in np.linspace(0.0, 1.0, 8 * pixels):
        row, column = ((1 - share) * (a + 0.5) + share * (b + 0.5) for a, b in zip(start, end, strict=True))
        y, x = int(row * pixels), int(column * pixels)
        half = max(pixels // 24, 1)
        picture[max(y - half, 0) : y + half, max(x - half, 0) : x + half] = _RAY
