"""TextGenerator: a model that speaks, one token at a time.

    repeat:   logits = model(text so far)        what could come next?
              token  = choose(logits)            temperature, top-k, top-p, min-p, then a draw
              text   = text + token

The model sees `context` tokens at most. When the text outgrows that, the start of its window jumps
by half a context (`window_start`), so that the work of a fresh start is needed only now and then:
between the jumps, a cache of keys and values makes a new token cost one position of work.

Dimensions: B rows (samples drawn together), V vocabulary.
"""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from greedy import greedy
from stop_text import StopText
from temperature import apply_temperature, sample
from tokenizer import CharTokenizer
from top_k import top_k_filter
from top_p import min_p_filter, top_p_filter
from utils.config import ModelConfig, SampleConfig
from utils.errors import run_program
from utils.kv_cache import KVCache

Choose = Callable[[Tensor], Tensor]  # logits (B, V) -> ids (B,)
DecodeStep = Callable[[Tensor], Tensor]  # the newest token of each row (B,) -> logits (B, V)
MakeDecodeStep = Callable[[nn.Module, KVCache], DecodeStep]


def window_start(length: int, context: int) -> int:
    """Where the model's view of a text of `length` tokens begins: 0, then jumps of half a context.

    A function of the length alone, so loops with and without a cache see the same windows.
    """
    if length <= context:
        return 0
    jump = (context + 1) // 2
    return -(-(length - context) // jump) * jump  # rounded up to whole jumps


def choose_with(config: SampleConfig) -> Choose:
    """The rule that turns logits into tokens: temperature, then the filters, then the draw."""
    if config.temperature == 0:
        return greedy
    generator = torch.Generator().manual_seed(config.seed)

    def choose(logits: Tensor) -> Tensor:
        logits = apply_temperature(logits.float().cpu(), config.temperature)
        logits = top_k_filter(logits, config.top_k)
        if config.top_p is not None:
            logits = top_p_filter(logits, config.top_p)
        if config.min_p is not None:
            logits = min_p_filter(logits, config.min_p)
        return sample(logits, generator)

    return choose


def forward_step(model: nn.Module, cache: KVCache) -> DecodeStep:
    """One decode step is one forward pass over one token per row; the cache grows by it."""
    return lambda newest: model(newest[:, None], cache)[:, -1]


class NextToken:
    """The logits of the next token, for a batch of texts that each grow by one token per call.

    With a cache only new tokens are computed, by a decode step; without, the whole window is. A
    faster step than the model's own forward pass can be handed in (08_engineering/fast_decoder.py).
    """

    def __init__(
        self,
        model: nn.Module,
        config: ModelConfig,
        texts: list[list[int]],
        use_cache: bool = True,
        make_decode_step: MakeDecodeStep = forward_step,
    ) -> None:
        weight = next(model.parameters())
        self.model, self.config, self.texts = model, config, texts
        self.device, self.dtype = weight.device, weight.dtype
        self.cache = self._new_cache(len(texts)) if use_cache else None
        self.decode_step = make_decode_step(model, self.cache) if self.cache else None
        self.starts = [-1] * len(texts)  # of the windows in the cache; -1 is none yet

    def logits(self) -> Tensor:
        """Logits (B, V) of the token after each text."""
        if self.cache is None or self.decode_step is None:
            return self._whole_windows(range(len(self.texts)), None)
        starts = [window_start(len(text), self.config.max_seq_len) for text in self.texts]
        moved = [row for row, start in enumerate(starts) if start != self.starts[row]]
        self.starts = starts
        if len(moved) == len(self.texts):
            self.cache.truncate([0] * len(moved))
            return self._whole_windows(moved, self.cache)
        if moved:  # bring these rows to where the others are: all but the newest token
            fresh = self._new_cache(len(moved))
            self._whole_windows(moved, fresh, leave_out=1)
            self.cache.replace_rows(moved, fresh)
        newest = torch.tensor([text[-1] for text in self.texts], device=self.device)
        return self.decode_step(newest)

    def _whole_windows(
        self, rows: Sequence[int], cache: KVCache | None, leave_out: int = 0
    ) -> Tensor:
        """Run these rows' windows, padded on the right; return the logits at their last tokens."""
        context = self.config.max_seq_len
        windows = [self.texts[row][window_start(len(self.texts[row]), context) :] for row in rows]
        windows = [window[: len(window) - leave_out] for window in windows]
        lengths = [len(window) for window in windows]
        padded = torch.zeros(len(windows), max(lengths), dtype=torch.long)
        for row, window in zip(padded, windows, strict=True):
            row[: len(window)] = torch.tensor(window)
        logits = self.model(padded.to(self.device), cache)  # (rows, T, V)
        if cache is not None:
            cache.truncate(lengths)
        last = torch.tensor(lengths, device=self.device) - 1
        return logits[torch.arange(len(windows), device=self.device), last]

    def _new_cache(self, n_rows: int) -> KVCache:
        return KVCache(self.config, n_rows, self.dtype, self.device)


@torch.inference_mode()
def generate_tokens(
    model: nn.Module,
    config: ModelConfig,
    prompts: Sequence[Sequence[int]],
    max_tokens: int,
    choose: Choose,
    use_cache: bool = True,
    make_decode_step: MakeDecodeStep = forward_step,
) -> Iterator[list[int]]:
    """Continue each prompt, together; yield one new token for each of them, max_tokens times.

    prompts may differ in length, and none may be empty.
    """
    texts = [list(prompt) for prompt in prompts]
    if not all(texts):
        raise ValueError("every prompt needs at least one token to continue")
    next_token = NextToken(model, config, texts, use_cache, make_decode_step)
    for _ in range(max_tokens if texts else 0):
        tokens = choose(next_token.logits()).tolist()
        for text, token in zip(texts, tokens, strict=True):
            text.append(token)
        yield tokens


class TextGenerator:
    """A model and its tokenizer, ready to continue text."""

    def __init__(
        self,
        model: nn.Module,
        config: ModelConfig,
        tokenizer: CharTokenizer,
        make_decode_step: MakeDecodeStep = forward_step,
    ) -> None:
        self.model = model.eval()
        self.config = config
        self.tokenizer = tokenizer
        self.make_decode_step = make_decode_step

    @property
    def opening(self) -> str:
        """What an empty prompt starts from: a newline, or the first character if there is none."""
        characters = self.tokenizer.characters
        return "\n" if "\n" in characters else characters[0]

    def stream(self, sampling: SampleConfig) -> Iterator[str]:
        """Continue `sampling.prompt`, piece by piece, without the prompt itself."""
        for (piece,) in self.stream_batch([sampling.prompt], sampling):
            yield piece

    def generate(self, prompts: Sequence[str], sampling: SampleConfig) -> list[str]:
        """Continue several prompts together; returns the continuations."""
        pieces = list(self.stream_batch(prompts, sampling))
        return ["".join(column) for column in zip(*pieces, strict=True)] or [""] * len(prompts)

    def stream_batch(
        self, prompts: Sequence[str], sampling: SampleConfig
    ) -> Iterator[tuple[str, ...]]:
        """Continue prompts together; yields the new text of each, "" where one has ended.

        The stop text itself is never shown.
        """
        tokens = [self.tokenizer.encode(prompt or self.opening) for prompt in prompts]
        stops = [StopText(sampling.stop) for _ in prompts]
        steps = generate_tokens(
            self.model,
            self.config,
            tokens,
            sampling.max_tokens,
            choose_with(sampling),
            make_decode_step=self.make_decode_step,
        )
        for step in steps:
            texts = [self.tokenizer.decode([token]) for token in step]
            yield tuple(stop.show(text) for stop, text in zip(stops, texts, strict=True))
            if all(stop.ended for stop in stops):
                return
        yield tuple(stop.rest() for stop in stops)


def main() -> None:
    """Let an untrained model speak: noise, but the same noise with and without the cache."""
    from tiny_transformer_lm import TinyTransformerLM

    tokenizer = CharTokenizer.train("abcdefghijklmnopqrstuvwxyz \n")
    config = ModelConfig(tokenizer.vocab_size, max_seq_len=16, d_model=32, n_layers=2)
    model = TinyTransformerLM(config).eval()
    prompt = tokenizer.encode("once upon a time")
    for use_cache in (True, False):
        choose = choose_with(SampleConfig(temperature=1.0))
        steps = generate_tokens(model, config, [prompt], 40, choose, use_cache)
        text = tokenizer.decode([token for (token,) in steps])
        print(f"use_cache={use_cache!s:<5} {text!r}")


if __name__ == "__main__":
    run_program(main)
