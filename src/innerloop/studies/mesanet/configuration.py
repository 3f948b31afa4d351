"""What of `mesanet` can be chosen, and what each scale chooses."""

from dataclasses import dataclass, field, replace
from typing import Literal

from ...core.errors import UnknownNameError, require

LAYERS = ("mesa", "gla", "delta", "gated-delta", "hawk", "softmax", "mlstm", "mamba2", "retention", "linear")
COMPARED = LAYERS[:6]
BENCHMARKS = ("text", "regbench", "mad")
TRAINING_FREE = ("recall-error", "stability")
PARITY = ("parity-signed", "parity-positive")


@dataclass(frozen=True)
class Sizes:
    """The backbone, the same for all layers; perceptrons are made so wide that all have as many parameters."""

    width: int = 64
    num_layers: int = 2
    num_heads: int = 2
    key_size: int = 32
    hidden_size: int = 96
    """Of the perceptrons around the mesa layer."""
    chunk_size: int = 16
    max_steps: int = 15
    """Of conjugate gradients, in training."""
    tolerance: float = 1e-4
    """A token's solution is not improved any further when its residual has fallen by this factor."""

    def __post_init__(self):
        for name in ("width", "num_layers", "num_heads", "key_size", "hidden_size", "chunk_size", "max_steps"):
            require(getattr(self, name) >= 1, f"{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        require(self.tolerance > 0, f"tolerance must be above 0, not {self.tolerance:g}")


@dataclass(frozen=True)
class Training:
    """One training: AdamW (0.9, 0.98), gradients clipped to norm 1, warm-up, then a cosine to a tenth."""

    steps: int = 160
    batch_size: int = 16
    rates: tuple[float, ...] = (1e-3, 3e-3, 1e-2)
    """The grid of learning rates, the same for all layers; a pilot of another seed chooses."""
    pilot_steps: int = 48
    weight_decay: float = 0.01
    examples: int = 4096
    """Of the training set."""
    test_examples: int = 256

    def __post_init__(self):
        for name in ("steps", "batch_size", "pilot_steps", "examples", "test_examples"):
            require(getattr(self, name) >= 1, f"{name.replace('_', '-')} must be at least 1, not {getattr(self, name)}")
        require(self.pilot_steps <= self.steps, f"a pilot of {self.pilot_steps} steps is longer than {self.steps}")
        require(len(self.rates) >= 1, "rates is empty: name at least one learning rate")
        require(min(self.rates) > 0, f"learning rates must be above 0, not {min(self.rates):g}")
        require(self.weight_decay >= 0, f"weight-decay must be at least 0, not {self.weight_decay:g}")


@dataclass(frozen=True)
class Mad:
    """The six tasks of MAD, all of one length."""

    length: int = 32
    vocabulary: int = 16
    facts_vocabulary: int = 256
    """Of memorisation: half of it are keys."""
    fuzzy_vocabulary: int = 10
    fuzzy_motif_size: int = 2
    """Of fuzzy recall: sequences of 32 tokens hardly ever show a key of three tokens twice."""
    num_copied: int = 8
    sizes: Sizes = field(default_factory=Sizes)
    training: Training = field(default_factory=Training)

    def __post_init__(self):
        require(self.length % 2 == 0, f"length must be even, not {self.length}")


@dataclass(frozen=True)
class RegBench:
    """Regular languages in context."""

    length: int = 96
    num_languages: int = 2000
    num_held_out: int = 500
    num_symbols: int = 8
    states: tuple[int, int] = (4, 8)
    alphabet: tuple[int, int] = (4, 8)
    strings: tuple[int, int] = (10, 19)
    string_length: tuple[int, int] = (1, 14)
    sizes: Sizes = field(default_factory=Sizes)
    training: Training = field(default_factory=lambda: Training(steps=200, pilot_steps=60, batch_size=8))


@dataclass(frozen=True)
class Text:
    """Characters of real text."""

    corpus: Literal["brown", "king-james"] = "brown"
    length: int = 128
    sizes: Sizes = field(default_factory=lambda: Sizes(num_heads=4, key_size=16))
    training: Training = field(
        default_factory=lambda: Training(steps=250, pilot_steps=75, batch_size=8, examples=30_000, test_examples=192)
    )


@dataclass(frozen=True)
class Parity:
    """Bits, and at each of them the parity of all so far."""

    length: int = 40
    long_length: int = 128
    regulariser: float = 50.0
    """The first value of the regulariser with gates below zero; it stays above one less."""
    sizes: Sizes = field(default_factory=lambda: Sizes(width=32, key_size=16, hidden_size=64))
    training: Training = field(
        default_factory=lambda: Training(steps=500, pilot_steps=150, batch_size=16, examples=8192, test_examples=256)
    )

    def __post_init__(self):
        require(self.regulariser > 1, f"regulariser must be above 1, not {self.regulariser:g}")


@dataclass(frozen=True)
class Config:
    """The study's configuration; every field is a flag."""

    draws: int = 20
    """Sets of random keys behind each recall error."""
    stability_length: int = 2000
    layers: tuple[str, ...] = COMPARED
    """Which layers the benchmarks compare."""
    benchmarks: tuple[str, ...] = BENCHMARKS
    with_parity: bool = True
    mad: Mad = field(default_factory=Mad)
    regbench: RegBench = field(default_factory=RegBench)
    text: Text = field(default_factory=Text)
    parity: Parity = field(default_factory=Parity)

    def __post_init__(self):
        require(self.draws >= 1, f"draws must be at least 1, not {self.draws}")
        require(self.stability_length >= 10, f"stability-length must be at least 10, not {self.stability_length}")
        for kind, names, known in (("layer", self.layers, LAYERS), ("benchmark", self.benchmarks, BENCHMARKS)):
            for name in names:
                if name not in known:
                    raise UnknownNameError(kind, name, known)

    @property
    def variants(self) -> tuple[str, ...]:
        """The names of what is run."""
        compared = (f"{benchmark}-{layer}" for benchmark in self.benchmarks for layer in self.layers)
        return (*TRAINING_FREE, *(PARITY if self.with_parity else ()), *compared)


SMOKE = Config(layers=(), benchmarks=(), with_parity=False)
LAPTOP = Config()
_SIZES = Sizes(width=128, num_layers=2, num_heads=8, key_size=16, hidden_size=384, chunk_size=64, max_steps=30)
_TRAINING = Training(
    steps=80_000, batch_size=32, rates=(1e-4, 5e-4, 1e-3, 3e-3), pilot_steps=8000, examples=12_800, test_examples=1280
)
PAPER = Config(
    layers=LAYERS,
    mad=Mad(length=128, fuzzy_vocabulary=16, fuzzy_motif_size=3, num_copied=16, sizes=_SIZES, training=_TRAINING),
    regbench=RegBench(
        length=512,
        num_languages=20_000,
        num_held_out=1000,
        num_symbols=18,
        states=(4, 12),
        alphabet=(4, 18),
        string_length=(1, 49),
        sizes=replace(_SIZES, width=512, num_layers=4, num_heads=4, key_size=128, hidden_size=1536),
        training=replace(
            _TRAINING, rates=(1e-4, 2.5e-4, 1e-3), steps=50_000, weight_decay=0.1, examples=20_000, test_examples=1000
        ),
    ),
    text=Text(
        length=512,
        sizes=replace(_SIZES, width=256, num_layers=6, num_heads=4, key_size=64, hidden_size=768),
        training=replace(_TRAINING, steps=50_000, weight_decay=0.1, examples=50_000, test_examples=512),
    ),
    parity=Parity(
        sizes=Sizes(width=64, num_heads=2, key_size=32, hidden_size=192, chunk_size=64, max_steps=30),
        training=replace(_TRAINING, steps=2000, pilot_steps=500, batch_size=256, examples=50_000, test_examples=1000),
    ),
)
"""MAD, RegBench and parity at the paper's sizes; the text model is far smaller than 140 million parameters."""
