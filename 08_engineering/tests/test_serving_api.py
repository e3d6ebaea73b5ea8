"""request_fields.py, serving_api.py, chat_prompt.py: what is accepted, what a refusal says."""

import json
from typing import Any

import pytest

from chat_prompt import Speakers, play_prompt
from request_fields import read_json
from serving_api import RequestReader
from serving_errors import ApiError, api_error
from serving_limits import Limits
from text_job import DrainingError, QueueFullError
from tokenizer import CharTokenizer

TOKENIZER = CharTokenizer.train("ROMEO Nurse:\n.,abcdefghijklmnopqrstuvwxyzGAW")
LIMITS = Limits(max_prompt_tokens=200, max_tokens=100, default_tokens=50, max_texts=4)
READER = RequestReader("tiny", TOKENIZER, LIMITS, Speakers())
USER = {"role": "user", "content": "Good morrow."}


def completion(**fields: Any):
    """A checked request for completions."""
    return READER.completion({"model": "tiny", "prompt": "Nurse:\n", **fields})


def chat(**fields: Any):
    """A checked request of a chat."""
    return READER.chat({"model": "tiny", "messages": [USER], **fields})


def test_the_defaults_are_those_of_openai() -> None:
    (settings,) = completion().settings
    assert (settings.temperature, settings.top_p, settings.max_tokens) == (1.0, None, 16)
    assert (settings.presence_penalty, settings.frequency_penalty, settings.stop) == (0, 0, ())
    assert not completion().stream
    (settings,) = chat().settings
    assert settings.max_tokens == 50 and settings.stop == ("\n\n",)


def test_every_setting_arrives() -> None:
    asked = completion(
        **{"max_tokens": 7, "temperature": 0, "top_p": 0.5, "stop": ["a", "b"], "seed": 3, "n": 2},
        **{"presence_penalty": -1, "frequency_penalty": 2, "top_k": 4, "min_p": 0.1},
        **{"repetition_penalty": 1.2, "stream": True, "stream_options": {"include_usage": True}},
    )
    first, second = asked.settings
    assert (first.seed, second.seed) == (3, 4)
    assert (first.temperature, first.top_p, first.top_k, first.min_p) == (0.0, 0.5, 4, 0.1)
    assert (first.presence_penalty, first.frequency_penalty) == (-1.0, 2.0)
    assert (first.repetition_penalty, first.stop, first.max_tokens) == (1.2, ("a", "b"), 7)
    assert asked.stream and asked.include_usage
    assert asked.prompts == [TOKENIZER.encode("Nurse:\n")] * 2
    assert asked.n_prompt_tokens == 7


def test_without_a_seed_every_request_has_another() -> None:
    assert completion().settings[0].seed != completion().settings[0].seed


def test_null_is_absent_and_what_asks_for_nothing_is_accepted() -> None:
    completion(temperature=None, stop=None, n=None, logprobs=None, echo=False, best_of=1, user="me")
    chat(tools=None, response_format={"type": "text"}, logprobs=False, tool_choice="auto")


def test_a_prompt_is_text_or_tokens_or_several() -> None:
    ids = TOKENIZER.encode("Nurse")
    assert completion(prompt=ids).prompts == [ids]
    assert completion(prompt=[ids, ids[:2]], n=2).prompts == [ids, ids, ids[:2], ids[:2]]
    assert completion(prompt=["a", "b"]).prompts == [TOKENIZER.encode(one) for one in "ab"]
    assert completion(prompt="").prompts == [TOKENIZER.encode("\n")]
    assert completion(prompt="a\r\nb").prompts == [TOKENIZER.encode("a\nb")]


def test_max_completion_tokens_is_the_newer_name_in_a_chat() -> None:
    assert chat(max_completion_tokens=9).settings[0].max_tokens == 9
    assert chat(max_tokens=8).settings[0].max_tokens == 8


