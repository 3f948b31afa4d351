"""What can be chosen about agents that learn from sampled games, and what each scale chooses."""

from dataclasses import dataclass, field, replace

from ....core.errors import require

TABULAR = ("tabular-coala", "tabular-m-fos", "tabular-unaware", "tabular-frozen", "tabular-evolution")
RECURRENT = ("recurrent-coala", "recurrent-m-fos", "recurrent-unaware")
POOLS = ("pool-mixed", "pool-pure")
CLEAN_UP = ("clean-up-coala", "clean-up-unaware")
VARIANTS = (*TABULAR, *RECURRENT, "balance", *POOLS, *CLEAN_UP)
# What each scale measures of them.
SMOKE_VARIANTS: tuple[str, ...] = ()
LAPTOP_VARIANTS = VARIANTS
PAPER_VARIANTS = VARIANTS


@dataclass(frozen=True)
class Game:
    """The meta-episode in the iterated prisoner's dilemma, and its tabular naive learners."""

    copies: int = 16
    episodes: int = 20
    steps: int = 10
    naive_rate: float = 1.0
    """The step size on each logit of cooperation; returns are centred and divided by their deviation."""
    naive_deviation: float = 0.5
    """Of the logits with which naive learners begin."""

    def __post_init__(self):
        _positive("sampled.game", self)


@dataclass(frozen=True)
class Training:
    """One training of an agent against naive learners."""

    co_players: int = 32
    learning_rate: float = 0.02
    iterations: int = 800

    def __post_init__(self):
        _positive("sampled", self)


@dataclass(frozen=True)
class Evolution:
    """The shaper: as many co-players in each generation as the tabular trainings have in each step."""

    pairs: int = 8
    co_players: int = 2
    deviation: float = 0.2
    learning_rate: float = 0.05

    def __post_init__(self):
        _positive("sampled.evolution", self)


@dataclass(frozen=True)
class Balance:
    """How the two parts of a gradient depend on the number of copies, at a fixed policy."""

    batch_sizes: tuple[int, ...] = (2, 4, 8, 16, 32)
    copies: int = 65_536
    """Copies behind each gradient, in all co-players together, for batches of up to 8; larger ones have as many times
    more as they are larger, because what is to be found there is so much smaller."""
    parts: int = 16
    """Independent parts of these, from which the length of the mean gradient is estimated without bias."""
    naive_rate: float = 0.1
    """The step size of learners whose returns are not normalised, so that the mean step depends on no batch size."""

    def __post_init__(self):
        require(
            all(self.copies % (size * self.parts) == 0 for size in self.batch_sizes),
            f"--sampled.balance.copies ({self.copies}) must be a multiple of {self.parts} parts and each batch size",
        )


@dataclass(frozen=True)
class MixedPool:
    """A COALA-PG agent and an M-FOS agent, who meet each other and naive learners."""

    recurrent: bool = False
    """Whether the agents remember the meta-episode; otherwise they are tabular."""
    co_players: int = 32
    naive_fraction: float = 0.25
    learning_rate: float = 0.02
    iterations: int = 800

    def __post_init__(self):
        _positive("sampled.pool", self)


@dataclass(frozen=True)
class CleanUpGame:
    """Two agents in a small CleanUp, with naive learners that begin as copies of agents."""

    height: int = 3
    width: int = 4
    steps: int = 32
    episodes: int = 5
    copies: int = 8
    co_players: int = 8
    naive_fraction: float = 0.75
    naive_rate: float = 1.0
    learning_rate: float = 3e-3
    iterations: int = 100

    def __post_init__(self):
        _positive("sampled.clean-up", self)


@dataclass(frozen=True)
class SampledSettings:
    """Trainings from sampled games."""

    seeds: int = 5
    """How many of the run's seeds they are measured with."""
    few_seeds: int = 3
    """The same for recurrent agents, pools and evolution, which are slow."""
    game: Game = field(default_factory=Game)
    tabular: Training = field(default_factory=Training)
    recurrent: Training = field(default_factory=lambda: Training(co_players=8, learning_rate=1e-3, iterations=400))
    evolution: Evolution = field(default_factory=Evolution)
    balance: Balance = field(default_factory=Balance)
    pool: MixedPool = field(default_factory=MixedPool)
    clean_up: CleanUpGame = field(default_factory=CleanUpGame)
    evaluation_co_players: int = 256
    """Fresh co-players behind every number about a finished agent."""

    def __post_init__(self):
        for name in ("seeds", "few_seeds", "evaluation_co_players"):
            flag = name.replace("_", "-")
            require(getattr(self, name) >= 1, f"--sampled.{flag} must be at least 1, not {getattr(self, name)}")

    def seeds_of(self, variant: str) -> int:
        """How many of the run's seeds a variant is measured with."""
        return self.few_seeds if variant in (*RECURRENT, *POOLS, *CLEAN_UP, "tabular-evolution") else self.seeds


def _positive(flag: str, settings: object) -> None:
    for name, value in vars(settings).items():
        require(
            isinstance(value, bool) or value > 0, f"--{flag}.{name.replace('_', '-')} must be above 0, not {value:g}"
        )


SMOKE = SampledSettings(seeds=2)
LAPTOP = SampledSettings()
PAPER = SampledSettings(
    few_seeds=5,
    recurrent=Training(co_players=128, learning_rate=3e-4, iterations=3000),
    pool=MixedPool(recurrent=True, co_players=128, naive_fraction=0.75, learning_rate=3e-4, iterations=3000),
    clean_up=replace(
        CleanUpGame(), height=5, steps=64, copies=64, co_players=512, learning_rate=3e-4, iterations=30_000
    ),
)
