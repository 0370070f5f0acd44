"""Parley: `python3 main.py`, put on a headset, and talk. Any Python can read this file (start/__init__.py)."""

import sys

import start  # noqa: F401  # a Python that will not do ends here

if __name__ == "__main__":
    from start.parley import run

    sys.exit(run(sys.argv[1:]))
