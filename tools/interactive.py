"""A prompt loop with a trained model: `sample.py --interactive` under a name that is easy to find.

python tools/interactive.py
python tools/interactive.py --checkpoint 09_capstone/checkpoints/demo.safetensors
"""

try:
    from utils.errors import run_program
except ImportError:
    raise SystemExit("error: not installed; run make install, then use .venv/bin/python") from None

from sample import main

if __name__ == "__main__":
    run_program(lambda: main(interactive=True))
