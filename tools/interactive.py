"""A prompt loop with a trained model: `sample.py --interactive` under a name that is easy to find.

python tools/interactive.py
python tools/interactive.py --checkpoint 09_capstone/checkpoints/demo.safetensors
"""

import sys

from sample import main
from utils.errors import run_program

if __name__ == "__main__":
    sys.argv.insert(1, "--interactive")
    run_program(main)
