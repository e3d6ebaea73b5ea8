"""A serve.py of its own for a load test, and what it says about itself."""

import contextlib
import http.client
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

import torch

from checkpointing import save_checkpoint
from model.config import preset
from parts import Parts
from small_model import load_small_model
from tiny_transformer_lm import TinyTransformerLM
from utils.errors import CourseError

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class LoadServer:
    """A running server."""

    url: str
    model: str

    def metric(self, name: str) -> float:
        """A metric without labels; 0 if this system doesn't have it."""
        place = urlsplit(self.url)
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            lines = connection.getresponse().read().decode().splitlines()
        return next((float(x.split()[1]) for x in lines if x.startswith(f"{name} ")), 0.0)


@contextlib.contextmanager
def serving(checkpoint: Path, *options: str) -> Iterator[LoadServer]:
    """Start serve.py with this model, and end it with SIGTERM. Raises CourseError if it fails."""
    program = str(ROOT / "09_capstone" / "serve.py")
    command = [sys.executable, program, "--checkpoint", str(checkpoint), "--port", "0", *options]
    environment = {k: v for k, v in os.environ.items() if k != "TINY_TRANSFORMER_API_KEY"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment,
    )
    assert process.stdout is not None and process.stderr is not None
    with process:
        try:
            for line in process.stdout:
                if line.startswith("API"):
                    yield LoadServer(line.split()[1].removesuffix("/v1"), checkpoint.stem)
                    return
            raise CourseError(f"the server did not start: {process.stderr.read().strip()}")
        finally:
            process.terminate()
            process.communicate()  # its last words, so that no pipe stays open


def untrained(preset_name: str, folder: Path) -> Path:
    """A checkpoint of this preset's size with random weights: as fast as a trained one."""
    _, tokenizer = load_small_model()
    config = replace(preset(preset_name).model, vocab_size=tokenizer.vocab_size)
    model = TinyTransformerLM(config, Parts.fused())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    path = folder / f"{preset_name}.safetensors"
    save_checkpoint(path, model, tokenizer)
    return path
