"""The numbers of the pages that no code block prints, and what the programs of the README print.

What takes long to measure is kept in pictures/measured.json, which `pictures/draw.py --measure`
writes: here the pages are compared with that file, and its cheapest entries are measured again.
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import checkpointing
import compare_runs
import logging_utils
import quantization
import run_folder
import sealed_folder
import training_state
from checkpointing import load_checkpoint, save_checkpoint
from logging_utils import JsonlLogger, read_jsonl
from quantization import INT8_MAX, dequantize_rows, int8_linear, quantize_rows
from run_folder import locked, run_status, write_result, write_run_file
from small_model import load_small_model
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from utils.config import ModelConfig
from utils.errors import CourseError

LESSON = Path(__file__).resolve().parents[1]
PAGES = {path.stem: path.read_text(encoding="utf-8") for path in LESSON.glob("*.md")}
MEASURED = json.loads((LESSON / "pictures" / "measured.json").read_text(encoding="utf-8"))
MATRIX = re.compile(r"\\begin\{bmatrix\}(.*?)\\end\{bmatrix\}", re.DOTALL)
GENERATION = LESSON.parent / "09_capstone" / "benchmark_generation.json"


def words(page: str) -> str:
    """A page with its line breaks as spaces."""
    return " ".join(PAGES[page].split())


def matrices(page: str) -> list[Tensor]:
    """Every matrix of a page, in order."""
    return [
        torch.tensor([[float(cell) for cell in row.split("&")] for row in body.split("\\\\")])
        for body in MATRIX.findall(PAGES[page])
    ]


def amdahl(parts: Mapping[float, float]) -> float:
    """The speed-up if each share (the key) becomes so many times as fast; the rest stays."""
    return 1 / (1 - sum(parts) + sum(share / times for share, times in parts.items()))


# --- theory.md: files, logs, runs ---


def test_a_renamed_file_is_whole_at_every_instant_and_an_overwritten_one_is_not(
    draw: ModuleType, tmp_path: Path
) -> None:
    old, new = b"o" * 500, b"n" * 400
    for replace, is_whole in ((draw.replace_by_rename, True), (draw.replace_in_place, False)):
        path = tmp_path / "model"
        path.write_bytes(old)
        found = replace(path, new, 10)
        assert path.read_bytes() == new
        assert ({500, 400} == set(found)) == is_whole
        assert (0 in found) != is_whole


def test_a_flush_survives_a_kill_and_a_buffer_does_not(tmp_path: Path) -> None:
    """The first two lines of the table; a power cut can't be tested here."""
    path = tmp_path / "file"
    with path.open("wb") as file:
        file.write(b"data")
        assert path.read_bytes() == b""
        file.flush()
        assert path.read_bytes() == b"data"


def test_a_float_is_restored_exactly_from_the_log(tmp_path: Path) -> None:
    values = torch.randn(100, dtype=torch.float64).tolist()
    with JsonlLogger(tmp_path / "log.jsonl") as log:
        log.append({"values": values})
    assert read_jsonl(tmp_path / "log.jsonl")[0]["values"] == values


def test_the_probability_of_a_collision() -> None:
    assert f"that is 1 in {2**25 // 2:,}" in words("theory")
    # The formula for n runs is the first term of the exact probability.
    n, b = 5, 24
    exact = 1 - math.prod(1 - i / 2**b for i in range(n))
    assert math.isclose(exact, n * (n - 1) / (2 * 2**b), rel_tol=1e-5)


# --- theory.md: resume, tests ---


def test_the_momentum_table() -> None:
    def step(w: float, m: float, rate: float) -> tuple[float, float]:
        m = 0.9 * m + 1.0
        return w - rate * m, m

    def row(name: str, rate: float, m: float, w: float) -> str:
        return f"| {name} | {rate:.10g} | {m:.10g} | {w:.10g} |"

    w, m, rows = 1.0, 0.0, []
    for t in range(2):
        rate = 0.1 * (1 - t / 4)
        w, m = step(w, m, rate)
        rows.append(row(str(t), rate, m, w))
    for name, kept, rate in (
        ("2", m, 0.05),
        ("2, with the momentum lost", 0.0, 0.05),
        ("2, with the schedule off by one", m, 0.075),
    ):
        changed, momentum = step(w, kept, rate)
        rows.append(row(name, rate, momentum, changed))
    assert all(one in PAGES["theory"] for one in rows), rows


