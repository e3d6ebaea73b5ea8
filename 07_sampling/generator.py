"""TextGenerator: text in, text out, as a stream or all at once.

    prompt -> token ids -> decoding loop -> token ids -> text, until the stop string appears

decoding_loop.py runs the model; this file converts between text and tokens, and combines the other
files of this lesson into the rule that chooses each token.

Dimensions: B rows (prompts continued together), V vocabulary.
"""

import unicodedata
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from any_tokenizer import Tokenizer
from decoding_loop import Choose, MakeDecodeStep, forward_step, generate_tokens
from greedy import greedy
from stop_string import StopString
from temperature import apply_temperature, sample
from top_k import top_k_filter
from top_p import min_p_filter, top_p_filter
from utils.config import ModelConfig, SampleConfig
from utils.errors import run_program


def choose_with(config: SampleConfig) -> Choose:
    """The rule that chooses a token from its logits: temperature, then the filters, then a draw."""
    if config.temperature == 0:
        return greedy  # filters would keep the same best token
    # On the CPU, and separate from the global generator: a seed gives the same text on any device.
    generator = torch.Generator().manual_seed(config.seed)

    def choose(logits: Tensor) -> Tensor:
        # Temperature first: top-p and min-p depend on the probabilities that it changes.
        logits = apply_temperature(logits.float().cpu(), config.temperature)  # (B, V)
        logits = top_k_filter(logits, config.top_k)
        if config.top_p is not None:
            logits = top_p_filter(logits, config.top_p)
        if config.min_p is not None:
            logits = min_p_filter(logits, config.min_p)
        return sample(logits, generator)

    return choose


def match_vocabulary(text: str, tokenizer: Tokenizer) -> str:
    """Rewrite text in the Unicode form whose characters are all in the vocabulary, if there is one.

    The same letter can be one code point (NFC, most keyboards) or a base and an accent (NFD, macOS
    file names), and a model knows only the form of its training text. If neither form
    helps, the text is returned unchanged.
    """
    forms = (text, unicodedata.normalize("NFC", text), unicodedata.normalize("NFD", text))
    return next((form for form in forms if tokenizer.accepts(form)), text)


class TextGenerator:
    """A model and its tokenizer, ready to continue text."""

    def __init__(
        self,
        model: nn.Module,
        config: ModelConfig,
        tokenizer: Tokenizer,
        make_decode_step: MakeDecodeStep = forward_step,
    ) -> None:
        self.model = model.eval()  # no dropout
        self.config = config
        self.tokenizer = tokenizer
        self.make_decode_step = make_decode_step

    @property
    def default_prompt(self) -> str:
        """Used for an empty prompt: a newline, or the first token if there is no newline."""
        return "\n" if self.tokenizer.accepts("\n") else self.tokenizer.decode([0])

    def encode(self, prompt: str) -> list[int]:
        """The token ids of a prompt. Raises UsageError for a character the model does not know."""
        prompt = prompt or self.default_prompt
        return self.tokenizer.encode(match_vocabulary(prompt, self.tokenizer))

    def stream(self, sampling: SampleConfig) -> Iterator[str]:
        """Continue `sampling.prompt`; yields the new text in pieces, without the prompt."""
        for (piece,) in self.stream_batch([sampling.prompt], sampling):
            yield piece

    def generate(self, prompts: Sequence[str], sampling: SampleConfig) -> list[str]:
        """Continue several prompts as one batch; returns the new text of each."""
        pieces = list(self.stream_batch(prompts, sampling))
        # zip turns one tuple per step into one column per prompt; without steps it gives nothing.
        return ["".join(column) for column in zip(*pieces, strict=True)] or [""] * len(prompts)

    def stream_batch(
        self, prompts: Sequence[str], sampling: SampleConfig
    ) -> Iterator[tuple[str, ...]]:
        """Continue prompts as one batch; yields the new text of each, "" after its stop string.

        The stop string itself is never part of the text. A token that ends within a character
        yields "", and the character comes with the token that completes it.
        """
        stop = match_vocabulary(sampling.stop or "", self.tokenizer)
        stops = [StopString(stop) for _ in prompts]
        streams = [self.tokenizer.stream_decoder() for _ in prompts]
        steps = generate_tokens(
            self.model,
            self.config,
            [self.encode(prompt) for prompt in prompts],
            sampling.max_tokens,
            choose_with(sampling),
            make_decode_step=self.make_decode_step,
        )
        for tokens in steps:
            # Every row continues until all have stopped; a finished one yields "".
            pieces = [stream.feed(token) for stream, token in zip(streams, tokens, strict=True)]
            yield tuple(stop.feed(piece) for stop, piece in zip(stops, pieces, strict=True))
            if all(stop.finished for stop in stops):
                return
        # The end: half a character, then text that was held back and did not stop
        ends = [stream.flush() for stream in streams]
        yield tuple(stop.feed(end) + stop.flush() for stop, end in zip(stops, ends, strict=True))


def main() -> None:
    """Generate from an untrained model: noise, but the same noise with and without the cache."""
    from tiny_transformer_lm import TinyTransformerLM
    from tokenizer import CharTokenizer

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
