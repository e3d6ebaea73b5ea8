"""The configurations in examples/: they load, do what their comments say, and train.

09_capstone/tests/test_example_configurations.py runs them through train.py.
"""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer
from utils.config import TrainConfig, load_config, to_dict

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FILES = sorted(EXAMPLES.glob("*.yaml"))
NAMES = [path.stem for path in FILES]


def load(name: str) -> TrainConfig:
    return load_config(EXAMPLES / f"{name}.yaml", TrainConfig)


def test_there_are_examples_and_the_page_lists_them_all() -> None:
    page = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert len(FILES) >= 5
    assert {name for name in NAMES if f"[{name}.yaml]({name}.yaml)" in page} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_loads_and_says_how_it_is_run(name: str) -> None:
    assert isinstance(load(name), TrainConfig)
    text = (EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
    assert f"python 09_capstone/train.py --config 08_engineering/examples/{name}.yaml" in text
    assert text.startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_every_example_trains_for_a_few_steps(name: str) -> None:
    """With the example's own model, on random tokens; only the batch is smaller."""
    config = replace(load(name), batch_size=2, max_steps=3, eval_interval=3, device="cpu")
    V, T = config.model.vocab_size, config.model.max_seq_len
    tokens = np.random.default_rng(0).integers(V, size=4 * (T + 1)).astype(np.uint32)
    model = TinyTransformerLM(config.model, Parts.fused())
    before = [weight.detach().clone() for weight in model.parameters()]
    trainer = Trainer(model, tokens, tokens, config)
    trainer.fit()
    assert trainer.step == 3
    assert all(weight.isfinite().all() for weight in model.parameters())
    changed = [not old.equal(new) for old, new in zip(before, model.parameters(), strict=True)]
    assert any(changed)


def test_the_two_runs_of_the_ablation_differ_in_one_field() -> None:
    learned, rope = (to_dict(load(f"position_{kind}")) for kind in ("learned", "rope"))
    assert learned["model"].pop("position") == "learned"
    assert rope["model"].pop("position") == "rope"
    assert learned == rope
    assert learned["dtype"] != "auto"


def test_the_smoke_test_tries_everything_at_least_twice() -> None:
    config = load("smoke")
    for name in ("eval_interval", "save_interval", "sample_interval", "log_interval"):
        assert config.max_steps >= 2 * getattr(config, name)


def test_what_the_comments_say_about_the_small_text() -> None:
    text = (EXAMPLES / "your_text.yaml").read_text(encoding="utf-8")
    path = EXAMPLES.parents[1] / load("your_text").data
    said = re.search(r"([\d,]+) characters: enough", text)
    assert said is not None
    assert int(said[1].replace(",", "")) == len(path.read_text(encoding="utf-8"))


def test_bpe_learns_the_tokens_that_its_comment_names() -> None:
    config = load("bpe")
    assert config.tokenizer == "bpe" and config.model.vocab_size == 1024