WRONG: dict[str, tuple[dict[str, Any], str]] = {  # fields, and what the message says
    "no model": ({"model": None}, "must name a model"),
    "model": ({"model": 5}, "model must be a string, not an integer"),
    "temperature": ({"temperature": "hot"}, "must be a number, not a string"),
    "temperature range": ({"temperature": 2.5}, "from 0 to 2, not 2.5"),
    "temperature bool": ({"temperature": True}, "must be a number, not a boolean"),
    "top_p": ({"top_p": 0}, "must be more than 0"),
    "max_tokens": ({"max_tokens": 101}, "from 1 to 100, not 101"),
    "max_tokens float": ({"max_tokens": 1.5}, "must be an integer, not a number"),
    "max_tokens bool": ({"max_tokens": True}, "must be an integer, not a boolean"),
    "n": ({"n": 5}, "n must be from 1 to 4"),
    "n times prompts": ({"n": 2, "prompt": ["a"] * 3}, "prompts times n must be from 1 to 4"),
    "seed": ({"seed": 2**63}, "seed must be from"),
    "stop": ({"stop": list("abcde")}, "4 strings at most, not 5"),
    "stop kind": ({"stop": [1]}, "a string or an array of strings"),
    "stop number": ({"stop": 0}, "a string or an array of strings"),
    "stop empty": ({"stop": ""}, "length of a stop string must be from 1 to 64, not 0"),
    "stop long": ({"stop": "a" * 65}, "length of a stop string"),
    "penalty": ({"presence_penalty": 3}, "presence_penalty must be from -2 to 2"),
    "stream": ({"stream": "yes"}, "stream must be a boolean, not a string"),
    "options": ({"stream_options": []}, "must be an object, not an array"),
    "logprobs": ({"logprobs": 0}, "logprobs is not supported"),
    "echo": ({"echo": True}, "echo is not supported"),
    "tools": ({"tools": [{}]}, "tools is not supported"),
    "unknown": ({"temprature": 1}, "unknown field 'temprature' (did you mean 'temperature'?)"),
    "no prompt": ({"prompt": None}, "prompt must be a string"),
    "prompt": ({"prompt": {"a": 1}}, "prompt must be a string"),
    "prompt mixed": ({"prompt": ["a", 1]}, "prompt must be a string"),
    "prompt long": ({"prompt": "a" * 201}, "201 tokens; at most 200"),
    "prompt id": ({"prompt": [0, 99]}, "a token id of prompt must be from 0 to"),
    "prompt bools": ({"prompt": [True]}, "prompt must be a string"),
    "prompt character": ({"prompt": "a€"}, "unknown character '€' (U+20AC) at index 1"),
    "prompt surrogate": ({"prompt": "a\ud800"}, "U+D800"),
}


@pytest.mark.parametrize(("fields", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_request_is_refused_with_the_field_and_what_is_allowed(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(ApiError) as refused:
        completion(**fields)
    assert message in str(refused.value)
    assert refused.value.status == 400
    assert json.dumps(refused.value.body()).isascii()


def test_an_unknown_model_is_not_found() -> None:
    with pytest.raises(ApiError, match="did you mean 'tiny'") as refused:
        completion(model="tinny")
    assert (refused.value.status, refused.value.code) == (404, "model_not_found")


WRONG_MESSAGES: dict[str, tuple[Any, str]] = {
    "none": ([], "at least one message"),
    "kind": ("hello", "messages must be an array, not a string"),
    "message": (["hello"], "messages[0] must be an object, not a string"),
    "role": ([USER, {"role": "poet", "content": "a"}], "messages[1].role must be one of"),
    "role kind": ([{"role": [], "content": "a"}], "messages[0].role"),
    "content": ([{"role": "user"}], "messages[0].content must be a string, not null"),
    "name": ([{**USER, "name": 7}], "messages[0].name must be a string"),
    "part": ([{**USER, "content": [{"type": "image_url"}]}], "parts of type 'text'"),
    "part text": ([{**USER, "content": [{"type": "text", "text": 5}]}], "parts of type 'text'"),
    "part kind": ([{**USER, "content": ["a"]}], "parts of type 'text'"),
    "character": ([{**USER, "content": "2"}], "unknown character '2'"),
}


@pytest.mark.parametrize(("messages", "text"), WRONG_MESSAGES.values(), ids=WRONG_MESSAGES)
def test_a_malformed_message_is_refused_with_its_place(messages: Any, text: str) -> None:
    with pytest.raises(ApiError) as refused:
        chat(messages=messages)
    assert text in str(refused.value)


def test_messages_become_the_speeches_of_a_play() -> None:
    messages = [
        {"role": "system", "content": "Verona. A street.\n"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "Good "}, {"type": "text", "text": "day."}],
        },
        {"role": "assistant", "content": "Ay, sir.", "refusal": None},
        {"role": "user", "content": "Who art thou?", "name": "TYBALT"},
    ]
    assert play_prompt(messages, Speakers("ROMEO", "Nurse")) == (
        "Verona. A street.\n\nROMEO:\nGood day.\n\nNurse:\nAy, sir.\n\nTYBALT:\nWho art thou?\n\n"
        "Nurse:\n"
    )


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"[]", b"3", b"null", b'"a"', b"\xff{}", b'{"a": NaN}', b"[" * 100_000,
     b'{"a": ' + b"9" * 5000 + b"}"],
    ids=lambda data: repr(data[:8]),
)  # fmt: skip
def test_a_body_that_is_not_a_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(ApiError) as refused:
        read_json(data)
    assert refused.value.status == 400
    assert len(str(refused.value)) < 250


def test_infinity_is_out_of_range() -> None:
    body = read_json(b'{"model": "tiny", "prompt": "a", "temperature": 1e999}')
    with pytest.raises(ApiError, match="temperature must be from 0 to 2, not inf"):
        READER.completion(body)


def test_errors_of_the_engine_say_when_to_come_back() -> None:
    full, closing = api_error(QueueFullError(64, 7)), api_error(DrainingError("shutting down"))
    assert (full.status, full.headers["Retry-After"]) == (429, "7")
    assert (closing.status, closing.kind) == (503, "server_error")
    assert api_error(RuntimeError("secret")).status == 500
    assert "secret" not in json.dumps(api_error(RuntimeError("secret")).body())
