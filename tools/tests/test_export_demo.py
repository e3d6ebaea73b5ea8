"""tools/export_demo.py, and the check that lesson 01's page is up to date."""

import json
import re
import shutil
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from checkpointing import save_checkpoint
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from tools import export_demo
from tools.attention_page import assemble as pages
from tools.attention_page import embed, lesson_model
from tools.attention_page.assemble import HERE, SOURCES_TAG, assemble, embedded_model, sources_hash
from tools.checks import attention_page
from tools.checks.attention_page import LARGEST, PAGE, check_attention_page, page_problems
from utils.config import ModelConfig

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ModelConfig(vocab_size=6, max_seq_len=8, d_model=16, n_layers=1, n_heads=2)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, TinyTransformerLM(CONFIG), CharTokenizer("</abc>"), {"val_loss": 1.5})
    return path


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A copy of the page's sources, with a template of its own."""
    folder = tmp_path / "sources"
    folder.mkdir()
    for script in HERE.glob("*.js"):
        shutil.copy(script, folder)
    (folder / "page.css").write_text("body { margin: 0 }\n", encoding="utf-8")
    template = "<html><head>{{style}}</head>\n<body>{{model}}{{scripts}}</body></html>\n"
    (folder / "page.html").write_text(template, encoding="utf-8")
    return folder


# --- the program ---


def test_a_checkpoint_becomes_a_page(
    call_program: Callable, checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "my_model.html"
    done = call_program(export_demo.main, "--checkpoint", checkpoint, "--out", out)
    assert (done.code, done.err) == (0, "")
    assert "parameters" in done.out and "open it in a browser" in done.out
    description = embedded_model(out.read_text(encoding="utf-8"))
    assert description is not None
    assert json.loads(description["metadata"]["tokenizer"])["characters"] == "</abc>"
    info = json.loads(description["metadata"]["info"])
    assert info == {"val_loss": 1.5, "title": "tiny"}
    assert description["tensors"]["token_embedding.weight"]["shape"] == [6, 16]


def test_without_a_name_it_is_the_newest_checkpoint(
    call_program: Callable, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_demo, "default_checkpoints", lambda: checkpoint.parent)
    done = call_program(export_demo.main, "--out", tmp_path / "page.html")
    assert done.code == 0 and "tiny.safetensors" in done.out


def test_a_page_without_weights_asks_for_a_file(call_program: Callable, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    assert call_program(export_demo.main, "--no-weights", "--out", out).code == 0
    assert embedded_model(out.read_text(encoding="utf-8")) is None


def test_a_large_model_is_left_out_and_the_page_asks_for_it(
    call_program: Callable, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_demo, "LARGEST_EMBEDDED", 1000)
    out = tmp_path / "page.html"
    done = call_program(export_demo.main, "--checkpoint", checkpoint, "--out", out)
    assert done.code == 0 and "more than 1,000" in done.out
    assert embedded_model(out.read_text(encoding="utf-8")) is None


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "--out is missing"),
        (["--out", "page.txt"], "page.txt is not a page"),
        (["--lesson", "--out", "page.html"], "--lesson has its own"),
        (["--train", "--out", "page.html"], "--train needs --lesson"),
        (["--no-weights", "--checkpoint", "x", "--out", "x.html"], "without --checkpoint"),
        (["--weights", "--out", "x.html"], "did you mean '--no-weights'"),
    ],
)
def test_options_that_make_no_sense_are_usage_errors(
    call_program: Callable, arguments: list[str], problem: str
) -> None:
    done = call_program(export_demo.main, *arguments)
    assert done.code == 2 and problem in done.err
    assert done.err.count("\n") == 1


