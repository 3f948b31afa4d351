"""What of `icl-gd` can be chosen, and what each scale chooses."""

from dataclasses import dataclass, field

from ...core.errors import UnknownNameError, require

VARIANTS = (
    "one-layer",
    "shuffled-labels",
    "two-layers",
    "sine",
    "sine-gradient-descent",
    "sine-without-network",
    "interleaved",
)


@dataclass(frozen=True)
class Regression:
    """Linear regression in context: x uniform with range `input_range`, standard normal weights, no noise."""

    dim: int = 10
    num_context: int = 10
    input_range: float = 1.0

    def __post_init__(self):
        require(self.dim >= 1, f"--task.dim must be at least 1, not {self.dim}")
        require(self.num_context >= 1, f"--task.num-context must be at least 1, not {self.num_context}")
        require(self.input_range > 0, f"--task.input-range must be above 0, not {self.input_range:g}")


@dataclass(frozen=True)
class Training:
    """One training: Adam (0.9, 0.98) with a clipped gradient norm, fresh tasks at every step."""

    learning_rate: float = 5e-3
    decay: bool = True
    """Whether the learning rate falls to zero along a cosine."""
    steps: int = 5000
    batch_size: int = 512
    clip_norm: float = 10.0
    init_variance: float = 0.002
    """Variance of a weight at the start, times its fan-in."""

    def __post_init__(self):
        require(self.learning_rate > 0, f"learning-rate must be above 0, not {self.learning_rate:g}")
        require(self.steps >= 1, f"steps must be at least 1, not {self.steps}")
        require(self.batch_size >= 1, f"batch-size must be at least 1, not {self.batch_size}")
        require(self.clip_norm > 0, f"clip-norm must be above 0, not {self.clip_norm:g}")
        require(self.init_variance > 0, f"init-variance must be above 0, not {self.init_variance:g}")


@dataclass(frozen=True)
class Config:
    """The study's configuration; every field is a flag."""

    task: Regression = field(default_factory=Regression)
    evaluation_tasks: int = 10_000
    """Held-out tasks behind every final number, and behind every step-size search."""
    curve_tasks: int = 2_000
    """Held-out tasks behind each point of a curve."""
    one_layer: Training = field(default_factory=Training)
    two_layers: Training = field(default_factory=Training)
    sine: Training = field(default_factory=Training)
    interleaved: Training = field(default_factory=Training)
    variants: tuple[str, ...] = VARIANTS
    """Which trainings to run."""

    def __post_init__(self):
        require(self.evaluation_tasks >= 100, f"evaluation-tasks must be at least 100, not {self.evaluation_tasks}")
        require(self.curve_tasks >= 10, f"curve-tasks must be at least 10, not {self.curve_tasks}")
        require(len(self.variants) > 0, "variants is empty: name at least one")
        for name in self.variants:
            if name not in VARIANTS:
                raise UnknownNameError("variant", name, VARIANTS)


SMOKE = Config(
    evaluation_tasks=10_000,
    one_layer=Training(learning_rate=3e-3, steps=3000, batch_size=256, init_variance=0.11),
    variants=("one-layer", "shuffled-labels"),
)
LAPTOP = Config(
    one_layer=Training(learning_rate=5e-3, steps=5000, batch_size=512, clip_norm=0.001),
    two_layers=Training(learning_rate=3e-3, steps=5000, batch_size=512, init_variance=0.11),
    sine=Training(learning_rate=3e-3, steps=5000, batch_size=512, clip_norm=100.0, init_variance=0.3),
    interleaved=Training(learning_rate=5e-3, steps=5000, batch_size=512, init_variance=1.0),
)
PAPER = Config(
    one_layer=Training(learning_rate=1e-3, decay=False, steps=5000, batch_size=2048, clip_norm=0.001),
    two_layers=Training(
        learning_rate=1e-3, decay=False, steps=5000, batch_size=2048, clip_norm=0.001, init_variance=0.001
    ),
    sine=Training(learning_rate=1e-3, decay=False, steps=20_000, batch_size=2048, clip_norm=100.0),
    interleaved=Training(
        learning_rate=1e-3, decay=False, steps=10_000, batch_size=2048, clip_norm=10.0, init_variance=0.01
    ),
)
