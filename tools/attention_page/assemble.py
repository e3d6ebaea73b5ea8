"""Put the interactive page together: template, styles, scripts and weights become one HTML file.

The sources in this folder are plain scripts that a browser runs as they are. A page that is opened
from disk may not load them, so they are copied into it. The page says which sources it was made of,
by their hash; tools/checks/attention_page.py compares it.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
TEMPLATE = "page.html"
STYLE = "page.css"
# In the order in which they need each other; what the page shows comes after what it computes.
ENGINE = ("checkpoint.js", "tokenizer.js", "model.js", "sampling.js", "worker.js")
SOURCES_TAG = re.compile(r'<meta name="sources" content="([0-9a-f]{64})">')
MODEL_TAG = re.compile(r'<script type="application/json" id="model">(.*?)</script>', re.DOTALL)


def assemble(description: dict[str, Any] | None, folder: Path = HERE) -> str:
    """The whole page, with the model that `description` holds, or none.

    The template has three landmarks, {{style}}, {{scripts}} and {{model}}; each is replaced by
    complete elements. Raises ValueError if one is missing.
    """
    template = read(folder / TEMPLATE)
    parts = {
        "<head>": f'<head>\n<meta name="sources" content="{sources_hash(folder)}">',
        "{{style}}": f"<style>\n{read(folder / STYLE)}</style>",
        "{{scripts}}": "\n".join(script_tag(path) for path in scripts(folder)),
        "{{model}}": model_tag(description),
    }
    for landmark in parts:
        if template.count(landmark) != 1:
            raise ValueError(f"{TEMPLATE} must contain {landmark} once")
    # One pass over the template: what is put in may contain the landmarks itself.
    anywhere = re.compile("|".join(re.escape(landmark) for landmark in parts))
    return anywhere.sub(lambda found: parts[found[0]], template)


def model_tag(description: dict[str, Any] | None) -> str:
    """The model as data; JSON has "<" only inside strings, where it can be written as an escape."""
    text = json.dumps(description, separators=(",", ":")).replace("<", "\\u003c")
    return f'<script type="application/json" id="model">{text}</script>'


def embedded_model(page: str) -> dict[str, Any] | None:
    """The description that `assemble` put into a page. Raises ValueError if there is none."""
    found = MODEL_TAG.search(page)
    if found is None:
        raise ValueError("the page holds no model element")
    return json.loads(found[1])


def scripts(folder: Path = HERE) -> list[Path]:
    """Every script: the engine's in order, then the others by name, and page.js, which starts."""
    others = sorted(path.name for path in folder.glob("*.js") if path.name not in ENGINE)
    others.sort(key=lambda name: name == "page.js")  # a stable sort: only page.js moves
    return [folder / name for name in (*ENGINE, *others)]


def script_tag(path: Path) -> str:
    """The script with its name, by which worker.js finds it."""
    return f'<script data-file="{path.name}">\n{closed(read(path))}</script>'


def closed(script: str) -> str:
    """The script, unless it holds what would end its tag. Raises ValueError then."""
    if "</script" in script.lower() or "<!--" in script:
        raise ValueError("a script must not contain </script or <!--: write <\\/script")
    return script


def sources_hash(folder: Path = HERE) -> str:
    """SHA-256 over the names and the texts of everything that the page is made of."""
    digest = hashlib.sha256()
    for path in (folder / TEMPLATE, folder / STYLE, *scripts(folder)):
        digest.update(f"{path.name}\n{read(path)}\n".encode())
    return digest.hexdigest()


def read(path: Path) -> str:
    """The text of a source; its line ends do not depend on how git checked it out."""
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")
