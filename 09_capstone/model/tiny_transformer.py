"""The Shakespeare model on one page, in PyTorch alone: the presets `smoke`, `laptop` and `full`.

    x = embedding[tokens];   in each block: x = x + attention(norm(x)), then x = x + mlp(norm(x))
    logits = norm(x) @ unembedding^T

Run it, and it trains for a minute, then writes. The parameters are named as in the checkpoints of
the course: load(safetensors.torch.load_file(PATH)) is a model that you trained with train.py.
Dimensions: B batch, T positions, V tokens; d_model features = n_heads * d_head.
"""

try:
    import torch
    from torch import Tensor, nn
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None
import time
from contextlib import suppress


def rms_norm(x: Tensor) -> Tensor:
    """Scale the features to a mean square of 1. nn.RMSNorm also has a learned weight for each."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-5)


def rotate(x: Tensor) -> Tensor:
    """RoPE: at position t, turn the pair x[i], x[i + d_head / 2] by t * 10000^(-2i / d_head)."""
    T, d_head = x.shape[-2:]
    frequencies = 10_000.0 ** (-torch.arange(0, d_head, 2, device=x.device) / d_head)
    angles = torch.arange(T, device=x.device)[:, None] * frequencies  # (T, d_head / 2)
    cos, sin = angles.cos(), angles.sin()
    first, second = x.chunk(2, dim=-1)  # each (B, n_heads, T, d_head / 2)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Attention(nn.Module):  # each position gathers what it needs from those before it
    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.q_proj = nn.Linear(d_model, d_model, bias=False)  # query: what am I looking for?
        self.k_proj = nn.Linear(d_model, d_model, bias=False)  # key: what do I have?
        self.v_proj = nn.Linear(d_model, d_model, bias=False)  # value: what do I pass on?
        self.out_proj = nn.Linear(d_model, d_model, bias=False)  # mixes what the heads found

    def forward(self, x: Tensor) -> Tensor:
        B, T, d_model = x.shape
        qkv = (self.q_proj(x), self.k_proj(x), self.v_proj(x))
        q, k, v = (y.view(B, T, self.n_heads, -1).transpose(1, 2) for y in qkv)
        q, k = rotate(rms_norm(q)), rotate(rms_norm(k))  # (B, n_heads, T, d_head); qk-norm, RoPE
        scores = q @ k.transpose(-2, -1) / q.size(-1) ** 0.5  # (B, n_heads, T, T)
        future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)  # key j > query i
        weights = scores.masked_fill(future, -torch.inf).softmax(-1)  # each row sums to 1
        heads = weights @ v  # (B, n_heads, T, d_head): a weighted mean of the values
        return self.out_proj(heads.transpose(1, 2).reshape(B, T, d_model))


class MLP(nn.Module):  # W_down max(0, W_up x)^2, at each position by itself
    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.up_proj = nn.Linear(d_model, 4 * d_model, bias=False)
        self.down_proj = nn.Linear(4 * d_model, d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.up_proj(x).relu().square())  # (B, T, d_model)


class Block(nn.Module):  # two updates of x, each computed from a normalized copy
    def __init__(self, d_model: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(d_model, eps=1e-5)
        self.attention = Attention(d_model, n_heads)
        self.feed_forward_norm = nn.RMSNorm(d_model, eps=1e-5)
        self.feed_forward = MLP(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # x is the residual stream: it is only ever added to
        x = x + self.dropout(self.attention(self.attention_norm(x)))  # (B, T, d_model)
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class TinyTransformer(nn.Module):  # tokens in, a score for every possible next token out
    def __init__(self, V: int, d_model: int, n_layers: int, n_heads: int, dropout: float) -> None:
        super().__init__()
        self.token_embedding = nn.Embedding(V, d_model)
        self.blocks = nn.ModuleList(Block(d_model, n_heads, dropout) for _ in range(n_layers))
        self.final_norm = nn.RMSNorm(d_model, eps=1e-5)
        self.unembedding = nn.Linear(d_model, V, bias=False)
        zero = ("out_proj.weight", "down_proj.weight", "unembedding.weight")
        for name, weight in self.named_parameters():
            if weight.dim() == 2:  # at first each block adds nothing, and the loss is log V
                nn.init.normal_(weight, std=0.0 if name.endswith(zero) else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens)  # (B, T) -> (B, T, d_model)
        for block in self.blocks:
            x = block(x)
        return self.unembedding(self.final_norm(x))  # (B, T, V)


def load(weights: dict[str, Tensor], n_heads: int = 4) -> TinyTransformer:
    """The model of a checkpoint. Shapes tell all sizes but n_heads, which is 2 for `smoke`."""
    V, d_model = weights["token_embedding.weight"].shape
    n_layers = sum(name.endswith("out_proj.weight") for name in weights)
    model = TinyTransformer(V, d_model, n_layers, n_heads, dropout=0.0)
    model.load_state_dict(weights)
    return model.eval()


def train(model: nn.Module, text: Tensor, seconds: float, B: int, T: int) -> None:
    """AdamW on random windows of text (n,); the learning rate rises, then falls to 0 with time."""
    optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.99), weight_decay=0.01)
    start = time.perf_counter()
    while (left := 1 - (time.perf_counter() - start) / seconds) > 0:
        optimizer.param_groups[0]["lr"] = 4e-3 * min(20 * (1 - left), left)
        windows = text[torch.randint(len(text) - T, (B, 1)) + torch.arange(T + 1)]  # (B, T + 1)
        logits = model(windows[:, :-1])  # (B, T, V): each position predicts the token after it
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())  # -log p
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(f"\rloss {loss:.3f}, {left * seconds:.0f} s left  ", end="", flush=True)


@torch.inference_mode()
def generate(model: nn.Module, tokens: Tensor, n: int, T: int, temperature: float) -> Tensor:
    """Continue tokens (B, n_prompt) by n, each drawn from what the model says after the last T."""
    for _ in range(n):
        logits = model(tokens[:, -T:])[:, -1] / temperature  # (B, V): what follows the last one
        tokens = torch.cat((tokens, torch.multinomial(logits.softmax(-1), num_samples=1)), dim=1)
    return tokens


def main(seconds: float = 60.0) -> None:
    from utils.corpus import load_corpus  # Tiny Shakespeare, or else the mock plays

    torch.manual_seed(0)
    corpus = load_corpus()
    print(corpus.origin)
    characters = sorted(set(corpus.text))
    model = TinyTransformer(len(characters), d_model=128, n_layers=4, n_heads=4, dropout=0.0)
    text = torch.tensor([characters.index(c) for c in corpus.text])  # (n,)
    with suppress(KeyboardInterrupt):  # Ctrl-C: write with what has been learned so far
        train(model, text, seconds, B=16, T=64)
    tokens = generate(model, torch.tensor([[characters.index("\n")]]), 500, T=64, temperature=0.8)
    print("\n" + "".join(characters[token] for token in tokens[0]))


if __name__ == "__main__":
    from utils.errors import run_program

    run_program(main)
