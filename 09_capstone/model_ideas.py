"""Ideas for the model that the course does not use, each a few lines over `TinyTransformerLM`.

tools/ablations.py trains each of them in place of `laptop`; ablations.md says what they gave. They
come from papers and from public contests of fast training (Jordan et al. 2024,
github.com/KellerJordan/modded-nanogpt). Each begins as the model without the idea: what it adds is
zero, or has no effect, until training changes it. They are for training: generation with a cache,
and the other engines, do not know what they add.

An attention module calls `attend` with its heads, so an idea about heads wraps `attend`: it needs
no attention module of its own.

Dimensions: B batch, T positions, V = vocab_size, H = n_heads, d = d_model.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attention import AttentionFunction
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.kv_cache import KVCache

Rotation = tuple[Tensor, Tensor] | None
CAP = 15.0  # of the logits


class ValueResiduals(TinyTransformerLM):
    """Every layer mixes its values with those of the first: v = (1 - s) v + s v_1.

    Zhou et al. 2024, "Value residual learning". s is learned, one per layer, and starts at 0.
    """

    def __init__(self, config: ModelConfig, parts: Parts | None = None, seed: int = 0) -> None:
        super().__init__(config, parts, seed)
        self.first_share = nn.Parameter(torch.zeros(config.n_layers))  # s
        self.first_values: Tensor | None = None

    def _attend(self, layer: int, rotation: Rotation, cache: KVCache | None) -> AttentionFunction:
        attend = super()._attend(layer, rotation, cache)

        def with_first_values(
            q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
        ) -> tuple[Tensor, Tensor | None]:
            if layer == 0 or self.first_values is None:
                self.first_values = v  # (B, H, T, d_head)
            else:
                s = self.first_share[layer].to(v.dtype)
                v = torch.lerp(v, self.first_values, s)
            return attend(q, k, v, mask)

        return with_first_values


class ValueEmbeddings(TinyTransformerLM):
    """Every layer adds a second embedding of the token to its values; tables of zeros at first.

    From the contest of fast training, after the same paper as value residuals.
    """

    def __init__(self, config: ModelConfig, parts: Parts | None = None, seed: int = 0) -> None:
        super().__init__(config, parts, seed)
        size = (config.vocab_size, config.n_layers * config.d_model)
        self.value_table = nn.Parameter(torch.zeros(size))
        self.token_values: tuple[Tensor, ...] = ()

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """tokens (B, T) -> logits (B, T, V)."""
        heads = F.embedding(tokens, self.value_table)  # (B, T, n_layers * d)
        heads = heads.unflatten(-1, (-1, self.config.n_heads, self.config.d_head))
        self.token_values = heads.permute(2, 0, 3, 1, 4).unbind()  # per layer (B, H, T, d_head)
        return super().forward(tokens, cache)

    def _attend(self, layer: int, rotation: Rotation, cache: KVCache | None) -> AttentionFunction:
        attend = super()._attend(layer, rotation, cache)

        def with_token_values(
            q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
        ) -> tuple[Tensor, Tensor | None]:
            return attend(q, k, v + self.token_values[layer].to(v.dtype), mask)

        return with_token_values


class GatedHeads(TinyTransformerLM):
    """Each head can be turned down: its output is multiplied by 2 sigmoid(w q), at first 1.

    After Qiu et al. 2025, "Gated attention for large language models", who compute the gate from
    the input of the layer; here it is computed from the head's own query.
    """

    def __init__(self, config: ModelConfig, parts: Parts | None = None, seed: int = 0) -> None:
        super().__init__(config, parts, seed)
        size = (config.n_layers, config.n_heads, config.d_head)
        self.gates = nn.Parameter(torch.zeros(size))  # w

    def _attend(self, layer: int, rotation: Rotation, cache: KVCache | None) -> AttentionFunction:
        attend = super()._attend(layer, rotation, cache)

        def gated(
            q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
        ) -> tuple[Tensor, Tensor | None]:
            output, weights = attend(q, k, v, mask)  # (B, H, T, d_head)
            w = self.gates[layer][..., None].to(q.dtype)  # (H, d_head, 1)
            return output * (2 * torch.sigmoid(q @ w)), weights

        return gated


class SmearedEmbeddings(TinyTransformerLM):
    """Each embedding gets a share of the one before it: x_t + g * x_{t-1}, g zero at first.

    So the first layer sees pairs of characters. From the contest of fast training.
    """

    def __init__(self, config: ModelConfig, parts: Parts | None = None, seed: int = 0) -> None:
        super().__init__(config, parts, seed)
        self.smear = nn.Parameter(torch.zeros(config.d_model))  # g, one per feature

    def embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """tokens (B, T) -> (B, T, d)."""
        x = super().embed(tokens, positions)
        before = F.pad(x[:, :-1], (0, 0, 1, 0))  # x_{t-1}; nothing comes before the first
        return x + self.smear * before


class SoftCappedLogits(TinyTransformerLM):
    """Logits that cannot exceed a cap c: c tanh(z / c). Gemma 2 (2024), section 2."""

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """tokens (B, T) -> logits (B, T, V)."""
        logits = super().forward(tokens, cache)
        return CAP * torch.tanh(logits.float() / CAP)


class TwoTargets(TinyTransformerLM):
    """In training, predicts the token after the next one as well, by a second output matrix.

    Gloeckle et al. 2024, "Better and faster large language models via multi-token prediction". In
    training the logits are (B, 2T - 1, V): T for the next token, then T - 1 for the one after it.
    """

    def __init__(self, config: ModelConfig, parts: Parts | None = None, seed: int = 0) -> None:
        super().__init__(config, parts, seed)
        self.second_output = nn.Parameter(torch.zeros(config.vocab_size, config.d_model))
        self.features = torch.empty(0)
        self.final_norm.register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: object, output: Tensor) -> None:
        self.features = output  # (B, T, d)

    def forward(self, tokens: Tensor, cache: KVCache | None = None) -> Tensor:
        """tokens (B, T) -> logits (B, T, V); in training (B, 2T - 1, V)."""
        logits = super().forward(tokens, cache)
        if not self.training:
            return logits
        second = F.linear(self.features[:, :-1], self.second_output)  # the last has no target here
        return torch.cat([logits, second], dim=1)


def main() -> None:
    """Show what each idea adds, and that the untrained model computes the same with and without."""
    config = ModelConfig(tie_weights=False)
    tokens = torch.arange(20)[None]
    plain = TinyTransformerLM(config)
    n_plain = sum(p.numel() for p in plain.parameters())
    ideas = (ValueResiduals, ValueEmbeddings, GatedHeads, SmearedEmbeddings, SoftCappedLogits)
    for idea in (*ideas, TwoTargets):
        model = idea(config).eval()
        added = sum(p.numel() for p in model.parameters()) - n_plain
        same = torch.allclose(model(tokens), plain(tokens), atol=1e-6)
        print(f"{idea.__name__:18} {added:>7,} parameters more; begins as the plain model: {same}")


if __name__ == "__main__":
    run_program(main)
