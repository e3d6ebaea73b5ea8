"""Limit this process, then become the program that is judged.

    python tools/grading/launch.py '{"limits": {"NPROC": 64}, "user": 60001}' program argument ...

Started by tools/grading/sandbox.py as the last step before a submission's code may run: what is
given up here cannot be taken back.
"""

import json
import os
import sys


def main() -> None:
    import resource  # only systems like Unix have it

    settings = json.loads(sys.argv[1])
    for name, most in settings["limits"].items():
        kind = getattr(resource, f"RLIMIT_{name}", None)
        if kind is None:  # macOS does not have all of them
            continue
        _, hard = resource.getrlimit(kind)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (most, most))
    if settings["user"]:
        os.setgroups([])
        os.setgid(settings["user"])
        os.setuid(settings["user"])
    os.execv(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
