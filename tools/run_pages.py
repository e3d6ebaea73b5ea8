"""Run the Python in Markdown pages, and compare what it prints with what the pages show.

    python tools/run_pages.py 01_attention/theory.md            compare
    python tools/run_pages.py --write 01_attention/theory.md    put what is printed into the page

`tools/validate_all.py` compares all pages; this is for writing one. tools/checks/pages.py says how
a page is read.
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from pathlib import Path

from tools.checks.pages import page_problems, write_outputs
from utils.command_line import OneLineParser
from utils.errors import UsageError


def main() -> int:
    """Print what is wrong with each page; 1 if anything is."""
    parser = OneLineParser(description="Run the Python in Markdown pages and compare its output.")
    parser.add_argument("pages", nargs="+", type=Path, metavar="PAGE", help="a Markdown file")
    parser.add_argument("--write", action="store_true", help="put what is printed into the page")
    args = parser.parse_args()
    for page in args.pages:
        if not page.is_file():
            raise UsageError(f"{page} is not a file; name a Markdown page")
    problems = []
    for page in args.pages:
        problems += write_outputs(page) if args.write else page_problems(page.resolve())[0]
    print("\n".join(problems) or "every block runs, and prints what its page shows")
    return 1 if problems else 0


if __name__ == "__main__":
    run_program(main)