def test_only_a_complete_resume_gives_the_same_run(draw: ModuleType) -> None:
    whole = draw.losses_of(60)
    resumed = draw.losses_of(60, 20, ("weights", "momentum", "random"))
    assert resumed == whole  # bit for bit
    without_momentum = draw.losses_of(60, 20, ("weights", "random"))
    assert without_momentum[:21] == whole[:21] and without_momentum[21] != whole[21]
    assert sum(without_momentum[25:35]) < sum(whole[25:35])  # even lower for a while
    assert draw.losses_of(60, 20, ("weights", "momentum"))[20] != whole[20]


def test_the_tolerance_by_hand() -> None:
    rtol, atol = 0.001, 0.01
    assert math.isclose(atol + rtol * 50, 0.06) and "0.01 + 0.05 = 0.06" in words("theory")
    assert (torch.ones(3) == torch.ones(3, 1)).numel() == 9
    assert torch.finfo(torch.float32).eps == 2**-23  # about 7 digits


def test_the_first_loss_of_the_clinic() -> None:
    _, tokenizer = load_small_model()
    assert f"log V: {math.log(tokenizer.vocab_size):.2f} nats for {tokenizer.vocab_size}" in words(
        "theory"
    )
    untrained = TinyTransformerLM(ModelConfig(57, d_model=16, n_layers=1, tie_weights=False))
    log_probs = untrained(torch.zeros(1, 4, dtype=torch.long)).log_softmax(-1)
    torch.testing.assert_close(log_probs, torch.full_like(log_probs, -math.log(57)))


# --- theory.md: profiles ---


def test_amdahl_by_hand() -> None:
    whole = amdahl({0.5: 2, 0.3: 3})
    assert f"0.25 + 0.1 + 0.2 = {1 / whole:.2f}" in words("theory")
    assert f"the step is {whole:.2f} times as fast" in words("theory")
    assert f"1 / 0.7 = {amdahl({0.3: math.inf}):.2f} times" in words("theory")
    assert f"at most {amdahl({0.3: math.inf}):.2f} times" in words("README")


def test_the_letters_of_the_exercise_are_those_of_the_picture(draw: ModuleType) -> None:
    text = (LESSON / "exercises" / "solutions.py").read_text(encoding="utf-8")
    assert list(draw.LETTERS) == ["A", "B", "C", "D"]
    for letter, setting in draw.LETTERS.items():
        assert f'"{setting}": "{letter}"' in text


def test_the_four_profiles_can_be_told_apart_as_the_page_says(draw: ModuleType) -> None:
    times = {letter: MEASURED["profiles"][setting] for letter, setting in draw.LETTERS.items()}
    share = {letter: draw.shares_of(one) for letter, one in times.items()}
    training = {letter for letter, one in times.items() if {"optimizer", "autograd"} <= one.keys()}
    assert training == {"A", "C"}
    assert share["A"]["matrix products"] < share["C"]["matrix products"] - 0.05
    for kind in ("copies, casts, views", "interpreter"):
        assert share["A"][kind] > 1.5 * share["C"][kind]
    assert min(share[one]["interpreter"] for one in "BD") > 2 * share["A"]["interpreter"]
    for kind in ("norms, elementwise", "copies, casts, views"):
        assert share["D"][kind] > 1.5 * share["B"][kind]
    assert share["B"]["matrix products"] > 2 * share["D"]["matrix products"]
    assert share["B"]["interpreter"] > share["D"]["interpreter"]
    assert times["B"]["interpreter"] < times["D"]["interpreter"]


# --- theory.md: fewer bits ---


def test_the_matrix_quantized_by_hand() -> None:
    weight, codes = matrices("theory")
    q, scale = quantize_rows(weight)
    assert torch.equal(q, codes.to(torch.int8))
    torch.testing.assert_close(scale, torch.tensor([0.01, 0.04]))
    close = dequantize_rows(q, scale)
    assert [round(value, 4) for value in close[:, 0].tolist()] == [0.42, 0.44]
    x = torch.tensor([1.0, 1.0, 2.0, 0.0])
    assert (q[0].float() @ x).item() == -67 and "42 - 127 + 18 = -67" in words("theory")
    assert math.isclose(int8_linear(x, q, scale)[0].item(), -0.67, rel_tol=1e-6)
    assert math.isclose((weight[0] @ x).item(), -0.675, rel_tol=1e-6)
    assert INT8_MAX == 127


