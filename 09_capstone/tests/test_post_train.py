"""post_train.py: what each method writes, the same result after a stop, and what it refuses.

The plays are short and the model is tiny: nothing here learns much. What the methods learn is
measured elsewhere; here it counts that they run, stop, resume and end as train.py does.
"""

import json
import random
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import post_train
import sample
import time_budget
import train
import training_data
import training_loop
from bpe_tokenizer import train_bpe
from checkpointing import load_checkpoint, save_checkpoint
from logging_utils import read_csv
from post_training import post_run, post_trainer
from post_training.measures import AnswerReport
from post_training.post_args import METHOD_SETTINGS
from post_training.post_config import PostTrainConfig
from post_training.post_messages import BEFORE_AFTER_FILE, evaluated
from post_training.post_run import ANSWER_COLUMNS
from post_training.post_trainer import PostTrainer
from post_training.rollouts import collate
from post_training.tasks import SPECIAL, Continue, Follow, Task
from run_places import WRITTEN, WRITTEN_AFTER_TRAINING
from sealed_folder import read_sealed
from tiny_transformer_lm import TinyTransformerLM
from tokenizer import CharTokenizer
from training_loop import Trainer
from training_state import folders
from utils.config import ModelConfig, load_config
from utils.corpus import Corpus
from utils.files import quoted
from utils.mock_corpus import generate
from utils.recipes import MODERN

N_CHARS = 30_000
CHARACTERS = "\n !$&',-.3:;?ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
TINY = ModelConfig(
    len(CHARACTERS), max_seq_len=192, d_model=32, n_layers=1, n_heads=2, **MODERN, dropout=0.1
)
QUICK = (
    *("--dtype", "float32", "--batch-size", 8, "--max-steps", 4),
    *("--eval-interval", 2, "--save-interval", 3, "--judged-answers", 6, "--warmup-steps", 1),
)
DPO = ("dpo", "--group-size", 4)
GRPO = ("grpo", "--group-size", 4)
METHODS = {
    "sft": ("sft",),
    "sft, following": ("sft", "--task", "follow"),
    "dpo": DPO,
    "grpo": GRPO,
    "grpo, one reward per answer": (*GRPO, "--reward", "exact"),
    "grpo, two updates": (*GRPO, "--updates", 2),
    "grpo, following, for length": (*GRPO, "--task", "follow", "--reward", "length"),
}
Call = Callable[..., Any]
pytestmark = pytest.mark.usefixtures("training_folders", "short_plays")


@pytest.fixture(scope="module")
def short_plays() -> Iterator[None]:
    """Plays of a page, for training and for the tasks: a million characters take seconds."""
    with pytest.MonkeyPatch.context() as patch:
        corpus = Corpus("mock", generate(N_CHARS), "a few scenes", entropy_bits_per_char=0.75)
        patch.setattr(training_data, "load_corpus", lambda source: corpus)
        patch.setattr(post_run, "make_task", short_task)
        patch.setattr(post_train, "plot_answers", lambda folder, data: None)  # it is slow
        yield


