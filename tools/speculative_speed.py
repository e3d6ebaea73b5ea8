"""Does speculative decoding pay here? Tokens per second with a draft and without, and why.

    python tools/speculative_speed.py --target T.safetensors --draft S.safetensors
    python tools/speculative_speed.py --data mock        # train them first: minutes

All ways of decoding continue the same prompts, in turn, on one thread; speeds are tokens per second
of processor time. There are two engines: the model's forward pass, and the fast decoder that
sample.py uses. The fast decoder computes one token at a time, so a check of several tokens is a
forward pass under both. The last table says what a check of five tokens costs, in tokens, for
random weights of several sizes: a draft can only pay where that is less than a round settles.
The results go to 07_sampling/pictures/speculative.json.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

from cached_sequence import CachedSequence
from checkpointing import Checkpoint, load_checkpoint
from decoding_loop import MakeDecodeStep, forward_step, generate_tokens
from distribution import distribution_after
from fast_decoder import fast_decode_step
from generator import choose_with
from model.config import PRESETS
from parts import Parts
from speculative import speculative_tokens
from tiny_transformer_lm import TinyTransformerLM
from utils.command_line import OneLineParser
from utils.config import SampleConfig
from utils.files import atomic_write_text
from utils.kv_cache import KVCache

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "07_sampling" / "pictures" / "speculative.json"
ENGINES: dict[str, MakeDecodeStep] = {"forward": forward_step, "fast": fast_decode_step}
PROMPTS = ("\n", "The king", "My lord, I ")
TEMPERATURES = (0.0, 0.8)
N_DRAFT = (2, 4, 8)
SHAPES = {  # layers, width, heads
    "1x32": (1, 32, 1),
    "2x64": (2, 64, 2),
    "4x128": (4, 128, 4),
    "4x256": (4, 256, 4),
    "6x384": (6, 384, 6),
    "8x768": (8, 768, 12),
}
TARGET, DRAFTS, CHECKED = "4x128", ("1x32", "2x64"), ("4x128", "4x256", "6x384", "8x768")


@dataclass(frozen=True)
class Way:
    """One way of decoding: without a draft, or with one that drafts n tokens per round."""

    engine: str
    draft: str  # "" for none
    n_draft: int
    temperature: float


def main() -> None:
    """Measure, print the rows and write them to a JSON file."""
    args = parse_args()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        paths = [args.target or train(Path(folder), args.data, TARGET)]
        paths += args.draft or [train(Path(folder), args.data, name) for name in DRAFTS]
        checkpoints = {
            name_of(checkpoint): checkpoint for checkpoint in map(load_checkpoint, paths)
        }
    rows = list(measure(checkpoints, args.tokens, args.runs))
    costs = [check_cost(name, args.runs) for name in CHECKED]
    results = {
        "torch": torch.__version__,
        "tokens": args.tokens * len(PROMPTS),
        "runs": args.runs,
        "models": {name: summary(checkpoint) for name, checkpoint in checkpoints.items()},
        "rows": rows,
        "check_costs": costs,
    }
    for row in [*rows, *costs]:
        print("  ".join(f"{name} {value}" for name, value in row.items()))
    atomic_write_text(args.out, json.dumps(results, indent=1) + "\n")
    print(f"wrote {args.out}")


def parse_args() -> argparse.Namespace:
    """The command line."""
    parser = OneLineParser(description="Measure the speed of speculative decoding.")
    parser.add_argument("--target", type=Path, metavar="FILE", help="default: trained, 4x128")
    parser.add_argument(
        "--draft", type=Path, metavar="FILE", action="append", help="as often as needed"
    )
    parser.add_argument("--data", default="mock", help="what missing models are trained on")
    parser.add_argument("--tokens", type=int, default=200, metavar="N", help="per prompt")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="of each way of decoding")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help="a JSON file")
    return parser.parse_args()


def train(folder: Path, data: str, name: str) -> Path:
    """Train a model with the recipe of the laptop preset; returns its checkpoint."""
    flags = ["--preset", "laptop", "--data", data, "--out-dir", str(folder / name)]
    for flag, value in zip(("--n-layers", "--d-model", "--n-heads"), SHAPES[name], strict=True):
        flags += [flag, str(value)]
    subprocess.run([sys.executable, "09_capstone/train.py", *flags], cwd=ROOT, check=True)
    return folder / name / "best.safetensors"


def name_of(checkpoint: Checkpoint) -> str:
    """Layers x width."""
    return f"{checkpoint.model_config.n_layers}x{checkpoint.model_config.d_model}"


def summary(checkpoint: Checkpoint) -> dict[str, Any]:
    """What a table says of a model."""
    n_parameters = sum(weight.numel() for weight in checkpoint.weights.values())
    known = {name: checkpoint.info.get(name) for name in ("corpus", "val_loss")}
    return {"parameters": n_parameters, **known}


def measure(
    checkpoints: dict[str, Checkpoint], n_tokens: int, runs: int
) -> Iterator[dict[str, Any]]:
    """A row for every way of decoding: its speed, that without a draft, and what was accepted."""
    target, *drafts = checkpoints
    models = {name: each.build_model(Parts.fused()).eval() for name, each in checkpoints.items()}
    prompts = [checkpoints[target].tokenizer.encode(prompt) for prompt in PROMPTS]
    for temperature, engine in product(TEMPERATURES, ENGINES):
        plain = Way(engine, "", 0, temperature)
        ways = [plain, *(replace(plain, draft=d, n_draft=n) for d, n in product(drafts, N_DRAFT))]
        speeds: dict[Way, list[float]] = {way: [] for way in ways}
        accepted: dict[Way, float] = {}
        passes: dict[Way, int] = {}
        for run, way in product(range(runs + 1), ways):  # run 0 warms up
            before = time.process_time()
            counts = [decode(way, models, target, prompt, n_tokens, run) for prompt in prompts]
            speed = len(prompts) * n_tokens / (time.process_time() - before)
            if run > 0:
                speeds[way].append(speed)
            passes[way], n_drafted, n_accepted = (sum(x) for x in zip(*counts, strict=True))
            accepted[way] = n_accepted / max(n_drafted, 1)
        for way in ways:
            ratios = [x / y for x, y in zip(speeds[way], speeds[plain], strict=True)]
            yield {
                **vars(way),
                "accepted": round(accepted[way], 3),  # of the drafted tokens, in the last run
                "tokens_per_pass": round(len(prompts) * n_tokens / passes[way], 2),
                "tokens_per_second": round(statistics.median(speeds[way])),
                "speed_up": round(statistics.median(ratios), 2),
                "least": round(min(ratios), 2),
                "most": round(max(ratios), 2),
            }


def decode(
    way: Way,
    models: dict[str, TinyTransformerLM],
    target: str,
    prompt: list[int],
    n_tokens: int,
    seed: int,
) -> tuple[int, int, int]:
    """Continue the prompt once; returns passes of the target, drafted and accepted tokens."""
    model, make_decode_step = models[target], ENGINES[way.engine]
    sampling = SampleConfig(temperature=way.temperature, max_tokens=n_tokens, seed=seed)
    if not way.draft:
        steps = generate_tokens(
            *(model, model.config, [prompt], n_tokens, choose_with(sampling)),
            make_decode_step=make_decode_step,
        )
        return len(list(steps)), 0, 0
    large = CachedSequence(model, model.config, make_decode_step)
    draft = models[way.draft]
    rounds = speculative_tokens(
        large,
        CachedSequence(draft, draft.config, make_decode_step),
        prompt,
        n_tokens,
        distribution_after(prompt, sampling),
        way.n_draft,
        torch.Generator().manual_seed(seed),
    )
    length, end = len(prompt), len(prompt) + n_tokens
    n_passes = n_drafted = n_accepted = 0
    for settled in rounds:
        n_passes += 1
        n_drafted += min(way.n_draft, end - length - 1, large.room(length))
        n_accepted += len(settled) - 1
        length += len(settled)
    return n_passes, n_drafted, n_accepted


@torch.inference_mode()
def check_cost(name: str, runs: int) -> dict[str, Any]:
    """Milliseconds for one token by each engine and for a check of five, in mid-context."""
    n_layers, d_model, n_heads = SHAPES[name]
    config = replace(PRESETS["laptop"].model, n_layers=n_layers, d_model=d_model, n_heads=n_heads)
    model = TinyTransformerLM(config, Parts.fused()).eval()
    cache = KVCache(config, 1)
    five = torch.ones(1, 5, dtype=torch.long)
    fast = fast_decode_step(model, cache)
    calls: dict[str, Callable[[], object]] = {
        "forward_ms": lambda: model(five[:, :1], cache),
        "fast_ms": lambda: fast(five[0, :1]),
        "check_of_5_ms": lambda: model(five, cache),
    }
    model(torch.ones(1, config.max_seq_len // 2, dtype=torch.long), cache)
    times: dict[str, list[float]] = {label: [] for label in calls}
    for _, (label, call) in product(range(10 * runs), calls.items()):
        before = time.process_time()
        call()
        times[label].append(1000 * (time.process_time() - before))
        cache.truncate([config.max_seq_len // 2])
    parameters = sum(p.numel() for p in model.parameters())
    medians = {label: round(statistics.median(x), 3) for label, x in times.items()}
    return {"shape": name, "parameters": parameters, **medians}


if __name__ == "__main__":
    run_program(main)
