"""What /metrics reports, in the text format that Prometheus collects.

Counters only grow, and a monitoring system computes rates from them; gauges are read when they are
asked for; a histogram counts how many durations were at most as long as each bound.
"""

from collections.abc import Iterator

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from batch_engine import BatchEngine
from text_job import TextJob

SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class EngineCounters(Collector):
    """The engine's own counts, read when they are asked for, so that a step costs nothing."""

    def __init__(self, engine: BatchEngine) -> None:
        self.engine = engine

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counters of the engine."""
        engine = self.engine
        counts = {
            "tiny_generated_tokens": ("Tokens generated", engine.n_tokens),
            "tiny_prefilled_tokens": ("Positions computed by prefill", engine.batch.n_prefilled),
            "tiny_decode_steps": ("Steps of the batch", engine.batch.n_steps),
            "tiny_texts": ("Texts that have ended, for any reason", engine.n_finished),
        }
        for name, (what, value) in counts.items():
            yield CounterMetricFamily(name, what, value=value)


class ServerMetrics:
    """The metrics of one server, in a registry of its own."""

    def __init__(self, engine: BatchEngine) -> None:
        here = self.registry = CollectorRegistry()
        requests = ("tiny_requests", "Requests")
        prompts = ("tiny_prompt_tokens", "Tokens of accepted prompts")
        reasons = ("tiny_finish_reasons", "Why texts ended")
        whole = ("tiny_text_seconds", "From the request to the end of a text")
        first = ("tiny_first_token_seconds", "From the request to the first token")
        self.requests = Counter(*requests, ["path", "status"], registry=here)
        self.prompt_tokens = Counter(*prompts, registry=here)
        self.reasons = Counter(*reasons, ["reason"], registry=here)
        self.seconds = Histogram(*whole, buckets=SECONDS, registry=here)
        self.first_token = Histogram(*first, buckets=SECONDS, registry=here)
        queue = Gauge("tiny_queue_length", "Texts that wait for a slot", registry=here)
        queue.set_function(lambda: len(engine.waiting))
        running = Gauge("tiny_running", "Texts in a slot", registry=here)
        running.set_function(lambda: len(engine.running))
        self.registry.register(EngineCounters(engine))
        ProcessCollector(registry=here)  # processor time and memory, on Linux

    def ended(self, job: TextJob) -> None:
        """Count a text that has ended."""
        self.reasons.labels(job.finish_reason).inc()
        if job.finished_at is not None:
            self.seconds.observe(job.finished_at - job.created)
        if job.first_token_at is not None:
            self.first_token.observe(job.first_token_at - job.created)

    def text(self) -> bytes:
        """Everything, as Prometheus reads it."""
        return generate_latest(self.registry)
