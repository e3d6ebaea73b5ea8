"""The tables of a load test, as 08_engineering/serving.md shows them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from utils.errors import CourseError
from utils.files import atomic_write_text

BEGIN, END = "<!-- load test: begin -->", "<!-- load test: end -->"


def tables(record: Mapping[str, Any]) -> str:
    """What was measured, in Markdown."""
    crowd = record["crowd"]
    lines = [
        f"Measured on {record['date']} on {record['cores']} cores of an {record['processor']}, by "
        f"`tools/load_test.py`, while other programs used the machine (load average "
        f"{record['load_before']} before, {record['load_after']} after; {record['cores']} would "
        f"be fully busy). Of {crowd['requests']:,} requests with {crowd['different_texts']:,} "
        f"different texts, {crowd['lost']} were lost and {crowd['mixed_up']} got another's text:",
        "",
        "| clients | tokens per second | requests per second | time, p50 | p99 | first token, p50 "
        "| p99 |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
        *map(crowd_row, crowd["passes"]),
        "",
        "Eight clients against one, in short alternating passes; the median of the ratios, and "
        "their range:",
        "",
        "| model, rows computed in groups of | 1 client, tokens/s | 8 clients | ratio "
        "| per processor second |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(ratio_row(name, result) for name, result in record["ratios"].items()),
    ]
    return "\n".join(lines)


def crowd_row(figures: Mapping[str, float]) -> str:
    """The row of one pass."""
    times = ("ms_p50", "ms_p99", "first_token_ms_p50", "first_token_ms_p99")
    milliseconds = " | ".join(f"{figures[name]:,.0f} ms" for name in times)
    return (
        f"| {figures['clients']:.0f} | {figures['tokens_per_second']:,.0f} "
        f"| {figures['requests_per_second']:.1f} | {milliseconds} |"
    )


def ratio_row(name: str, result: Mapping[str, Any]) -> str:
    """The row of one comparison."""
    few, many = (result["tokens_per_second"][n] for n in ("1", "8"))
    spread = f"{min(result['ratios']):.1f} to {max(result['ratios']):.1f}"
    shown = name.replace(", group ", ", ")
    return (
        f"| {shown} | {few:,.0f} | {many:,.0f} | {result['ratio']:.1f} ({spread}) "
        f"| {result['cpu_ratio']:.1f} |"
    )


def write_tables(page: Path, record: Mapping[str, Any]) -> None:
    """Put the tables between the page's two marks. Raises CourseError if they are not there."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise CourseError(f"{page} has no place for the tables: {BEGIN} and {END}")
    atomic_write_text(page, f"{before}{BEGIN}\n{tables(record)}\n{END}{after}")
