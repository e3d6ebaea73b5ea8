"""The tables of commands_elsewhere.md and daily_cadence.md agree with the code.

That each command exists, with its flags, is checked for all pages: tools/checks/commands.py.
"""

import re
from dataclasses import fields
from functools import cache
from pathlib import Path

from tiny_transformer_lm import TinyTransformerLM
from utils.config import ModelConfig, TrainConfig

FOLDER = Path(__file__).resolve().parents[1]
ROOT = FOLDER.parent
ELSEWHERE = (FOLDER / "commands_elsewhere.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_every_target_of_the_makefile_has_a_row_without_make() -> None:
    targets = set(re.findall(r"^([a-z-]+):.* ## ", MAKEFILE, re.MULTILINE))
    for_developers = {"help", "install-dev", "lint", "format"}
    section = ELSEWHERE.partition("## Without make")[2].partition("\n## ")[0]
    named = set(re.findall(r"^\| `make ([a-z-]+)", section, re.MULTILINE))
    missing = sorted(targets - for_developers - named)
    assert not missing, f"commands_elsewhere.md, 'Without make': add a row for {missing}"
    assert named <= targets, "these rows name targets that the Makefile no longer has"


def test_a_row_without_make_runs_what_the_target_runs() -> None:
    section = ELSEWHERE.partition("## Without make")[2].partition("\n## ")[0]
    for target, program in re.findall(r"^\| `make ([a-z-]+).*?`python ([^` ]+)", section, re.M):
        recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
        assert recipe is not None and f") {program}" in recipe[1], target


@cache
def names_here() -> set[str]:
    """The names of fields, properties and modules that the last table may list."""
    model = TinyTransformerLM(ModelConfig(5, max_seq_len=4, d_model=8, n_layers=1, n_heads=2))
    config = {f.name for each in (ModelConfig, TrainConfig) for f in fields(each)}
    return config | {"d_head"} | set(dir(model))


def test_the_names_of_the_last_table_are_those_of_the_code() -> None:
    section = ELSEWHERE.partition("## The same thing by other names")[2]
    names = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert len(names) >= 10
    assert set(names) <= names_here()


def test_each_sitting_of_the_daily_cadence_adds_up() -> None:
    text = (FOLDER / "daily_cadence.md").read_text(encoding="utf-8")
    sittings = re.findall(r"^## (\d+) minutes\n(.*?)(?=^## )", text, re.MULTILINE | re.DOTALL)
    assert [int(minutes) for minutes, _ in sittings] == [25, 60, 90]
    for minutes, body in sittings:
        rows = [int(n) for n in re.findall(r"^\| (\d+) \|", body, re.MULTILINE)]
        assert rows[-1] == sum(rows[:-1]) == int(minutes)
