"""Remember a few sentences, then ask about one of them: `python -m examples.remember [FOLDER]`."""

from __future__ import annotations

import sys
from pathlib import Path

from rag import Memory


def main(folder: str = "example-memory") -> None:
    with Memory(Path(folder), owner="Ann") as memory:
        memory.remember("Ann", "My sister Clara plays the cello.", conversation="sunday")
        memory.remember("Ann", "The boiler needs repairing before winter.", conversation="sunday")
        recall = memory.recall("What instrument does my sister play?", asker="Ann")
        print(recall.text)


if __name__ == "__main__":
    main(*sys.argv[1:])
