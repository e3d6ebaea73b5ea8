"""Parts.mine: what is solved is used, what is wrong is named, and the table says whose is what."""

import shutil
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch

import my_parts
import my_pieces
from my_parts import ANY_MODEL, collect, used_parts
from my_pieces import PIECES, find_pieces
from part_gate import random_
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig
from utils.errors import CourseError
from utils.grader.exercises import ROOT
from utils.kv_cache import KVCache

CLASSIC = ModelConfig(vocab_size=11, max_seq_len=10, d_model=24, n_layers=2)
MODERN = replace(CLASSIC, norm="rmsnorm", activation="swiglu", position="rope", n_kv_heads=2)
ALIBI = replace(CLASSIC, position="alibi")
SINUSOIDAL = replace(CLASSIC, position="sinusoidal", activation="relu2")
MODELS = [CLASSIC, MODERN, ALIBI, SINUSOIDAL]
WITH_EXERCISES = {
    lesson for lesson, _ in PIECES.values() if (ROOT / lesson / "exercises/exercises.py").exists()
}
OWN_LAYER = """
class MultiHeadAttention(MultiHeadAttention):
    def forward(self, x, mask=None, attend=scaled_dot_product_attention):
        q, k, v = (
            proj(x).unflatten(-1, (self.n_heads, -1)).transpose(1, 2)
            for proj in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.out_proj(attend(q, k, v, mask)[0].transpose(1, 2).flatten(2))
"""
ATTENTION = """
_solution = scaled_dot_product_attention


def scaled_dot_product_attention(q, k, v, mask=None):
    if {condition}:
        mask = None
    return _solution(q, k, v, mask)
"""


def refusal(config: ModelConfig | None = CLASSIC) -> str:
    """The one-line message that refuses the learner's parts."""
    with pytest.raises(CourseError) as raised:
        collect(config)
    assert raised.value.exit_code == 1
    assert "\n" not in str(raised.value)
    return str(raised.value)


# --- which parts a model has ---


def test_every_part_belongs_to_an_exercise_or_has_none() -> None:
    names = {field.name for field in fields(Parts)}
    assert names - set(PIECES) == {"normalize_and_rotate"}  # of the fused engine only
    assert set(PIECES) <= names


@pytest.mark.parametrize("part", PIECES)
def test_every_piece_has_the_name_of_the_reference_and_of_the_exercise(part: str) -> None:
    lesson, name = PIECES[part]
    assert getattr(Parts.reference(), part).__name__ == name
    if lesson in WITH_EXERCISES:
        solutions = (ROOT / lesson / "exercises" / "solutions.py").read_text(encoding="utf-8")
        assert f"def {name}(" in solutions or f"class {name}(" in solutions


@pytest.mark.parametrize("config", MODELS)
def test_used_parts_are_those_that_a_model_calls(config: ModelConfig) -> None:
    for part in PIECES:
        calls = []
        original = getattr(Parts.reference(), part)

        def counted(*args: Any, original: Any = original, calls: Any = calls) -> Any:
            calls.append(args)
            return original(*args)

        model = TinyTransformerLM(config, replace(Parts.reference(), **{part: counted}))
        model(torch.randint(11, (3, 7)))
        built_always = part in ("rotary_angles", "alibi_slopes")  # tables that not all models read
        assert (part in used_parts(config)) == bool(calls) or built_always


def test_models_of_any_kind_use_every_part() -> None:
    assert set().union(*map(used_parts, ANY_MODEL)) == set(PIECES)


# --- solved, not started, wrong ---


