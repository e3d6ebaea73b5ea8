"""Generation speed: with and without the KV cache, at batch sizes 1 and 16, and the baseline's.

The weights are random, which changes the text but not its cost. The prompt is one token, the new
tokens fill the context, and everything runs in float32, as in sample.py.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

from decoding_loop import MakeDecodeStep, generate_tokens
from fast_decoder import fast_decode_step
from generator import choose_with
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks import shapes
from tools.benchmarks.baseline import (
    NOT_INSTALLED,
    baseline_generate,
    build_baseline,
    is_installed,
)
from tools.benchmarks.interleave import (
    Measure,
    Settings,
    in_subprocess,
    interleave,
    progress,
    throughput,
)
from tools.benchmarks.report import BASELINE, OURS, SPEED, Row, Section, ratio
from utils.config import ModelConfig, SampleConfig

PROMPT = [0]
CACHED = f"{OURS}, batch size 1"
UNCACHED = f"{OURS}, batch size 1, no cache"
BATCHED = f"{OURS}, batch size 16"
BASELINE_CACHED = f"{BASELINE}, batch size 1"
CACHE_RATIO = "ratio: with cache / without"
BATCH_RATIO = "ratio: batch size 16 / batch size 1"
BASELINE_RATIO = f"ratio: {OURS} / {BASELINE}"


def generation(settings: Settings) -> Iterator[Section]:
    """New tokens per second."""
    for name, config in shapes.GENERATION.items():
        config = settings.fit(config)
        n_tokens = 15 if settings.quick else config.max_seq_len - len(PROMPT)
        with progress(1, f"warming up, {name}"):
            measures = generation_measures(config, n_tokens)
        values = interleave(measures, settings.rounds, f"generation, {name}")
        yield Section(f"generation {name}, {n_tokens} new tokens", SPEED, generation_rows(values))


def generation_measures(config: ModelConfig, n_tokens: int) -> dict[str, Measure]:
    """The candidates by label, warmed up."""
    model = TinyTransformerLM(config, Parts.fused()).eval()
    measures = {
        CACHED: generation_speed(partial(generate, model, 1, True), 1, n_tokens),
        UNCACHED: generation_speed(partial(generate, model, 1, False), 1, n_tokens),
        BATCHED: generation_speed(partial(generate, model, 16, True), 16, n_tokens),
    }
    if is_installed():
        measures[BASELINE_CACHED] = in_subprocess(baseline_speed, config, n_tokens)
    return measures


def baseline_speed(config: ModelConfig, n_tokens: int) -> Measure:
    """The baseline's generation speed; runs in a subprocess."""
    work = partial(baseline_generate, build_baseline(config), PROMPT)
    return generation_speed(work, 1, n_tokens)


def generation_speed(work: Callable[[int], object], batch_size: int, n_tokens: int) -> Measure:
    """Measures new tokens per second of work(n_tokens), after a short warm-up."""
    work(min(8, n_tokens))
    return throughput(partial(work, n_tokens), batch_size * n_tokens)


def generate(
    model: TinyTransformerLM,
    batch_size: int,
    use_cache: bool,
    n_tokens: int,
    make_decode_step: MakeDecodeStep = fast_decode_step,
) -> None:
    """Sample n_tokens for each row of a batch and discard them."""
    prompts = [PROMPT] * batch_size
    choose = choose_with(SampleConfig())
    steps = generate_tokens(
        model, model.config, prompts, n_tokens, choose, use_cache, make_decode_step
    )
    for _ in steps:
        pass


def generation_rows(values: Mapping[str, tuple[float, ...]]) -> tuple[Row, ...]:
    """The speeds, then the ratios: cache to no cache, batch to single, ours to the baseline."""
    rows = [Row(label, measured) for label, measured in values.items()]
    rows.append(ratio(CACHE_RATIO, values[CACHED], values[UNCACHED]))
    rows.append(ratio(BATCH_RATIO, values[BATCHED], values[CACHED]))
    if BASELINE_CACHED not in values:
        return (*rows, Row(BASELINE, note=NOT_INSTALLED))
    return (*rows, ratio(BASELINE_RATIO, values[CACHED], values[BASELINE_CACHED]))
