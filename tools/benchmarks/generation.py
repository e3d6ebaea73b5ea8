"""How fast models speak: with the cache of keys and values, without, sixteen at once, and the peer.

The weights are random: what is said differs, what it costs does not. One token of prompt and the
new tokens fill the context, and all of it is float32, as in sample.py.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

from decoding_loop import MakeDecodeStep, generate_tokens
from fast_decoder import fast_decode_step
from generator import choose_with
from model.config import MODERN
from parts import Parts
from tiny_transformer_lm import TinyTransformerLM
from tools.benchmarks.baseline import INSTALL, build_peer, is_installed, peer_generate
from tools.benchmarks.interleave import (
    Run,
    Settings,
    in_own_process,
    progress,
    speed_of,
    take_turns,
)
from tools.benchmarks.report import OURS, PEER, SPEED, Row, Section, ratio
from utils.config import ModelConfig, SampleConfig

LARGE = ModelConfig(max_seq_len=256, d_model=384, n_layers=6, n_heads=6, **MODERN)
SHAPES = {"4x128": replace(LARGE, d_model=128, n_layers=4, n_heads=4), "6x384": LARGE}
PROMPT = [0]
CACHED, UNCACHED = f"{OURS}, one text", f"{OURS}, one text, no cache"
SIXTEEN, PEER_CACHED = f"{OURS}, 16 texts at once", f"{PEER}, one text"


def generation(settings: Settings) -> Iterator[Section]:
    """Tokens per second of new text."""
    for name, config in SHAPES.items():
        config = settings.fit(config)
        n_tokens = 15 if settings.quick else config.max_seq_len - len(PROMPT)
        with progress(1, f"getting ready, {name}"):
            runs = generation_runs(config, n_tokens)
        values = take_turns(runs, settings.rounds, f"generation, {name}")
        yield Section(f"generation {name}, {n_tokens} new tokens", SPEED, generation_rows(values))


def generation_runs(config: ModelConfig, n_tokens: int) -> dict[str, Run]:
    """What takes turns."""
    model = TinyTransformerLM(config, Parts.fused()).eval()
    works: dict[str, tuple[Callable[[int], object], int]] = {
        CACHED: (partial(generate, model, 1, True), 1),
        UNCACHED: (partial(generate, model, 1, False), 1),
        SIXTEEN: (partial(generate, model, 16, True), 16),
    }
    runs = {name: run_of(work, n_texts, n_tokens) for name, (work, n_texts) in works.items()}
    if is_installed():
        runs[PEER_CACHED] = in_own_process(peers_run, config, n_tokens)
    return runs


def peers_run(config: ModelConfig, n_tokens: int) -> Run:
    """Called in the peer's process."""
    return run_of(partial(peer_generate, build_peer(config), PROMPT), 1, n_tokens)


def run_of(work: Callable[[int], object], n_texts: int, n_tokens: int) -> Run:
    """Measures new tokens per second, after a few that do not count."""
    work(min(8, n_tokens))
    return speed_of(partial(work, n_tokens), n_texts * n_tokens)


def generate(
    model: TinyTransformerLM,
    batch_size: int,
    use_cache: bool,
    n_tokens: int,
    make_decode_step: MakeDecodeStep = fast_decode_step,
) -> None:
    """Draw n_tokens for each row of a batch."""
    prompts, choose = [PROMPT] * batch_size, choose_with(SampleConfig())
    steps = generate_tokens(
        model, model.config, prompts, n_tokens, choose, use_cache, make_decode_step
    )
    for _ in steps:
        pass


def generation_rows(values: Mapping[str, tuple[float, ...]]) -> tuple[Row, ...]:
    """Speeds, and the ratios of ours to ours without the cache and to the peer."""
    rows = [Row(label, found) for label, found in values.items()]
    rows.append(ratio("ratio: ours with the cache / without", values[CACHED], values[UNCACHED]))
    rows.append(ratio("ratio: ours, 16 texts / one", values[SIXTEEN], values[CACHED]))
    if PEER_CACHED not in values:
        return (*rows, Row(PEER, note=INSTALL))
    return (*rows, ratio(f"ratio: ours / {PEER}", values[CACHED], values[PEER_CACHED]))
