"""From a checkout to a running Parley. Any Python can read this file, so that one that is too old can say so."""

import platform
import sys

OLDEST, NEWEST = (3, 11), (3, 13)

if not OLDEST <= sys.version_info[:2] <= NEWEST:
    sys.exit(
        "Parley needs Python 3.11, 3.12 or 3.13, but this is %s: start it with one of those, "  # noqa: UP031
        "for example `python3.11 main.py`." % platform.python_version()
    )
