"""troubleshooting.md quotes only messages that are really printed: most are provoked here.

`...` in a quoted message stands for anything. Messages that need a whole lesson or a damaged run
are looked up in the sources instead; their own tests provoke them.
"""

import contextlib
import errno
import importlib.util
import io
import logging
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from checkpointing import load_checkpoint
from clipping import check_finite
from data_loader import check_tokens
from model.config import preset
from run_folder import locked
from run_places import check_folders
from sample import newest_checkpoint
from tokenizer import CharTokenizer
from tools import install, module_tests
from tools.checks.messages import PREFIX, Message, is_printed, messages
from utils import corpus, device, shakespeare
from utils.config import ModelConfig
from utils.errors import run_program

FOLDER = Path(__file__).resolve().parents[1]
ROOT = FOLDER.parent
PAGE = (FOLDER / "troubleshooting.md").read_text(encoding="utf-8")
Provoke = Callable[[Path, pytest.MonkeyPatch], str]
PROVOKED: dict[str, Provoke] = {}

# Messages of the grader: the file, and the words of the message that stand in it.
IN_SOURCE = {
    "line ... still raises NotImplementedError: delete that line": (
        "guard.py",
        "still raises NotImplementedError: delete that line",
    ),
    "it calls ... (...), which is still to do": ("guard.py", "), which is still to do"),
    "... is missing from the file: undo that, or restore the stub: ...": (
        "guard.py",
        "is missing from the file: undo that, or restore the stub: ",
    ),
    "exercises.py does not finish loading: ...": ("runner.py", " does not finish loading: "),
    "correct, but written by ...: now without it": (
        "pytest_plugin.py",
        "correct, but written by {replaced}: now without it",
    ),
    "it changes its input ..., which the caller still needs": (
        "guard.py",
        ", which the caller still needs",
    ),
}


def quoted() -> list[str]:
    """The messages of the page: in the first cells of tables, and in the text of the last part."""
    tables, _, prose = PAGE.partition("## Memory, time, network")
    cells = re.findall(r"^\| (`[^|]*)\|", tables, re.MULTILINE)
    found = [code for cell in cells for code in re.findall(r"`([^`]+)`", cell)]
    found += re.findall(r"`((?:error: |mock corpus|findfont: )[^`]+)`", prose)
    return found


def provokes(message: str) -> Callable[[Provoke], Provoke]:
    """Register a function that returns a text with this message."""

    def register(function: Provoke) -> Provoke:
        PROVOKED[message] = function
        return function

    return register


def error_of(function: Callable[..., Any], *arguments: Any) -> str:
    """What an exception says, with its type in front."""
    with pytest.raises(Exception) as caught:
        function(*arguments)
    return f"{type(caught.value).__name__}: {caught.value}"


def printed_by(main: Callable[[], Any]) -> str:
    """What a program prints on standard error when `main` raises."""
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed), pytest.raises(SystemExit):
        run_program(main)
    return printed.getvalue()


@pytest.fixture(scope="module")
def sources() -> list[Message]:
    """The messages of all programs, as the sources have them."""
    return list(messages(ROOT))


def test_what_is_provoked_or_looked_up_is_quoted() -> None:
    assert {*PROVOKED, *IN_SOURCE} <= set(quoted())
    assert len(quoted()) == len(set(quoted()))


