"""The benchmark's baseline: GPT-2 in our sizes, trained on our batches, generating with its cache.

The library transformers is an optional dependency. These tests run on it where it is installed,
and elsewhere on a stand-in for the part that is used: a GPT-2 with the same names and defaults.
"""

import sys
from dataclasses import dataclass, replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data_loader import DataLoader
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks.baseline import (
    BaselineTrainer,
    baseline_generate,
    build_baseline,
    gpt2_layout,
    is_installed,
)
from utils.config import ModelConfig, TrainConfig

SIZES: dict[str, Any] = {
    "vocab_size": 11,
    "max_seq_len": 8,
    "d_model": 16,
    "n_layers": 3,
    "n_heads": 2,
}
CONFIG = TrainConfig(ModelConfig(**SIZES, position="rope", bias=False), batch_size=4, seed=5)
TOKENS = np.tile(np.arange(11, dtype=np.uint8), 20)


# --- the stand-in for transformers ---


@dataclass
class GPT2Config:
    """The fields that the baseline sets, with the library's defaults; any other is an error."""

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    bos_token_id: int | None = 50256
    eos_token_id: int | None = 50256
    _attn_implementation: str = "sdpa"


class Block(nn.Module):
    """Pre-norm attention and feed-forward; attends to the cache as well, if there is one."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        width = config.n_embd
        self.n_head = config.n_head
        self.dropout = (config.attn_pdrop, config.resid_pdrop)
        self.ln_1 = nn.LayerNorm(width)
        self.ln_2 = nn.LayerNorm(width)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        inner = config.n_inner or 4 * width
        self.mlp = nn.Sequential(nn.Linear(width, inner), nn.GELU(), nn.Linear(inner, width))

    def forward(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor]:
        B, T, width = x.shape
        qkv = self.c_attn(self.ln_1(x)).view(B, T, 3, self.n_head, -1).permute(2, 0, 3, 1, 4)
        q, keys_values = qkv[0], qkv[1:]  # (B, n_head, T, d_head), (2, B, n_head, T, d_head)
        if cache is not None:
            keys_values = torch.cat([cache, keys_values], dim=3)
        attn, resid = (p if self.training else 0.0 for p in self.dropout)
        k, v = keys_values
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1, dropout_p=attn)
        x = x + F.dropout(self.c_proj(mixed.transpose(1, 2).reshape(B, T, width)), resid)
        return x + F.dropout(self.mlp(self.ln_2(x)), resid), keys_values


class Transformer(nn.Module):
    """Embeddings, blocks and the final norm."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)

    def forward(self, tokens: Tensor, caches: list[Any]) -> tuple[Tensor, list[Any]]:
        start = 0 if caches[0] is None else caches[0].size(3)
        positions = torch.arange(start, start + tokens.size(1))
        x = self.drop(self.wte(tokens) + self.wpe(positions))
        filled = []
        for block, cache in zip(self.h, caches, strict=True):
            x, cache = block(x, cache)
            filled.append(cache)
        return self.ln_f(x), filled


class GPT2LMHeadModel(nn.Module):
    """The model with the interface that the baseline uses: forward with a cache, and generate."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.config = config
        self.transformer = Transformer(config)
        self.lm_head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.lm_head.weight = self.transformer.wte.weight
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def forward(
        self, input_ids: Tensor, past_key_values: Any = None, use_cache: bool = True
    ) -> SimpleNamespace:
        caches = past_key_values or [None] * self.config.n_layer
        x, caches = self.transformer(input_ids, caches)
        past = caches if use_cache else None
        return SimpleNamespace(logits=self.lm_head(x), past_key_values=past)

    def generate(
        self,
        tokens: Tensor,
        *,
        attention_mask: Tensor,
        do_sample: bool = False,
        temperature: float = 1.0,
        top_k: int = 50,
        use_cache: bool = True,
        min_new_tokens: int = 0,
        max_new_tokens: int = 20,
        pad_token_id: int | None = None,
    ) -> Tensor:
        assert do_sample and top_k == 0, "the stand-in only samples, and from all tokens"
        assert attention_mask.all() and min_new_tokens == max_new_tokens
        output = self(tokens, use_cache=use_cache)
        for n in range(max_new_tokens):
            weights = torch.softmax(output.logits[:, -1] / temperature, dim=-1)
            new = torch.multinomial(weights, 1)
            tokens = torch.cat([tokens, new], dim=1)
            if n + 1 < max_new_tokens:
                context = new if use_cache else tokens
                output = self(context, output.past_key_values, use_cache)
        return tokens


@pytest.fixture(autouse=True)
def transformers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real library if it is installed, else the stand-in."""
    if not is_installed():
        stand_in: Any = ModuleType("transformers")
        stand_in.GPT2Config = GPT2Config
        stand_in.GPT2LMHeadModel = GPT2LMHeadModel
        monkeypatch.setitem(sys.modules, "transformers", stand_in)


