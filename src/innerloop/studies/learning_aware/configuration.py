"""What of `learning-aware` can be chosen, and what each scale chooses."""

from dataclasses import dataclass, field

from ...core.errors import UnknownNameError, require
from ..agent_layers import LAYERS
from .sampled import configuration as sampled
from .sampled.configuration import SampledSettings

LOOK_AHEADS = (1, 2, 3, 10, 20)
MIXED_SHARES = {1: 1.0, 2: 1.0, 3: 0.75, 10: 0.6, 20: 0.4}  # of LOLA in its mixture with the partial gradient
EXACT_VARIANTS = ("theory", "extortion", "pure-pool", "mixed-pool", *(f"lola-{k}" for k in LOOK_AHEADS))
VARIANTS = (*EXACT_VARIANTS, *sampled.VARIANTS)


@dataclass(frozen=True)
class AgentSettings:
    """The recurrent agent: a linear embedding, residual blocks around a sequence layer, two linear heads."""

    layer: str = "hawk"
    """Its memory: any sequence layer, by name."""
    width: int = 32
    num_heads: int = 2
    num_layers: int = 1
    hidden_size: int = 32
    """Of the gated perceptron after each layer."""

    def __post_init__(self):
        if self.layer not in LAYERS:
            raise UnknownNameError("layer", self.layer, LAYERS)
        for name in ("width", "num_heads", "num_layers", "hidden_size"):
            require(getattr(self, name) >= 1, f"--agent.{name} must be at least 1, not {getattr(self, name)}")


@dataclass(frozen=True)
class ExactSettings:
    """Trainings of memory-one policies by exact gradients of their discounted payoffs."""

    discount: float = 0.95
    naive_rate: float = 5.0
    """The step size of a naive learner."""
    one_look_ahead_rate: float = 10.0
    """The step size of the co-player in the look-ahead, where there is only one."""
    naive_steps: int = 20
    """How many steps a naive learner makes while it is shaped."""
    start: float = -4.6
    """All five logits of an agent that begins near defection."""
    naive_batch: int = 32
    """Fresh naive learners per step when an agent learns to extort."""
    meeting_steps: int = 1500
    """Steps of two extorters that have met."""
    learning_rate: float = 0.005
    steps: int = 3000
    pool_naive_batch: int = 8
    pool_learning_rate: float = 0.01
    pool_steps: int = 5000
    naive_shares: tuple[float, ...] = (0.1, 0.25, 0.4, 0.5, 0.75)
    """The weights of naive learners in a mixed pool; the claim is about the one of 0.25."""
    evaluation_naive: int = 256
    """Fresh naive learners against which a finished policy is measured."""
    random_policies: int = 1000
    """Random policies with which the fit of a zero-determinant strategy is compared."""
    seeds: int = 16
    """How many of the run's seeds everything but LOLA is measured with."""
    lola_seeds: int = 64

    def __post_init__(self):
        require(0 < self.discount < 1, f"--exact.discount must lie between 0 and 1, not {self.discount:g}")
        for name in ("naive_steps", "naive_batch", "meeting_steps", "steps", "pool_naive_batch", "pool_steps",
                     "evaluation_naive", "random_policies", "seeds", "lola_seeds"):  # fmt: skip
            flag = name.replace("_", "-")
            require(getattr(self, name) >= 1, f"--exact.{flag} must be at least 1, not {getattr(self, name)}")
        for name in ("naive_rate", "one_look_ahead_rate", "learning_rate", "pool_learning_rate"):
            flag = name.replace("_", "-")
            require(getattr(self, name) > 0, f"--exact.{flag} must be above 0, not {getattr(self, name):g}")
        require(
            0.25 in self.naive_shares and all(0 < share <= 1 for share in self.naive_shares),
            f"--exact.naive-shares are numbers above 0 and at most 1, 0.25 among them, not {self.naive_shares}",
        )


@dataclass(frozen=True)
class Config:
    """The study's configuration; every field is a flag."""

    exact: ExactSettings = field(default_factory=ExactSettings)
    sampled: SampledSettings = field(default_factory=SampledSettings)
    agent: AgentSettings = field(default_factory=AgentSettings)
    variants: tuple[str, ...] = VARIANTS
    """Which trainings to run."""

    def __post_init__(self):
        require(len(self.variants) > 0, "variants is empty: name at least one")
        for name in self.variants:
            if name not in VARIANTS:
                raise UnknownNameError("variant", name, VARIANTS)


def variant_seeds(config: Config, variant: str) -> int:
    """How many of the run's seeds a variant is measured with."""
    if variant not in EXACT_VARIANTS:
        return config.sampled.seeds_of(variant)
    return config.exact.lola_seeds if variant.startswith("lola") else config.exact.seeds


SHORT = ExactSettings(
    meeting_steps=100,
    naive_batch=4,
    steps=200,
    pool_steps=200,
    pool_naive_batch=4,
    naive_shares=(0.25, 0.75),
    evaluation_naive=32,
    random_policies=100,
    seeds=2,
    lola_seeds=2,
)
SMOKE = Config(SHORT, sampled.SMOKE, variants=("theory", "extortion", *sampled.SMOKE_VARIANTS))
LAPTOP = Config(sampled=sampled.LAPTOP, variants=(*EXACT_VARIANTS, *sampled.LAPTOP_VARIANTS))
PAPER = Config(ExactSettings(seeds=32), sampled=sampled.PAPER, variants=(*EXACT_VARIANTS, *sampled.PAPER_VARIANTS))
