"""What `learning-aware` trains from sampled games, and records."""

from ....lab.cells import Cells
from ..configuration import Config
from .balance import measure_balance
from .clean_up import measure_clean_up
from .configuration import CLEAN_UP, POOLS
from .pools import measure_pool
from .shaping import measure_shaping


def measure_sampled(config: Config, cells: Cells) -> None:
    """Train one variant and record what its claims read."""
    if cells.variant == "balance":
        measure_balance(config, cells)
    elif cells.variant in POOLS:
        measure_pool(config, cells)
    elif cells.variant in CLEAN_UP:
        measure_clean_up(config, cells)
    else:
        measure_shaping(config, cells)
