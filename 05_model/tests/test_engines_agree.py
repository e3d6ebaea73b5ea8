"""One checkpoint, many engines: a trained model's logits from each of them, on random tokens.

The solutions of lessons 01 to 04 stand for a learner's code. A model is trained for a second or
two, because initial weights hide errors: a projection that starts at zero multiplies by zero.
"""

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import fused
from numpy_forward import NumpyLM
from part_gate import tokens_for
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.kv_cache import KVCache

TEXT = "the king is dead, long live the king. who is the king? the king is the king's son. "
IDS = {character: i for i, character in enumerate(sorted(set(TEXT)))}
SHAPE: dict[str, Any] = {"vocab_size": len(IDS), "max_seq_len": 32, "d_model": 32, "n_layers": 2}
MODERN: dict[str, Any] = {
    **{"norm": "rmsnorm", "activation": "swiglu", "position": "rope", "n_kv_heads": 2},
    **{"qk_norm": True, "bias": False, "tie_weights": False},
}
CONFIGS = {
    "classic": ModelConfig(**SHAPE),
    "modern": ModelConfig(**SHAPE, **MODERN),
    "alibi": ModelConfig(**SHAPE, position="alibi", norm_placement="post"),
    "sinusoidal": ModelConfig(**SHAPE, position="sinusoidal", activation="relu2"),
}
ENGINES: dict[str, Callable[[ModelConfig], Parts]] = {
    "fused, sdpa": lambda config: Parts.fused(fused.sdpa),
    "fused, matmul": lambda config: Parts.fused(fused.matmul_attention),
    "solutions as mine": Parts.mine,
}
CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-4}


@cache
def trained(name: str) -> tuple[TinyTransformerLM, float]:
    """A reference model that has memorized the text, and its last loss."""
    config = CONFIGS[name]
    tokens = torch.tensor([IDS[character] for character in 4 * TEXT])
    windows = tokens.unfold(0, config.max_seq_len + 1, 1)
    model = TinyTransformerLM(config, seed=1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    loss = torch.tensor(0.0)
    for _ in range(60):
        batch = windows[torch.randint(len(windows), (8,), generator=generator)]
        loss = F.cross_entropy(model(batch[:, :-1]).mT, batch[:, 1:])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval(), loss.item()


@pytest.fixture(params=CONFIGS)
def config_name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=ENGINES)
def twin(request: pytest.FixtureRequest, config_name: str, solved_course: Any) -> TinyTransformerLM:
    """The trained weights on another engine."""
    solved_course()
    reference, _ = trained(config_name)
    model = TinyTransformerLM(reference.config, ENGINES[request.param](reference.config)).eval()
    model.load_state_dict(reference.state_dict())
    return model


def random_tokens(B: int, T: int) -> Tensor:
    return torch.randint(len(IDS), (B, T))


def test_the_model_is_trained(config_name: str) -> None:
    _, loss = trained(config_name)
    assert loss < 1.5 < np.log(len(IDS))


@pytest.mark.parametrize("B", [1, 3])
def test_full_passes_agree(twin: TinyTransformerLM, config_name: str, B: int) -> None:
    reference, _ = trained(config_name)
    tokens = random_tokens(B, 32)
    with torch.inference_mode():
        expected = reference(tokens)
        assert expected.std() > 1
        torch.testing.assert_close(twin(tokens), expected, **CLOSE)


@pytest.mark.parametrize("lengths", [(9,), (9, 9, 9), (4, 9, 6)])
def test_cached_decoding_agrees(
    twin: TinyTransformerLM, config_name: str, lengths: tuple[int, ...]
) -> None:
    """Each row continues at its own length, and equals a full pass over the same tokens."""
    reference, _ = trained(config_name)
    B = len(lengths)
    prompts, new = random_tokens(B, max(lengths)), random_tokens(B, 5)
    cache = KVCache(twin.config, B)
    with torch.inference_mode():
        twin(prompts, cache)
        cache.truncate(lengths)
        decoded = torch.cat([twin(new[:, t : t + 1], cache) for t in range(5)], dim=1)
        for row, length in enumerate(lengths):
            whole = torch.cat((prompts[row, :length], new[row]))
            expected = reference(whole[None])[0, length:]
            torch.testing.assert_close(decoded[row], expected, **CLOSE)


@pytest.mark.parametrize(("B", "T"), [(1, 32), (3, 32), (1, 1)])
def test_numpy_agrees(config_name: str, B: int, T: int) -> None:
    reference, _ = trained(config_name)
    weights = {name: w.numpy() for name, w in reference.state_dict().items()}
    tokens = random_tokens(B, T)
    logits = NumpyLM(reference.config, weights)(tokens.numpy())
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(logits), reference(tokens), **CLOSE)


def test_training_agrees(twin: TinyTransformerLM, config_name: str) -> None:
    """Ten steps from the same weights give the same losses."""
    reference = TinyTransformerLM(twin.config, seed=1)
    twin.load_state_dict(reference.state_dict())
    losses = []
    for model in (reference, twin):
        optimizer = torch.optim.SGD(model.train().parameters(), lr=0.5)
        for step in range(10):
            tokens = tokens_for(model, 3, 20 + step)
            loss = F.cross_entropy(model(tokens[:, :-1]).mT, tokens[:, 1:])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    assert losses[:10] == pytest.approx(losses[10:], rel=1e-5)
    assert losses[9] != pytest.approx(losses[0], rel=1e-2)