@pytest.mark.parametrize("config", MODELS)
def test_what_is_solved_is_used_and_computes_the_same(
    config: ModelConfig, solved_course: Any
) -> None:
    root = solved_course()
    parts = Parts.mine(config)
    for part in used_parts(config):
        lesson, _ = PIECES[part]
        code = getattr(parts, part)
        is_own = code.__module__ == f"_learner_{lesson}_exercises"
        assert is_own == (lesson in WITH_EXERCISES), part
        assert str(root) in str(sys.modules[code.__module__].__file__) or not is_own
    mine, reference = TinyTransformerLM(config, parts, 3), TinyTransformerLM(config, seed=3)
    for one, other in zip(mine.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    mine.load_state_dict(random_(reference).state_dict())
    tokens = torch.randint(11, (3, 7))
    torch.testing.assert_close(mine(tokens), reference(tokens), rtol=1e-4, atol=1e-4)


def test_nothing_that_the_model_does_not_use_is_run(solved_course: Any) -> None:
    solved_course()
    own = collect(CLASSIC).own
    assert set(own) <= used_parts(CLASSIC)
    assert Parts.mine(CLASSIC).swiglu is Parts.reference().swiglu


def test_without_a_configuration_all_parts_are_there(solved_course: Any) -> None:
    solved_course()
    own = collect().own
    assert set(own) == {part for part, (lesson, _) in PIECES.items() if lesson in WITH_EXERCISES}


def test_what_is_not_started_is_the_reference(solved_course: Any) -> None:
    solved_course(to_do=["1.5", "3.9"])
    parts = Parts.mine(CLASSIC)
    assert parts.attention is Parts.reference().attention
    assert parts.block is Parts.reference().block
    assert parts.multi_head is not Parts.reference().multi_head


def test_a_course_without_exercises_is_all_reference(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(my_parts, "ROOT", tmp_path)
    assert Parts.mine() == Parts.reference()
    assert collect(CLASSIC).summary().startswith("0 of 10 parts")


def test_a_lesson_without_exercises_py_counts_as_not_started(solved_course: Any) -> None:
    root = solved_course()
    (root / "02_multi_head" / "exercises" / "exercises.py").unlink()
    pieces = {piece.part: piece for piece in find_pieces(root)}
    assert pieces["multi_head"].outcome == "to do"
    assert pieces["attention"].outcome == "solved"
    assert "multi_head" not in collect(CLASSIC).own


@pytest.mark.parametrize("config", [CLASSIC, MODERN, None])
def test_a_wrong_exercise_is_named_with_the_command_to_see_why(
    config: ModelConfig | None, solved_course: Any
) -> None:
    solved_course(wrong=["1.5"])
    message = refusal(config)
    assert message.startswith("your 1.5 scaled_dot_product_attention is wrong; ")
    assert "1.5 shows why" in message and "check" in message


def test_all_wrong_exercises_are_named_at_once(solved_course: Any) -> None:
    solved_course(wrong=["2.1", "1.5", "3.9"])
    assert "your 1.5 scaled_dot_product_attention is wrong (and so are 2.1, 3.9)" in refusal()


def test_a_wrong_prediction_does_not_matter(solved_course: Any) -> None:
    solved_course(wrong=["1.6", "1.12"])
    assert "attention" in collect(CLASSIC).own


def test_a_file_that_cannot_be_read_is_named(solved_course: Any) -> None:
    root = solved_course()
    file = root / "02_multi_head" / "exercises" / "exercises.py"
    file.write_text("def split_heads(:\n", encoding="utf-8")
    message = refusal()
    assert message.startswith("02_multi_head/exercises/exercises.py cannot be used: ")
    assert "line 1" in message


def test_a_file_that_is_saved_while_it_is_judged_is_not_used(
    solved_course: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = solved_course()
    verdicts_of = my_pieces.verdicts_of

    def slowly(lesson: Any) -> Any:
        lesson.file.write_bytes(lesson.file.read_bytes() + b"\n# more\n")
        return verdicts_of(lesson)

    monkeypatch.setattr(my_pieces, "verdicts_of", slowly)
    assert "was saved while it was checked" in refusal()
    assert root.exists()


def test_settings_that_a_file_changes_are_restored(solved_course: Any) -> None:
    solved_course(written={"01_attention": "torch.set_default_dtype(torch.float64)\n"})
    torch.manual_seed(5)
    before = torch.get_rng_state()
    collect(CLASSIC)
    assert torch.get_default_dtype() == torch.float32
    assert torch.equal(torch.get_rng_state(), before)


# --- the gate ---


@pytest.mark.parametrize(
    ("condition", "named"),
    [
        ("q.size(0) == 1", "batch size 1, the full context, cached decoding"),
        ("q.size(-2) == 1", "unequal cached lengths"),
    ],
)
def test_a_part_that_fails_in_the_model_is_named(
    condition: str, named: str, solved_course: Any
) -> None:
    solved_course(written={"01_attention": ATTENTION.format(condition=condition)})
    message = refusal()
    assert (
        "your 1.5 scaled_dot_product_attention passes its tests, but a model with it differs"
        in message
    )
    assert f"reference: {named}; fix 01_attention/exercises/exercises.py, line " in message
    assert "reset" in message


def test_an_error_in_a_model_is_shown_with_its_line(solved_course: Any) -> None:
    code = "\n\ndef split_heads(x, n_heads):\n    raise ValueError('no')\n"
    solved_course(written={"02_multi_head": code}, to_do=["2.4"])
    assert "ValueError: no raise ValueError('no'))" in refusal()


ADDITIVE = ATTENTION.format(condition="mask is not None and mask.is_floating_point()")


@pytest.mark.parametrize("config", [CLASSIC, MODERN])
def test_a_part_that_fails_with_additive_masks_is_used_where_there_are_none(
    config: ModelConfig, solved_course: Any
) -> None:
    solved_course(written={"01_attention": ADDITIVE})
    mine = collect(config)
    assert "attention" in mine.own
    row = next(line for line in mine.table().splitlines() if " attention " in line)
    assert row.endswith("yours     1.5  not for alibi: no additive masks")


@pytest.mark.parametrize("config", [ALIBI, None])
def test_a_part_that_fails_with_additive_masks_is_refused_for_alibi(
    config: ModelConfig | None, solved_course: Any
) -> None:
    solved_course(written={"01_attention": ADDITIVE})
    message = refusal(config)
    assert "1.5 scaled_dot_product_attention passes its tests" in message
    assert "reference: an additive mask; fix" in message


def test_parts_that_only_fail_together_are_refused(
    solved_course: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of each alone is switched off, as if it had missed the mistake."""
    code = "\n\ndef merge_heads(x):\n    return x.transpose(1, 2).flatten(2).flip(1)\n"
    solved_course(written={"02_multi_head": code}, to_do=["2.4"])
    monkeypatch.setattr(my_parts, "try_alone", lambda *_: False)
    assert refusal().startswith("your parts work one by one, but not together: a batch of 3, ")


# --- what is printed ---


def test_the_table_says_whose_each_part_is(solved_course: Any) -> None:
    solved_course(to_do=["2.4", "3.9"])
    mine = collect(CLASSIC)
    lines = mine.table().splitlines()
    assert lines[0] == f"parts   {mine.summary()}"
    assert all(len(line) <= 80 for line in lines)
    rows = {line.split()[0]: line.split()[1:] for line in lines[1:]}
    assert rows["attention"] == ["yours", "1.5"]
    assert rows["split_heads"] == ["yours", "2.1"]
    assert rows["multi_head"] == ["reference", "2.4", "to", "do"]
    assert rows["block"] == ["reference", "3.9", "to", "do"]
    text = " ".join(mine.table().split())
    assert "solved, but not part of this model: repeat_kv (2.11), grouped_query (2.13)" in text


def test_a_partly_done_exercise_says_what_is_left(solved_course: Any) -> None:
    root = solved_course(to_do=["3.5"])
    file = root / "03_transformer_blocks" / "exercises" / "exercises.py"
    text = file.read_text(encoding="utf-8")
    stub = 'raise NotImplementedError("Exercise 3.5: FeedForward.__init__")'
    assert stub in text
    file.write_text(text.replace(stub, "super().__init__()"), encoding="utf-8")
    table = collect(CLASSIC).table()
    row = next(line for line in table.splitlines() if "feed_forward" in line)
    assert row.split() == ["feed_forward", "reference", "3.5", "begun;", "left:", "forward"]


def test_every_row_fits_even_if_much_is_left(solved_course: Any) -> None:
    solved_course(to_do=[f"{lesson}.{n}" for lesson in range(1, 5) for n in range(1, 15)])
    for config in MODELS:
        assert all(len(line) <= 80 for line in collect(config).table().splitlines())


def test_an_own_attention_layer_has_its_own_way_to_split(solved_course: Any) -> None:
    solved_course(to_do=["2.1", "2.2"], written={"02_multi_head": OWN_LAYER})
    used = [piece.part for piece in collect(CLASSIC).used]
    assert "multi_head" in used
    assert "split_heads" not in used  # the reference's is called by nothing


# --- judged for real ---


def test_one_lesson_is_judged_by_its_tests_and_the_verdicts_are_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "course"
    root.mkdir()
    for name in ("conftest.py", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, root)
    copied = root / "02_multi_head"
    shutil.copytree(ROOT / "02_multi_head", copied, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copied / "exercises" / "solutions.py").read_text(encoding="utf-8")
    wrong = text.replace("return x.transpose(1, 2).reshape(B, T, n_heads * d_head)", "return x")
    assert wrong != text
    (copied / "exercises" / "exercises.py").write_text(wrong, encoding="utf-8")
    monkeypatch.setattr(my_parts, "ROOT", root)
    assert "your 2.2 merge_heads is wrong (and so " in refusal()
    assert "parts   checking your exercises of 02_multi_head\n" in capfd.readouterr().out
    assert "your 2.2 merge_heads is wrong (and so " in refusal()
    assert capfd.readouterr().out == ""  # cached


def test_importing_parts_does_not_load_the_grader() -> None:
    code = "import parts, sys; print('utils.grader.runner' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8")
    assert run.stdout == "False\n"


def test_a_model_of_own_parts_decodes_with_a_cache(solved_course: Any) -> None:
    solved_course()
    model = TinyTransformerLM(MODERN, Parts.mine(MODERN)).eval()
    cache = KVCache(MODERN, batch_size=2)
    with torch.inference_mode():
        assert model(torch.zeros(2, 3, dtype=torch.long), cache).shape == (2, 3, 11)
        assert model(torch.zeros(2, 1, dtype=torch.long), cache).shape == (2, 1, 11)
