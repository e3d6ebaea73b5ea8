"""The interactive page in a real browser: what clicks, keys, sliders and files change."""

import json
import re
import statistics
import string
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from page_browser import open_page, started_browser  # pyright: ignore[reportMissingImports]

from checkpointing import load_checkpoint, save_checkpoint
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from tools.attention_page.assemble import HERE, assemble, scripts
from tools.attention_page.embed import describe
from utils.config import ModelConfig

pytestmark = pytest.mark.browser

SMALL_MODEL = HERE.parents[1] / "07_sampling" / "small_model.safetensors"
PHONE = {"width": 360, "height": 740}
DESKTOP = {"width": 1280, "height": 800}
TEXT = "The king and the queen"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with started_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with the small model of lesson 07."""
    path = tmp_path_factory.mktemp("page") / "page.html"
    description = describe(load_checkpoint(SMALL_MODEL), "the small model of lesson 07")
    path.write_text(assemble(description), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def empty_page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page without a model."""
    path = tmp_path_factory.mktemp("page") / "empty.html"
    path.write_text(assemble(None), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shared(browser: Any, page_file: Path) -> Iterator[Any]:
    """One opened page for all tests; at the end it has to have been quiet throughout."""
    with open_page(browser, page_file, viewport=DESKTOP, reduced_motion="reduce") as opened:
        yield opened.page
        assert opened.is_quiet, (opened.requests, opened.errors)


@pytest.fixture
def page(shared: Any) -> Any:
    """The page as at its start, with a text of known length."""
    shared.evaluate("showModel(state.model)")
    write(shared, TEXT)
    return shared


def write(page: Any, text: str) -> None:
    """Replace the text of the box, as by typing or pasting it, and wait for the model."""
    page.fill("#text-box", text)
    settle(page)


def type_at_once(page: Any, text: str) -> None:
    """Replace the text in one step; between the two of Playwright's `fill` a token may follow."""
    value = json.dumps(text)
    page.evaluate(
        f"byId('text-box').value = {value}; byId('text-box').dispatchEvent(new Event('input'))"
    )


def settle(page: Any) -> None:
    """Wait until what is shown belongs to what was chosen."""
    wait_until(page, "state.run !== null && state.run.text === state.text")
    page.evaluate("new Promise((done) => setTimeout(done))")


def wait_until(page: Any, condition: str) -> None:
    """Wait for a condition; the page's policy forbids what Playwright's own way needs."""
    end = time.monotonic() + 20
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        time.sleep(0.01)


def text_of(page: Any, selector: str) -> str:
    return page.text_content(selector)


def number_in(text: str) -> float:
    """The last number of a sentence."""
    return float(re.findall(r"[−+]?\d+\.?\d*", text)[-1].replace("−", "-"))


def checked_token(page: Any) -> int:
    """The position of the token that is chosen, as a screen reader would be told."""
    chosen = page.query_selector_all("#tokens [aria-checked=true]")
    assert len(chosen) == 1
    return int(chosen[0].get_attribute("data-index"))


# --- the text and its tokens ---


def test_every_character_is_a_token_and_the_last_is_chosen(page: Any) -> None:
    shown = [each.text_content() for each in page.query_selector_all("#tokens button span")]
    assert shown == list(TEXT.replace(" ", "␣"))
    assert checked_token(page) == len(TEXT) - 1


def test_a_click_chooses_a_token_and_everything_follows(page: Any) -> None:
    page.click("#tokens button:nth-child(6)")
    assert checked_token(page) == 5
    assert "“i” at 5" in text_of(page, "#bar-chosen")
    assert "Query “i” at 5" in text_of(page, "#matrix-readout")
    assert "After “i” at 5" in text_of(page, "#next-after")
    assert "“i” at 5 looks at" in text_of(page, "#announcer")
    largest = page.evaluate("Math.max(...weightRow(5))")
    assert number_in(text_of(page, "#strongest li")) == pytest.approx(largest, abs=6e-4)


def test_arrow_keys_move_the_choice_and_the_row_is_one_tab_stop(page: Any) -> None:
    page.focus("#tokens [tabindex='0']")
    for key, position in [("ArrowLeft", 20), ("Home", 0), ("ArrowUp", 0), ("ArrowRight", 1)]:
        page.keyboard.press(key)
        assert checked_token(page) == position
        assert page.evaluate("Number(document.activeElement.dataset.index)") == position
    page.keyboard.press("End")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.closest('#tokens')") is None
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("Number(document.activeElement.dataset.index)") == len(TEXT) - 1


def test_typing_keeps_the_choice_at_the_end_unless_it_was_moved(page: Any) -> None:
    page.focus("#text-box")
    page.keyboard.press("Control+End")
    page.keyboard.type(" is")
    settle(page)
    assert checked_token(page) == len(TEXT) + 2
    page.click("#tokens button:nth-child(3)")
    write(page, TEXT)
    assert checked_token(page) == 2


def test_the_chosen_token_of_a_long_text_is_in_sight(page: Any) -> None:
    page.set_viewport_size(PHONE)
    write(page, "To be or not to be " * 6)
    inside = """(() => {
      const frame = byId("tokens").getBoundingClientRect();
      const token = document.querySelector("#tokens [aria-checked=true]").getBoundingClientRect();
      return token.top >= frame.top && token.bottom <= frame.bottom;
    })()"""
    assert page.evaluate(inside)
    page.focus("#tokens [aria-checked=true]")
    page.keyboard.press("Home")
    assert page.evaluate(inside)
    page.set_viewport_size(DESKTOP)


HOSTILE = {
    "a script": "<script>window.broken = 1</script><img src=x onerror='window.broken = 1'>",
    "an emoji": "The 😀 king 👩‍👩‍👧",
    "a lone surrogate": "a\ud83d b",
    "other scripts": "король 王 ملك",
    "controls": "a\x00\x07\u202eb\u200dc",
    "markup": "&lt;b&gt; {{model}} ${state} </textarea>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_is_shown_and_never_run(page: Any, name: str) -> None:
    page.evaluate(
        """(text) => {
          byId("text-box").value = text;
          byId("text-box").dispatchEvent(new Event("input"));
        }""",
        HOSTILE[name],
    )
    settle(page)
    assert page.evaluate("window.broken") is None
    assert not page.query_selector("#tokens script, #sample-text script, #sample-text img")
    assert "The model does not know" in text_of(page, "#text-says")
    write(page, TEXT)  # and it recovers
    assert text_of(page, "#text-says") == ""


def test_an_empty_box_asks_for_a_text_and_nothing_breaks(page: Any) -> None:
    write(page, "")
    assert "at least one character" in text_of(page, "#text-says")
    assert page.query_selector_all("#tokens button") == []
    assert not page.is_visible("#strongest")
    page.evaluate("byId('walk-panel').replaceChildren()")  # as if there had never been a text
    for button in ("#sample-one", "#sample-many", "#switch-measure", "#walk-on"):
        page.click(button)
    page.focus("#matrix-frame")
    page.keyboard.press("ArrowUp")
    page.click("#task-previous button")
    assert "Type a text first" in text_of(page, "#task-previous .verdict")
    write(page, "T")  # one token: there is no loss yet
    assert "two tokens" in text_of(page, "#loss-says")


def test_ten_thousand_characters_are_cut_to_the_context_with_a_message(page: Any) -> None:
    write(page, "To be or not to be " * 530)
    assert len(page.query_selector_all("#tokens button")) == 128
    message = text_of(page, "#text-says")
    assert "of 10070 only the last 128" in message.replace(",", "")
    assert checked_token(page) == 127


KEYSTROKES = """async () => {
  const box = byId("text-box");
  const text = box.value;
  const times = [];
  for (let i = 0; i < 21; i += 1) {
    const start = performance.now();
    box.value = text.slice(0, -1) + "abc"[i % 3];
    box.dispatchEvent(new Event("input"));
    while (state.run === null || state.run.text !== state.text) {
      await new Promise((done) => setTimeout(done));
    }
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done))); // drawn
    times.push(performance.now() - start);
  }
  return times;
}"""


def test_a_keystroke_at_128_characters_is_answered_at_once(
    page: Any, record_property: Callable[[str, object], None]
) -> None:
    """Below 100 ms on a quiet machine; a busy one gets five times as long."""
    write(page, ("To be or not to be " * 7)[:128])
    median = statistics.median(page.evaluate(KEYSTROKES))
    record_property("milliseconds", median)
    print(f"a keystroke at 128 characters: {median:.0f} ms")
    assert median < 500


# --- which head, which mask ---


def test_pickers_and_grid_choose_the_same_head(page: Any) -> None:
    page.select_option("#layer", "2")
    page.select_option("#head", "1")
    assert page.get_attribute("[data-head='2.1']", "aria-pressed") == "true"
    page.click("#head-grid [data-head='1.3']")
    assert (page.input_value("#layer"), page.input_value("#head")) == ("1", "3")
    shown = number_in(text_of(page, "#matrix-readout"))
    weight = page.evaluate("state.run.result.attention[1][3][21 * 22 + walkKey()]")
    assert shown == pytest.approx(weight, abs=6e-5)


def test_the_grid_shows_every_head_with_its_own_picture(page: Any) -> None:
    pictures = page.evaluate(
        "[...document.querySelectorAll('#head-grid canvas')].map((each) => each.toDataURL())"
    )
    assert len(set(pictures)) == 12


def test_without_the_mask_the_future_appears_and_the_page_says_so(page: Any) -> None:
    above = """(() => {
      const { T, weights } = shownHead();
      let sum = 0;
      for (let i = 0; i < T; i++) for (let j = i + 1; j < T; j++) sum += weights[i * T + j];
      return sum;
    })()"""
    loss = text_of(page, "#loss-says")
    assert page.evaluate(above) == 0
    page.check("#mask-none")
    settle(page)
    wait_until(page, "!state.run.causal")
    assert page.evaluate(above) > 0.5
    assert "untrained" in page.get_attribute(".bar", "class")
    assert "not how this model was trained" in text_of(page, "#mask-note")
    assert text_of(page, "#loss-says") != loss
    page.check("#mask-causal")
    wait_until(page, "state.run.causal")
    settle(page)
    assert text_of(page, "#loss-says") == loss


def test_numbers_are_shown_on_demand(page: Any) -> None:
    assert not page.is_visible("#tokens small")
    page.check("#numbers")
    assert page.is_visible("#tokens small")
    assert page.query_selector("#arcs .number")
    page.uncheck("#numbers")


def test_the_table_is_chosen_from_by_pointer_and_by_keys(page: Any) -> None:
    box = page.locator("#matrix").bounding_box()
    cell, margin = page.evaluate("[matrixView.cell, matrixView.margin]")
    at = {"x": margin + 4.5 * cell, "y": margin + 9.5 * cell}
    assert box["width"] > at["x"]
    page.hover("#matrix", position=at)
    assert "key “k” at 4" in text_of(page, "#matrix-readout")
    page.click("#matrix", position=at)
    assert checked_token(page) == 9
    assert page.input_value("#walk-key") == "4"
    page.focus("#matrix-frame")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert checked_token(page) == 10
    assert "key “i” at 5" in text_of(page, "#announcer")
    page.keyboard.press("ArrowLeft")
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    assert "masked, exactly 0" in text_of(page, "#matrix-readout")
    page.click("#matrix-details summary")
    page.wait_for_selector("#matrix-table tr:nth-child(22)")
    page.click("#matrix-details summary")


# --- one attention, step by step ---


WALK = ["Query", "Key", "Dot product", "Scaling", "Mask", "Softmax", "Weighted sum"]


def shown(value: float, digits: int) -> str:
    """A number as the page writes it."""
    return f"{value:.{digits}f}".replace("-", "−")


def test_the_walk_shows_the_numbers_of_the_forward_pass(page: Any) -> None:
    page.select_option("#walk-key", "7")
    entry = 21 * 22 + 7
    parts = "state.run.result.heads[0][0]"
    score, scaled = page.evaluate(f"[{parts}.scores[{entry}], {parts}.scaled[{entry}]]")
    weight = page.evaluate(f"state.run.result.attention[0][0][{entry}]")
    seen = []
    for _ in range(7):
        seen.append(text_of(page, "#walk-panel"))
        if not page.is_disabled("#walk-on"):
            page.click("#walk-on")
    for step, text in enumerate(seen):
        assert text.startswith(f"{step + 1} {WALK[step]}")
    assert shown(score, 3) in seen[2]
    assert shown(scaled, 3) in seen[3]
    assert shown(weight, 4) in seen[5]
    assert page.is_disabled("#walk-on")
    sums = page.evaluate(
        """(() => {
          const n = walkNumbers();
          const product = n.query.reduce((sum, value, m) => sum + value * n.key[m], 0);
          return [product, n.values.reduce((sum, v, j) => sum + n.weights[j] * v[0], 0)];
        })()"""
    )
    assert sums == pytest.approx([score, page.evaluate(f"{parts}.output[21 * 24]")], abs=1e-4)
    page.click("#walk-steps li:first-child button")
    assert page.is_disabled("#walk-back")


def tiny_checkpoint(folder: Path, corpus: str = "mock", **choices: Any) -> Path:
    """A small model with random weights and these choices."""
    tokenizer = CharTokenizer("\n ,.:?" + string.ascii_letters)
    shape = ModelConfig(
        tokenizer.vocab_size, max_seq_len=32, d_model=16, n_layers=1, n_heads=2, **choices
    )
    path = folder / "tiny.safetensors"
    save_checkpoint(path, TinyTransformerLM(shape), tokenizer, {"corpus": corpus})
    return path


DESCRIBED = {
    "pre-norm, RoPE, qk-norm": (
        {"norm_placement": "pre", "position": "rope", "qk_norm": True, "bias": False},
        "first passes the RMSNorm of this layer, which gives x.",
        "q = x W_q, with 8 features, then normalized (qk-norm) and rotated by its position (RoPE).",
    ),
    "post-norm, learned positions": (
        {"norm_placement": "post", "position": "learned", "norm": "layernorm", "bias": True},
        "Here x is the vector of “s” at 26 as it enters this layer.",
        "q = x W_q + b_q, with 8 features.",
    ),
}


@pytest.mark.parametrize("name", DESCRIBED)
def test_the_first_steps_say_what_this_model_does(page: Any, tmp_path: Path, name: str) -> None:
    choices, vector, query = DESCRIBED[name]
    choices = {"norm": "rmsnorm", **choices}
    description = describe(load_checkpoint(tiny_checkpoint(tmp_path, **choices)), "tiny")
    try:
        page.evaluate("async (it) => { await showModel(readEmbedded(it)); }", description)
        write(page, "Who has the map? No man has")
        panel = text_of(page, "#walk-panel")
        assert vector in panel and query in panel
        page.click("#walk-on")
        assert query.split(", with")[0].replace("q", "k") in text_of(page, "#walk-panel")
    finally:
        page.evaluate("showModel(ownModel())")


def test_the_scaling_promises_no_size_of_the_scores(page: Any) -> None:
    page.click("#walk-steps li:nth-child(4) button")
    assert "keeps their spread from growing with d_head" in text_of(page, "#walk-panel")


@pytest.mark.parametrize(("corpus", "start"), [("shakespeare", "ROMEO:"), ("mock", "Who has")])
def test_the_first_text_fits_the_corpus(page: Any, tmp_path: Path, corpus: str, start: str) -> None:
    description = describe(load_checkpoint(tiny_checkpoint(tmp_path, corpus)), "tiny")
    try:
        page.evaluate("async (it) => { await showModel(readEmbedded(it)); }", description)
        assert page.input_value("#text-box").startswith(start)
    finally:
        page.evaluate("showModel(ownModel())")


def test_every_section_below_the_bar_is_in_the_navigation(page: Any) -> None:
    linked = page.evaluate("[...document.querySelectorAll('nav a')].map((each) => each.hash)")
    sections = page.evaluate(
        "[...document.querySelectorAll('section')].map((each) => '#' + each.id)"
    )
    assert linked == [each for each in sections if each != "#attention"]  # where the bar is


def test_a_masked_key_is_struck_out_in_the_walk(page: Any) -> None:
    page.click("#tokens button:nth-child(4)")
    page.click("#walk-steps li:nth-child(5) button")
    assert page.query_selector("#walk-panel .cut")
    assert "−∞" in text_of(page, "#walk-panel")
    page.check("#mask-none")
    wait_until(page, "!state.run.causal && !document.querySelector('#walk-panel .cut')")


def test_the_last_line_of_the_lens_is_the_models_prediction(page: Any) -> None:
    page.click("#tokens button:nth-child(10)")
    rows = page.query_selector_all("#lens-table tbody tr")
    assert len(rows) == 4
    first = rows[-1].query_selector(".guess").text_content()
    best = page.query_selector("#distribution div").text_content()
    assert first.split()[0] == best[0]
    assert first.split()[1] == f"{float(re.findall(r'0[.]...', best)[0]):.2f}"
    assert "continues with “n”" in text_of(page, "#lens-truth")


def test_a_head_that_is_off_changes_the_loss_and_can_be_measured(page: Any) -> None:
    before = text_of(page, "#loss-says")
    page.uncheck("#switch-grid [data-head='1.2']")
    wait_until(page, "byId('loss-says').textContent.includes('without 1.2')")
    change = number_in(text_of(page, "#loss-says").rstrip(")."))
    page.click("#switch-measure")
    wait_until(page, "byId('measure-says').textContent.startsWith('Next to')")
    measured = text_of(page, "[data-loss='1.2']")
    assert number_in(measured) == pytest.approx(change, abs=2e-3)
    assert all(each.text_content() for each in page.query_selector_all("#switch-grid small"))
    page.click("#switch-all")
    wait_until(page, "state.run.headsOff.size === 0")
    settle(page)
    assert text_of(page, "#loss-says") == before


# --- the next token ---


def slide(page: Any, name: str, value: float) -> None:
    """Move a slider, as a pointer or a key would."""
    page.fill(f"#{name}", str(value))


def test_sliders_reshape_the_distribution(page: Any) -> None:
    write(page, "The ")
    drawn = "byId('distribution-rest').textContent"
    assert "57 of 57" in page.evaluate(drawn)
    slide(page, "top-k", 3)
    assert "3 of 57" in page.evaluate(drawn)
    assert len(page.query_selector_all("#distribution .cut")) == 9
    slide(page, "top-k", 57)
    slide(page, "temperature", 0)
    assert "1 of 57" in page.evaluate(drawn)
    assert text_of(page, "#temperature-value") == "greedy"
    slide(page, "temperature", 2)
    first = page.query_selector("#distribution div span").text_content()
    model, flat = re.findall(r"\d\.\d+", first)
    assert float(flat) < float(model)
    slide(page, "top-p", 0.5)
    mass = page.evaluate("reshape(logitsAfter(3), {}).length")
    assert mass == 57 and "57 of 57" not in page.evaluate(drawn)
    page.focus("#temperature")
    page.keyboard.press("ArrowLeft")
    assert text_of(page, "#temperature-value") == "1.95"


def test_tokens_are_sampled_appended_and_marked(page: Any) -> None:
    page.click("#sample-one")
    wait_until(page, f"state.run.tokens.length === {len(TEXT) + 1}")
    assert page.input_value("#text-box").startswith(TEXT)
    page.fill("#sample-count", "5")
    page.click("#sample-many")
    wait_until(page, "byId('sample-says').textContent === '5 tokens generated.'")
    assert len(page.input_value("#text-box")) == len(TEXT) + 6
    assert text_of(page, "#sample-text mark") == page.input_value("#text-box")[len(TEXT) :]


def test_the_same_seed_gives_the_same_text(page: Any) -> None:
    texts = []
    for seed in (7, 8, 7):
        write(page, TEXT)
        page.fill("#sample-seed", str(seed + 1))
        page.fill("#sample-seed", str(seed))
        page.dispatch_event("#sample-seed", "change")
        page.fill("#sample-count", "8")
        page.click("#sample-many")
        wait_until(page, "byId('sample-says').textContent === '8 tokens generated.'")
        texts.append(page.input_value("#text-box"))
    assert texts[0] == texts[2] != texts[1]


def test_generation_streams_and_stops_when_asked(page: Any) -> None:
    page.fill("#sample-count", "1000")
    page.click("#sample-many")
    wait_until(page, f"state.text.length > {len(TEXT) + 2}")
    assert page.is_disabled("#sample-many")
    page.click("#sample-stop")
    wait_until(page, "byId('sample-says').textContent.endsWith('then stopped.')")
    length = len(page.input_value("#text-box"))
    assert not page.is_disabled("#sample-many")
    settle(page)
    assert len(page.input_value("#text-box")) == length
    page.click("#sample-many")  # typing stops it as well
    wait_until(page, f"state.text.length > {length}")
    type_at_once(page, "My own words")
    wait_until(page, "!sampler.running")
    settle(page)
    assert page.input_value("#text-box") == "My own words"


# --- files ---


def other_checkpoint(tmp_path: Path) -> Path:
    """A model of another size and alphabet, with random weights."""
    tokenizer = CharTokenizer("\n .:DGKTabdeghiklmnorstuy")
    shape = ModelConfig(tokenizer.vocab_size, max_seq_len=16, d_model=16, n_layers=1, n_heads=2)
    save_checkpoint(tmp_path / "other.safetensors", TinyTransformerLM(shape), tokenizer, {})
    return tmp_path / "other.safetensors"


def test_the_file_picker_shows_another_model(browser: Any, page_file: Path, tmp_path: Path) -> None:
    with open_page(browser, page_file) as opened:
        page = opened.page
        settle(page)
        page.set_input_files("#file", other_checkpoint(tmp_path))
        wait_until(page, "byId('file-says').textContent.includes('now shows')")
        settle(page)
        assert len(page.query_selector_all("#head-grid button")) == 2
        assert len(page.query_selector_all("#tokens button")) == 16
        assert "other.safetensors" in text_of(page, "#model-line")
        (tmp_path / "bad.safetensors").write_bytes(b"not a checkpoint, but long enough")
        page.set_input_files("#file", tmp_path / "bad.safetensors")
        wait_until(page, "byId('file-says').classList.contains('bad')")
        assert "not a .safetensors file" in text_of(page, "#file-says")
        assert len(page.query_selector_all("#head-grid button")) == 2  # the model stays
    assert opened.is_quiet, (opened.requests, opened.errors)


def test_a_page_without_a_model_takes_one_that_is_dropped(
    browser: Any, empty_page_file: Path, tmp_path: Path
) -> None:
    with open_page(browser, empty_page_file) as opened:
        page = opened.page
        assert page.is_visible("#no-model") and not page.is_visible("#text-box")
        page.click("#toy-words button:nth-child(2)")
        page.click("#task-previous button")
        assert "needs a model" in text_of(page, "#task-previous .verdict")
        data = list(other_checkpoint(tmp_path).read_bytes())
        page.evaluate(
            """(bytes) => {
              const dropped = new DataTransfer();
              dropped.items.add(new File([Uint8Array.from(bytes)], "mine.safetensors"));
              document.body.dispatchEvent(
                new DragEvent("drop", { dataTransfer: dropped, bubbles: true, cancelable: true }));
            }""",
            data,
        )
        wait_until(page, "byId('file-says').textContent.includes('now shows mine')")
        assert page.is_visible("#text-box") and not page.is_visible("#no-model")
    assert opened.is_quiet, (opened.requests, opened.errors)


# --- words first ---


def test_fox_looks_at_brown_and_jumps(page: Any) -> None:
    page.click("#toy-words button:nth-child(4)")
    assert "finds “brown” (0.38) and “jumps” (0.38)" in text_of(page, "#toy-says")
    page.keyboard.press("ArrowRight")
    assert text_of(page, "#toy-says").startswith("“jumps” looks for manner 2, thing 4")
    page.keyboard.press("Home")
    assert "looks for nothing" in text_of(page, "#toy-says")


def test_a_word_finds_only_what_scores_above_zero(page: Any) -> None:
    page.click("#toy-words button:nth-child(2)")
    assert "looks for action 4, and finds “jumps” (0.65). It" in text_of(page, "#toy-says")
    page.keyboard.press("ArrowRight")
    assert "looks for thing 4, and finds “fox” (0.65). It" in text_of(page, "#toy-says")
    page.click("#toy-source summary")
    page.fill("[aria-label='colour looks for thing']", "-4")
    assert "looks for thing −4, and no word matches. It" in text_of(page, "#toy-says")
    page.click("#toy-reset")
    page.click("#toy-source summary")


def test_the_numbers_of_the_words_can_be_changed_and_restored(page: Any) -> None:
    page.click("#toy-words button:nth-child(4)")
    page.click("#toy-source summary")
    page.fill("[aria-label='thing looks for action']", "0")
    assert "looks for colour 4, manner 2, and finds “brown”" in text_of(page, "#toy-says")
    for odd in ("", "-999", "1e9"):
        page.fill("[aria-label='thing looks for action']", odd)
        assert "not finite" not in text_of(page, "#words")
    page.click("#toy-reset")
    assert "“jumps” (0.38)" in text_of(page, "#toy-says")
    page.click("#toy-source summary")


# --- exercises ---


def check(page: Any, task: str, *answers: int) -> str:
    """Answer, press Check, and return the verdict."""
    for question, answer in enumerate(answers):
        page.check(f"[name='{task}-{question}'][value='{answer}']")
    page.evaluate(f"document.querySelector('#task-{task} .verdict').textContent = ''")
    page.click(f"#task-{task} .buttons button")
    wait_until(page, f"document.querySelector('#task-{task} .verdict').textContent !== ''")
    return text_of(page, f"#task-{task} .verdict")


def test_a_head_is_judged_by_what_it_looks_at(page: Any) -> None:
    heads = page.evaluate(
        """state.run.result.attention.flatMap((layer, l) =>
          layer.map((weights, h) => [previousScore(weights, state.run.result.T), l, h]))"""
    )
    _, layer, head = min(heads)
    page.click(f"#head-grid [data-head='{layer}.{head}']")
    assert "too little" in check(page, "previous")
    _, layer, head = max(heads)
    page.click(f"#head-grid [data-head='{layer}.{head}']")
    assert check(page, "previous").startswith("Solved.")
    assert "1 of 8" in text_of(page, "#tasks-done")


def test_a_wrong_try_after_a_solved_exercise_looks_wrong(page: Any) -> None:
    colour = "getComputedStyle(document.querySelector('#task-average .verdict')).color"
    page.click("#toy-words button:nth-child(4)")
    check(page, "average", 1)
    plain = page.evaluate(colour)
    page.click("#toy-words button:nth-child(1)")
    assert check(page, "average", 1).startswith("Solved.")
    assert page.evaluate(colour) != plain
    check(page, "average", 2)
    assert page.evaluate(colour) == plain
    assert "done" in page.get_attribute("#task-average", "class")  # it stays solved


def test_the_mask_has_to_be_switched_off_to_be_judged(page: Any) -> None:
    assert "Answer first" in check(page, "bidirectional")
    assert "Now switch to bidirectional" in check(page, "bidirectional", 2, 0)
    losses = [page.evaluate("state.run.loss")]
    page.check("#mask-none")
    wait_until(page, "!state.run.causal")
    settle(page)
    losses.append(page.evaluate("state.run.loss"))
    truth = 1 if losses[1] > losses[0] else 0
    assert "where were grey cells" in check(page, "bidirectional", 0, truth)
    assert "The cells are right" in check(page, "bidirectional", 2, 1 - truth)
    assert check(page, "bidirectional", 2, truth).startswith("Solved.")


def test_changing_the_future_has_to_be_tried(page: Any) -> None:
    assert "Not tried yet" in check(page, "future", 2)
    page.click("#tokens button:nth-child(8)")
    write(page, TEXT[:-3] + "ick")
    assert "0.000000" in check(page, "future", 0)
    assert check(page, "future", 2).startswith("Solved.")


def test_the_head_that_is_needed_most_is_found_by_measuring(page: Any) -> None:
    assert "exactly one" in check(page, "needed")
    page.click("#switch-measure")
    wait_until(page, "byId('measure-says').textContent.startsWith('Next to')")
    order = page.evaluate("[...measured.losses].sort((a, b) => a[1] - b[1]).map(([name]) => name)")
    page.uncheck(f"#switch-grid [data-head='{order[0]}']")
    wait_until(page, "state.run.headsOff.size === 1")
    assert "needed more" in check(page, "needed")
    page.click("#switch-all")
    page.uncheck(f"#switch-grid [data-head='{order[-1]}']")
    wait_until(page, f"state.run.headsOff.has('{order[-1]}')")
    assert check(page, "needed").startswith("Solved.")


def test_a_ratio_of_weights_is_computed_from_scores(page: Any) -> None:
    s, t = page.evaluate("[ratioPair().s, ratioPair().t]")
    assert "Give a number" in check(page, "ratio")
    page.fill("[data-number='ratio']", str(s - t))
    assert "the difference" in check(page, "ratio")
    page.fill("[data-number='ratio']", str(2.718281828 ** (s - t)))
    assert check(page, "ratio").startswith("Solved.")


def test_the_line_of_the_lens_is_checked_for_the_chosen_token(page: Any) -> None:
    truth = page.evaluate("lensSettled(lensLines())")
    assert check(page, "settled", (truth + 1) % 4).startswith(("In that line", "The final guess"))
    assert check(page, "settled", truth).startswith("Solved.")


def test_one_choice_is_left_in_two_ways(page: Any) -> None:
    assert "More than one" in check(page, "one-choice")
    slide(page, "temperature", 0)
    assert "One way found: temperature" in check(page, "one-choice")
    slide(page, "top-k", 1)  # two sliders at once do not count
    assert "One way found" in check(page, "one-choice")
    slide(page, "temperature", 1)
    assert check(page, "one-choice").startswith("Solved. Two ways: temperature and top-k")


def test_the_word_that_looks_for_nothing_is_found(page: Any) -> None:
    page.click("#toy-words button:nth-child(4)")
    assert "differ" in check(page, "average", 1)
    page.click("#toy-words button:nth-child(1)")
    assert "The word is right" in check(page, "average", 2)
    assert check(page, "average", 1).startswith("Solved.")


# --- how it looks ---


def everything_open(page: Any) -> None:
    """Show what is folded, so that it is looked at as well."""
    page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
    page.check("#numbers")
    page.check("#mask-none")
    wait_until(page, "!state.run.causal")
    page.uncheck("#switch-grid [data-head='0.1']")
    wait_until(page, "state.run.headsOff.size === 1")
    settle(page)


@pytest.mark.parametrize("viewport", [PHONE, DESKTOP], ids=["360 px", "1280 px"])
def test_the_page_never_scrolls_sideways(browser: Any, page_file: Path, viewport: Any) -> None:
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    with open_page(browser, page_file, viewport=viewport) as opened:
        page = opened.page
        settle(page)
        assert page.evaluate(wide) <= 0
        write(page, "wwwwwwwwwwwwwwwwwwww" * 10)
        everything_open(page)
        for step in range(7):
            page.click(f"#walk-steps li:nth-child({step + 1}) button")
            assert page.evaluate(wide) <= 0
    assert opened.is_quiet, (opened.requests, opened.errors)


def test_nothing_jumps_when_a_choice_changes(page: Any) -> None:
    place = "byId('tasks').getBoundingClientRect().top + scrollY"
    before = page.evaluate(place)
    page.click("#tokens button:nth-child(3)")
    assert page.evaluate(place) == before
    page.click("#head-grid [data-head='2.2']")
    page.check("#mask-none")
    wait_until(page, "!state.run.causal")
    for step in range(7):
        page.click(f"#walk-steps li:nth-child({step + 1}) button")
        assert page.evaluate(place) == before, f"step {step}"
    slide(page, "top-k", 2)
    assert page.evaluate(place) == before
    page.click("#sample-one")
    settle(page)
    assert page.evaluate(place) == before
    write(page, "")
    assert page.evaluate(place) == pytest.approx(before, abs=60)  # the tokens' row and a message


def test_the_switch_changes_colours_both_ways(page: Any) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    shades = "document.querySelector('#tokens button').style.getPropertyValue('--shade')"
    light = page.evaluate(f"[{paper}, {shades}]")
    page.click("#theme")
    dark = page.evaluate(f"[{paper}, {shades}]")
    assert text_of(page, "#theme") == "Light"  # what it switches to
    assert light[0] != dark[0] and light[1] != dark[1]
    page.click("#theme")
    assert text_of(page, "#theme") == "Dark"
    assert page.evaluate(f"[{paper}, {shades}]") == light


def test_reduced_motion_is_respected(page: Any) -> None:
    duration = "getComputedStyle(document.querySelector('#distribution i'), '::before')"
    assert page.evaluate(f"{duration}.transitionDuration") == "0s"
    assert page.evaluate("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


@pytest.fixture(scope="module")
def axe() -> str:
    """The script of axe-core, as a package of the development tools carries it."""
    package = pytest.importorskip(
        "axe_playwright_python", reason="needs axe-playwright-python: make install-dev"
    )
    return (Path(package.__file__).parent / "axe.min.js").read_text(encoding="utf-8")


THEMES = {"light": {}, "dark": {"runOnly": ["color-contrast"]}}  # the rest is the same in both


def violations(page: Any, axe: str, scheme: str, where: str = "html") -> list[str]:
    """Serious and critical findings of axe-core, with the elements they are about."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(axe)
    found = page.evaluate(
        """([where, options]) => axe.run(where, options).then((result) =>
          result.violations.map(({ id, impact, nodes }) =>
            [impact, id, nodes.slice(0, 3).map((node) => node.html.slice(0, 160))]))""",
        [where, {"resultTypes": ["violations"], "preload": False, **THEMES[scheme]}],
    )
    return [str(each) for each in found if each[0] in ("serious", "critical")]


@pytest.mark.parametrize("scheme", THEMES)
def test_axe_finds_nothing_serious(browser: Any, tmp_path: Path, axe: str, scheme: Any) -> None:
    path = tmp_path / "page.html"  # of a tiny model: axe-core looks at every element
    path.write_text(
        assemble(describe(load_checkpoint(other_checkpoint(tmp_path)), "tiny")), "utf-8"
    )
    with open_page(browser, path, color_scheme=scheme, reduced_motion="reduce") as opened:
        page = opened.page
        settle(page)
        write(page, "The king")
        assert violations(page, axe, scheme) == []
        everything_open(page)
        for step in range(1, 7):
            page.click(f"#walk-steps li:nth-child({step}) button")
            assert violations(page, axe, scheme, "#walk-panel") == [], f"step {step}"
        page.click("#walk-on")
        slide(page, "top-k", 2)
        page.click("#sample-one")
        settle(page)
        check(page, "average", 1)
        assert violations(page, axe, scheme) == [], "everything open"
        write(page, "é")
        assert violations(page, axe, scheme, "#text") == [], "no text"


@pytest.mark.parametrize("scheme", THEMES)
def test_axe_finds_nothing_serious_without_a_model(
    browser: Any, empty_page_file: Path, axe: str, scheme: Any
) -> None:
    with open_page(browser, empty_page_file, color_scheme=scheme, viewport=PHONE) as opened:
        assert violations(opened.page, axe, scheme) == []


# --- the sources ---


def test_the_scripts_are_short_and_share_no_name() -> None:
    names: dict[str, str] = {}
    for path in scripts():
        source = path.read_text(encoding="utf-8")
        for name in re.findall(r"^(?:async function|function|const|let|class) (\w+)", source, re.M):
            assert name not in names, f"{name} is in {path.name} and in {names.get(name)}"
            names[name] = path.name
        if path.name.startswith(("view_", "task", "toy", "walk", "page")):
            assert len(source.splitlines()) <= 200, path.name


def test_no_text_enters_the_page_as_markup() -> None:
    for path in scripts():
        source = path.read_text(encoding="utf-8")
        found = re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", source)
        assert found == [], path.name
