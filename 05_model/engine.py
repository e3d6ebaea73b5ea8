"""The engine of a run: which code computes the model, on which device, in which precision.

All engines compute the same function from the same weights. Whether bfloat16 is faster than float32
depends on the processor, so "auto" times a few training steps of each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

import fused
from my_parts import MyParts, collect
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig, TrainConfig
from utils.device import autocast, describe_device, fastest, pick_device
from utils.errors import UsageError
from utils.kv_cache import KVCache

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}  # the first is the default
OnTiming = Callable[[Sequence[str]], None]
PROBED_TOKENS = 4096  # tokens per timed step; more would not change which precision is faster


@dataclass(frozen=True)
class Engine:
    """Which code computes the model, on which device, and in which precision."""

    parts: Parts
    device: torch.device
    dtype: torch.dtype
    name: str  # for the log, such as "fused sdpa, float32"
    compiled: bool = False  # by torch.compile
    mine: MyParts | None = None  # whose each part is, if the learner's own code is used

    @property
    def dtype_name(self) -> str:
        """The precision, spelled as --dtype spells it."""
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        return f"{self.name} on {describe_device(self.device)}"


def choose_engine(config: TrainConfig, on_timing: OnTiming | None = None) -> Engine:
    """The engine that the configuration names; with dtype "auto", the faster of two.

    on_timing is told the precisions before they are timed, which may take seconds.
    Raises UsageError if the configuration asks for torch.compile and it does not work here, and
    CourseError if it asks for the learner's own parts and one of them is wrong.
    """
    device = pick_device(config.device)
    if config.compile:
        check_compiler(device)  # fails now, not at the first training step
    engine = _choose_precision(config, device, on_timing)
    if not config.compile:
        return engine
    return replace(engine, compiled=True, name=f"{engine.name}, compiled")


def _choose_precision(
    config: TrainConfig, device: torch.device, on_timing: OnTiming | None
) -> Engine:
    if config.parts != "fused":  # code written to be read is not timed: float32 unless asked
        dtype = "float32" if config.dtype == "auto" else config.dtype
        return _readable_engine(config, device, dtype)
    engines = {dtype: _fused_engine(dtype, device) for dtype in _candidates(config.dtype, device)}
    if len(engines) == 1:  # nothing to compare
        return next(iter(engines.values()))
    if on_timing is not None:
        on_timing(list(engines))
    probes = {dtype: _probe(engine, config) for dtype, engine in engines.items()}
    return engines[fastest(probes, device)]


def _readable_engine(config: TrainConfig, device: torch.device, dtype: str) -> Engine:
    """The code of the lessons, or the learner's own as far as it is solved."""
    name = f"{config.parts}, {dtype}"
    if config.parts == "reference":
        return Engine(Parts.reference(), device, DTYPES[dtype], name)
    mine = collect(config.model, device=device, dtype=DTYPES[dtype])
    return Engine(Parts(**mine.own), device, DTYPES[dtype], name, mine=mine)


def _candidates(dtype: str, device: torch.device) -> list[str]:
    """The precisions to time, the default first; on a GPU the hardware decides, without timing."""
    if dtype != "auto":
        return [dtype]
    if device.type == "cpu":
        return list(DTYPES)
    has_bfloat16 = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return ["bfloat16" if has_bfloat16 else "float32"]


def _fused_engine(dtype: str, device: torch.device) -> Engine:
    """The fused parts for this dtype, so that the dtype in a run's config.yaml names its engine."""
    parts = Parts.fused_for(device, DTYPES[dtype])
    kernel = "sdpa" if parts.attention is fused.sdpa else "matmul"
    return Engine(parts, device, DTYPES[dtype], f"fused {kernel}, {dtype}")


def _probe(engine: Engine, config: TrainConfig) -> Callable[[], None]:
    """A function that runs one forward and backward pass on random tokens, to be timed."""
    T, V = config.model.max_seq_len, config.model.vocab_size
    rows = max(1, min(config.batch_size, PROBED_TOKENS // T))
    # A generator of its own: timing must not change the random numbers that the run draws.
    tokens = torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(0))  # (rows, T)
    tokens = tokens.to(engine.device)
    model = TinyTransformerLM(config.model, engine.parts).to(engine.device)

    def step() -> None:
        with autocast(engine.device, engine.dtype):
            logits = model(tokens)  # (rows, T, V)
        # The targets do not matter for the time, so the inputs serve as targets.
        F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten()).backward()

    return step


def build_model(config: ModelConfig, engine: Engine, seed: int) -> TinyTransformerLM:
    """A new model on the engine's device, its weights drawn from `seed`."""
    model = TinyTransformerLM(config, engine.parts, seed).to(engine.device)
    if engine.compiled:
        model.forward = CompiledForward(model)  # an instance attribute hides the method
    return model


class CompiledForward:
    """A model's forward pass, compiled for training and plain for everything else.

    Training batches all have one shape, so they need one graph. Evaluation and generation bring
    batches and caches of many sizes, and torch.compile would compile again for each of them, which
    takes longer than it saves; the plain forward computes the same function.
    It replaces `forward` of one model, so parameter names stay as they are.
    """

    def __init__(self, model: TinyTransformerLM) -> None:
        self.plain = model.forward
        # dynamic=False: one graph for the exact shape, without symbolic sizes
        self.compiled = torch.compile(model.forward, dynamic=False)

    def __call__(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        if cache is None and torch.is_grad_enabled():  # only a training step has gradients
            return self.compiled(tokens)
        return self.plain(tokens, cache)


def check_compiler(device: torch.device) -> None:
    """Compile a tiny function and its gradient, to raise UsageError before training if that fails.

    On a CPU, torch.compile generates C++ and needs a compiler for it; on a GPU it needs Triton.
    """
    x = torch.ones(8, device=device, requires_grad=True)
    try:
        torch.compile(lambda x: x * x)(x).sum().backward()
    except Exception as error:  # PyTorch raises errors of many types here
        cause = getattr(error, "inner_exception", error)  # Dynamo wraps the real error
        reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
        needs = "a C++ compiler (g++, clang, MSVC)" if device.type == "cpu" else "Triton"
        raise UsageError(
            f"--compile does not work here: torch.compile needs {needs} for device {device.type}; "
            f"install it or leave --compile out ({reason:.120})"
        ) from None
