"""Where does the time go? A training step and a generated token, each taken apart twice.

By stage, with a stopwatch, and by kind of operation, with PyTorch's profiler: see step_timing.py.
Matrix products are set against the fastest one measured on the spot. For a whole training step that
share is the model FLOP utilisation of Chowdhery et al. 2022 (PaLM), appendix B; compute_peak.py
says what is counted. A token has little arithmetic and must read every weight for it, so the speed
of its model is set against that of memory; a model that fits into the processor's caches can be
faster. The texts are random tokens: speed does not depend on what they say.

    python 08_engineering/step_profile.py
    python 08_engineering/step_profile.py --d-model 256 --batch-size 4 --dtype bfloat16
    python 08_engineering/step_profile.py --config RUN/config.yaml --out profile.png

Dimensions: T the context, d_model the width of the model.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before PyTorch is there: its profiler would print remarks of its own
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import numpy as np
import torch
from torch import Tensor, nn

from compute_peak import forward_flops, matmul_peak, memory_bandwidth, product_weights
from decoding_loop import Choose, DecodeStep, MakeDecodeStep, generate_tokens
from fast_decoder import fast_decode_step
from generator import choose_with
from parts import Parts
from profile_report import SUFFIXES, Profile, draw, rows_of, table
from step_timing import Steps, Stopwatch, by_kind, by_stage
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import ModelConfig, SampleConfig, TrainConfig, load_config
from utils.device import describe_device, fastest, pick_device
from utils.errors import pick, run_program
from utils.kv_cache import KVCache

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
TRAINING_STAGES = ("batch", "forward", "loss", "backward", "clipping, checks", "optimizer")
TOKEN_STAGES = ("model", "choosing", "the rest")
PROFILED_STEPS, PROFILED_TOKENS = 1, 10  # in a round under the profiler
NO_FLAG = (
    "data max_steps max_minutes eval_interval save_interval sample_interval log_interval compile"
)


def profile_training(
    config: TrainConfig, device: torch.device, dtype: torch.dtype, parts: Parts, tokens: np.ndarray
) -> Profile:
    """Take apart one optimizer step of the course's training loop, on one row of tokens."""
    model = TinyTransformerLM(config.model, parts, config.seed)
    trainer = Trainer(model, tokens, tokens, config, device, dtype)
    watch, steps = Stopwatch(device), repeat(trainer.train_step)
    with _watched(trainer, watch):
        seconds = by_stage(steps, watch, TRAINING_STAGES)
    T, n_rows = config.model.max_seq_len, config.batch_size * config.accumulation
    flops = n_rows * forward_flops(config.model, T, T)
    size = f"{config.model.n_layers} layers x {config.model.d_model}, {n_rows} x {T} tokens"
    return Profile(
        f"a training step: {size}, {str(dtype).removeprefix('torch.')}",
        rows_of(seconds, {"forward": flops, "backward": 2 * flops}),
        by_kind(steps, device, PROFILED_STEPS),
        matmul_peak(dtype, device),
    )


@contextmanager
def _watched(trainer: Trainer, watch: Stopwatch) -> Iterator[None]:
    """Read the stopwatch between the stages of a step, from outside: the loop stays as it is."""
    handles = [
        trainer.model.register_forward_pre_hook(partial(watch.ends, "batch")),
        trainer.model.register_forward_hook(partial(watch.ends, "forward")),
        trainer.optimizers[0].register_step_pre_hook(partial(watch.ends, "clipping, checks")),
    ]
    plain = Tensor.backward

    def backward(self: Tensor, *args: Any, **kwargs: Any) -> None:
        watch.ends("loss")
        plain(self, *args, **kwargs)
        watch.ends("backward")

    Tensor.backward = backward
    try:
        yield
    finally:
        Tensor.backward = plain
        for handle in handles:
            handle.remove()