def test_the_table_of_bytes_and_losses() -> None:
    found = MEASURED["models"]
    whole = found["float32"][0]
    names = ("float32", "8 bits, a scale per row", "4 bits, a scale per 32 weights")
    for name, (n_bytes, loss) in zip(names, found.values(), strict=True):
        row = f"| {name} | {n_bytes:,} | {n_bytes / whole:.0%} | {loss:.4f} |"
        assert row in PAGES["theory"], row
    assert 32 / quantization.GROUP == 1  # bits that a float32 scale adds to each of its weights


def test_the_losses_measured_again(draw: ModuleType) -> None:
    for name, (n_bytes, loss) in draw.measure_models().items():
        assert n_bytes == MEASURED["models"][name][0]
        assert loss == pytest.approx(MEASURED["models"][name][1], abs=0.001)
    assert draw.loss_with(5, "row") == pytest.approx(
        MEASURED["losses by bits"]["row"]["5"], abs=0.002
    )


def test_what_the_picture_says_about_bits() -> None:
    by_bits = MEASURED["losses by bits"]
    exact = by_bits["float32"]["32"]
    assert by_bits["row"]["8"] == pytest.approx(exact, abs=0.001)
    for bits in ("5", "4"):
        assert exact < by_bits["group"][bits] < by_bits["row"][bits] < by_bits["matrix"][bits]
    assert by_bits["group"]["3"] > exact + 0.3  # below four bits the model breaks


# --- theory.md: serving ---


def test_sixteen_sequences_against_one() -> None:
    ratio = rows_of(GENERATION, "generation 4x128")["ratio: batch size 16 / batch size 1"]
    assert f"give {ratio['median']:.1f} times the tokens per second of one" in words("theory")


def test_batches_by_hand_and_in_the_picture(draw: ModuleType) -> None:
    lengths = [4, 1, 1, 2]
    static, continuous = draw.static_batches(lengths, 2), draw.continuous_batches(lengths, 2)
    assert draw.steps_and_use(static, 2)[0] == 6
    assert draw.steps_and_use(continuous, 2) == (4, 1.0)
    assert continuous == [(0, 0, 0, 4), (1, 1, 0, 1), (2, 1, 1, 2), (3, 1, 2, 4)]
    many = draw.requested_lengths()
    for spans in (draw.static_batches(many), draw.continuous_batches(many)):
        assert [end - start for _, _, start, end in sorted(spans)] == many  # every token decoded
        for slot in range(draw.N_SLOTS):
            times = sorted((start, end) for _, where, start, end in spans if where == slot)
            assert all(end <= start for (_, end), (start, _) in pairwise(times))


# --- performance.md ---


def rows_of(path: Path, title: str) -> dict[str, dict[str, Any]]:
    """The rows of a section of a benchmark's results, by label."""
    sections = json.loads(path.read_text(encoding="utf-8"))["sections"]
    (section,) = [one for one in sections if one["title"].startswith(title)]
    return {row["label"]: row for row in section["rows"]}


def test_what_the_shares_predict() -> None:
    page = words("performance")
    bfloat16_peak, float32_peak = 422.4, 180.7  # GFLOP/s, measured by the two profiles
    products = 0.251 + 0.130
    assert f"at most {amdahl({0.388: math.inf}):.2f} times as fast" in page
    faster = bfloat16_peak / float32_peak
    assert f"so {products:.3f} of the time becomes {faster:.2f} times as fast" in page
    assert f"the whole {amdahl({products: faster}):.2f} times" in page
    assert f"The interpreter gone: {amdahl({0.485: math.inf}):.2f} times" in page
    assert f"the peak: {bfloat16_peak} GFLOP/s" in page


def test_the_changes_are_those_that_the_benchmark_measured() -> None:
    training = rows_of(GENERATION, "one change at a time, training")
    generation = rows_of(GENERATION, "one change at a time, generation")
    beginnings = {
        "fused parts": (training, "| fused parts: "),
        "bfloat16": (training, "| bfloat16 for the matrix products"),
        "freed memory reused": (training, "| freed memory is kept"),
        "KV cache": (generation, "| generation: a cache"),
        "fast decode step": (generation, "| generation: a decoder"),
    }
    measured = PAGES["performance"].partition("| predicted speed-up |")[2]
    for label, (rows, beginning) in beginnings.items():
        row = rows[f"ratio: {label} / row above"]
        low, high = min(row["values"]), max(row["values"])
        cell = f"{row['median']:.2f} ({low:.2f} to {high:.2f}) |"
        (line,) = [one for one in measured.splitlines() if one.startswith(beginning)]
        assert line.endswith(cell), (line, cell)
    trained, generated = (
        rows["ratio: all changes together"]["median"] for rows in (training, generation)
    )
    said = f"training is {trained:.2f} times as fast, and generation {generated:.2f} times"
    assert said in words("performance")


