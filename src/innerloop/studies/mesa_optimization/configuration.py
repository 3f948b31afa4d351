"""What of `mesa-optimization` can be chosen, and what each scale chooses."""

from dataclasses import dataclass, field

from ...core.errors import UnknownNameError, require

DEPTHS = (1, 2, 3, 6)
REGIMES = ("full", "partial", "nonlinear")
VARIANTS = (
    "predictors",
    *(f"linear-{depth}" for depth in DEPTHS),
    "fixed-system",
    "mesa",
    *(f"{kind}-{regime}" for regime in REGIMES for kind in ("softmax", "hybrid")),
    "softmax-shallow",
    "few-shot",
)


@dataclass(frozen=True)
class Systems:
    """The laws of sequences: orthogonal transitions, drawn anew for each sequence."""

    size: int = 5
    """Of an observation; of the state too, unless it is observed in part."""
    length: int = 20
    process_noise: float = 0.01
    partial_state: int = 6
    """Of the state where it is observed in part."""
    partial_size: int = 2
    """Of an observation of it."""
    network_size: int = 20
    """Hidden units of the map in nonlinear systems, whose state is kept in [-2, 2]."""

    def __post_init__(self):
        for name in ("size", "partial_state", "partial_size", "network_size"):
            flag = name.replace("_", "-")
            require(getattr(self, name) >= 1, f"--systems.{flag} must be at least 1, not {getattr(self, name)}")
        require(self.length >= 8, f"--systems.length must be at least 8, not {self.length}")
        require(self.process_noise >= 0, f"--systems.process-noise must not be negative, but is {self.process_noise:g}")


@dataclass(frozen=True)
class Training:
    """One training: AdamW (0.9, 0.999) with a clipped gradient norm, fresh sequences at every step."""

    learning_rate: float = 3e-3
    decay: bool = True
    """Whether the learning rate falls to zero along a cosine."""
    warmup: int = 0
    """Steps in which it rises."""
    steps: int = 4000
    batch_size: int = 64
    weight_decay: float = 0.0
    deviation: float = 0.05
    """Standard deviation of a weight at the start."""

    def __post_init__(self):
        for name in ("learning_rate", "deviation"):
            require(getattr(self, name) > 0, f"{name.replace('_', '-')} must be above 0, not {getattr(self, name):g}")
        for name in ("steps", "batch_size"):
            require(getattr(self, name) >= 1, f"{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        for name in ("warmup", "weight_decay"):
            value = getattr(self, name)
            require(value >= 0, f"{name.replace('_', '-')} must not be negative, but is {value:g}")


@dataclass(frozen=True)
class Network:
    """Blocks on observations as they come: pre-norm, softmax attention or mesa layers, perceptrons."""

    width: int = 20
    num_heads: int = 4
    key_size: int = 10
    position_size: int = 20
    """Of the code of positions that the first layer sees."""
    hidden_size: int = 0
    """Of the perceptrons for linear systems; 0 is attention only."""
    nonlinear_hidden_size: int = 80
    """The same for nonlinear systems."""
    softmax_depth: int = 4
    """Layers of the softmax model; the hybrid has two."""

    def __post_init__(self):
        for name in ("width", "num_heads", "key_size", "position_size", "softmax_depth"):
            flag = name.replace("_", "-")
            require(getattr(self, name) >= 1, f"--network.{flag} must be at least 1, not {getattr(self, name)}")
        for name in ("hidden_size", "nonlinear_hidden_size"):
            value = getattr(self, name)
            require(value >= 0, f"--network.{name.replace('_', '-')} must not be negative, but is {value}")


@dataclass(frozen=True)
class FewShot:
    """Regression with a model of sequences: pairs of input and label, then tokens learned for them."""

    num_pairs: int = 20
    prefix: int = 20
    """Learned tokens before the first pair."""
    length: int = 60
    """Of the sequences that the model is trained on."""
    sequences: int = 4000
    """Held-out sequences of pairs behind every loss."""

    def __post_init__(self):
        require(self.num_pairs >= 3, f"--few-shot.num-pairs must be at least 3, not {self.num_pairs}")
        for name in ("prefix", "length", "sequences"):
            require(getattr(self, name) >= 1, f"--few-shot.{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Config:
    """The study's configuration; every field is a flag."""

    systems: Systems = field(default_factory=Systems)
    network: Network = field(default_factory=Network)
    few_shot: FewShot = field(default_factory=FewShot)
    evaluation_sequences: int = 5000
    """Held-out sequences behind every final number and every probe."""
    curve_sequences: int = 500
    """Held-out sequences behind each point of a curve."""
    scaling_sizes: tuple[int, ...] = (4, 6, 10, 20, 40, 60)
    """Sizes of observations at which predictors without training are compared, with four times the length."""
    scaling_sequences: int = 64
    """Sequences behind the losses of the largest size; more behind smaller ones, whose losses vary more."""
    linear: Training = field(default_factory=Training)
    mesa: Training = field(default_factory=Training)
    observations: Training = field(default_factory=Training)
    """Of the models on observations as they come."""
    long: Training = field(default_factory=Training)
    """Of the model for few-shot regression."""
    prompts: Training = field(default_factory=Training)
    tuning_sequences: int = 2000
    """Sequences on which step sizes and ridges of comparators are chosen."""
    tuning_steps: int = 1500
    """Steps of descent on the coefficients of the preconditioned comparator."""
    variants: tuple[str, ...] = VARIANTS
    """Which trainings to run."""

    def __post_init__(self):
        require(
            self.evaluation_sequences >= 100,
            f"evaluation-sequences must be at least 100, not {self.evaluation_sequences}",
        )
        for name in ("curve_sequences", "scaling_sequences", "tuning_sequences", "tuning_steps"):
            value = getattr(self, name)
            require(value >= 1, f"{name.replace('_', '-')} must be at least 1, not {value}")
        require(len(self.scaling_sizes) >= 2, "scaling-sizes needs at least two sizes to compare")
        require(min(self.scaling_sizes) >= 1, f"scaling-sizes must be at least 1, not {min(self.scaling_sizes)}")
        require(len(self.variants) > 0, "variants is empty: name at least one")
        for name in self.variants:
            if name not in VARIANTS:
                raise UnknownNameError("variant", name, VARIANTS)


SMOKE = Config(
    scaling_sizes=(4, 20, 60),
    scaling_sequences=48,
    linear=Training(steps=3000),
    variants=("predictors", "linear-1"),
)
LAPTOP = Config(
    linear=Training(steps=3000),
    mesa=Training(steps=1200),
    observations=Training(steps=2500, batch_size=32),
    long=Training(steps=2000, batch_size=16),
    prompts=Training(learning_rate=1e-2, steps=600, batch_size=16),
    variants=tuple(name for name in VARIANTS if name != "linear-6"),
)
PAPER = Config(
    systems=Systems(size=10, length=50, partial_state=15, partial_size=5, network_size=10),
    network=Network(40, 4, 20, 40, 160, 300, 7),
    few_shot=FewShot(length=224),
    linear=Training(1e-4, False, steps=10_000, batch_size=256, weight_decay=0.1, deviation=0.0141),
    mesa=Training(1e-4, False, steps=10_000, batch_size=256, weight_decay=0.1, deviation=0.0141),
    observations=Training(7e-4, True, 1000, 30_000, 256, 0.05),
    long=Training(7e-4, True, 1000, 40_000, 256, 0.05),
    prompts=Training(1e-3, steps=5000, batch_size=256),
)
