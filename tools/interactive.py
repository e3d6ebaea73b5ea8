"""Talk with a trained model: `sample.py --interactive` under the name people look for.

python tools/interactive.py
python tools/interactive.py --checkpoint 09_capstone/checkpoints/demo.safetensors
"""

import sys
from pathlib import Path

from sample import main
from utils.errors import run_program

if __name__ == "__main__":
    sys.argv = [str(Path(sys.argv[0])), "--interactive", *sys.argv[1:]]
    run_program(main)
