"""Phrases that are not idiomatic English, or not the field's terms, and what to write instead.

The list is short on purpose: each phrase is wrong wherever it is used. Reading finds the rest.
"""

import re
from pathlib import Path

from tools.checks.course_files import kept_files

START = r"\b"
PHRASES = {  # a regular expression: what to write instead
    r"\b(?:nobody|somebody)\b": "the passive, or 'no X', 'someone', 'in use by'",
    r"\breckon\w*": "estimate, compute",
    r"\brestless\w*": "noisy, busy",
    r"\bin peace\b": "uninterrupted",
    r"\bmend(?:s|ed|ing)?\b": "fix, repair",
    r"\bgo(?:es)? on (?:with|from|as)\b": "continue, resume",
    r"\b(?:went|going) on with\b": "continued, continuing",
    r"\b(?:tokens|steps|sequences|nats|bits|bytes|rows|lines|features|heads) (?:a|an) "
    r"(?:character|char|step|second|micro-batch|layer|sample|token|head|field)\b": "per",
    r"\bone (?:flag|line|row|closure|check) a \w+": "per",
    r"\bat every moment\b": "always, at any time",
    r"\bby heart\b": "memorize",
    r"\bspeak(?:s|ing)? (?:of|for) itself\b": "is clear",
    r"\b(?:model|checkpoint|engine)s? (?:that )?speaks?\b": "generate",
    r"\bin the field's words\b": "in standard terms",
    r"\bis no (?:number|tensor|text|error of ours)\b": "is not a ...; non-finite, non-tensor",
    r"\btrips? to memory\b": "memory traffic",
    r"\bwhat stands in\b": "the contents of",
    r"\bis at work in\b": "is using",
    r"\b(?:re|un)?(?:normal|recogn|initial|quant|optim|memor|minim|maxim|organ|general|synchron)"
    r"is(?:e[drs]?|ers|ing|ations?)\b": "-ize, as in optimizer and tokenizer",
    r"\bwhat one (?:sees|gets|wants)\b": "what you see, get, want",
    r"\bAmdahl's rule\b": "Amdahl's law",
    r"\bln \d": "log, which is the natural one on every page",
    r"\\ln\b": "log, which is the natural one on every page",
}
# The common \b comes first, so that most positions of a text are left after one look.
WORDS = [f"({phrase.removeprefix(START)})" for phrase in PHRASES if phrase.startswith(START)]
OTHERS = [f"({phrase})" for phrase in PHRASES if not phrase.startswith(START)]
PATTERN = re.compile("|".join([rf"\b(?:{'|'.join(WORDS)})", *OTHERS]), re.IGNORECASE)
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".txt", ".ipynb"}
NOT_PROSE = {
    "tools/checks/wording.py",  # these two quote the phrases
    "tools/tests/test_checks_layout.py",
    *("utils/playbill.py", "data/simple_sequences.txt"),  # the vocabulary of the mock corpus
}


def unidiomatic_phrases(root: Path) -> list[str]:
    """Every such phrase in the files of the course: "file:line: phrase (instead: ...)"."""
    problems = []
    for path in kept_files(root):
        name = path.as_posix()
        if name in NOT_PROSE or not (path.suffix in SUFFIXES or path.name == "Makefile"):
            continue
        lines = (root / path).read_text(encoding="utf-8", errors="replace").splitlines()
        for number, line in enumerate(lines, start=1):
            problems += [f"{name}:{number}: {found}" for found in phrases_in(line)]
    return problems


def phrases_in(line: str) -> list[str]:
    """The phrases of one line, each with what to write instead."""
    instead = list(PHRASES.values())
    return [
        f"{match[0]!r} (instead: {instead[(match.lastindex or 1) - 1]})"
        for match in PATTERN.finditer(line)
    ]