def test_what_cannot_be_exported_fails_in_one_line_and_writes_nothing(
    call_program: Callable, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.setattr(export_demo, "default_checkpoints", lambda: tmp_path / "empty")
    truncated = tmp_path / "truncated.safetensors"
    truncated.write_bytes(checkpoint.read_bytes()[:-10])
    model = TinyTransformerLM(CONFIG)
    with torch.no_grad():
        model.output_weight[0, 0] = 1e5
    save_checkpoint(tmp_path / "large.safetensors", model, CharTokenizer("</abc>"))
    out = tmp_path / "page.html"
    for arguments, problem in (
        ([], "train a model first"),
        (["--checkpoint", tmp_path / "none.safetensors"], "no checkpoint at"),
        (["--checkpoint", truncated], "truncated or not a checkpoint"),
        (["--checkpoint", tmp_path / "large.safetensors"], "float16 ends at 65504"),
    ):
        done = call_program(export_demo.main, *arguments, "--out", out)
        assert done.code == 1 and problem in done.err, done
        assert done.err.count("\n") == 1
        assert not out.exists()
    nowhere = tmp_path / "no" / "page.html"
    done = call_program(export_demo.main, "--checkpoint", checkpoint, "--out", nowhere)
    assert done.code == 1 and "No such file or directory" in done.err


def test_the_lessons_page_is_rebuilt_with_the_model_it_holds(
    call_program: Callable, sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "interactive_demo.html"
    monkeypatch.setattr(export_demo, "LESSON_PAGE", page)
    assert "add --train" in call_program(export_demo.main, "--lesson").err  # no page yet
    page.write_text("an empty page", encoding="utf-8")
    assert "add --train" in call_program(export_demo.main, "--lesson").err  # no model in it
    page.write_text(assemble(None, sources), encoding="utf-8")
    assert "holds no model" in call_program(export_demo.main, "--lesson").err
    page.write_text(assemble({"any": "model"}, sources), encoding="utf-8")
    assert page_problems(page, HERE) != []
    assert call_program(export_demo.main, "--lesson").code == 0
    assert embedded_model(page.read_text(encoding="utf-8")) == {"any": "model"}
    assert page_problems(page, HERE) == []


def test_the_lessons_model_can_be_trained_again(
    call_program: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two steps on a short text, twice: the same page."""
    corpus = type("Corpus", (), {"text": "To be, or not to be.\n" * 200})
    monkeypatch.setattr(lesson_model, "load_corpus", lambda name: corpus)
    monkeypatch.setitem(lesson_model.TRAINING, "max_steps", 2)
    built = []
    for name in ("first.html", "second.html"):
        monkeypatch.setattr(export_demo, "LESSON_PAGE", tmp_path / name)
        assert call_program(export_demo.main, "--lesson", "--train").code == 0
        built.append((tmp_path / name).read_text(encoding="utf-8"))
    assert built[0] == built[1]
    description = embedded_model(built[0])
    assert description is not None
    assert json.loads(description["metadata"]["info"])["step"] == 2


# --- putting it together ---


def test_nothing_that_is_put_in_is_read_as_a_landmark(sources: Path) -> None:
    description = {"text": "</script><script>alert(1)</script> {{style}} <!-- é"}
    page = assemble(description, sources)
    assert page.count("<style>") == 1
    assert "alert(1)</script>" not in page
    assert embedded_model(page) == description


@pytest.mark.parametrize("landmark", ["<head>", "{{style}}", "{{scripts}}", "{{model}}"])
def test_a_template_without_a_landmark_is_refused(sources: Path, landmark: str) -> None:
    template = sources / "page.html"
    text = template.read_text(encoding="utf-8")
    template.write_text(text.replace(landmark, ""), encoding="utf-8")
    with pytest.raises(ValueError, match="must contain"):
        assemble(None, sources)


@pytest.mark.parametrize("text", ["'</script>'", "/* <!-- */"])
def test_a_script_that_would_end_its_own_tag_is_refused(sources: Path, text: str) -> None:
    (sources / "view_x.js").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match="must not contain"):
        assemble(None, sources)


def test_scripts_come_in_the_order_in_which_they_need_each_other(sources: Path) -> None:
    for name in ("page.js", "view_arcs.js", "toy.js"):
        (sources / name).write_text("", encoding="utf-8")
    names = [path.name for path in pages.scripts(sources)]
    assert names[: len(pages.ENGINE)] == list(pages.ENGINE)
    assert names[-1] == "page.js"
    assert {"view_arcs.js", "toy.js"} < set(names)


def test_no_two_scripts_define_the_same_name() -> None:
    """They share one global scope: the later one would silently replace the earlier one."""
    defined = re.compile(r"^(?:async )?(?:function\*?|const|let|class) ([\w$]+)", re.MULTILINE)
    names: dict[str, list[str]] = defaultdict(list)
    for script in pages.scripts():
        for name in defined.findall(script.read_text(encoding="utf-8")):
            names[name].append(script.name)
    assert len(names) > 50
    assert {name: where for name, where in names.items() if len(where) > 1} == {}


def test_line_ends_do_not_change_the_page(sources: Path) -> None:
    before, page = sources_hash(sources), assemble(None, sources)
    style = sources / "page.css"
    style.write_bytes(style.read_bytes().replace(b"\n", b"\r\n"))
    assert (sources_hash(sources), assemble(None, sources)) == (before, page)


# --- the check ---


def test_the_committed_page_is_up_to_date_and_small() -> None:
    [found] = check_attention_page(ROOT, None)
    assert found.passed, found.problems


def test_the_check_notices_a_page_that_is_stale_changed_large_or_missing(
    sources: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "interactive_demo.html"
    assert "is missing" in page_problems(page, sources)[0]
    fresh = assemble({"any": "model"}, sources)
    page.write_text(fresh, encoding="utf-8")
    assert page_problems(page, sources) == []
    page.write_text(fresh.replace("margin", "padding"), encoding="utf-8")
    assert "changed by hand" in page_problems(page, sources)[0]
    page.write_text(SOURCES_TAG.sub("", fresh), encoding="utf-8")
    assert "does not say what it was made of" in page_problems(page, sources)[0]
    page.write_text(assemble(None, sources), encoding="utf-8")
    assert "holds no model" in page_problems(page, sources)[0]
    page.write_text(fresh, encoding="utf-8")
    monkeypatch.setattr(attention_page, "LARGEST", 1000)
    assert "it must be under 1,000" in page_problems(page, sources)[0]
    monkeypatch.undo()
    for name in ("model.js", "page.css", "page.html"):
        text = (sources / name).read_text(encoding="utf-8")
        (sources / name).write_text(text + "\n", encoding="utf-8")
        assert "stale" in page_problems(page, sources)[0]
        (sources / name).write_text(text, encoding="utf-8")
    (sources / "view_new.js").write_text("", encoding="utf-8")
    assert "stale" in page_problems(page, sources)[0]
    assert LARGEST == 1_500_000


def test_the_check_is_part_of_the_modules_it_concerns() -> None:
    assert check_attention_page(ROOT, "05_model") == []
    assert [found.detail for found in check_attention_page(ROOT, "01_attention")] == [
        f"{(ROOT / PAGE).stat().st_size:,} bytes"
    ]


def test_the_limit_of_embedded_weights_keeps_pages_small() -> None:
    assert embed.LARGEST_EMBEDDED * 2 * 4 / 3 < 15_000_000  # bytes of base64