def profile_generation(config: ModelConfig, device: torch.device, parts: Parts) -> Profile:
    """Take apart one token drawn with a cache, around the middle of the context, in float32."""
    model = TinyTransformerLM(config, parts).to(device).eval()
    watch, choose = Stopwatch(device), choose_with(SampleConfig())

    def watched_choose(logits: Tensor) -> Tensor:
        watch.ends("the rest")
        ids = choose(logits)
        watch.ends("choosing")
        return ids

    def watched_decode_step(model: nn.Module, cache: KVCache) -> DecodeStep:
        step = fast_decode_step(model, cache)

        def watched(newest: Tensor) -> Tensor:
            watch.ends("the rest")
            logits = step(newest)
            watch.ends("model")
            return logits

        return watched

    steps = token_steps(model, config, watched_choose, watched_decode_step)
    seconds = by_stage(steps, watch, TOKEN_STAGES)
    return Profile(
        f"a generated token: {config.n_layers} layers x {config.d_model}, float32",
        rows_of(seconds, {"model": forward_flops(config, 1, max(1, config.max_seq_len // 2))}),
        by_kind(token_steps(model, config, choose), device, PROFILED_TOKENS),
        matmul_peak(torch.float32, device),
        weight_bytes=4 * product_weights(config),
        bandwidth=memory_bandwidth(device),
    )


def token_steps(
    model: TinyTransformerLM,
    config: ModelConfig,
    choose: Choose,
    make_decode_step: MakeDecodeStep = fast_decode_step,
) -> Steps:
    """Draw tokens from a quarter to three quarters of the context, then anew; prompts are free."""
    quarter = max(1, config.max_seq_len // 4)
    n_tokens = 2 * quarter
    while True:
        prompt = [[0] * quarter]
        tokens = generate_tokens(
            model, config, prompt, n_tokens + 1, choose, make_decode_step=make_decode_step
        )
        next(tokens)  # reads the prompt
        yield from repeat(partial(next, tokens), n_tokens)


def settle(config: TrainConfig, device: torch.device, tokens: np.ndarray) -> str:
    """The precision: what was asked for, or the one whose training steps are faster here."""
    if config.dtype != "auto" or config.parts == "reference":
        return config.dtype.replace("auto", "float32")

    def trial(dtype: str) -> Callable[[], None]:
        parts = Parts.fused_for(device, DTYPES[dtype])
        trainer = Trainer(
            TinyTransformerLM(config.model, parts), tokens, tokens, config, device, DTYPES[dtype]
        )

        def step() -> None:
            trainer.train_step()

        return step

    return fastest({dtype: trial(dtype) for dtype in DTYPES}, device)


def main() -> None:
    """Profile a training step and a token of the model that the flags describe."""
    parser = OneLineParser(description="Find out where the time of training and sampling goes.")
    parser.add_argument("--config", type=Path, metavar="FILE", help="of a run, to start from")
    parser.add_argument("--out", type=Path, metavar="FILE", help="a picture: .png, .svg or .pdf")
    add_config_flags(parser, TrainConfig, skip=NO_FLAG)
    args = parser.parse_args()
    if args.out:
        pick(args.out.suffix.lower(), SUFFIXES, "suffix of a picture")
    base = load_config(args.config, TrainConfig) if args.config else TrainConfig()
    config = config_from_args(args, base)
    device = pick_device(config.device)
    n_tokens = 64 * (config.model.max_seq_len + 1)
    tokens = np.random.default_rng(0).integers(config.model.vocab_size, size=n_tokens)
    tokens = tokens.astype(np.uint32)
    dtype = settle(config, device, tokens)
    fused = config.parts == "fused"
    parts = Parts.fused_for(device, DTYPES[dtype]) if fused else Parts.reference()
    print(f"{describe_device(device)}, torch {torch.__version__}")
    profiles = {
        "training step": profile_training(config, device, DTYPES[dtype], parts, tokens),
        "generated token": profile_generation(config.model, device, parts),
    }
    for profile in profiles.values():
        print(f"\n{table(profile)}")
    if args.out:
        draw(profiles, args.out)
    print(f"\npicture: {args.out or 'not drawn; --out profile.png draws one'}")


if __name__ == "__main__":
    run_program(main)
