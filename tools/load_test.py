r"""Put a server under load, and check that no text is lost and none goes to another client.

    python tools/load_test.py                                  1,000 requests from 32 clients
    python tools/load_test.py --requests 100 --clients 8       less
    python tools/load_test.py --output 08_engineering/serving_measured.json \
        --page 08_engineering/serving.md                       write the figures and the tables

It starts 09_capstone/serve.py by itself. One client asks all requests first, one after the other;
then the clients ask the same requests together, and every text must be the same. The second part
compares 8 clients with one, in alternating short passes, because a busy machine changes its speed
from minute to minute.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

import argparse
import json
import os
import statistics
import tempfile
from datetime import date
from pathlib import Path
from typing import Any

from experiment_tracking import cpu_model
from tools.benchmarks.load_client import Pass, Question, percentile, run_pass
from tools.benchmarks.load_page import write_tables
from tools.benchmarks.load_server import LoadServer, serving, untrained
from utils.command_line import OneLineParser
from utils.errors import CourseError, UsageError
from utils.files import atomic_write_text

ROOT = Path(__file__).resolve().parents[1]
SMALL_MODEL = ROOT / "07_sampling" / "small_model.safetensors"
FEW, MANY = 1, 8  # the numbers of clients that are compared
PER_CLIENT = 24  # requests per client in a pass of the comparison
CPU = "process_cpu_seconds_total"


def main() -> int:
    """Run the test; 0 if every text came back to the client that asked for it."""
    args = read_options()
    record: dict[str, Any] = {
        "date": date.today().isoformat(),
        "processor": cpu_model(),
        "cores": os.cpu_count(),
        "load_before": load(),
    }
    with serving(args.checkpoint, "--slots", str(args.slots), "--queue", "256") as server:
        record["crowd"] = crowd_test(server, args.requests, args.clients)
    show_crowd(record["crowd"])
    record["ratios"] = ratio_tests(args) if args.rounds else {}
    record["load_after"] = load()
    print(f"load average before and after: {record['load_before']}, {record['load_after']}")
    text = json.dumps(record, indent=2) + "\n"
    if args.output is not None:
        atomic_write_text(args.output, text)
    if args.page is not None:
        write_tables(args.page, json.loads(text))
    crowd = record["crowd"]
    return 1 if crowd["lost"] or crowd["mixed_up"] else 0


def read_options() -> argparse.Namespace:
    """The command line. Raises UsageError for a number that is too small."""
    parser = OneLineParser(description="Put a server under load.")
    add = parser.add_argument
    add("--checkpoint", type=Path, default=SMALL_MODEL, metavar="FILE", help="the model")
    add("--requests", type=int, default=1000, metavar="N", help="requests of the crowd (1000)")
    add("--clients", type=int, default=32, metavar="N", help="clients that ask at once (32)")
    add("--slots", type=int, default=16, metavar="N", help="texts generated together (16)")
    add("--rounds", type=int, default=7, metavar="N", help="rounds of 8 clients against 1 (7)")
    add("--output", type=Path, metavar="FILE", help="write the figures there, as JSON")
    add("--page", type=Path, metavar="FILE", help="and the tables into this page")
    args = parser.parse_args()
    for name, at_least in (("requests", 1), ("clients", 1), ("slots", 1), ("rounds", 0)):
        if getattr(args, name) < at_least:
            raise UsageError(f"--{name} {getattr(args, name)} is less than {at_least}")
    return args


def load() -> float | None:
    """How many processes wanted a core in the last minute; None where it isn't known."""
    return round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None


# --- many clients, each with a text of its own ---


def crowd_test(server: LoadServer, n_requests: int, n_clients: int) -> dict[str, Any]:
    """The same requests by one client and by many."""
    questions = [Question(number) for number in range(n_requests)]
    alone, alone_figures = measured_pass(server, questions, 1)
    if alone.errors:
        raise CourseError(f"the first pass failed: {alone.errors[0]}")
    crowd, crowd_figures = measured_pass(server, questions, n_clients)
    mixed_up = [n for n, answer in crowd.answers.items() if answer.text != alone.answers[n].text]
    return {
        "requests": n_requests,
        "lost": n_requests - len(crowd.answers),
        "mixed_up": len(mixed_up),
        "different_texts": len({answer.text for answer in alone.answers.values()}),
        "errors": crowd.errors[:3],
        "passes": [alone_figures, crowd_figures],
    }


