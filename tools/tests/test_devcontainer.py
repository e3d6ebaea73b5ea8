"""The container for Codespaces is made by a command of the README, and VS Code finds .venv there.

No container is built here: that needs Docker. What can be read off the file is compared.
"""

import json
import re
from pathlib import Path

from tools import install
from tools.checks.command_lines import Line, of_page
from tools.checks.commands import Course

ROOT = Path(__file__).resolve().parents[2]
PATH = ".devcontainer/devcontainer.json"
CONTAINER = json.loads((ROOT / PATH).read_text(encoding="utf-8"))  # without comments: valid JSON
COMMANDS = [value for key, value in CONTAINER.items() if key.endswith("Command")]


def test_its_commands_work_and_stand_in_the_readme() -> None:
    assert COMMANDS == ["make install"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(COMMANDS) <= {line.text for line in of_page("README.md", readme)}
    lines = [Line(PATH, 1, command) for command in COMMANDS]
    assert list(Course(ROOT).problems_of(lines)) == []


def test_nothing_else_is_installed() -> None:
    assert not {"build", "features", "dockerFile", "dockerComposeFile"} & set(CONTAINER)


def test_its_python_is_one_that_the_course_supports() -> None:
    found = re.fullmatch(
        r"mcr\.microsoft\.com/devcontainers/python:([\d.]+)-\w+", CONTAINER["image"]
    )
    assert found is not None
    assert found[1] in install.SUPPORTED


def test_the_editor_uses_the_environment_of_the_course() -> None:
    editor = CONTAINER["customizations"]["vscode"]
    folder, _, python = editor["settings"]["python.defaultInterpreterPath"].partition("/")
    assert folder == "${containerWorkspaceFolder}"
    assert python == ".venv/bin/python"  # where `make install` puts it on Linux
    assert {"ms-python.python", "ms-toolsai.jupyter"} <= set(editor["extensions"])


def test_the_port_of_the_server_is_forwarded() -> None:
    served = re.search(r'"port": \((\d+)', (ROOT / "09_capstone/serve_args.py").read_text("utf-8"))
    assert served is not None
    assert CONTAINER["forwardPorts"] == [int(served[1])]
