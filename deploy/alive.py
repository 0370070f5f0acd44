"""Whether the server of this container answers: exit status 0 or 1, for the image's HEALTHCHECK.

python deploy/alive.py [ADDRESS]
"""

from __future__ import annotations

import sys
import urllib.request

ADDRESS = "http://127.0.0.1:8000/live"
PATIENCE_S = 4.0


def main(address: str = ADDRESS) -> int:
    try:
        with urllib.request.urlopen(address, timeout=PATIENCE_S) as answer:
            return 0 if answer.status == 200 else 1
    except OSError as error:  # a refusal by status is one too
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
