"""TextGenerator: text in, text out, as a stream or all at once.

    prompt -> token ids -> decoding loop -> token ids -> text, until the stop string appears

decoding_loop.py runs the model; this file converts between text and tokens, and combines the other
files of this lesson into the rule that chooses each token.

Dimensions: B rows (prompts continued together), V vocabulary.
"""

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from any_tokenizer import Tokenizer
from beam_decoder import beam_search_batch
from cached_sequence import CachedSequence
from decoding_loop import Choose, MakeDecodeStep, forward_step, generate_tokens
from distribution import has_penalties, process_logits
from greedy import greedy
from penalties import TokenCounts
from speculative import Draft, single_tokens
from stop_string import StopStrings
from temperature import sample
from utils.config import ModelConfig, SampleConfig
from utils.errors import run_program


def choose_with(config: SampleConfig, counts: TokenCounts | None = None) -> Choose:
    """The rule that chooses a token from its logits: all settings in order, then a draw.

    Penalties need the counts of the prompts' tokens; each chosen token is added to them.
    """
    if config.temperature == 0 and not has_penalties(config):
        return greedy  # filters would keep the same best token
    # On the CPU, and separate from the global generator: a seed gives the same text on any device.
    generator = torch.Generator().manual_seed(config.seed)

    def choose(logits: Tensor) -> Tensor:
        tokens = sample(process_logits(logits.float().cpu(), config, counts), generator)  # (B,)
        if counts is not None:  # for the penalties of the next step
            counts.add_(tokens)
        return tokens

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
        draft: Draft | None = None,
    ) -> None:
        self.model = model.eval()  # no dropout
        self.config = config
        self.tokenizer = tokenizer
        self.make_decode_step = make_decode_step
        self.draft = draft  # for speculative decoding
        if draft is not None:
            draft.model.eval()

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
        """Continue several prompts as one batch; returns the new text of each.

        With a draft they are continued one after the other, each with a seed of its own.
        """
        if self.draft is not None and len(prompts) > 1:
            # With one seed for all, equal prompts would get equal texts.
            own = [replace(sampling, seed=(sampling.seed + i) % 2**63) for i in range(len(prompts))]
            return [self.generate([p], s)[0] for p, s in zip(prompts, own, strict=True)]
        pieces = list(self.stream_batch(prompts, sampling))
        # zip turns one tuple per step into one column per prompt; without steps it gives nothing.
        return ["".join(column) for column in zip(*pieces, strict=True)] or [""] * len(prompts)

    def stream_batch(
        self, prompts: Sequence[str], sampling: SampleConfig
    ) -> Iterator[tuple[str, ...]]:
        """Continue prompts as one batch; yields the new text of each, "" after its stop string.

        The stop string itself is never part of the text. A token that ends within a character
        yields "", and the character comes with the token that completes it. Beam search yields
        whole texts.
        """
        if sampling.beams is not None:
            yield tuple(texts[0] for texts in self.search(prompts, sampling))
            return
        stops = [self._stops(sampling) for _ in prompts]
        streams = [self.tokenizer.stream_decoder() for _ in prompts]
        for tokens in self._steps([self.encode(prompt) for prompt in prompts], sampling):
            # Every row continues until all have stopped; a finished one yields "".
            pieces = [stream.feed(token) for stream, token in zip(streams, tokens, strict=True)]
            yield tuple(stop.feed(piece) for stop, piece in zip(stops, pieces, strict=True))
            if all(stop.finished for stop in stops):
                return
        # The end: half a character, then text that was held back and did not stop
        ends = [stream.flush() for stream in streams]
        yield tuple(stop.feed(end) + stop.flush() for stop, end in zip(stops, ends, strict=True))

    def search(self, prompts: Sequence[str], sampling: SampleConfig) -> list[list[str]]:
        """Beam search: the `sampling.num_samples` best texts for each prompt, the best first."""
        found = beam_search_batch(
            self.model,
            self.config,
            [self.encode(prompt) for prompt in prompts],
            sampling.beams or 1,
            sampling.max_tokens,
            lambda tokens: self._read(tokens, sampling)[1],  # a beam ends at a stop string
            sampling.length_penalty,
            make_decode_step=self.make_decode_step,
        )
        best = [beams[: sampling.num_samples] for beams in found]
        return [[self._read(beam.tokens, sampling)[0] for beam in beams] for beams in best]

    def _stops(self, sampling: SampleConfig) -> StopStrings:
        return StopStrings([match_vocabulary(stop, self.tokenizer) for stop in sampling.stop])

    def _read(self, tokens: Sequence[int], sampling: SampleConfig) -> tuple[str, bool]:
        """The text of these tokens up to a stop string, and whether one has ended it."""
        stops, stream = self._stops(sampling), self.tokenizer.stream_decoder()
        text = stops.feed("".join(stream.feed(token) for token in tokens))
        finished = stops.finished  # half a character at the end does not count
        return text + stops.feed(stream.flush()) + stops.flush(), finished

    def _steps(self, prompts: list[list[int]], sampling: SampleConfig) -> Iterator[list[int]]:
        """The new token of each prompt, step by step."""
        if self.draft is not None:
            (prompt,) = prompts  # rows would accept drafts of different lengths
            models = CachedSequence(self.model, self.config, self.make_decode_step), self.draft
            return single_tokens(*models, prompt, sampling)
        counts = None  # nothing to count without penalties
        if has_penalties(sampling):
            counts = TokenCounts.of_prompts(prompts, self.config.vocab_size)
        return generate_tokens(
            self.model,
            self.config,
            prompts,
            sampling.max_tokens,
            choose_with(sampling, counts),
            make_decode_step=self.make_decode_step,
        )


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
