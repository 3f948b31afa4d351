"""What of `state-soup` can be chosen, and what each scale chooses."""

from dataclasses import dataclass, field, replace

from ...core.errors import UnknownNameError, require

VARIANTS = ("skills", "forgetful", "changing", "selective", "regression", "text")


@dataclass(frozen=True)
class Task:
    """Key-value skills: random maps from key symbols to value symbols."""

    keys: int = 16
    values: int = 16
    pairs: int = 32
    """Pairs in a training sequence, and examples behind a state of the library."""

    def __post_init__(self):
        for name, least in dict(keys=2, values=2, pairs=2).items():
            require(getattr(self, name) >= least, f"--task.{name} must be at least {least}, not {getattr(self, name)}")
        require(self.pairs % 2 == 0, f"--task.pairs is halved and must be even, not {self.pairs}")
        require(self.keys % 2 == 0, f"--task.keys is halved and must be even, not {self.keys}")


@dataclass(frozen=True)
class Network:
    """Blocks of a matrix memory with one forget gate per head, and a gated perceptron."""

    width: int = 64
    layers: int = 2
    heads: int = 4
    key_size: int = 16
    hidden_size: int = 128
    convolution: int = 4

    def __post_init__(self):
        for name in ("width", "layers", "heads", "key_size", "hidden_size", "convolution"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Training:
    """One training: AdamW, learning rate up in a straight line and down along a cosine, clipped gradient norm."""

    learning_rate: float = 4e-3
    warm_up: int = 50
    steps: int = 500
    batch_size: int = 32
    clip_norm: float = 1.0

    def __post_init__(self):
        require(self.learning_rate > 0, f"learning-rate must be above 0, not {self.learning_rate:g}")
        require(self.steps >= 1, f"steps must be at least 1, not {self.steps}")
        require(self.warm_up >= 0, f"warm-up must not be negative, but is {self.warm_up}")
        require(self.batch_size >= 1, f"batch-size must be at least 1, not {self.batch_size}")
        require(self.clip_norm > 0, f"clip-norm must be above 0, not {self.clip_norm:g}")


@dataclass(frozen=True)
class Regression:
    """Linear regression in context, noiseless; two contexts that each show too little to know the map."""

    dim: int = 8
    examples: int = 6
    """Examples in each of the two contexts."""
    noise: float = 0.1
    tasks: int = 1000
    """Held-out maps behind every number."""
    training: Training = field(default_factory=lambda: Training(learning_rate=1e-2, steps=1500, batch_size=64))

    def __post_init__(self):
        require(self.dim >= 1, f"--regression.dim must be at least 1, not {self.dim}")
        require(self.examples >= 1, f"--regression.examples must be at least 1, not {self.examples}")
        require(self.noise >= 0, f"--regression.noise must not be negative, but is {self.noise:g}")
        require(self.tasks >= 1, f"--regression.tasks must be at least 1, not {self.tasks}")


@dataclass(frozen=True)
class Text:
    """Characters of the documents of a corpus in classes; a state is made of the first part of a document."""

    length: int = 128
    """Characters that a state is made of, and characters that are predicted after it."""
    pairs: int = 200
    """Pairs of documents of one class, and as many of different classes."""
    network: Network = field(default_factory=lambda: Network(layers=3))
    training: Training = field(default_factory=lambda: Training(steps=600, batch_size=8))

    def __post_init__(self):
        require(self.length >= 2, f"--text.length must be at least 2, not {self.length}")
        require(self.pairs >= 1, f"--text.pairs must be at least 1, not {self.pairs}")


@dataclass(frozen=True)
class SkillModel:
    """A task of skills, a model and its training."""

    task: Task = field(default_factory=Task)
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)


SMALL = SkillModel(
    Task(keys=8, values=8, pairs=16),
    Network(width=32, heads=2, hidden_size=64),
    Training(learning_rate=8e-3, warm_up=25, steps=300),
)


@dataclass(frozen=True)
class Config:
    """The study's configuration; every field is a flag."""

    skills: SkillModel = field(default_factory=SkillModel)
    """The main model, and the one with selective layers."""
    decaying: SkillModel = field(default_factory=lambda: SMALL)
    """The models for which decay matters."""
    forgetful_bias: float = 2.0
    """The bias of the forget gate in the variant that forgets sooner; 4 in all others."""
    change: float = 0.2
    """How often a shown key gets a new value in the variant whose skills change."""
    evaluation_tasks: int = 256
    """Skills behind every number about mixing."""
    library_size: int = 48
    queries_per_skill: int = 8
    """Few-shot states that are looked up for each skill of the library."""
    shots: tuple[int, ...] = (1, 2, 4, 8)
    """Examples behind a few-shot state."""
    regression: Regression = field(default_factory=Regression)
    text: Text = field(default_factory=Text)
    variants: tuple[str, ...] = VARIANTS
    """Which trainings to run."""

    def __post_init__(self):
        require(self.evaluation_tasks >= 2, f"evaluation-tasks must be at least 2, not {self.evaluation_tasks}")
        require(self.library_size >= 3, f"library-size must be at least 3, not {self.library_size}")
        require(self.queries_per_skill >= 1, f"queries-per-skill must be at least 1, not {self.queries_per_skill}")
        require(0 <= self.change <= 1, f"change must lie between 0 and 1, not {self.change:g}")
        pairs = self.skills.task.pairs
        require(
            len(self.shots) >= 2 and all(1 <= shot <= pairs for shot in self.shots),
            f"shots are at least two numbers between 1 and {pairs}, not {self.shots}",
        )
        require(len(self.variants) > 0, "variants is empty: name at least one")
        for name in self.variants:
            if name not in VARIANTS:
                raise UnknownNameError("variant", name, VARIANTS)


SMOKE = Config(
    skills=replace(SMALL, training=replace(SMALL.training, steps=150)),
    evaluation_tasks=128,
    queries_per_skill=4,
    variants=("skills",),
)
LAPTOP = Config(
    skills=SkillModel(training=Training(learning_rate=4e-3, warm_up=50, steps=600)),
    queries_per_skill=4,
    decaying=replace(SMALL, training=replace(SMALL.training, steps=500)),
    variants=("skills", "forgetful", "changing", "regression", "text"),
)
PAPER = Config(
    skills=SkillModel(
        network=Network(width=256, layers=4, heads=8, key_size=32, hidden_size=768),
        training=Training(learning_rate=1e-3, warm_up=500, steps=20_000, batch_size=256),
    ),
    decaying=SkillModel(training=Training(learning_rate=1e-3, warm_up=500, steps=20_000, batch_size=256)),
    evaluation_tasks=2048,
    queries_per_skill=64,
    regression=Regression(training=Training(learning_rate=3e-3, steps=5000, batch_size=512)),
    text=Text(
        length=512,
        pairs=1000,
        network=Network(width=256, layers=6, heads=8, key_size=32, hidden_size=768),
        training=Training(learning_rate=1e-3, warm_up=500, steps=20_000, batch_size=64),
    ),
)