def short_task(config: Any, plays: int) -> Task:
    return Continue(plays=plays, n_chars=N_CHARS) if config.task == "continue" else Follow()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that has seen the plays for a second."""
    tokenizer = CharTokenizer(CHARACTERS)
    tokens = torch.tensor(tokenizer.encode(generate(N_CHARS)))
    model = TinyTransformerLM(TINY)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        starts = torch.randint(len(tokens) - 65, (8, 1), generator=generator)
        block = tokens[starts + torch.arange(65)]
        loss = F.cross_entropy(model(block[:, :-1]).flatten(0, 1), block[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_checkpoint(path, model, tokenizer, {"corpus": "mock", "step": 100})
    return path


@pytest.fixture
def call(call_and_stop: Call, base: Path) -> Call:
    """Run post_train.py; with stop_at, press Ctrl-C in the middle of that step."""
    return partial(call_and_stop, post_train.main, PostTrainer)


def places(root: Path) -> tuple[object, ...]:
    return ("--out-dir", root / "run", "--checkpoint-dir", root / "checkpoints")


def rows(path: Path) -> list[dict[str, float | None]]:
    """The rows of a CSV file; the seconds are those of a clock."""
    return [{**row, "seconds": 0.0} for row in read_csv(path)]


def result(folder: Path) -> dict[str, Any]:
    """What must not depend on how often the run was stopped."""
    run_id = json.loads((folder / "run.json").read_text(encoding="utf-8"))["id"]
    state = read_sealed(folders(folder / "states")[-1], run_id)
    found: dict[str, Any] = {name: data for name, data in state.items() if name != "position.json"}
    for name in ("best", "last"):
        checkpoint = load_checkpoint(folder / f"{name}.safetensors")
        weights = {key: w.numpy().tobytes() for key, w in checkpoint.weights.items()}
        found[name] = (weights, checkpoint.info)
    for name in ("metrics.csv", "answers.csv"):
        found[name] = repr(rows(folder / name))  # as text: a nan equals no other
    found[BEFORE_AFTER_FILE] = (folder / BEFORE_AFTER_FILE).read_text(encoding="utf-8")
    return found


# --- what a run writes --------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_runs_and_writes_its_files(
    call: Call, base: Path, tmp_path: Path, method: tuple[object, ...]
) -> None:
    done = call(*method, *QUICK, "--checkpoint", base, *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    folder = tmp_path / "run"
    not_written = {"curves.png", "samples.txt", "samples.jsonl"}  # no curves in tests; no samples
    others = {"states", "run.lock", "published.json", "initial.safetensors", "tensorboard"}
    left = {path.name for path in folder.iterdir()}
    all_files = {*WRITTEN, *WRITTEN_AFTER_TRAINING}
    assert all_files - not_written <= left <= {*all_files, *others}
    assert [row["step"] for row in read_csv(folder / "metrics.csv")] == [1, 2, 3, 4]
    published = tmp_path / "checkpoints" / "run.safetensors"
    assert published.read_bytes() == (folder / "best.safetensors").read_bytes()
    assert result(folder)["best"][0] == result(folder)["last"][0]  # the newest is the best
    changed = load_checkpoint(published).weights
    assert any(not torch.equal(w, changed[name]) for name, w in given_weights(base).items())


def given_weights(base: Path) -> dict[str, torch.Tensor]:
    """The weights that have a shape of their own: no rows are added to them."""
    tables = ("token_embedding", "unembedding")
    weights = load_checkpoint(base).weights
    return {name: w for name, w in weights.items() if not name.startswith(tables)}


def test_answers_are_judged_before_the_first_step_and_at_each_evaluation(
    call: Call, base: Path, tmp_path: Path
) -> None:
    done = call(*GRPO, *QUICK, "--checkpoint", base, *places(tmp_path))
    answers = read_csv(tmp_path / "run" / "answers.csv")
    assert tuple(answers[0]) == ANSWER_COLUMNS
    assert [row["step"] for row in answers] == [0, 2, 4]
    assert answers[0]["kl"] == 0.0  # the model is still the reference
    assert all((row["kl"] or 0.0) != 0.0 for row in answers[1:])
    for row in answers:
        right, share = row["right"], row["share"]
        assert right is not None and share is not None and 0 <= right <= share <= 1
    losses = {row["step"]: row["val_loss"] for row in read_csv(tmp_path / "run" / "metrics.csv")}
    assert [losses[row["step"]] for row in answers[1:]] == [row["val_loss"] for row in answers[1:]]
    assert re.findall(r"^step +(\d+)  right", done.out, flags=re.MULTILINE) == ["0", "2", "4"]
    assert all(row["followed"] is None for row in answers) and "follow" not in done.out
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert log.count("before the first mistake") == 3


def test_answers_before_and_after_stand_side_by_side(
    call: Call, base: Path, tmp_path: Path
) -> None:
    done = call("sft", *QUICK, "--task", "follow", "--checkpoint", base, *places(tmp_path))
    text = (tmp_path / "run" / BEFORE_AFTER_FILE).read_text(encoding="utf-8")
    assert text in done.out
    lines = text.splitlines()
    assert [cell.strip() for cell in lines[0].split(" | ")] == ["before", "after"]
    assert max(map(len, lines)) <= 80
    left = [line.split(" | ")[0].rstrip() for line in lines]
    assert sum(line.startswith("[") for line in left) == 3  # instructions
    assert sum(line.startswith(("(right)", "(wrong at character ")) for line in left) == 3


def test_a_run_of_instructions_says_how_many_were_followed(
    call: Call, base: Path, tmp_path: Path
) -> None:
    done = call("sft", *QUICK, "--task", "follow", "--checkpoint", base, *places(tmp_path))
    for row in read_csv(tmp_path / "run" / "answers.csv"):
        right, followed = row["right"], row["followed"]
        assert right is not None and followed is not None and right <= followed <= 1
        assert f"step {row['step']:>4.0f}  right {right:6.1%}  follow {followed:4.0%}" in done.out
    log = (tmp_path / "run" / "log.txt").read_text(encoding="utf-8")
    assert log.count("% followed, ") == 3


def test_the_widest_line_of_an_evaluation_fits_a_terminal() -> None:
    line = evaluated(2500, AnswerReport(1.0, 1.0, 0.5, 1.0, followed=1.0), 1.25)
    assert len(f"{line}  {600:3.0f} s") <= 80


def test_the_published_model_generates_with_sample(
    call: Call, call_program: Call, base: Path, tmp_path: Path
) -> None:
    done = call("sft", *QUICK, "--task", "follow", "--checkpoint", base, *places(tmp_path))
    command = next(line for line in done.out.splitlines() if line.startswith("sample  "))
    assert '--prompt "[Fool greets Nurse]" --stop "|"' in command
    published = tmp_path / "checkpoints" / "run.safetensors"
    named = f" --checkpoint {quoted(published)}"
    assert named in command
    assert len(command.replace(named, "")) <= 80  # as with the default folder
    options = ("--prompt", "[Fool greets Nurse]", "--stop", "|", "--max-tokens", 20)
    sampled = call_program(sample.main, "--checkpoint", published, *options)
    assert sampled.code == 0
    assert sampled.out.startswith("[Fool greets Nurse]")


def test_an_answer_is_praised_or_blamed_up_to_its_first_mistake() -> None:
    """With a reward of the verifier; the others read the whole answer."""
    task = Follow()
    (prompt,) = task.prompts(1, random.Random(0))
    right, n = prompt.answer, len(prompt.answer)
    answers = [right, f"{right[:5]}33{right[7:]}", f"{right[:5]}|", right[:-1], f"{right[:-1]}En|"]
    rollout = collate([prompt] * 5, answers, CharTokenizer(CHARACTERS + SPECIAL))
    of_verifier = [n, 6, 6, n - 1, n]
    for reward, n_judged in (
        ("tokens", of_verifier),
        ("exact", of_verifier),
        ("word", [*map(len, answers)]),
    ):
        trainer: Any = SimpleNamespace(settings=SimpleNamespace(reward=reward), task=task)
        judged = PostTrainer.judged_part(trainer, rollout)
        assert judged.sum(-1).tolist() == n_judged
        assert not (judged & ~rollout.is_answer).any()
        assert judged[:, len(prompt.text)].all()  # from the first character on


def test_the_token_that_was_wrong_is_blamed() -> None:
    task = Follow()
    (prompt,) = task.prompts(1, random.Random(0))
    n, first = len(prompt.answer), len(prompt.text)
    answers = [prompt.answer, f"{prompt.answer[:5]}33", "33", prompt.answer[:-1]]
    rollout = collate([prompt] * 4, answers, CharTokenizer(CHARACTERS + SPECIAL))
    trainer: Any = SimpleNamespace(device=torch.device("cpu"), task=task)
    rewards = PostTrainer.token_rewards(trainer, rollout)
    blamed = [[1, first + 5], [2, first], [3, first + n - 2]]
    assert rewards.nonzero().tolist() == blamed and rewards.sum() == -3


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_every_method_runs_on_a_gpu(
    call: Call, base: Path, tmp_path: Path, method: tuple[object, ...]
) -> None:
    device = "cuda" if torch.cuda.is_available() else "mps"
    arguments = (*method, *QUICK, "--device", device, "--checkpoint", base)
    assert call(*arguments, *places(tmp_path)).code == 0


def test_a_step_without_a_pair_changes_nothing(
    call: Call, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where all answers of every group are equally good, DPO has nothing to learn from."""
    monkeypatch.setattr(post_trainer, "make_pairs", lambda *given: [])
    done = call(*DPO, *QUICK, "--checkpoint", base, *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    last = load_checkpoint(tmp_path / "run" / "last.safetensors").weights
    assert all(torch.equal(w, last[name]) for name, w in given_weights(base).items())


def test_special_tokens_are_added_once(call: Call, base: Path, tmp_path: Path) -> None:
    """The second run starts from the first one's model, which knows them."""
    call("sft", *QUICK, "--checkpoint", base, *places(tmp_path / "first"))
    first = tmp_path / "first" / "checkpoints" / "run.safetensors"
    call(*GRPO, *QUICK, "--checkpoint", first, *places(tmp_path / "second"))
    second = tmp_path / "second" / "checkpoints" / "run.safetensors"
    for path in (first, second):
        tokenizer = load_checkpoint(path).tokenizer
        assert isinstance(tokenizer, CharTokenizer)
        assert tokenizer.characters == CHARACTERS + SPECIAL


def test_dropout_is_off_while_post_training(call: Call, base: Path, tmp_path: Path) -> None:
    call("sft", *QUICK, "--checkpoint", base, *places(tmp_path))
    assert load_checkpoint(base).model_config.dropout > 0
    assert load_config(tmp_path / "run" / "config.yaml", PostTrainConfig).model == (
        replace(TINY, vocab_size=TINY.vocab_size + len(SPECIAL), dropout=0.0)
    )


def test_without_a_checkpoint_the_newest_is_taken(call: Call, base: Path, tmp_path: Path) -> None:
    newest = tmp_path / "capstone" / "checkpoints" / "newest.safetensors"
    newest.parent.mkdir(parents=True)
    shutil.copy(base, newest)
    done = call("sft", *QUICK, *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    initial = load_checkpoint(tmp_path / "run" / "initial.safetensors")
    assert initial.info["init_from"] == str(newest)


def test_a_run_is_the_same_every_time(call: Call, base: Path, tmp_path: Path) -> None:
    for name in "ab":
        call(*GRPO, *QUICK, "--checkpoint", base, *places(tmp_path / name))
    assert result(tmp_path / "a" / "run") == result(tmp_path / "b" / "run")


# --- stopped and resumed ------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_stopped_and_resumed_it_has_the_same_result(
    call: Call, base: Path, tmp_path: Path, method: tuple[object, ...]
) -> None:
    arguments = (*method, *QUICK, "--checkpoint", base)
    assert call(*arguments, *places(tmp_path / "whole")).code == 0
    stopped = call(*arguments, *places(tmp_path), stop_at=1)
    assert stopped.code == 130
    assert "interrupted at step 1 of 4; the state is saved\n" in stopped.out
    assert "post_train.py --resume --out-dir" in stopped.out
    assert call("--resume", *places(tmp_path), stop_at=3).code == 130
    done = call("--resume", *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    assert "resume  step 3 of 4\n" in done.out
    assert result(tmp_path / "run") == result(tmp_path / "whole" / "run")


@pytest.mark.parametrize("place", ["measure", "evaluate"])
def test_a_stop_before_the_first_step_is_resumed(
    call: Call, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """While the model is judged as it is given, or while its loss is measured."""
    call("sft", *QUICK, "--checkpoint", base, *places(tmp_path / "whole"))
    owner: Any = post_run.PostRecorder if place == "measure" else PostTrainer
    original = getattr(owner, place)

    def interrupted(self: Any, *arguments: Any) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(owner, place, interrupted)
        assert call("sft", *QUICK, "--checkpoint", base, *places(tmp_path)).code == 130
    done = call("--resume", *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    assert result(tmp_path / "run") == result(tmp_path / "whole" / "run")


def test_a_stop_during_the_last_evaluation_is_resumed(
    call: Call, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step is taken, and what is left is to judge the answers."""
    call(*GRPO, *QUICK, "--checkpoint", base, *places(tmp_path / "whole"))
    evaluate = PostTrainer.evaluate

    def interrupted(self: PostTrainer) -> float:
        if self.step == 4:
            signal.raise_signal(signal.SIGINT)
        return evaluate(self)

    with monkeypatch.context() as patch:
        patch.setattr(PostTrainer, "evaluate", interrupted)
        assert call(*GRPO, *QUICK, "--checkpoint", base, *places(tmp_path)).code == 130
    assert call("--resume", *places(tmp_path)).code == 0
    assert result(tmp_path / "run") == result(tmp_path / "whole" / "run")


def test_a_run_killed_before_its_first_state_starts_from_the_beginning(
    call: Call, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(*DPO, *QUICK, "--checkpoint", base, *places(tmp_path / "whole"))

    def killed(self: PostTrainer) -> tuple[float, float, float]:
        raise KeyboardInterrupt  # as a second Ctrl-C: nothing is saved

    with monkeypatch.context() as patch:
        patch.setattr(PostTrainer, "dpo", killed)
        assert call(*DPO, *QUICK, "--checkpoint", base, *places(tmp_path)).code == 130
    assert [row["step"] for row in rows(tmp_path / "run" / "answers.csv")] == [0]
    done = call("--resume", *places(tmp_path))
    assert "no state was saved yet" in done.out
    assert result(tmp_path / "run") == result(tmp_path / "whole" / "run")


def test_an_empty_file_of_answers_is_written_anew(call: Call, base: Path, tmp_path: Path) -> None:
    """A machine that loses power may keep the file's name and lose its content."""
    call("sft", *QUICK, "--checkpoint", base, *places(tmp_path), stop_at=1)
    (tmp_path / "run" / "answers.csv").write_text("", encoding="utf-8")
    done = call("--resume", *places(tmp_path))
    assert (done.code, done.err) == (0, "")
    assert [row["step"] for row in read_csv(tmp_path / "run" / "answers.csv")] == [2, 4]


def test_a_run_can_be_resumed_when_its_checkpoint_is_gone(
    call: Call, base: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy.safetensors"
    shutil.copy(base, copy)
    call(*GRPO, *QUICK, "--checkpoint", copy, *places(tmp_path), stop_at=2)
    copy.unlink()
    assert call("--resume", *places(tmp_path)).code == 0


def test_resume_takes_the_newest_unfinished_run_of_post_training(
    call: Call, base: Path, tmp_path: Path
) -> None:
    call("sft", *QUICK, "--checkpoint", base, "--checkpoint-dir", tmp_path / "c", stop_at=2)
    (folder,) = (tmp_path / "capstone" / "runs").iterdir()
    assert "sft" in folder.name
    done = call("--resume", "--checkpoint-dir", tmp_path / "c")
    assert (done.code, done.err) == (0, "")
    assert (folder / "result.json").exists()
    again = call("--resume", "--checkpoint-dir", tmp_path / "c")
    assert again.code == 2
    assert again.err.startswith("error: no unfinished run under ")


def test_the_flags_of_the_run_may_be_given_again_and_others_are_refused(
    call: Call, base: Path, tmp_path: Path
) -> None:
    call("sft", *QUICK, "--checkpoint", base, *places(tmp_path), stop_at=2)
    refused = call("grpo", "--resume", *places(tmp_path))
    assert (refused.code, refused.out) == (2, "")
    assert refused.err == (
        "error: a resumed run keeps its configuration; refused: method sft -> grpo\n"
    )
    refused = call("--resume", "--kl-weight", 0.5, *places(tmp_path))
    assert "refused: kl_weight 0.02 -> 0.5\n" in refused.err
    again = call("sft", *QUICK, "--resume", *places(tmp_path))
    assert (again.code, again.err) == (0, "")


# --- a limit in minutes -------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that only work advances: 1 s per step, 2 s per loss, 8 s to judge answers."""
    clock = SimpleNamespace(now=1000.0)
    clock.perf_counter = lambda: clock.now
    for module in (training_loop, time_budget, post_trainer):
        monkeypatch.setattr(module, "time", clock)

    def train_step(self: PostTrainer) -> tuple[float, float, float]:
        clock.now += 1
        self.step += 1
        return 1.0, 0.0, 1.0

    def evaluate(self: Trainer) -> float:
        clock.now += 2
        return 1.0

    def judge(*arguments: object) -> AnswerReport:
        clock.now += 8
        return AnswerReport(0.5, 0.5, 0.1, 0.5)

    monkeypatch.setattr(PostTrainer, "train_step", train_step)
    monkeypatch.setattr(Trainer, "evaluate", evaluate)
    monkeypatch.setattr(post_run, "measure", judge)
    return clock


@pytest.mark.parametrize("eval_interval", [10, 25, 1000])
def test_minutes_bound_the_judging_of_answers_too(
    call: Call, base: Path, tmp_path: Path, clock: SimpleNamespace, eval_interval: int
) -> None:
    """The run ends within the limit, less than one step and one evaluation before it."""
    limit = ("--max-steps", 1000, "--max-minutes", 4, "--eval-interval", eval_interval)
    assert call("sft", *QUICK, *limit, "--checkpoint", base, *places(tmp_path)).code == 0
    assert 240 - 11 < clock.now - 1000 <= 240
    rows = read_csv(tmp_path / "run" / "answers.csv")
    n_steps = int(rows[-1]["step"] or 0)
    assert clock.now - 1000 == n_steps + 10 * len(rows)
    assert load_config(tmp_path / "run" / "config.yaml", PostTrainConfig).max_steps == n_steps


@pytest.mark.parametrize("stop_at", [5, 15, 29])
def test_a_resumed_run_keeps_to_its_minutes(
    call: Call, base: Path, tmp_path: Path, clock: SimpleNamespace, stop_at: int
) -> None:
    """Also if it never judges answers between the stop and the step that settles the number."""
    limit = ("--max-steps", 1000, "--max-minutes", 4, "--eval-interval", 40)
    arguments = ("sft", *QUICK, *limit, "--checkpoint", base)
    assert call(*arguments, *places(tmp_path), stop_at=stop_at).code == 130
    assert call("--resume", *places(tmp_path)).code == 0
    assert 240 - 11 < clock.now - 1000 <= 240


# --- two programs -------------------------------------------------------------------------------


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(generate(5000), encoding="utf-8")
    return path


def test_each_program_resumes_its_own_runs(
    call: Call, call_program: Call, base: Path, tmp_path: Path
) -> None:
    call("sft", *QUICK, "--checkpoint", base, *places(tmp_path), stop_at=2)
    done = call_program(train.main, "--resume", *places(tmp_path))
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("was started by post_train.py; use post_train.py --resume\n")
    pretraining = ("--preset", "smoke", "--dtype", "float32", "--data", "mock", "--max-steps", 2)
    assert call_program(train.main, *pretraining, *places(tmp_path / "other")).code == 0
    (tmp_path / "other" / "run" / "result.json").unlink()
    done = call("--resume", *places(tmp_path / "other"))
    assert (done.code, done.out) == (2, "")
    assert done.err.endswith("was started by train.py; use train.py --resume\n")


def test_the_newest_run_of_the_other_program_is_passed_over(
    call: Call, call_program: Call, base: Path, tmp_path: Path
) -> None:
    call("sft", *QUICK, "--checkpoint", base, "--checkpoint-dir", tmp_path / "c", stop_at=2)
    done = call_program(train.main, "--resume", "--checkpoint-dir", tmp_path / "c")
    assert done.code == 2
    assert done.err.startswith("error: no unfinished run under ")


# --- what is refused ----------------------------------------------------------------------------


def refused(call: Call, code: int, *arguments: object) -> str:
    """The one line of an error; nothing was printed or written before it."""
    done = call(*arguments)
    assert (done.code, done.out) == (code, "")
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    return done.err


def changed_copy(base: Path, path: Path, **changes: Any) -> Path:
    """A copy of a checkpoint with another tokenizer, context or information."""
    given = load_checkpoint(base)
    config = replace(given.model_config, **changes.get("config", {}))
    tokenizer = changes.get("tokenizer", given.tokenizer)
    save_checkpoint(path, TinyTransformerLM(config), tokenizer, changes.get("info", given.info))
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "name a method: sft, dpo, grpo"),
        (("ppo",), "unknown method 'ppo'"),
        (("gpro",), "(did you mean 'grpo'?)"),
        (("grpo", "--reward", "size"), "unknown reward 'size'"),
        (("grpo", "--task", "folow"), "(did you mean 'follow'?)"),
        (("grpo", "--group-size", 3), "batch_size 128 is not a multiple of group_size 3"),
        (("dpo", "--group-size", 3), "batch_size 128 is not a multiple of group_size 3"),
        (("grpo", "--group-size", 1), "group_size 1: answers are compared with each other"),
        (("grpo", "--reward", "length"), "reward length needs --task follow"),
        (("grpo", "--clip", 0), "clip 0.0 is out of range"),
        (("grpo", "--kl-weight", -1), "kl_weight -1.0 is out of range"),
        (("grpo", "--updates", 0), "updates 0 is out of range"),
        (("grpo", "--judged-answers", 0), "judged_answers 0 is out of range"),
        (("sft", "--resume", "--overwrite"), "choose one"),
        (("sft", "--d-model", 64), "unknown argument --d-model"),
        (("sft", "--reward", "word"), "--reward has no effect with sft; leave it out"),
        (("sft", "--kl-weight", 0), "--kl-weight has no effect with sft; leave it out"),
        (("dpo", "--clip", 0.3), "--clip has no effect with dpo; leave it out"),
        (("nosuch", "--resume"), "unknown method 'nosuch'"),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(
    call: Call, base: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    assert message in refused(call, 2, *arguments, "--checkpoint", base, *places(tmp_path))
    assert not (tmp_path / "run").exists()


def test_the_help_says_what_each_method_uses(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = call("grpo", "--help")
    assert done.code == 0
    shown = " ".join(done.out.split())
    rates = ", ".join(f"{name} {given.lr}" for name, given in METHOD_SETTINGS.items())
    assert f"peak learning rate of AdamW (default: {rates})" in shown
    assert "the price of a nat of KL divergence (default: dpo 0.1, grpo " in shown
    assert "grpo: optimizer steps per batch of samples (default: 1)" in shown
    assert max(map(len, done.out.splitlines())) <= 80


def test_several_processes_are_refused(
    call: Call, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")  # as torchrun does
    assert "runs in one process" in refused(call, 2, "sft", "--checkpoint", base)


def test_a_missing_checkpoint_is_refused(call: Call, tmp_path: Path) -> None:
    missing = tmp_path / "missing.safetensors"
    assert f"no checkpoint at {missing}" in refused(call, 1, "sft", "--checkpoint", missing)
    assert "train a model first" in refused(call, 1, "sft")


def test_a_model_of_another_text_is_refused(call: Call, base: Path, tmp_path: Path) -> None:
    info = {"corpus": "shakespeare"}
    path = changed_copy(base, tmp_path / "bard.safetensors", info=info)
    message = refused(call, 1, "grpo", "--checkpoint", path)
    assert f"{path} was trained on shakespeare" in message
    assert message.endswith("train.py --config 08_engineering/examples/plays.yaml\n")


def test_a_context_that_is_too_short_is_refused(call: Call, base: Path, tmp_path: Path) -> None:
    path = changed_copy(base, tmp_path / "short.safetensors", config={"max_seq_len": 64})
    message = refused(call, 1, "grpo", "--checkpoint", path)
    assert f"{path} has a context of 64; prompt and answer need " in message


def test_tokens_that_are_not_characters_are_refused(call: Call, base: Path, tmp_path: Path) -> None:
    learned = train_bpe(generate(2000), 280)
    config = {"vocab_size": learned.vocab_size}
    path = changed_copy(base, tmp_path / "bpe.safetensors", tokenizer=learned, config=config)
    assert "its tokens are not characters" in refused(call, 1, "grpo", "--checkpoint", path)


def test_a_folder_that_is_in_use_is_refused(call: Call, base: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "poem.txt").write_text("mine", encoding="utf-8")
    arguments = ("sft", "--checkpoint", base, *places(tmp_path))
    assert "is not empty; add --resume" in refused(call, 2, *arguments)


def test_the_checkpoint_is_not_overwritten_by_its_own_run(
    call: Call, base: Path, tmp_path: Path
) -> None:
    (tmp_path / "run").mkdir()
    inside = tmp_path / "run" / "best.safetensors"
    shutil.copy(base, inside)
    arguments = ("sft", "--checkpoint", inside, "--overwrite", *places(tmp_path))
    assert f"--overwrite would replace {inside}" in refused(call, 2, *arguments)
    assert inside.exists()
