"""The first weights: a model that knows nothing should say so.

Equal probabilities for V tokens have the loss log V. A model starts there if its logits are near 0,
and it starts there exactly if they are 0: an untied output matrix of zeros. Projections that write
to the residual stream are zero too, so that a pre-norm block starts as the identity.

`initial_weights` gives the first weights as values, so that engines without PyTorch modules can
start from them too; `initialize_` puts them into a model.
"""

import math
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

from utils.config import ModelConfig
from utils.errors import run_program

if TYPE_CHECKING:
    from tiny_transformer_lm import TinyTransformerLM  # it imports this module

# The ends of the names of all parameters that start at zero.
ZERO_INIT = ("out_proj.weight", "down_proj.weight", "unembedding.weight", "bias")


def initial_weights(
    shapes: dict[str, tuple[int, ...]], seed: int, std: float = 0.02
) -> dict[str, torch.Tensor]:
    """The first value of every parameter, given the shapes by name, in any order.

    Biases, and matrices that write to the residual stream or to untied logits, are zero; weights of
    norms are one; all others are normal with standard deviation std, drawn in alphabetical order of
    the names. PyTorch's own random numbers are neither used nor changed.
    """
    generator = torch.Generator().manual_seed(seed)
    values = {}
    # Sorted, so that an engine that builds its layers in another order draws the same weights.
    for name, shape in sorted(shapes.items()):
        if name.endswith(ZERO_INIT):  # x + 0 = x: a block passes the stream on
            values[name] = torch.zeros(shape)
        elif "norm" in name:  # gamma = 1: the norm only normalizes
            values[name] = torch.ones(shape)
        else:  # N(0, std^2), GPT-2's 0.02: random, so that no two features stay alike
            values[name] = std * torch.randn(shape, generator=generator)
    return values


@torch.no_grad()
def initialize_(model: nn.Module, seed: int) -> None:
    """Set every parameter of the model to its first value."""
    values = initial_weights(shapes_of(model), seed)
    for name, parameter in model.named_parameters():
        parameter.copy_(values[name])  # to the parameter's own device and dtype


@torch.no_grad()
def first_loss(model: "TinyTransformerLM", seed: int = 0) -> float:
    """The loss on random tokens, before any training, in nats."""
    config = model.config
    generator = torch.Generator().manual_seed(seed)
    # Uniform tokens: on these no model can do better than log V, except by luck.
    tokens = torch.randint(config.vocab_size, (16, config.max_seq_len + 1), generator=generator)
    logits = model(tokens[:, :-1])  # (B, T, V); position t predicts token t + 1
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).item()


def shapes_of(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter by its name."""
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def pytorch_default_(model: "TinyTransformerLM", seed: int = 0) -> "TinyTransformerLM":
    """What PyTorch would draw: embeddings with standard deviation 1, matrices by their width."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if "embedding" in name:  # nn.Embedding: N(0, 1), fifty times our std
                parameter.normal_(generator=generator)
            elif parameter.dim() == 2:  # nn.Linear: uniform up to 1 / sqrt(features in)
                bound = 1 / math.sqrt(parameter.size(1))
                parameter.uniform_(-bound, bound, generator=generator)
    return model


def main() -> None:
    """Print the first loss for several beginnings."""
    from tiny_transformer_lm import TinyTransformerLM

    config = ModelConfig(tie_weights=False)
    tied = ModelConfig()  # its output matrix embeds the tokens too, so it can't be zero
    print(f"log V = log {config.vocab_size} = {math.log(config.vocab_size):.4f}\n")
    models = {
        "untied, output zero": TinyTransformerLM(config),  # logits 0: exactly log V
        "tied, std 0.02": TinyTransformerLM(tied),  # logits near 0
        # Entries of size 1 give logits of size sqrt(d_model): the model is sure, and wrong.
        "tied, PyTorch's defaults": pytorch_default_(TinyTransformerLM(tied)),
    }
    for name, model in models.items():
        print(f"{name:26}first loss {first_loss(model):8.4f}")


if __name__ == "__main__":
    run_program(main)
