"""What `learning-aware` trains by exact gradients, and records."""

from ...lab.cells import Cells
from .configuration import Config


def measure_exact(config: Config, cells: Cells) -> None:
    """Train one variant and record what its claims read."""
    raise NotImplementedError(cells.variant)
