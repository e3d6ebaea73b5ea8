"""The peer of tools/benchmark.py: GPT-2 as the library transformers writes it, of the same sizes.

It has as many layers, heads and features, the same context and vocabulary, random weights and no
dropout. What it can be given, it is given: its attention is the fused one it chooses by itself
(sdpa), its AdamW is PyTorch's fused one, gradients are not clipped, and training keeps no cache of
keys and values. It computes GPT-2's function, ours the newer one of the capstone; a ratio between
them is one of programs that do the same job, and not of the same sums done twice.

    pip install -e .[interop]
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

INSTALL = "not measured: pip install -e .[interop]"
CPU = torch.device("cpu")


def is_installed() -> bool:
    """Whether transformers is there; nothing is imported yet, which takes seconds."""
    return importlib.util.find_spec("transformers") is not None


def build_peer(config: ModelConfig) -> Any:
    """GPT2LMHeadModel with the sizes of `config`, its weights random."""
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
            bos_token_id=None,  # those of GPT-2's own vocabulary lie beyond ours
            eos_token_id=None,
        )
    )


def classic(config: ModelConfig) -> ModelConfig:
    """What the peer computes, in our words: GPT-2's layout in the sizes of `config`."""
    return ModelConfig(
        vocab_size=config.vocab_size,
        max_seq_len=config.max_seq_len,
        d_model=config.d_model,
        n_layers=config.n_layers,
        n_heads=config.n_heads,
        d_ff=config.d_ff,
    )


class PeerTrainer:
    """The peer with torch.optim.AdamW, on the batches that our Trainer takes, in their order."""

    def __init__(self, config: TrainConfig, tokens: np.ndarray, dtype: torch.dtype) -> None:
        self.model = build_peer(config.model).train()
        self.loader = DataLoader(tokens, config.batch_size, config.model.max_seq_len, config.seed)
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.1, fused=True
        )
        self.dtype = dtype
        self.step = 0

    def train_step(self) -> float:
        """One step; returns the loss, the mean over all positions."""
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
def peer_generate(model: Any, prompt: list[int], n_tokens: int) -> Tensor:
    """Its own `generate` with its cache, drawing as ours does: (1, prompt and n_tokens)."""
    tokens = torch.tensor([prompt])
    return model.eval().generate(
        tokens,
        attention_mask=torch.ones_like(tokens),
        do_sample=True,
        temperature=0.8,  # that of SampleConfig
        top_k=0,  # all tokens, as ours; its default of 50 would be one more thing to do
        use_cache=True,
        min_new_tokens=n_tokens,
        max_new_tokens=n_tokens,
        pad_token_id=0,
    )
