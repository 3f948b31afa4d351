"""What of `coplayer-inference` can be chosen, and what each scale chooses."""

from dataclasses import dataclass, field

from ...core.errors import UnknownNameError, require
from ..agent_layers import LAYERS

VARIANTS = ("exact", "tabular", "mixed", "learners", "identified", "prediction")


@dataclass(frozen=True)
class Agent:
    """The sequence model: embeddings, one sequence layer, one head per modality."""

    layer: str = "gru"
    """Its memory: any sequence layer, by name."""
    width: int = 32
    """Of the embeddings and of the layer."""
    num_heads: int = 2
    """For layers that have heads."""

    def __post_init__(self):
        if self.layer not in LAYERS:
            raise UnknownNameError("layer", self.layer, LAYERS)
        for name in ("width", "num_heads"):
            require(getattr(self, name) >= 1, f"--agent.{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Improvement:
    """Predictive policy improvement."""

    rounds: int = 100
    """Of an episode."""
    beta: float = 0.01
    """How far a policy moves from what its model predicts."""
    horizon: int = 15
    """Rounds of a roll-out inside the model."""
    samples: int = 16
    """Roll-outs for each action."""
    first_episodes: int = 200_000
    """Of the first data, before any learner plays."""
    episodes: int = 20_000
    """Of each learner after each phase."""
    phases: int = 30
    epochs: int = 10
    """Of the training of each model."""
    batch_size: int = 256
    learning_rate: float = 1e-4

    def __post_init__(self):
        for name in ("horizon", "samples", "first_episodes", "phases", "epochs", "batch_size"):
            require(getattr(self, name) >= 1, f"{name} must be at least 1, not {getattr(self, name)}")
        require(self.rounds >= 4, f"rounds must be at least 4, not {self.rounds}")
        require(self.episodes >= 2, f"episodes must be at least 2, not {self.episodes}")
        require(self.beta >= 0, f"beta must not be negative, but is {self.beta:g}")
        require(self.learning_rate > 0, f"learning-rate must be above 0, not {self.learning_rate:g}")


@dataclass(frozen=True)
class Prediction:
    """Training of a sequence model on games of two random tabular players, fresh ones at every step."""

    rounds: int = 100
    width: int = 64
    steps: int = 600
    batch_size: int = 64
    learning_rate: float = 5e-3
    games: int = 2000
    """Held-out games behind every number."""

    def __post_init__(self):
        for name in ("rounds", "width", "steps", "batch_size", "games"):
            require(getattr(self, name) >= 1, f"--prediction.{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class Extortion:
    """An evolution strategy that looks for a memory-one player who profits from an agent that infers."""

    population: int = 32
    games: int = 16
    """Of each member of the population with the agent."""
    generations: int = 40
    test_games: int = 256
    learning_steps: int = 2000
    """Of two extorters that learn from each other by exact gradients."""
    learning_rate: float = 0.02

    def __post_init__(self):
        for name in ("population", "games", "generations", "test_games", "learning_steps"):
            require(getattr(self, name) >= 1, f"--extortion.{name} must be at least 1, not {getattr(self, name)}")
        require(self.population >= 8, f"--extortion.population must be at least 8, not {self.population}")


@dataclass(frozen=True)
class Exact:
    """The agent that infers and plans exactly."""

    rounds: int = 100
    horizon: int = 15
    games: int = 200
    """With each fixed strategy."""

    def __post_init__(self):
        require(self.rounds >= 20, f"--exact.rounds must be at least 20, not {self.rounds}")
        require(self.horizon >= 1, f"--exact.horizon must be at least 1, not {self.horizon}")
        require(self.games >= 1, f"--exact.games must be at least 1, not {self.games}")


@dataclass(frozen=True)
class Config:
    """The study's configuration; every field is a flag."""

    agent: Agent = field(default_factory=Agent)
    concentration: float = 0.25
    """Of the Beta law of each entry of a tabular co-player; 1 is uniform."""
    mixed: Improvement = field(default_factory=Improvement)
    """The mixed pool and its two ablations."""
    tabular: Improvement = field(default_factory=Improvement)
    """Learning with tabular co-players only."""
    prediction: Prediction = field(default_factory=Prediction)
    exact: Exact = field(default_factory=Exact)
    extortion: Extortion = field(default_factory=Extortion)
    test_games: int = 200
    """Games of a trained agent with each fixed strategy."""
    variants: tuple[str, ...] = VARIANTS
    """Which trainings to run."""

    def __post_init__(self):
        require(self.concentration > 0, f"concentration must be above 0, not {self.concentration:g}")
        require(self.test_games >= 1, f"test-games must be at least 1, not {self.test_games}")
        require(len(self.variants) > 0, "variants is empty: name at least one")
        for name in self.variants:
            if name not in VARIANTS:
                raise UnknownNameError("variant", name, VARIANTS)


SMOKE = Config(
    exact=Exact(games=50),
    extortion=Extortion(population=24, games=8, generations=20, test_games=128, learning_steps=1000),
    variants=("exact",),
)
LAPTOP = Config(
    mixed=Improvement(
        rounds=30,
        beta=4.0,
        horizon=12,
        samples=8,
        first_episodes=3000,
        episodes=400,
        phases=10,
        epochs=10,
        batch_size=64,
        learning_rate=5e-3,
    ),
    tabular=Improvement(
        rounds=40,
        beta=10.0,
        horizon=12,
        samples=12,
        first_episodes=10_000,
        episodes=200,
        phases=1,
        epochs=24,
        batch_size=64,
        learning_rate=5e-3,
    ),
    prediction=Prediction(steps=600, batch_size=32),
    test_games=64,
)
PAPER = Config(
    agent=Agent(width=128),
    concentration=1.0,
    prediction=Prediction(width=128, steps=20_000, batch_size=256, learning_rate=1e-3),
)
