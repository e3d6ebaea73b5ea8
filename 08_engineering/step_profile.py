"""Where does the time go? A breakdown of one training step and of one generated token.

Each is broken down by stage, with a stopwatch, and by kind of operation, with PyTorch's profiler
(step_timing.py). Matrix products are compared with the fastest one measured on this machine. For a
whole training step that share is the model FLOP utilization of Chowdhery et al. 2022 (PaLM),
appendix B; compute_peak.py says what is counted. Generating a token takes little arithmetic but
reads every weight, so its speed is compared with that of memory; a model that fits in the
processor's caches can be faster. The data are random tokens, since speed does not depend on them.

    python 08_engineering/step_profile.py
    python 08_engineering/step_profile.py --d-model 256 --batch-size 4 --dtype bfloat16
    python 08_engineering/step_profile.py --config RUN/config.yaml --out profile.png

Dimensions: T the context, d_model the width of the model.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # before PyTorch is imported: it silences the profiler's log
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")

import numpy as np
import torch
from torch import Tensor, nn

from compute_peak import forward_flops, matmul_peak, memory_bandwidth, product_weights
from decoding_loop import Choose, DecodeStep, MakeDecodeStep, generate_tokens
from engine import Engine, build_model, choose_engine
from fast_decoder import fast_decode_step
from generator import choose_with
from parts import Parts
from profile_report import SUFFIXES, Profile, draw, rows_of, table
from step_timing import Steps, Stopwatch, by_kind, by_stage
from tiny_transformer_lm import TinyTransformerLM
from training_loop import Trainer
from utils.command_line import OneLineParser, add_config_flags, config_from_args
from utils.config import ModelConfig, SampleConfig, TrainConfig, load_config
from utils.device import describe_device
from utils.errors import pick, run_program
from utils.kv_cache import KVCache

TRAINING_STAGES = ("batch", "forward", "loss", "backward", "clipping, checks", "optimizer")
TOKEN_STAGES = ("model", "choosing", "the rest")
PROFILED_STEPS, PROFILED_TOKENS = 1, 10  # per round under the profiler
NO_FLAG = (
    "data max_steps max_minutes eval_interval save_interval sample_interval log_interval compile"
)


def profile_training(config: TrainConfig, engine: Engine, tokens: np.ndarray) -> Profile:
    """Profile one optimizer step of the course's training loop, on one array of tokens."""
    device = engine.device
    model = build_model(config.model, engine, config.seed)
    trainer = Trainer(model, tokens, tokens, config, device, engine.dtype)
    watch = Stopwatch(device)
    steps = repeat(trainer.train_step)
    with _watched(trainer, watch):
        seconds = by_stage(steps, watch, TRAINING_STAGES)
    T = config.model.max_seq_len
    n_rows = config.batch_size * config.accumulation
    flops = n_rows * forward_flops(config.model, T, T)
    size = f"{config.model.n_layers} layers x {config.model.d_model}, {n_rows} x {T} tokens"
    return Profile(
        f"a training step: {size}, {engine.dtype_name}",
        rows_of(seconds, {"forward": flops, "backward": 2 * flops}),
        by_kind(steps, device, PROFILED_STEPS),
        matmul_peak(engine.dtype, device),
    )


@contextmanager
def _watched(trainer: Trainer, watch: Stopwatch) -> Iterator[None]:
    """Read the stopwatch between the stages of a step, by hooks; the training loop is unchanged."""
    handles = [
        trainer.model.register_forward_pre_hook(partial(watch.end_stage, "batch")),
        trainer.model.register_forward_hook(partial(watch.end_stage, "forward")),
        trainer.optimizers[0].register_step_pre_hook(partial(watch.end_stage, "clipping, checks")),
    ]
    original = Tensor.backward

    def backward(self: Tensor, *args: Any, **kwargs: Any) -> None:
        watch.end_stage("loss")
        original(self, *args, **kwargs)
        watch.end_stage("backward")

    Tensor.backward = backward
    try:
        yield
    finally:
        Tensor.backward = original
        for handle in handles:
            handle.remove()


def profile_generation(config: ModelConfig, device: torch.device, parts: Parts) -> Profile:
    """Profile generating one token with a cache, around the middle of the context, in float32."""
    model = TinyTransformerLM(config, parts).to(device).eval()
    watch = Stopwatch(device)
    choose = choose_with(SampleConfig())

    def watched_choose(logits: Tensor) -> Tensor:
        watch.end_stage("the rest")
        ids = choose(logits)
        watch.end_stage("choosing")
        return ids

    def watched_decode_step(model: nn.Module, cache: KVCache) -> DecodeStep:
        step = fast_decode_step(model, cache)

        def watched(newest: Tensor) -> Tensor:
            watch.end_stage("the rest")
            logits = step(newest)
            watch.end_stage("model")
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
    """Endless steps of one token each, from a quarter to three quarters of the context.

    Prefilling a new prompt happens between two steps and is not part of either.
    """
    quarter = max(1, config.max_seq_len // 4)
    n_tokens = 2 * quarter
    while True:
        prompt = [[0] * quarter]
        tokens = generate_tokens(
            model, config, prompt, n_tokens + 1, choose, make_decode_step=make_decode_step
        )
        next(tokens)  # prefills the prompt
        yield from repeat(partial(next, tokens), n_tokens)


def main() -> None:
    """Profile a training step and a generated token of the model that the flags describe."""
    parser = OneLineParser(description="Show where the time of training and generation goes.")
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="start from this configuration",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="draw it as .png, .svg or .pdf")
    add_config_flags(parser, TrainConfig, skip=NO_FLAG)
    args = parser.parse_args()
    if args.out:
        pick(args.out.suffix.lower(), SUFFIXES, "suffix of a picture")
    base = load_config(args.config, TrainConfig) if args.config else TrainConfig()
    config = replace(config_from_args(args, base), compile=False)  # profile the plain engines
    engine = choose_engine(config)
    n_tokens = 64 * (config.model.max_seq_len + 1)
    tokens = np.random.default_rng(0).integers(config.model.vocab_size, size=n_tokens)
    tokens = tokens.astype(np.uint32)
    print(f"{describe_device(engine.device)}, torch {torch.__version__}")
    profiles = {
        "training step": profile_training(config, engine, tokens),
        "generated token": profile_generation(config.model, engine.device, engine.parts),
    }
    for profile in profiles.values():
        print(f"\n{table(profile)}")
    if args.out:
        draw(profiles, args.out)
    print(f"\npicture: {args.out or 'not drawn; --out profile.png draws one'}")


if __name__ == "__main__":
    run_program(main)
