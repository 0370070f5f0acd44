"""Parley's set-up: `python3 setup.py`. Any Python can read this file (start/__init__.py).

`pip install .` does not use it: pyproject.toml names another backend.
"""

import sys

import start  # noqa: F401  # a Python that will not do ends here

if __name__ == "__main__":
    from start.environment import run

    sys.exit(run(sys.argv[1:]))
