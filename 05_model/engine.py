"""The model of a run: the lessons' TinyTransformerLM on the engine that is fastest here.

An engine is a set of parts and a precision. All engines compute the same function from the same
weights; whether bfloat16 is faster depends on the processor, so a few steps of each are measured.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

import fused
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig, TrainConfig
from utils.device import autocast, describe_device, fastest, pick_device

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PROBED_TOKENS = 4096  # a step of this size tells which engine is faster; more tells no more


@dataclass(frozen=True)
class Engine:
    """Which code computes the model, where, and how precisely."""

    parts: Parts
    device: torch.device
    dtype: torch.dtype
    name: str

    @property
    def dtype_name(self) -> str:
        """The precision as --dtype calls it."""
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        return f"{self.name} on {describe_device(self.device)}"


def choose_engine(config: TrainConfig) -> Engine:
    """The engine that the configuration names, "auto" settled by a measurement of a few steps."""
    device = pick_device(config.device)
    if config.parts == "reference":
        dtype = "float32" if config.dtype == "auto" else config.dtype
        return Engine(Parts.reference(), device, DTYPES[dtype], f"reference, {dtype}")
    engines = {dtype: _fused_engine(dtype, device) for dtype in _dtypes(config.dtype, device)}
    if len(engines) == 1:
        return next(iter(engines.values()))
    probes = {dtype: _probe(engine, config) for dtype, engine in engines.items()}
    return engines[fastest(probes, device)]


def _dtypes(asked: str, device: torch.device) -> list[str]:
    """Precisions worth trying, the safest first; GPUs need no measurement to tell."""
    if asked != "auto":
        return [asked]
    if device.type == "cpu":
        return list(DTYPES)
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return ["bfloat16" if fast else "float32"]


def _fused_engine(dtype: str, device: torch.device) -> Engine:
    parts = Parts.fused_for(device, DTYPES[dtype])  # so a run's dtype says all of its engine
    kernel = "sdpa" if parts.attention is fused.sdpa else "matmul"
    return Engine(parts, device, DTYPES[dtype], f"fused {kernel}, {dtype}")


def _probe(engine: Engine, config: TrainConfig) -> Callable[[], None]:
    """A function that takes one training step, without the optimizer's part, on random tokens."""
    T, V = config.model.max_seq_len, config.model.vocab_size
    rows = max(1, min(config.batch_size, PROBED_TOKENS // T))
    tokens = torch.randint(V, (rows, T), generator=torch.Generator().manual_seed(0))
    tokens = tokens.to(engine.device)
    model = TinyTransformerLM(config.model, engine.parts).to(engine.device)

    def step() -> None:
        with autocast(engine.device, engine.dtype):
            logits = model(tokens)
        F.cross_entropy(logits.float().flatten(0, 1), tokens.flatten()).backward()

    return step


def build_model(config: ModelConfig, engine: Engine, seed: int) -> TinyTransformerLM:
    """A fresh model on the engine's device, its weights drawn from `seed`."""
    return TinyTransformerLM(config, engine.parts, seed).to(engine.device)