def test_the_profile_of_a_step_adds_up() -> None:
    for head in ("by stage", "by kind of operation"):
        part = PAGES["performance"].split(head)[1].split("\n\n")[0].splitlines()[1:]
        cells = [re.findall(r"([\d.]+) +([\d.]+)%", line)[0] for line in part if "%" in line]
        *rows, whole = [(float(time), float(share)) for time, share in cells]
        assert sum(time for time, _ in rows) == pytest.approx(whole[0], abs=0.005)
        assert sum(share for _, share in rows) == pytest.approx(100, abs=0.35)


def test_the_times_of_one_row() -> None:
    page, found = PAGES["performance"], MEASURED["one row"]
    names = {
        "float32": "| float32 | 4 |",
        "float16": "| float16, as in `FastDecoder` | 2 |",
        "PyTorch's kernel": "_mm`, bfloat16 inputs) | 1 |",
        "Int8Linear": "| 8 bits, `Int8Linear` | 1 |",
    }
    assert found.keys() == names.keys()
    assert all(f"{name} {found[key]:.2f} |" in page for key, name in names.items())
    assert found["PyTorch's kernel"] < found["float16"] < 1 < found["Int8Linear"]


def test_the_mean_number_of_positions() -> None:
    """For 255 new tokens without a cache, 1 to 255 positions are computed: 128 on average."""
    assert sum(range(1, 256)) / 255 == 128
    assert "128 times less on average" in words("performance")


# --- README.md ---


def printed_by(main: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    main()
    return capsys.readouterr().out


@pytest.mark.parametrize(
    "module", [logging_utils, checkpointing, sealed_folder, training_state, run_folder]
)
def test_the_readme_shows_what_the_program_prints(
    module: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert printed_by(module.main, capsys) in PAGES["README"]


def test_the_readme_shows_the_table_of_two_runs(capsys: pytest.CaptureFixture[str]) -> None:
    table = printed_by(compare_runs.main, capsys).split("\n\n")[1]
    assert table.strip("\n") in PAGES["README"]


def test_the_readme_shows_what_quantization_prints(capsys: pytest.CaptureFixture[str]) -> None:
    number = re.compile(r"\d+\.\d+")
    printed = printed_by(quantization.main, capsys)
    (shown,) = re.findall(r"\n( +bytes  share.*?)```", PAGES["README"], re.DOTALL)
    assert number.sub("#", printed) == number.sub("#", shown)
    pairs = zip(number.findall(printed), number.findall(shown), strict=True)
    assert all(float(one) == pytest.approx(float(other), abs=2e-3) for one, other in pairs)


def test_a_model_is_loaded_as_it_was_and_never_by_half(tmp_path: Path) -> None:
    tokenizer = CharTokenizer.train("to be or not to be")
    model = TinyTransformerLM(ModelConfig(tokenizer.vocab_size, d_model=32, n_layers=2))
    path, half = tmp_path / "tiny.safetensors", tmp_path / "half.safetensors"
    save_checkpoint(path, model, tokenizer, {"step": 100})
    checkpoint = load_checkpoint(path)
    tokens = torch.tensor([checkpoint.tokenizer.encode("to be")])
    assert torch.equal(checkpoint.build_model()(tokens), model(tokens))  # bit for bit
    assert checkpoint.info == {"step": 100}
    half.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(CourseError, match="truncated"):
        load_checkpoint(half)


def test_a_killed_run_is_resumable(tmp_path: Path) -> None:
    write_run_file(tmp_path, "demo")
    with locked(tmp_path):
        assert run_status(tmp_path) == "running"
    assert run_status(tmp_path) == "resumable"  # no lock, and no result: whatever stopped it
    write_result(tmp_path, {"outcome": "finished"})
    assert run_status(tmp_path) == "finished"


def test_the_readme_shows_the_message_that_a_learner_gets(
    shown_to_learner: Callable[[str, str], str],
) -> None:
    body = """
        weight = weight.float()
        scale = weight.abs().amax(dim=-1) / 127
        scale = torch.where(scale > 0, scale, 1.0)
        return (weight / scale[:, None]).to(torch.int8), scale
    """
    shown = shown_to_learner("8.15", body)
    assert shown in PAGES["README"], shown
