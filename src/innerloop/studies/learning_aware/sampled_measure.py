"""What `learning-aware` trains from sampled games, and records."""

from ...core.errors import UnknownNameError
from ...lab.cells import Cells
from .configuration import Config
from .sampled_configuration import VARIANTS


def measure_sampled(config: Config, cells: Cells) -> None:
    """Train one variant and record what its claims read."""
    raise UnknownNameError("variant", cells.variant, VARIANTS)