def measured_pass(
    server: LoadServer, questions: list[Question], n_clients: int
) -> tuple[Pass, dict[str, float]]:
    """A pass, and its figures; the server tells how much processor time it took."""
    before = server.metric(CPU)
    done = run_pass(server.url, server.model, questions, n_clients)
    cpu = server.metric(CPU) - before
    seconds = [answer.seconds for answer in done.answers.values()]
    first = [answer.first_token for answer in done.answers.values()]
    n_tokens = sum(answer.n_tokens for answer in done.answers.values())
    figures = {
        "clients": n_clients,
        "seconds": done.seconds,
        "tokens": n_tokens,
        "tokens_per_second": done.tokens_per_second,
        "requests_per_second": len(done.answers) / done.seconds,
        "ms_p50": 1000 * percentile(seconds, 50),
        "ms_p99": 1000 * percentile(seconds, 99),
        "first_token_ms_p50": 1000 * percentile(first, 50),
        "first_token_ms_p99": 1000 * percentile(first, 99),
        "cpu_seconds": cpu,
        "ms_cpu_per_token": 1000 * cpu / n_tokens,
    }
    return done, {name: float(f"{value:.4g}") for name, value in figures.items()}


def show_crowd(crowd: dict[str, Any]) -> None:
    """Print the figures of both passes."""
    print(
        f"{crowd['requests']} requests: {crowd['lost']} lost, {crowd['mixed_up']} mixed up; "
        f"{crowd['different_texts']} different texts"
    )
    for error in crowd["errors"]:
        print(f"  {error}")
    print("clients  tokens/s  requests/s  ms: p50    p99  first token: p50    p99")
    for row in crowd["passes"]:
        print(
            f"{row['clients']:7.0f} {row['tokens_per_second']:9.0f} "
            f"{row['requests_per_second']:11.1f} {row['ms_p50']:8.0f} {row['ms_p99']:6.0f} "
            f"{row['first_token_ms_p50']:17.1f} {row['first_token_ms_p99']:6.1f}"
        )


# --- eight clients against one ---


def ratio_tests(args: argparse.Namespace) -> dict[str, Any]:
    """The comparison for the checkpoint, and for a model of the laptop preset's size."""
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for path in (args.checkpoint, untrained("laptop", Path(folder))):
            for group in ("4", "1"):
                name = f"{path.stem}, group {group}"
                with serving(path, "--slots", str(MANY), "--group", group) as server:
                    results[name] = ratio_test(server, args.rounds)
                show_ratio(name, results[name])
    return results


def ratio_test(server: LoadServer, rounds: int) -> dict[str, Any]:
    """Alternate passes of 1 and of 8 clients; the ratio of each pair, and their medians."""
    rows: dict[int, list[dict[str, float]]] = {FEW: [], MANY: []}
    run_pass(server.url, server.model, [Question(0)], 1)  # warms up
    for i in range(rounds):
        for n in (FEW, MANY) if i % 2 else (MANY, FEW):
            questions = [Question(number) for number in range(PER_CLIENT * n)]
            rows[n].append(measured_pass(server, questions, n)[1])
    pairs = list(zip(rows[FEW], rows[MANY], strict=True))
    speed, cpu = "tokens_per_second", "ms_cpu_per_token"
    return {
        "ratios": [float(f"{many[speed] / few[speed]:.3g}") for few, many in pairs],
        "ratio": statistics.median(many[speed] / few[speed] for few, many in pairs),
        "cpu_ratio": statistics.median(few[cpu] / (many[cpu] or 1.0) for few, many in pairs),
        "tokens_per_second": {n: statistics.median(r[speed] for r in rows[n]) for n in rows},
    }


def show_ratio(name: str, result: dict[str, Any]) -> None:
    """Print one comparison."""
    few, many = (result["tokens_per_second"][n] for n in (FEW, MANY))
    print(
        f"{name}: 1 client {few:.0f} tokens/s, 8 clients {many:.0f}; ratio {result['ratio']:.2f} "
        f"({min(result['ratios']):.2f} to {max(result['ratios']):.2f}), "
        f"per processor second {result['cpu_ratio']:.2f}"
    )


if __name__ == "__main__":
    run_program(main)
