"""The page's model, in a real browser, computes what PyTorch computes: logits, attention, all."""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from page_browser import open_page, started_browser  # pyright: ignore[reportMissingImports]
from safetensors.torch import load, save
from torch import Tensor

from attention import scaled_dot_product_attention
from bpe_tokenizer import train_bpe
from checkpointing import load_checkpoint, save_checkpoint
from distribution import next_distribution
from loss_functions import cross_entropy
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from tools.attention_page.assemble import ENGINE, HERE, embedded_model, model_tag, script_tag
from tools.attention_page.embed import describe
from tools.export_demo import LESSON_PAGE
from utils.config import ModelConfig, SampleConfig, from_dict
from utils.recipes import MODERN

pytestmark = pytest.mark.browser

TOLERANCE = 1e-4
CHARACTERS = CharTokenizer("\n abcdefgh.é😀")
V = CHARACTERS.vocab_size
LLAMA = {**MODERN, "activation": "swiglu", "qk_norm": False, "n_kv_heads": 2}
SIZE: dict[str, Any] = {"vocab_size": V, "max_seq_len": 24, "n_layers": 2, "d_model": 32}
CONFIGS = {
    "classic": ModelConfig(**SIZE),
    "modern": ModelConfig(**SIZE, **MODERN),
    "llama": ModelConfig(**SIZE, **LLAMA),
    "grouped, qk-norm": ModelConfig(**SIZE, **{**LLAMA, "qk_norm": True, "n_kv_heads": 1}),
    "alibi, six heads": ModelConfig(**{**SIZE, "d_model": 48}, n_heads=6, position="alibi"),
    "sinusoidal, odd": ModelConfig(**{**SIZE, "d_model": 27}, n_heads=3, position="sinusoidal"),
    "post-norm": ModelConfig(**SIZE, norm_placement="post", bias=False),
    "post-norm, rms": ModelConfig(**SIZE, norm="rmsnorm", norm_placement="post", d_ff=50),
}
MASKS = {"causal": True, "bidirectional": False}

# Arrays come back as base64 of float32: JSON would take seconds.
PACK = """
function pack(value) {
  if (ArrayBuffer.isView(value)) {
    const bytes = new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    return { float32: btoa(Array.from(bytes, (b) => String.fromCharCode(b)).join("")) };
  }
  if (Array.isArray(value)) return value.map(pack);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, pack(each)]));
}
function message(compute) {
  try {
    compute();
  } catch (error) {
    return error instanceof PageError ? error.message : `not a PageError: ${error}`;
  }
  return null;
}
const bytesOf = (text) => base64Bytes(text).buffer;
"""