@pytest.mark.parametrize("message", sorted(quoted()))
def test_the_message_is_really_printed(
    message: str, sources: list[Message], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if message not in PROVOKED and (starts := PREFIX.match(message)):
        assert is_printed(message[starts.end() :], sources)
        return
    if message in IN_SOURCE:
        name, words = IN_SOURCE[message]
        assert words in (ROOT / "utils" / "grader" / name).read_text(encoding="utf-8")
        return
    pattern = ".*".join(re.escape(part) for part in message.split("..."))
    text = PROVOKED[message](tmp_path, monkeypatch)
    assert re.search(pattern, text, re.DOTALL), text


# --- installing ---


@pytest.fixture(autouse=True)
def no_settings_of_pip(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The settings of pip on this machine do not count."""
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    yield


@provokes("error: Python ... is not supported, and no other Python was found on the PATH")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(install, "SUPPORTED", ("9.9",))
    with pytest.raises(install.InstallError) as caught:
        install.find_python()
    return f"error: {caught.value}"


@provokes("error: PyTorch 2.13.0 has no build for macOS on x86_64")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    problem = install.missing_wheel("darwin", "x86_64", "", "14.6")
    monkeypatch.setattr(install, "missing_wheel", lambda *machine: problem)
    with pytest.raises(install.InstallError) as caught:
        install.check_machine(ROOT)
    return f"error: {caught.value}"


@provokes("error: pip could not install the packages of the course (exit code 1)")
@provokes("ERROR: Could not find a version that satisfies the requirement ...")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(install, "venv_python", lambda root: Path(sys.executable))
    arguments = ["--isolated", "--no-index", "there-is-no-such-package==1"]
    with pytest.raises(install.InstallError) as caught:
        install.pip_install(tmp_path, install.STEPS["course"][0], arguments)
    return f"error: {caught.value}"


def without_packages(*arguments: str) -> str:
    """Standard error of a Python that sees no installed package."""
    command = [sys.executable, "-I", "-S", *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60).stderr


@provokes("error: not installed; run make install, then use .venv/bin/python")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return without_packages(str(ROOT / "09_capstone" / "train.py"))


@provokes("ModuleNotFoundError: No module named 'torch'")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return without_packages("-c", "import torch")


@provokes("ModuleNotFoundError: No module named 'attention'")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return without_packages("-c", "from attention import softmax")


def verify_environment() -> ModuleType:
    """The program as a module; its folder is not importable by name."""
    path = ROOT / "setup" / "verify_environment.py"
    spec = importlib.util.spec_from_file_location("_verify_environment", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@provokes("[FAIL] torch: not installed (the course pins 2.13.0)")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    verify = verify_environment()
    pin = verify.pins((ROOT / "requirements.txt").read_text(encoding="utf-8"))["torch"]

    def missing(name: str) -> str:
        raise verify.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(verify.metadata, "version", missing)
    return str(verify.check_package("torch", pin))


@provokes("[FAIL] module ...: loaded from ... instead of ...")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return "\n".join(map(str, verify_environment().check_modules({"json": tmp_path / "json.py"})))


@provokes("UnicodeDecodeError: 'charmap' codec can't decode byte 0x81 in position 0")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "text.txt").write_bytes(b"\x81")
    return error_of(lambda: (tmp_path / "text.txt").read_text(encoding="cp1252"))


# --- our programs ---


@provokes("error: unknown preset 'labtop' (did you mean 'laptop'?); choose one of: ...")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return printed_by(lambda: preset("labtop") and None)


@provokes("error: MODULE is missing; choose one of: ...")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return printed_by(lambda: module_tests.pick_module("", ROOT) and None)


@provokes("error: no checkpoint in ...; train a model first")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return printed_by(lambda: newest_checkpoint(tmp_path) and None)


@provokes("error: ... is truncated or not a checkpoint: ...")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "half.safetensors").write_bytes(b"half")
    return printed_by(lambda: load_checkpoint(tmp_path / "half.safetensors") and None)


@provokes(
    "error: unknown character 'é' (U+00E9) at index 3; the vocabulary has ... characters: ..."
)
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return printed_by(lambda: CharTokenizer.train("cafe").encode("café") and None)


@provokes(
    "error: --out-dir ... is not empty; add --resume to continue that run, or --overwrite to "
    "replace it"
)
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").touch()
    arguments = Namespace(out_dir=run, checkpoint_dir=tmp_path, overwrite=False, config=None)
    return printed_by(lambda: check_folders(arguments))


@provokes("error: ... is in use by another training process")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    code = (
        "import sys, pathlib, run_folder\n"
        "with run_folder.locked(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    input()"
    )
    holder = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()

        def main() -> None:
            with locked(tmp_path):
                pass

        printed = printed_by(main)
        process.stdin.write(b"\n")
        process.stdin.close()
    return printed


@provokes("error: d_model 100 is not divisible by n_heads 3; n_heads may be one of: ...")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return printed_by(lambda: ModelConfig(d_model=100, n_heads=3) and None)


@provokes("error: the validation split has ... tokens; a context of 64 needs at least 65")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    tokens = torch.zeros(30, dtype=torch.uint8).numpy()
    return printed_by(lambda: check_tokens(tokens, 4, 64, "validation split"))


@provokes("error: ... is not UTF-8 text (byte 0xe9 at offset 3); save it as UTF-8")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "old.txt").write_bytes("café".encode("cp1252"))
    return printed_by(lambda: corpus.load_corpus(str(tmp_path / "old.txt")) and None)


@provokes(
    "error: ... is not Tiny Shakespeare: it has ... bytes, not 1,115,394; delete or replace it"
)
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(shakespeare, "DATA_FOLDER", tmp_path)
    (tmp_path / "tiny_shakespeare.txt").write_text("To be", encoding="utf-8")
    return printed_by(lambda: corpus.load_corpus("shakespeare") and None)


@provokes(
    "error: step 7: the loss is nan; the weights are unchanged. A smaller learning rate usually "
    "helps"
)
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return printed_by(lambda: check_finite(7, float("nan"), 1.0))


@provokes("error: device 'cuda' is not available; available: ...")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(device, "available_devices", lambda: ["cpu"])
    return printed_by(lambda: device.pick_device("cuda") and None)


@provokes("error: No space left on device: ...")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    def full_disk() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/states")

    return printed_by(full_disk)


@provokes("error: out of memory; use a smaller model or batch")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return printed_by(lambda: torch.empty(2**60) and None)


@provokes(
    "mock corpus (entropy 0.6266 bits per character), because Tiny Shakespeare is not available: "
    "..."
)
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(shakespeare, "DATA_FOLDER", tmp_path)
    monkeypatch.delenv("TINY_TRANSFORMER_DATA", raising=False)
    return corpus.load_corpus("shakespeare").origin


@provokes("error: cannot download ...: ...")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    url = "http://127.0.0.1:9/"  # nothing listens there
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return printed_by(lambda: shakespeare.download_shakespeare(tmp_path / "x.txt", url) and None)


@provokes("findfont: Font family ['...'] not found. Falling back to DejaVu Sans.")
def _(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from matplotlib.font_manager import findfont

    printed = io.StringIO()
    handler = logging.StreamHandler(printed)
    logger = logging.getLogger("matplotlib.font_manager")
    logger.addHandler(handler)
    findfont("No Such Font, Ever")
    logger.removeHandler(handler)
    return printed.getvalue()


# --- PyTorch ---


def backward_after_a_change_in_place() -> None:
    x = torch.ones(2, requires_grad=True)
    y = x.exp()
    y += 1
    y.sum().backward()


def backward_twice() -> None:
    loss = torch.ones(2, requires_grad=True).exp().sum()
    loss.backward()
    loss.backward()


ones = torch.ones
PYTORCH: dict[str, Callable[[], Any]] = {
    "mat1 and mat2 shapes cannot be multiplied (2x3 and 2x3)": lambda: ones(2, 3) @ ones(2, 3),
    "The size of tensor a (3) must match the size of tensor b (2) at non-singleton dimension 1": (
        lambda: ones(2, 3) + ones(2, 2)
    ),
    "Boolean value of Tensor with more than one value is ambiguous": lambda: bool(ones(2)),
    "shape '[4]' is invalid for input of size 6": lambda: ones(2, 3).view(4),
    "view size is not compatible with input tensor's size and stride": (
        lambda: ones(2, 3).T.view(6)
    ),
    "expected m1 and m2 to have the same dtype, but got: float != double": (
        lambda: ones(2, 2) @ ones(2, 2).double()
    ),
    "\"softmax_lastdim_kernel_impl\" not implemented for 'Long'": (
        lambda: torch.softmax(torch.tensor([1, 2]), -1)
    ),
    "index out of range in self": lambda: F.embedding(torch.tensor([9]), ones(3, 2)),
    "Target 3 is out of bounds.": lambda: F.cross_entropy(ones(2, 3), torch.tensor([1, 3])),
    "index 5 is out of bounds for dimension 0 with size 2": lambda: ones(2)[torch.tensor([5])],
    "one of the variables needed for gradient computation has been modified by an inplace "
    "operation": backward_after_a_change_in_place,
    "element 0 of tensors does not require grad and does not have a grad_fn": (
        lambda: ones(2).sum().backward()
    ),
    "Trying to backward through the graph a second time": backward_twice,
    "Error(s) in loading state_dict for Linear": (
        lambda: nn.Linear(2, 2).load_state_dict(nn.Linear(3, 2).state_dict())
    ),
    "Tensor on device meta is not on the expected device cpu!": (
        lambda: ones(2) + ones(2, device="meta")
    ),
    "DefaultCPUAllocator: ... you tried to allocate 4611686018427387904 bytes": (
        lambda: torch.empty(2**60)
    ),
}
for _message, _call in PYTORCH.items():
    PROVOKED[_message] = lambda tmp_path, monkeypatch, call=_call: error_of(call)