# --- the tests ---


@pytest.mark.parametrize("d_ff", [None, 24])
def test_it_has_as_many_parameters_as_our_model_in_gpt2s_layout(d_ff: int | None) -> None:
    config = replace(CONFIG.model, d_ff=d_ff)
    models = (TinyTransformerLM(gpt2_layout(config)), build_baseline(config))
    ours, theirs = (sum(p.numel() for p in model.parameters()) for model in models)
    assert ours == theirs


def test_gpt2_layout_keeps_the_sizes_and_drops_the_modern_options() -> None:
    modern = ModelConfig(**SIZES, d_ff=24, norm="rmsnorm", position="rope", tie_weights=False)
    assert gpt2_layout(modern) == ModelConfig(**SIZES, d_ff=24)


def test_its_attention_is_fused_and_there_is_no_dropout() -> None:
    model = build_baseline(CONFIG.model).train()
    assert model.config._attn_implementation == "sdpa"
    tokens = torch.arange(8)[None]
    assert torch.equal(model(tokens).logits, model(tokens).logits)


def test_it_trains_on_the_same_batches_as_our_trainer() -> None:
    trainer = BaselineTrainer(CONFIG, TOKENS, torch.float32)
    inputs: list[Tensor] = []
    trainer.model.transformer.wte.register_forward_pre_hook(
        lambda module, args: inputs.append(args[0])
    )
    for _ in range(3):
        trainer.train_step()
    loader = DataLoader(TOKENS, CONFIG.batch_size, CONFIG.model.max_seq_len, CONFIG.seed)
    expected = [loader.batch(step)[0] for step in range(3)]
    assert all(torch.equal(x, y) for x, y in zip(inputs, expected, strict=True))


def test_its_first_loss_is_the_cross_entropy_of_the_next_token() -> None:
    trainer = BaselineTrainer(CONFIG, TOKENS, torch.float32)
    x, y = trainer.loader.batch(0)
    with torch.no_grad():
        log_probs = torch.log_softmax(trainer.model(x).logits.double(), dim=-1)
    expected = -log_probs.gather(-1, y[..., None]).mean().item()
    assert trainer.train_step() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_learns_in_the_precision_it_is_given(dtype: torch.dtype) -> None:
    trainer = BaselineTrainer(CONFIG, TOKENS, dtype)
    dtypes: set[torch.dtype] = set()
    trainer.model.lm_head.register_forward_hook(lambda module, args, out: dtypes.add(out.dtype))
    losses = [trainer.train_step() for _ in range(60)]
    assert dtypes == {dtype}
    assert losses[-1] < losses[0] - 0.3


def test_training_keeps_no_cache() -> None:
    trainer = BaselineTrainer(CONFIG, TOKENS, torch.float32)
    caches: list[object] = []
    trainer.model.register_forward_hook(
        lambda module, args, out: caches.append(out.past_key_values)
    )
    trainer.train_step()
    assert caches == [None]


def test_it_generates_the_given_number_of_tokens_with_a_cache_in_evaluation_mode() -> None:
    model = build_baseline(CONFIG.model).train()
    widths: list[int] = []
    model.transformer.wte.register_forward_pre_hook(
        lambda module, args: widths.append(args[0].size(1))
    )
    tokens = baseline_generate(model, [3, 1], 6)
    assert tokens.shape == (1, 8)
    assert tokens[0, :2].tolist() == [3, 1]
    assert int(tokens.max()) < 11
    assert widths == [2, 1, 1, 1, 1, 1]  # with a cache, only the new token is processed
    assert tokens.is_inference()
    assert not model.training


def test_the_stand_in_computes_the_same_with_and_without_its_cache() -> None:
    model = GPT2LMHeadModel(
        GPT2Config(vocab_size=11, n_positions=8, n_embd=16, n_layer=2, n_head=2)
    )
    model = model.eval()
    tokens = torch.tensor([[3, 1, 4, 1]])
    whole = model(tokens).logits
    first = model(tokens[:, :3])
    last = model(tokens[:, 3:], first.past_key_values).logits
    torch.testing.assert_close(last[:, 0], whole[:, 3])
