"""The baseline of tools/benchmark.py: GPT-2 as the library transformers implements it.

It has the same number of layers, heads and features, the same context and vocabulary, random
weights and no dropout. It gets every advantage available: the fused attention that it selects by
default (sdpa), PyTorch's fused AdamW, no gradient clipping, and no KV cache during training. It
computes GPT-2's architecture and ours the newer one of the capstone, so a ratio compares two
programs that do the same job, not two implementations of the same arithmetic.

    python tools/install.py --extra interop
"""

import importlib
import importlib.util
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from data_loader import DataLoader
from utils.config import ModelConfig, TrainConfig
from utils.device import autocast

NOT_INSTALLED = "not measured: python tools/install.py --extra interop"
CPU = torch.device("cpu")


def is_installed() -> bool:
    """Whether transformers is installed, without importing it, which takes seconds."""
    return importlib.util.find_spec("transformers") is not None


def build_baseline(config: ModelConfig) -> Any:
    """A GPT2LMHeadModel of the sizes in `config`, with random weights."""
    transformers: Any = importlib.import_module("transformers")
    return transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.max_seq_len,
            n_embd=config.d_model,
            n_layer=config.n_layers,
            n_head=config.n_heads,
            n_inner=config.ff_width,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=None,  # the defaults, 50256, lie outside our vocabulary
            eos_token_id=None,
        )
    )


def gpt2_layout(config: ModelConfig) -> ModelConfig:
    """The architecture of the baseline as a configuration of ours, in the sizes of `config`."""
    return ModelConfig(
        vocab_size=config.vocab_size,
        max_seq_len=config.max_seq_len,
        d_model=config.d_model,
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        d_ff=config.d_ff,
    )


class BaselineTrainer:
    """Trains the baseline with torch.optim.AdamW on the same batches as our Trainer."""

    def __init__(self, config: TrainConfig, tokens: np.ndarray, dtype: torch.dtype) -> None:
        self.model = build_baseline(config.model).train()
        self.loader = DataLoader(tokens, config.batch_size, config.model.max_seq_len, config.seed)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True
        )
        self.dtype = dtype
        self.step = 0

    def train_step(self) -> float:
        """One optimizer step; returns the loss, the mean over all positions."""
        x, y = self.loader.batch(self.step)
        with autocast(CPU, self.dtype):
            logits = self.model(input_ids=x, use_cache=False).logits  # (B, T, vocab_size)
        loss = F.cross_entropy(logits.float().flatten(0, 1), y.flatten())
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()


@torch.inference_mode()
def baseline_generate(model: Any, prompt: list[int], n_tokens: int) -> Tensor:
    """Sample with the model's own `generate` and KV cache: (1, len(prompt) + n_tokens) ids."""
    tokens = torch.tensor([prompt])
    return model.eval().generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=True,
        temperature=0.8,  # as in SampleConfig
        top_k=0,  # no truncation, as in ours; the default of 50 would cost extra time
        use_cache=True,
        min_new_tokens=n_tokens,
        max_new_tokens=n_tokens,
        pad_token_id=0,
    )
