"""What of `rnn-attention` can be chosen, and what each scale chooses."""

from dataclasses import dataclass, field

from ...core.errors import UnknownNameError, require

PARTS = ("construction", "neurons", "gates", "architectures", "regression", "regression-architectures")
ARCHITECTURES = ("linear-attention", "softmax-attention", "lstm", "gru", "stacked-lru")


@dataclass(frozen=True)
class LearningRates:
    """The highest learning rate of each architecture."""

    gated: float = 5e-3
    lstm: float = 5e-3
    gru: float = 5e-3
    stacked_lru: float = 5e-3
    linear_attention: float = 5e-3
    softmax_attention: float = 5e-3

    def __post_init__(self):
        for name, value in vars(self).items():
            require(value > 0, f"the learning rate {name} must be above 0, not {value:g}")

    def of(self, architecture: str) -> float:
        """The learning rate of an architecture, by its name."""
        return getattr(self, architecture.replace("-", "_"))


@dataclass(frozen=True)
class Imitation:
    """Imitating linear attention: normal tokens, a random teacher per seed, mean squared error at all positions."""

    dim: int = 4
    length: int = 32
    steps: int = 6000
    refit_steps: int = 1500
    """Further steps with the multipliers rounded to zero and one, and fixed."""
    batch_size: int = 32
    num_products: int = 64
    """The number of products that a gated network reads out."""
    init_variance: float = 0.1
    """Variance of a gated network's weight at the start, times its fan-in: its outputs are of sixth order in it."""
    rates: LearningRates = field(default_factory=LearningRates)

    def __post_init__(self):
        for name in ("dim", "length", "steps", "refit_steps", "batch_size", "num_products"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        require(self.init_variance > 0, f"init-variance must be above 0, not {self.init_variance:g}")

    @property
    def compressed(self) -> int:
        """The neurons of the compressed construction."""
        return self.dim * (self.dim + 3) // 2

    @property
    def generic(self) -> int:
        """The neurons of the construction for attention as it stands."""
        return self.dim**2 + self.dim

    @property
    def too_few(self) -> int:
        """The neurons of the compressed construction that remember: none are left for queries."""
        return self.compressed - self.dim

    @property
    def sizes(self) -> tuple[int, ...]:
        """The numbers of neurons to train: 6, 10, 14, 20, 28 and 40 for four dimensions."""
        fewest = self.dim * (self.dim - 1) // 2
        sizes = (fewest, self.too_few, self.compressed, self.generic, 2 * self.compressed, 2 * self.generic)
        return tuple(sorted({size for size in sizes if size > 0}))


@dataclass(frozen=True)
class Regression:
    """Linear regression in context: inputs uniform with variance one, standard normal weights, no noise."""

    dim: int = 3
    outputs: int = 3
    num_context: int = 12
    steps: int = 6000
    batch_size: int = 64
    num_products: int = 64
    init_variance: float = 1.0
    rates: LearningRates = field(default_factory=LearningRates)

    def __post_init__(self):
        for name in ("dim", "outputs", "num_context", "steps", "batch_size", "num_products"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        require(self.init_variance > 0, f"init-variance must be above 0, not {self.init_variance:g}")

    @property
    def special(self) -> int:
        """The neurons that one step of gradient descent needs."""
        return self.outputs * self.dim + self.dim

    @property
    def generic(self) -> int:
        """The neurons of the compressed construction for attention with generic weights on these tokens."""
        width = self.dim + self.outputs
        return width * (width + 3) // 2


@dataclass(frozen=True)
class Config:
    """The study's configuration; every field is a flag."""

    imitation: Imitation = field(default_factory=Imitation)
    regression: Regression = field(default_factory=Regression)
    hidden_size: int = 40
    """The hidden size of all architectures that are compared with the largest gated network."""
    exact_dims: tuple[int, ...] = (2, 3, 4, 5, 6, 7, 8)
    """The dimensions in which the constructions are checked."""
    warmup: float = 0.05
    """The share of the steps in which the learning rate rises; then it falls along a cosine."""
    clip_norm: float = 1.0
    evaluation_sequences: int = 2000
    """Held-out sequences behind every final number."""
    curve_sequences: int = 200
    """Held-out sequences behind each point of a curve."""
    architectures: tuple[str, ...] = ARCHITECTURES
    """What is compared with the gated network when imitating attention ..."""
    regression_architectures: tuple[str, ...] = ARCHITECTURES[:-1]
    """... and in regression."""
    parts: tuple[str, ...] = PARTS
    """Which parts of the study to run."""

    def __post_init__(self):
        for name in ("hidden_size", "evaluation_sequences", "curve_sequences"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        require(0 <= self.warmup < 1, f"warmup is a share of the steps in [0, 1), not {self.warmup:g}")
        require(self.clip_norm > 0, f"clip-norm must be above 0, not {self.clip_norm:g}")
        require(all(dim >= 1 for dim in self.exact_dims), f"exact-dims must be at least 1, not {self.exact_dims}")
        require(len(self.parts) > 0, "parts is empty: name at least one")
        for name in self.parts:
            if name not in PARTS:
                raise UnknownNameError("part", name, PARTS)
        for name in (*self.architectures, *self.regression_architectures):
            if name not in ARCHITECTURES:
                raise UnknownNameError("architecture", name, ARCHITECTURES)


def variants(config: Config) -> tuple[str, ...]:
    """The cells of a configuration: the parts it names, in the order of `PARTS`."""
    regression = config.regression
    by_part = {
        "construction": ("construction",),
        "neurons": tuple(f"neurons-{size}" for size in config.imitation.sizes),
        "gates": ("no-input-gate", "no-output-gate"),
        "architectures": config.architectures,
        "regression": (f"regression-{regression.special}", "regression-shuffled"),
        "regression-architectures": (
            f"regression-{regression.generic}",
            *(f"regression-{name}" for name in config.regression_architectures),
        ),
    }
    return tuple(name for part in PARTS if part in config.parts for name in by_part[part])


# Chosen on pilot seeds from 100 on, two or three of them. Imitation: for gated networks among six settings, rates
# {5e-3, 1e-2} and variances {1, 0.3, 0.1}; for LSTM and GRU among five, rates {2e-3, 5e-3, 1e-2, 2e-2, 4e-2} at half
# the steps. Regression: for gated networks variances {0.1, 0.2, 0.3, 0.5, 1}; below 1 some seeds lose an output.
IMITATION_RATES = LearningRates(
    gated=1e-2, lstm=4e-2, gru=4e-2, stacked_lru=1e-2, linear_attention=1e-2, softmax_attention=1e-2
)
REGRESSION_RATES = LearningRates(gated=3e-3, lstm=1e-2, gru=1e-2)

SMOKE = Config(
    imitation=Imitation(rates=IMITATION_RATES),
    regression=Regression(steps=4000, rates=REGRESSION_RATES),
    parts=("construction", "regression"),
)
# Without what takes longest: the two LRU blocks, and the GRU in regression.
LAPTOP = Config(
    imitation=Imitation(rates=IMITATION_RATES),
    regression=Regression(rates=REGRESSION_RATES),
    architectures=("linear-attention", "softmax-attention", "lstm", "gru"),
    regression_architectures=("linear-attention", "softmax-attention", "lstm"),
)
PAPER = Config(
    imitation=Imitation(
        dim=6, steps=50_000, refit_steps=10_000, batch_size=128, num_products=128, rates=IMITATION_RATES
    ),
    regression=Regression(steps=50_000, batch_size=256, rates=REGRESSION_RATES),
    hidden_size=84,
    evaluation_sequences=10_000,
)
