"""A gate for single parts: does the model still compute the same with this one piece replaced?

The tests of an exercise call the piece by itself. A model calls it with batch size 1 and one token
during generation, with masks that are not square because earlier keys are cached, with rows of
unequal length, with floating masks for ALiBi, and with a backward pass to follow. So each part is
put alone into a small model with two layers, whose logits and gradients are compared with those of
the lessons' code. That takes milliseconds.

Dimensions: B batch, T positions.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.device import autocast
from utils.kv_cache import KVCache

V = 11  # tokens of the small model
LONGEST = 256  # positions: a fixed size in a part shows at the full context, if not above this
TOLERANCE = 1e-4  # absolute and relative; the logits' standard deviation is about 1
BFLOAT16_TOLERANCE = 0.1
ADDITIVE = "an additive mask"  # the one difference that only ALiBi needs
MASKED = ("attention", "multi_head", "grouped_query", "block")  # parts that are given the mask

FULL_PASSES = {  # (B, T) of passes without a cache; None is the full context
    "a batch of 3": [(3, 7)],
    "batch size 1": [(1, 7)],
    "one token": [(3, 1), (1, 1)],
    "the full context": [(1, None)],
}
CACHED = {  # tokens in the cache per row, before new ones come
    "cached decoding": [(4, 4, 4), (4,)],
    "unequal cached lengths": [(2, 4, 3)],
}


class Difference(NamedTuple):
    """One way in which a model with the part differs from the reference."""

    case: str  # "batch size 1"
    error: Exception | None = None  # what the part raised, if it raised


def differences(
    part: Mapping[str, Any],
    config: ModelConfig,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> list[Difference]:
    """How a small model of this configuration differs with `part`, {field of Parts: replacement}.

    A part that is given the mask is tried with boolean and with additive ones, whatever is used.
    """
    mine = replace(Parts.reference(), **part)
    if len(part) > 1 or not set(part) & set(MASKED):
        return compare(mine, small(config), device, dtype)
    is_alibi = config.position == "alibi"
    boolean = replace(config, position="learned") if is_alibi else config
    found = compare(mine, small(boolean), device, dtype)
    if found:
        return found
    additive = compare(mine, small(replace(config, position="alibi")), device, dtype)
    return [Difference(ADDITIVE, additive[0].error)] if additive else []


def small(config: ModelConfig) -> ModelConfig:
    """The same kind of model with two narrow layers; as many heads, and as long a context."""
    width, context = 6 * config.n_heads, max(8, min(config.max_seq_len, LONGEST))
    sizes = {"vocab_size": V, "n_layers": 2, "d_model": width, "d_ff": 20, "max_seq_len": context}
    return replace(config, **sizes, dropout=0.0)


def compare(
    mine: Parts, config: ModelConfig, device: torch.device | str, dtype: torch.dtype
) -> list[Difference]:
    """The differences between models with these parts and with the reference's, case by case."""
    weights, expected = reference(config, str(device), dtype)
    try:
        model = TinyTransformerLM(config, mine).to(device)
    except Exception as error:  # a constructor with other arguments, for example
        return [Difference("building the model", error)]
    if shapes(model.state_dict()) != shapes(weights):
        return [Difference("the names or shapes of its parameters")]
    model.load_state_dict(weights)
    runs = cases(dtype).items()
    tried = [difference(case, run, model, expected[case]) for case, run in runs]
    return [found for found in tried if found is not None]


@lru_cache(maxsize=8)  # the same for every part
def reference(
    config: ModelConfig, device: str, dtype: torch.dtype
) -> tuple[dict[str, Tensor], dict[str, list[Tensor]]]:
    """The weights of a small model of the lessons' code, and what it computes in each case."""
    model = random_(TinyTransformerLM(config)).to(device)
    return model.state_dict(), {case: run(model) for case, run in cases(dtype).items()}


def random_(model: TinyTransformerLM) -> TinyTransformerLM:
    """Move all weights from their initial values, with which attention would have no effect."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return model


def shapes(weights: dict[str, Tensor]) -> dict[str, torch.Size]:
    """What a checkpoint would hold. With other names, no other code could load it."""
    return {name: tensor.shape for name, tensor in weights.items()}


# --- the cases ---

Run = Callable[[TinyTransformerLM], list[Tensor]]  # what is compared


def cases(dtype: torch.dtype) -> dict[str, Run]:
    """Everything that is tried, by name; the gradients come last."""
    found: dict[str, Run] = {}
    for case, sizes in FULL_PASSES.items():
        found[case] = lambda model, sizes=sizes: [logits_of(model, B, T) for B, T in sizes]
    for case, lengths in CACHED.items():
        found[case] = lambda model, lengths=lengths: [
            logits for each in lengths for logits in decode(model, each)
        ]
    found["the gradients"] = gradients
    if dtype != torch.float32:
        found[str(dtype).removeprefix("torch.")] = lambda model: in_precision(model, dtype)
    return found


def difference(
    case: str, run: Run, model: TinyTransformerLM, expected: list[Tensor]
) -> Difference | None:
    """The difference between a model and what is expected in one case, if there is one."""
    try:
        found = run(model)
    except Exception as error:
        return Difference(case, error)
    tolerance = BFLOAT16_TOLERANCE if case == "bfloat16" else TOLERANCE
    pairs = zip(found, expected, strict=True)
    return None if all(same(*pair, tolerance) for pair in pairs) else Difference(case)


def same(x: Tensor, y: Tensor, tolerance: float) -> bool:
    """Whether shape, dtype and, up to rounding, values are the same; nan never is."""
    alike = (x.shape, x.dtype) == (y.shape, y.dtype)
    return alike and torch.allclose(x, y, rtol=tolerance, atol=tolerance)


def tokens_for(model: TinyTransformerLM, B: int, T: int) -> Tensor:
    """Random tokens (B, T), the same in every call."""
    generator = torch.Generator().manual_seed(B * 1000 + T)
    return torch.randint(V, (B, T), generator=generator).to(model.causal.device)


def logits_of(model: TinyTransformerLM, B: int, T: int | None) -> Tensor:
    """The logits (B, T, V) of one pass without a cache."""
    with torch.no_grad():
        return model.eval()(tokens_for(model, B, T or model.config.max_seq_len))


def decode(model: TinyTransformerLM, lengths: tuple[int, ...]) -> list[Tensor]:
    """Prompts padded on the right to one length, then one, two and one new tokens per row."""
    B = len(lengths)
    cache = KVCache(model.config, B, device=model.causal.device)
    with torch.inference_mode():
        logits = [model.eval()(tokens_for(model, B, max(lengths)), cache)]
        cache.truncate(lengths)
        return logits + [model(tokens_for(model, B, T), cache) for T in (1, 2, 1)]


def gradients(model: TinyTransformerLM) -> list[Tensor]:
    """The gradients of every parameter, of a small loss; none at all counts as zeros."""
    tokens = tokens_for(model, 3, 7)
    logits = model.train()(tokens)
    loss = F.cross_entropy(logits[:, :-1].mT, tokens[:, 1:], reduction="sum")
    parameters = dict(sorted(model.named_parameters()))  # a class may declare them in any order
    found = torch.autograd.grad(loss, [*parameters.values()], allow_unused=True)
    pairs = zip(parameters.values(), found, strict=True)
    return [torch.zeros_like(p) if gradient is None else gradient for p, gradient in pairs]


def in_precision(model: TinyTransformerLM, dtype: torch.dtype) -> list[Tensor]:
    """The logits under autocast, in which a training with this dtype runs."""
    with autocast(torch.device(model.causal.device), dtype):
        return [logits_of(model, 3, 7).float()]
