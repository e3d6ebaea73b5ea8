"""Which optimizer updates which parameter, and which parameters decay.

    matrices inside the blocks    Muon, or AdamW with weight decay
    embeddings, output layer      AdamW with weight decay
    norms and biases              AdamW without it: pulling a scale towards zero does not help

An embedding is a table of rows, not a map from features to features. Muon treats a matrix as such a
map, so embeddings are left to AdamW.
"""

import torch
from torch import nn

from newton_schulz import POLAR_EXPRESS
from optimizers import AdamW, Muon
from utils.config import TrainConfig
from utils.errors import run_program


def build_optimizers(
    model: nn.Module, config: TrainConfig, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """The optimizers of a run; together they hold every parameter of the model exactly once.

    Each group keeps its peak learning rate as "peak_lr", which the schedule multiplies. Muon
    iterates in `dtype`, that of the model's matrix products: bfloat16 only where it is fast.
    """
    matrices, tables, vectors = split_parameters(model)
    decay = config.weight_decay
    optimizers: list[torch.optim.Optimizer] = []
    if config.optimizer == "muon" and matrices:
        optimizers.append(
            Muon(
                matrices,
                lr=config.muon_lr,
                momentum=config.momentum,
                weight_decay=decay,
                dtype=dtype,
                polynomials=POLAR_EXPRESS,  # three steps instead of five
            )
        )
    else:
        tables = matrices + tables  # AdamW updates everything
    groups = [
        {"params": tables, "weight_decay": decay},
        {"params": vectors, "weight_decay": 0.0},  # a norm's scale belongs near 1, not near 0
    ]
    groups = [group for group in groups if group["params"]]  # PyTorch refuses an empty group
    optimizers.append(AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            # "lr" is overwritten in every step, so the peak needs a place of its own.
            group["peak_lr"] = group["lr"]
    return optimizers


def split_parameters(
    model: nn.Module,
) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Sort a model's parameters: matrices inside the blocks, other tables, and vectors."""
    matrices: list[nn.Parameter] = []
    tables: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.dim() < 2:  # a norm's scale, or a bias
            vectors.append(parameter)
        elif "blocks." in name:  # q, k, v and output projections, feed-forward layers
            matrices.append(parameter)
        else:  # token and position embeddings, output layer
            tables.append(parameter)
    return matrices, tables, vectors


def set_learning_rate_(optimizer: torch.optim.Optimizer, ratio: float) -> None:
    """Set the learning rate of every group to `ratio` times its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * ratio  # one schedule, although the peaks differ


def main() -> None:
    """Show which optimizer updates which parameters of a small model."""
    from tiny_transformer_lm import TinyTransformerLM

    config = TrainConfig(optimizer="muon")
    for optimizer in build_optimizers(TinyTransformerLM(config.model), config):
        for group in optimizer.param_groups:
            n_values = sum(parameter.numel() for parameter in group["params"])
            print(
                f"{type(optimizer).__name__:<6} lr {group['peak_lr']:<6} "
                f"decay {group['weight_decay']:<4} {len(group['params']):>3} tensors, "
                f"{n_values:>8,} parameters"
            )


if __name__ == "__main__":
    run_program(main)
