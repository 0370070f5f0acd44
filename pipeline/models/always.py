"""Downloads what every conversation needs: `python -m pipeline.models.always`, the last step of the set-up.

Whatever is unavailable now is downloaded when it is first needed.
"""

from __future__ import annotations

import sys

from config.packages import ALWAYS
from config.text import printable
from pipeline.engine import EngineError, Progress
from pipeline.models.fetching import fetched


def main() -> int:
    failed = 0
    for model in ALWAYS:
        try:
            fetched(model, _unheard)
        except EngineError as error:
            print(printable(str(error)), flush=True)
            failed = 1
    return failed


def _unheard(_: Progress) -> None:
    """Ignore the progress; the set-up shows the time itself."""


if __name__ == "__main__":
    sys.exit(main())
