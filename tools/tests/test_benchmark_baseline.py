"""The benchmark's peer is GPT-2 of our sizes, set up so that it has nothing to complain about."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data_loader import DataLoader
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks.baseline import PeerTrainer, build_peer, classic, is_installed, peer_generate
from utils.config import ModelConfig, TrainConfig

needs_peer = pytest.mark.skipif(
    not is_installed(), reason="needs transformers (pip install -e .[interop])"
)
SIZES: dict[str, Any] = {
    "vocab_size": 11,
    "max_seq_len": 8,
    "d_model": 16,
    "n_layers": 3,
    "n_heads": 2,
}
CONFIG = TrainConfig(ModelConfig(**SIZES, position="rope", bias=False), batch_size=4, seed=5)
TOKENS = np.tile(np.arange(11, dtype=np.uint8), 20)


@needs_peer
def test_it_has_as_many_parameters_as_our_model_in_gpt2s_layout() -> None:
    ours = TinyTransformerLM(classic(CONFIG.model))
    theirs = build_peer(CONFIG.model)
    sizes = [sum(p.numel() for p in model.parameters()) for model in (ours, theirs)]
    assert sizes[0] == sizes[1]


def test_what_it_computes_is_gpt2_in_the_same_sizes() -> None:
    modern = ModelConfig(**SIZES, d_ff=24, norm="rmsnorm", position="rope", tie_weights=False)
    assert classic(modern) == ModelConfig(**SIZES, d_ff=24)


@needs_peer
def test_its_attention_is_the_fused_one_and_nothing_drops_out() -> None:
    model = build_peer(CONFIG.model).train()
    assert model.config._attn_implementation == "sdpa"
    tokens = torch.arange(8)[None]
    assert torch.equal(model(tokens).logits, model(tokens).logits)


@needs_peer
def test_it_learns_from_the_batches_that_ours_takes() -> None:
    trainer = PeerTrainer(CONFIG, TOKENS, torch.float32)
    seen: list[Tensor] = []
    trainer.model.transformer.wte.register_forward_pre_hook(
        lambda module, args: seen.append(args[0])
    )
    for _ in range(3):
        trainer.train_step()
    loader = DataLoader(TOKENS, CONFIG.batch_size, CONFIG.model.max_seq_len, CONFIG.seed)
    expected = [loader.batch(step)[0] for step in range(3)]
    assert all(torch.equal(x, y) for x, y in zip(seen, expected, strict=True))


@needs_peer
def test_its_first_loss_is_that_of_pytorch_for_the_next_token() -> None:
    trainer = PeerTrainer(CONFIG, TOKENS, torch.float32)
    x, y = trainer.loader.batch(0)
    with torch.no_grad():
        shares = torch.log_softmax(trainer.model(x).logits.double(), dim=-1)
    expected = -shares.gather(-1, y[..., None]).mean().item()
    assert trainer.train_step() == pytest.approx(expected, abs=1e-5)


@needs_peer
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_learns_in_the_precision_it_is_given(dtype: torch.dtype) -> None:
    trainer = PeerTrainer(CONFIG, TOKENS, dtype)
    seen: set[torch.dtype] = set()
    trainer.model.lm_head.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
    losses = [trainer.train_step() for _ in range(60)]
    assert seen == {dtype}
    assert losses[-1] < losses[0] - 0.3


@needs_peer
def test_training_keeps_no_cache() -> None:
    trainer = PeerTrainer(CONFIG, TOKENS, torch.float32)
    caches: list[object] = []
    trainer.model.register_forward_hook(
        lambda module, args, out: caches.append(out.past_key_values)
    )
    trainer.train_step()
    assert caches == [None]


@needs_peer
def test_it_speaks_with_a_cache_in_evaluation_mode_and_as_long_as_asked() -> None:
    model = build_peer(CONFIG.model).train()
    widths: list[int] = []
    model.transformer.wte.register_forward_pre_hook(
        lambda module, args: widths.append(args[0].size(1))
    )
    tokens = peer_generate(model, [3, 1], 6)
    assert tokens.shape == (1, 8)
    assert tokens[0, :2].tolist() == [3, 1]
    assert int(tokens.max()) < 11
    assert widths == [2, 1, 1, 1, 1, 1]  # with a cache, a new token is all that is read
    assert tokens.is_inference()
    assert not model.training
