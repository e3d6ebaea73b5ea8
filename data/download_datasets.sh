#!/bin/sh
# Download data/tiny_shakespeare.txt, verified by size and SHA-256; a wrong file is never kept.
# The same on every system: python -m utils.corpus --download
set -eu
cd "$(dirname "$0")/.."

for python in .venv/bin/python .venv/Scripts/python.exe python3 python; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
        exec "$python" -m utils.corpus --download
    fi
done
echo "error: no Python 3.11 or newer found; install one, then run make install" >&2
exit 1
