"""What a request may ask for: the fields of OpenAI's two endpoints, checked against the limits.

A field that this server doesn't have is refused by name, because ignoring it would give a text that
was not asked for. The documents: platform.openai.com/docs/api-reference (completions, chat).

Dimensions: a request has one or more prompts, and n texts are generated for each.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from any_tokenizer import Tokenizer
from chat_prompt import SPEECH_END, Speakers, play_prompt
from generator import match_vocabulary
from request_fields import Fields, in_range
from serving_errors import ApiError, invalid
from serving_limits import LONGEST_STOP, MAX_STOPS, Limits
from utils.config import SampleConfig
from utils.errors import UsageError, did_you_mean

# What asks for nothing is accepted; anything else is refused by name.
NOT_HERE: Mapping[str, tuple[Any, ...]] = {
    **{"logprobs": (False,), "logit_bias": ({},)},
    **{"best_of": (1,), "echo": (False,), "suffix": ("",)},
    **{"top_logprobs": (), "tools": ([],), "tool_choice": ("none", "auto"), "functions": ([],)},
    **{"function_call": ("none", "auto"), "response_format": ({"type": "text"},), "audio": ()},
    **{
        "modalities": (["text"],),
        "prediction": (),
        "reasoning_effort": (),
        "web_search_options": (),
    },
}
NO_EFFECT = ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key")


@dataclass(frozen=True)
class TextRequest:
    """A request that has been checked: one SampleConfig per text, each with a seed of its own."""

    prompts: list[list[int]]  # one per text: the same prompt n times in a row
    settings: list[SampleConfig]
    n_prompt_tokens: int  # each prompt counts once
    stream: bool
    include_usage: bool


class RequestReader:
    """Turns JSON bodies into TextRequests, for one model, its tokenizer and the limits."""

    def __init__(
        self, model_name: str, tokenizer: Tokenizer, limits: Limits, speakers: Speakers
    ) -> None:
        self.model_name = model_name
        self.tokenizer = tokenizer
        self.limits = limits
        self.speakers = speakers

    def completion(self, body: Mapping[str, Any]) -> TextRequest:
        """A request to /v1/completions. Raises ApiError."""
        fields = Fields(body)
        self._check_model(fields)
        prompts = self._prompts(fields.take("prompt"))
        return self._request(fields, prompts, default_tokens=16)

    def chat(self, body: Mapping[str, Any]) -> TextRequest:
        """A request to /v1/chat/completions. Raises ApiError."""
        fields = Fields(body)
        self._check_model(fields)
        text = play_prompt(fields.typed("messages", list, []), self.speakers)
        prompt = self._encode(text, "messages")
        newer = fields.integer("max_completion_tokens", None, 1, self.limits.max_tokens)
        default = self.limits.default_tokens if newer is None else newer
        return self._request(fields, [prompt], default, always_stop=(SPEECH_END,))

    def _check_model(self, fields: Fields) -> None:
        model = fields.typed("model", str)
        if model is None:
            raise invalid("the request must name a model", "model")
        if model != self.model_name:
            hint = did_you_mean(model[:100], [self.model_name])
            message = f"no model is called {model!r:.60}{hint}; /v1/models lists the model"
            raise ApiError(404, message, "model", "model_not_found")

    def _request(
        self,
        fields: Fields,
        prompts: list[list[int]],
        default_tokens: int,
        always_stop: tuple[str, ...] = (),
    ) -> TextRequest:
        n = fields.integer("n", 1, 1, self.limits.max_texts) or 1
        in_range("prompts times n", n * len(prompts), 1, self.limits.max_texts)
        stream = fields.typed("stream", bool, False)
        options = Fields(fields.typed("stream_options", dict, {}))
        include_usage = options.typed("include_usage", bool, False)
        sampling = self._sampling(fields, default_tokens, always_stop)
        fields.refuse_unless(NOT_HERE)
        for name in NO_EFFECT:
            fields.take(name)
        fields.refuse_rest()
        return TextRequest(
            prompts=[prompt for prompt in prompts for _ in range(n)],
            settings=[with_seed(sampling, i) for i in range(n * len(prompts))],
            n_prompt_tokens=sum(map(len, prompts)),
            stream=stream,
            include_usage=include_usage,
        )

    def _sampling(
        self, fields: Fields, default_tokens: int, always_stop: tuple[str, ...]
    ) -> SampleConfig:
        """The settings that lesson 07 knows; without a seed, a random one."""
        top_p = fields.number("top_p", 1.0, 0, 1)
        if top_p == 0:
            raise invalid("top_p must be more than 0; temperature 0 is greedy", "top_p")
        seed = fields.integer("seed", None, -(2**63), 2**63 - 1)
        return SampleConfig(
            max_tokens=fields.integer("max_tokens", default_tokens, 1, self.limits.max_tokens)
            or default_tokens,
            temperature=fields.number("temperature", 1.0, 0, 2),
            top_p=None if top_p == 1 else top_p,
            top_k=fields.integer("top_k", None, 1, 2**31),
            min_p=fields.number("min_p", 0.0, 0, 1) or None,
            repetition_penalty=fields.number("repetition_penalty", 1.0, 0.01, 100),
            presence_penalty=fields.number("presence_penalty", 0.0, -2, 2),
            frequency_penalty=fields.number("frequency_penalty", 0.0, -2, 2),
            stop=(*always_stop, *stop_strings(fields.take("stop"))),
            seed=secrets.randbits(62) if seed is None else seed % 2**63,
        )

    def _prompts(self, value: Any) -> list[list[int]]:
        """A string, an array of strings, an array of token ids, or an array of those."""
        if isinstance(value, str):
            return [self._encode(value, "prompt")]
        if is_ids(value):
            return [self._checked_ids(value)]
        if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
            in_range("prompts", len(value), 1, self.limits.max_texts)
            return [self._encode(one, "prompt") for one in value]
        if isinstance(value, list) and value and all(is_ids(one) for one in value):
            return [self._checked_ids(one) for one in value]
        raise invalid("prompt must be a string, token ids, or an array of either", "prompt")

    def _encode(self, text: str, param: str) -> list[int]:
        """The ids of a prompt; an empty one becomes a newline, as in lesson 07."""
        text = text.replace("\r\n", "\n") or "\n"
        try:
            ids = self.tokenizer.encode(match_vocabulary(text, self.tokenizer))
        except UsageError as error:
            raise invalid(str(error), param, "unknown_character") from None
        return self._checked_length(ids, param)

    def _checked_ids(self, ids: Sequence[int]) -> list[int]:
        for one in ids:
            in_range("a token id of prompt", one, 0, self.tokenizer.vocab_size - 1)
        return self._checked_length(list(ids), "prompt")

    def _checked_length(self, ids: list[int], param: str) -> list[int]:
        most = self.limits.max_prompt_tokens
        if len(ids) > most:
            message = f"the prompt has {len(ids)} tokens; at most {most} are accepted"
            raise invalid(message, param, "context_length_exceeded")
        return ids


def is_ids(value: Any) -> bool:
    """Whether this is a non-empty array of integers."""
    return isinstance(value, list) and value != [] and all(type(one) is int for one in value)


def stop_strings(value: Any) -> tuple[str, ...]:
    """The `stop` of a request: a string or up to four. Raises ApiError."""
    stops = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stops, list) or not all(isinstance(one, str) for one in stops):
        raise invalid("stop must be a string or an array of strings", "stop")
    if len(stops) > MAX_STOPS:
        raise invalid(f"stop may hold {MAX_STOPS} strings at most, not {len(stops)}", "stop")
    for one in stops:
        in_range("the length of a stop string", len(one), 1, LONGEST_STOP)
    return tuple(stops)


def with_seed(sampling: SampleConfig, i: int) -> SampleConfig:
    """The settings of text number i: the seeds of one request's texts follow each other."""
    return replace(sampling, seed=(sampling.seed + i) % 2**63)