def unpacked(value: Any) -> Any:
    """What `pack` made of a result, with NumPy arrays."""
    if isinstance(value, dict) and value.keys() == {"float32"}:
        return np.frombuffer(base64.b64decode(value["float32"]), dtype="<f4")
    if isinstance(value, dict):
        return {name: unpacked(each) for name, each in value.items()}
    return [unpacked(each) for each in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def engine(browser: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A page with the engine's scripts alone."""
    path = write_engine_page(tmp_path_factory.mktemp("page") / "engine.html")
    with open_page(browser, path) as opened:
        yield opened.page
        assert opened.is_quiet, (opened.requests, opened.errors)


def write_engine_page(path: Path, edit: Callable[[str], str] = str) -> Path:
    """Write a page without a view; `edit` may change its scripts."""
    scripts = [edit(script_tag(HERE / name)) for name in ENGINE]
    body = "\n".join((model_tag(None), *scripts, f"<script>{PACK}</script>"))
    path.write_text(f"<!doctype html><meta charset=utf-8>{body}", encoding="utf-8")
    return path


def random_model(config: ModelConfig) -> TinyTransformerLM:
    """A model in which every parameter matters: at the start, many are 0 or 1."""
    model = TinyTransformerLM(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = 0.5 if parameter.dim() == 1 else 2 / parameter.size(1) ** 0.5
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    return model


def as_base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def saved(model: TinyTransformerLM, tmp_path: Path, tokenizer: Any = CHARACTERS) -> bytes:
    """The bytes of the model's checkpoint."""
    save_checkpoint(tmp_path / "model.safetensors", model, tokenizer, {"step": 7})
    return (tmp_path / "model.safetensors").read_bytes()


def in_page(page: Any, checkpoint: bytes, ids: Sequence[int], **options: Any) -> dict[str, Any]:
    """The result of forward() in the browser, and the loss."""
    return unpacked(
        page.evaluate(
            """([file, ids, options]) => {
              const model = readSafetensors(bytesOf(file));
              const result = forward(model, Int32Array.from(ids), options);
              return pack({ ...result, loss: textLoss(result, ids) });
            }""",
            [as_base64(checkpoint), list(ids), options],
        )
    )


def in_pytorch(
    model: TinyTransformerLM, ids: Sequence[int], causal: bool = True, heads_off: Any = ()
) -> dict[str, Any]:
    """The same with the lessons' code: logits, lens, and what goes in and out of every head."""
    heads: list[list[dict[str, Tensor]]] = []

    def attend(
        q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        output, weights = scaled_dot_product_attention(q, k, v, mask)
        layer = len(heads)
        for head in range(q.size(1)):
            if [layer, head] in heads_off:
                output[:, head] = 0.0
        scores = q @ k.mT
        named = {"q": q, "k": k, "v": v, "scores": scores, "weights": weights, "output": output}
        heads.append([{n: x[0, head] for n, x in named.items()} for head in range(q.size(1))])
        return output, weights

    everything = Parts(attention=attend, causal_mask=lambda T: torch.ones(T, T).bool())
    parts = Parts(attention=attend) if causal else everything
    seen = TinyTransformerLM(model.config, parts)
    seen.load_state_dict(model.state_dict())
    stream: list[Tensor] = []
    for module in (*seen.blocks, seen.final_norm):  # what each reads is what the last one wrote
        module.register_forward_pre_hook(lambda module, inputs: stream.append(inputs[0]))
    with torch.no_grad():
        logits = seen(torch.tensor([list(ids)]))[0]
        lens = [F.linear(seen.final_norm(x), seen.output_weight)[0] for x in tuple(stream)]
        loss = cross_entropy(logits[:-1], torch.tensor(list(ids)[1:])).item()
    return {"logits": logits, "lens": lens, "heads": heads, "loss": loss}


def assert_equal(found: np.ndarray, expected: Tensor, what: str, scale: float = 1.0) -> float:
    """Compare to within scale * TOLERANCE; returns the largest difference."""
    wanted = expected.flatten().numpy()
    assert found.shape == wanted.shape, what
    difference = float(np.abs(found - wanted).max())
    assert difference < scale * TOLERANCE, f"{what} differ by {difference:.2g}"
    return difference


def assert_agree(found: dict[str, Any], expected: dict[str, Any]) -> float:
    """Compare everything that both computed; returns the largest difference of logits.

    Scores before the scaling can be in the hundreds, where float32 itself has steps of 3e-5: of
    what goes into a head, the largest value sets the scale.
    """
    for layer, heads in enumerate(expected["heads"]):
        for head, inside in enumerate(heads):
            for name, values in inside.items():
                scale = 1.0 if name == "weights" else max(1.0, values.abs().max().item())
                place = f"{name} of layer {layer}, head {head}"
                assert_equal(found["heads"][layer][head][name], values, place, scale)
            assert_equal(found["attention"][layer][head], inside["weights"], "attention")
    for layer, logits in enumerate(expected["lens"] if found["lens"] else []):
        assert_equal(found["lens"][layer], logits, f"the lens after layer {layer}")
    assert found["loss"] == pytest.approx(expected["loss"], abs=TOLERANCE)
    return assert_equal(found["logits"], expected["logits"], "logits")


IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 10, 3, 11]


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_computes_what_pytorch_computes(
    engine: Any, tmp_path: Path, name: str, mask: str
) -> None:
    model = random_model(CONFIGS[name])
    expected = in_pytorch(model, IDS, MASKS[mask])
    assert expected["logits"].abs().max() > 1  # logits near 0 would prove nothing
    found = in_page(engine, saved(model, tmp_path), IDS, causal=MASKS[mask], lens=True)
    assert_agree(found, expected)
    T = len(IDS)
    for heads in found["attention"]:
        for weights in heads:
            matrix = weights.reshape(T, T)
            assert np.allclose(matrix.sum(axis=1), 1, atol=1e-6)
            future = np.triu(matrix, k=1)
            assert (future == 0).all() if mask == "causal" else (future > 0).any()


@pytest.mark.parametrize("name", ["classic", "llama"])
def test_one_token_and_a_full_context(engine: Any, tmp_path: Path, name: str) -> None:
    model = random_model(CONFIGS[name])
    checkpoint = saved(model, tmp_path)
    full = [(7 * t + 3) % V for t in range(model.config.max_seq_len)]
    assert_agree(in_page(engine, checkpoint, full), in_pytorch(model, full))
    alone = in_page(engine, checkpoint, full[:1])
    assert_equal(alone["logits"], in_pytorch(model, full)["logits"][:1], "logits")
    assert np.isnan(alone["loss"])  # there is no next token
    assert alone["lens"] is None  # not asked for


@pytest.mark.parametrize("name", ["classic", "llama", "post-norm"])
def test_a_head_that_is_off_adds_nothing(engine: Any, tmp_path: Path, name: str) -> None:
    model = random_model(CONFIGS[name])
    off = [[0, 1], [1, 0], [1, 3]]
    expected = in_pytorch(model, IDS, heads_off=off)
    found = in_page(engine, saved(model, tmp_path), IDS, headsOff=off)
    assert_agree(found, expected)
    assert found["loss"] != pytest.approx(in_pytorch(model, IDS)["loss"], abs=0.01)


def test_scores_are_shown_before_and_after_the_scaling(engine: Any, tmp_path: Path) -> None:
    for name, slopes in (("classic", [0.0] * 4), ("alibi, six heads", None)):
        model = random_model(CONFIGS[name])
        found = in_page(engine, saved(model, tmp_path), IDS)
        slopes = model.slopes.tolist() if slopes is None else slopes
        distance = np.abs(np.subtract.outer(range(len(IDS)), range(len(IDS)))).flatten()
        for head, slope in zip(found["heads"][0], slopes, strict=True):
            scaled = head["scores"] / model.config.d_head**0.5 - slope * distance
            assert np.allclose(head["scaled"], scaled, atol=TOLERANCE)


SABOTAGE = {
    "no scaling by sqrt(d_head)": ("scores[i * T + j] * scale", "scores[i * T + j]"),
    "no mask": ("causal ? i + 1 : T", "T"),
    "the wrong key-value head": ("Math.floor(head / (n_heads / n_kv_heads))", "head % n_kv_heads"),
    "neighbours rotated": ("const second = x[t * d_head + i + half]", "const second = x[t]"),
}


@pytest.mark.parametrize("fault", SABOTAGE)
def test_the_comparison_notices_a_broken_page(browser: Any, tmp_path: Path, fault: str) -> None:
    """Each of these faults is in a copy of the page, and the tests above would fail."""
    right, wrong = SABOTAGE[fault]

    def break_(script: str) -> str:
        assert script.count(right) <= 1
        return script.replace(right, wrong)

    path = write_engine_page(tmp_path / "broken.html", break_)
    assert wrong in path.read_text(encoding="utf-8")
    model = random_model(CONFIGS["llama"])
    with open_page(browser, path) as opened:
        found = in_page(opened.page, saved(model, tmp_path), IDS)
    with pytest.raises(AssertionError, match="differ by"):
        assert_agree(found, in_pytorch(model, IDS))


# --- the committed page ---


def test_the_page_of_lesson_01_computes_what_pytorch_computes(browser: Any) -> None:
    """With the weights that it holds, at its full context, both masks, in the page itself."""
    description = embedded_model(LESSON_PAGE.read_text(encoding="utf-8"))
    assert description is not None
    config = from_dict(json.loads(description["metadata"]["model_config"]), ModelConfig)
    model = TinyTransformerLM(config)
    model.load_state_dict(
        {
            name: torch.from_numpy(
                np.frombuffer(base64.b64decode(tensor["float16"]), "<f2").astype(np.float32)
            ).view(tensor["shape"])
            for name, tensor in description["tensors"].items()
        }
    )
    ids = [(5 * t * t + t) % config.vocab_size for t in range(config.max_seq_len)]
    with open_page(browser, LESSON_PAGE) as opened:
        opened.page.evaluate(
            f"() => {{ const script = document.createElement('script'); "
            f"script.textContent = {json.dumps(PACK)}; "
            "document.head.append(script); }"
        )
        for causal in (True, False):
            found = unpacked(
                opened.page.evaluate(
                    """([ids, causal]) => {
                      const result = forward(embeddedModel(), Int32Array.from(ids),
                                             { causal, lens: true });
                      return pack({ ...result, loss: textLoss(result, ids) });
                    }""",
                    [ids, causal],
                )
            )
            assert_agree(found, in_pytorch(model, ids, causal))
    assert opened.is_quiet, (opened.requests, opened.errors)


def test_embedded_weights_are_those_of_the_checkpoint_in_half_precision(
    engine: Any, tmp_path: Path
) -> None:
    model = random_model(CONFIGS["modern"])
    with torch.no_grad():
        special = torch.tensor([0.0, -0.0, 1e-7, -6e-5, 65504.0, 0.1])
        model.output_weight[0, :6] = special
        for parameter in model.parameters():
            parameter.copy_(parameter.half())
    saved(model, tmp_path)
    checkpoint = load_checkpoint(tmp_path / "model.safetensors")
    description = describe(checkpoint, "a title")
    found = engine.evaluate(
        """(description) => {
          const { title, about, weights, shapes } = readEmbedded(description);
          return { title, about, shapes, ...pack({ weights }) };
        }""",
        description,
    )
    assert found["title"] == "a title"
    assert found["about"]["parameters"] == sum(w.numel() for w in checkpoint.weights.values())
    assert found["about"]["step"] == 7
    for name, weight in checkpoint.weights.items():
        assert found["shapes"][name] == list(weight.shape)
        assert (unpacked(found["weights"][name]) == weight.flatten().numpy()).all(), name


# --- checkpoints ---


def test_every_dtype_of_a_checkpoint_is_read(engine: Any, tmp_path: Path) -> None:
    model = random_model(CONFIGS["classic"])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16())  # what all three can hold
            parameter.clamp_(-4, 4).round_(decimals=1).copy_(parameter.bfloat16())
    data = saved(model, tmp_path)
    expected = in_pytorch(model, IDS)
    assert_agree(in_page(engine, data, IDS), expected)
    metadata = metadata_of(data)
    for dtype in (torch.bfloat16, torch.float16):
        half = {name: weight.to(dtype) for name, weight in load(data).items()}
        found = in_page(engine, save(half, metadata), IDS)
        if dtype == torch.bfloat16:
            assert_agree(found, expected)
        else:
            assert np.abs(found["logits"] - expected["logits"].flatten().numpy()).max() < 0.1


def metadata_of(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + length])["__metadata__"]


def with_metadata(data: bytes, **changes: str) -> bytes:
    """The same checkpoint with other metadata; None removes a field."""
    metadata = {**metadata_of(data), **changes}
    return save(load(data), {name: value for name, value in metadata.items() if value})


def with_config(data: bytes, **changes: Any) -> bytes:
    config = {**json.loads(metadata_of(data)["model_config"]), **changes}
    return with_metadata(data, model_config=json.dumps(config))


def with_weights(data: bytes, **changes: Tensor | None) -> bytes:
    weights = {**load(data), **{name.replace("__", "."): w for name, w in changes.items()}}
    return save({n: w for n, w in weights.items() if w is not None}, metadata_of(data))


BAD_FILES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "empty": (lambda data: b"", "not a .safetensors file"),
    "a text": (lambda data: b"To be, or not to be: that is the question.", "not a .safetensors"),
    "a picture": (lambda data: b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not a .safetensors"),
    "a huge header": (lambda data: b"\xff" * 8 + data[8:], "truncated"),
    "half a header": (lambda data: data[:200], "truncated"),
    "half the data": (lambda data: data[: len(data) // 2], "truncated"),
    "one byte short": (lambda data: data[:-1], "truncated"),
    "broken JSON": (lambda data: data[:8] + data[8:].replace(b'":', b'"?', 1), "not a .safetens"),
    "another program's": (lambda data: save(load(data)), "its format is none"),
    "another format": (lambda data: with_metadata(data, format="gpt"), 'format is "gpt"'),
    "no configuration": (lambda data: with_metadata(data, model_config=""), "configuration"),
    "a list": (lambda data: with_metadata(data, tokenizer="[1]"), "tokenizer is missing or"),
    "a new field": (lambda data: with_config(data, experts=4), '"experts"'),
    "a new activation": (lambda data: with_config(data, activation="mish"), 'activation is "mish"'),
    "no layers": (lambda data: with_config(data, n_layers=0), "n_layers is 0"),
    "heads": (lambda data: with_config(data, n_heads=5), "n_heads is 5"),
    "a million layers": (lambda data: with_config(data, n_layers=10**6), "blocks.999999"),
    "one layer less": (lambda data: with_config(data, n_layers=1), 'no place for "blocks.1'),
    "one layer more": (lambda data: with_config(data, n_layers=3), "blocks.2"),
    "wider": (lambda data: with_config(data, d_ff=64), "is 128 x 32, not 64 x 32"),
    "a missing weight": (
        lambda data: with_weights(data, final_norm__weight=None),
        "final_norm.weight is missing",
    ),
    "not finite": (
        lambda data: with_weights(data, final_norm__weight=torch.full((32,), float("nan"))),
        "not finite",
    ),
    "integers": (
        lambda data: with_weights(data, final_norm__weight=torch.ones(32, dtype=torch.int64)),
        "reads F32, F16 and BF16",
    ),
    "words": (
        lambda data: with_metadata(data, tokenizer='{"kind": "word", "words": []}'),
        'the tokenizer "word"',
    ),
    "characters twice": (
        lambda data: with_metadata(data, tokenizer='{"kind": "char", "characters": "aa"}'),
        "characters are unreadable",
    ),
    "too few characters": (
        lambda data: with_metadata(data, tokenizer='{"kind": "char", "characters": "ab"}'),
        "has 2 tokens, but its vocab_size is 13",
    ),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_one_plain_sentence(engine: Any, tmp_path: Path, name: str) -> None:
    damage, expected = BAD_FILES[name]
    data = damage(saved(random_model(CONFIGS["classic"]), tmp_path))
    said = engine.evaluate(
        "(file) => message(() => readSafetensors(bytesOf(file)))", as_base64(data)
    )
    assert said is not None and expected in said, said
    assert "\n" not in said and said.endswith(".") and len(said) < 160


def test_a_file_that_is_too_large_is_refused_before_it_is_read(engine: Any) -> None:
    said = engine.evaluate("() => message(() => checkFileSize(2 ** 31))")
    assert said == "This file has 2048 MB; the page reads checkpoints of up to 64 MB."
    assert engine.evaluate("() => message(() => checkFileSize(2 ** 26))") is None


def test_the_defaults_of_a_configuration_are_those_of_the_course(engine: Any) -> None:
    """So that a checkpoint from before a field existed is read in the same way."""
    assert engine.evaluate("() => CONFIG_DEFAULTS") == {
        field.name: field.default for field in fields(ModelConfig)
    }


@pytest.mark.parametrize("ids", [[], [0] * 25, [V], [-1]])
def test_ids_that_do_not_fit_are_refused(engine: Any, tmp_path: Path, ids: list[int]) -> None:
    data = saved(random_model(CONFIGS["classic"]), tmp_path)
    said = engine.evaluate(
        """([file, ids]) => message(
             () => forward(readSafetensors(bytesOf(file)), Int32Array.from(ids)))""",
        [as_base64(data), ids],
    )
    assert said in (
        f"The model reads 1 to 24 tokens at a time, not {len(ids)}.",
        f"Token ids run from 0 to {V - 1}.",
    )


# --- tokenizers ---

TEXTS = [
    "",
    "bad bed",
    "To be, or not to be: that's the question.\n\n  He'll go;\tI've 1599 reasons",
    "Größe 10µm, naïve café 😀 👩‍👩‍👧 <script>alert(1)</script>",
    "\ufeffa\u2028b\xa0c\x1cd\x00e",
]


def encoded(page: Any, tokenizer: Any, text: str) -> dict[str, Any]:
    return page.evaluate(
        """([stored, text]) => {
          const model = { tokenizer: readTokenizer(stored) };
          const { ids, unknown } = encode(model, text);
          return { ids: [...ids], unknown, tokens: decode(model, ids),
                   text: decodeText(model, ids), size: model.tokenizer.size };
        }""",
        [tokenizer.to_dict(), text],
    )


@pytest.mark.parametrize("text", TEXTS)
def test_characters_are_encoded_and_decoded_as_in_python(engine: Any, text: str) -> None:
    tokenizer = CharTokenizer.train("".join(TEXTS))
    found = encoded(engine, tokenizer, text)
    assert found["ids"] == tokenizer.encode(text)
    assert found["tokens"] == list(text)
    assert (found["text"], found["unknown"], found["size"]) == (text, [], tokenizer.vocab_size)


def test_unknown_characters_are_left_out_and_named(engine: Any) -> None:
    found = encoded(engine, CHARACTERS, "a😀x👍b")
    assert found["text"] == "a😀b"
    assert found["unknown"] == [{"character": "x", "index": 2}, {"character": "👍", "index": 3}]


@pytest.mark.parametrize("text", TEXTS)
def test_byte_pairs_are_encoded_and_decoded_as_in_python(engine: Any, text: str) -> None:
    tokenizer = train_bpe("\n".join(TEXTS) * 3, 300, ["<|eos|>"])
    found = encoded(engine, tokenizer, text)
    assert found["ids"] == tokenizer.encode(text)
    assert found["tokens"] == [tokenizer.decode([one]) for one in found["ids"]]
    assert (found["text"], found["unknown"], found["size"]) == (text, [], 300)


def test_a_checkpoint_with_byte_pairs_is_read(engine: Any, tmp_path: Path) -> None:
    tokenizer = train_bpe("to be or not to be " * 9, 270)
    model = random_model(ModelConfig(**{**SIZE, "vocab_size": tokenizer.vocab_size}))
    data = saved(model, tmp_path, tokenizer)
    ids = tokenizer.encode("not to be or")
    assert_agree(in_page(engine, data, ids), in_pytorch(model, ids))


# --- sampling ---


def test_the_sliders_reshape_the_distribution_as_lesson_07_does(engine: Any) -> None:
    """100 random logits; some with ties, where the lowest id wins."""
    generator = np.random.default_rng(0)
    cases: list[tuple[list[float], SampleConfig]] = []
    for i in range(100):
        logits = generator.normal(size=40, scale=3)
        logits = (logits.round() if i % 4 == 0 else logits).astype(np.float32).tolist()
        temperature = float(generator.choice([0.0, 0.3, 0.8, 1.0, 1.7]))
        top_k = int(generator.integers(1, 50)) if i % 2 else None
        top_p = float(generator.uniform(0.05, 1.0)) if i % 3 else None
        cases.append((logits, SampleConfig(temperature=temperature, top_k=top_k, top_p=top_p)))
    found = engine.evaluate(
        """(cases) => cases.map(([logits, options]) =>
             [...reshape(Float32Array.from(logits), options)])""",
        [
            [
                logits,
                {"temperature": s.temperature, "topK": s.top_k or 0, "topP": s.top_p or 1},
            ]
            for logits, s in cases
        ],
    )
    for (logits, sampling), probabilities in zip(cases, found, strict=True):
        expected = next_distribution(torch.tensor(logits), sampling).numpy()
        assert np.allclose(probabilities, expected, atol=1e-6), sampling
        assert ((np.array(probabilities) > 0) == (expected > 0)).all(), sampling
        assert sum(probabilities) == pytest.approx(1, abs=1e-6)


def test_tokens_are_drawn_as_often_as_their_probability_says(engine: Any) -> None:
    probabilities = [0.5, 0.0, 0.3, 0.2]
    draw = """([probabilities, seed, n]) => {
      const random = makeRandom(seed);
      return Array.from({ length: n }, () => sampleFrom(probabilities, random));
    }"""
    drawn = engine.evaluate(draw, [probabilities, 1, 20_000])
    shares = np.bincount(drawn, minlength=4) / len(drawn)
    assert shares[1] == 0
    assert np.allclose(shares, probabilities, atol=0.015)  # four standard deviations
    assert engine.evaluate(draw, [probabilities, 1, 50]) == drawn[:50]  # the seed decides
    assert engine.evaluate(draw, [probabilities, 2, 50]) != drawn[:50]
    last = "() => sampleFrom([0, 0.4, 0.5, 0], () => 0.999999)"  # the sum may be below 1
    assert engine.evaluate(last) == 2


# --- the worker ---

RACE = """async ([file, slow]) => {
  const model = readSafetensors(bytesOf(file));
  if (slow) engine.slow.add(model);
  const texts = [[1, 2], [1, 2, 3], [1, 2, 3, 4]].map((ids) => Int32Array.from(ids));
  const calls = texts.map((ids) => computeForward(model, ids));
  const sizes = (await Promise.all(calls)).map((result) => result && result.T);
  // While a pass runs, others are asked for.
  const first = computeForward(model, texts[0]);
  await new Promise((resolve) => setTimeout(resolve));
  const later = [computeForward(model, texts[1]), computeForward(model, texts[2])];
  const last = (await Promise.all([first, ...later])).at(-1);
  const direct = forward(model, texts[2]);
  return { sizes, worker: engine.worker !== null, failed: engine.failed,
           same: last.logits.every((value, i) => value === direct.logits[i]),
           refused: await computeForward(model, new Int32Array(99)).catch((e) => e.message) };
}"""


@pytest.mark.parametrize("slow", [False, True])
def test_the_newest_call_wins_on_the_page_and_in_the_worker(
    engine: Any, tmp_path: Path, slow: bool
) -> None:
    data = saved(random_model(CONFIGS["llama"]), tmp_path)
    found = engine.evaluate(RACE, [as_base64(data), slow])
    assert found["sizes"] == [None, None, 4]
    assert found["same"]
    assert found["worker"] == slow and not found["failed"]
    assert found["refused"] == "The model reads 1 to 24 tokens at a time, not 99."


def test_without_workers_everything_runs_on_the_page(browser: Any, tmp_path: Path) -> None:
    path = write_engine_page(
        tmp_path / "no_worker.html", lambda script: script.replace("new Worker(", "new Nothing(")
    )
    data = saved(random_model(CONFIGS["llama"]), tmp_path)
    with open_page(browser, path) as opened:
        found = opened.page.evaluate(RACE, [as_base64(data), True])
    assert found["failed"] and found["same"] and found["sizes"] == [None, None, 4]


def test_a_worker_that_breaks_is_replaced_by_the_page(browser: Any, tmp_path: Path) -> None:
    path = write_engine_page(
        tmp_path / "broken_worker.html",
        lambda script: script.replace("let model = null;\n  self", "boom();\n  self"),
    )
    data = saved(random_model(CONFIGS["llama"]), tmp_path)
    with open_page(browser, path) as opened:
        found = opened.page.evaluate(RACE, [as_base64(data), True])
    assert found["failed"] and found["same"]
