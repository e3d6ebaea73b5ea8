"""Which optimizer moves which parameter, and which parameters decay.

    matrices inside the blocks    Muon, or AdamW with decay
    embeddings, output layer      AdamW with decay
    norms and biases              AdamW without: pulling a scale towards zero helps nothing

An embedding is a table of rows and not a map from features to features, so Muon, which treats a
matrix as a map, leaves it to AdamW.
"""

import torch
from torch import nn

from optimizers import AdamW, Muon
from utils.config import TrainConfig
from utils.errors import run_program


def build_optimizers(
    model: nn.Module, config: TrainConfig, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """The optimizers of a run, together holding every parameter of the model once.

    Each group remembers its peak learning rate as "peak_lr", which the schedule multiplies. Muon
    iterates in `dtype`, that of the model's own products: bfloat16 only where it is fast.
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
            )
        )
    else:
        tables = matrices + tables
    groups = [
        {"params": tables, "weight_decay": decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    optimizers.append(AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
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
        if parameter.dim() < 2:
            vectors.append(parameter)
        elif "blocks." in name:
            matrices.append(parameter)
        else:
            tables.append(parameter)
    return matrices, tables, vectors


def main() -> None:
    """Show who moves what in a small model."""
    from tiny_transformer_lm import TinyTransformerLM

    config = TrainConfig(optimizer="muon")
    for optimizer in build_optimizers(TinyTransformerLM(config.model), config):
        for group in optimizer.param_groups:
            numbers = sum(parameter.numel() for parameter in group["params"])
            print(
                f"{type(optimizer).__name__:<6} lr {group['peak_lr']:<6} "
                f"decay {group['weight_decay']:<4} {len(group['params']):>3} tensors, "
                f"{numbers:>8,} numbers"
            )


if __name__ == "__main__":
    run_program(main)
