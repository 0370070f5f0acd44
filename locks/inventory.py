"""Writes what is installed, for people and programs: `python -m locks.inventory`, after `python3 setup.py install`.

The licences as the packages state them (pip-licenses), and a software bill of materials in CycloneDX (cyclonedx-py), of
Linux without an NVIDIA card: every package but those for other systems and for CUDA. uv runs both tools in environments
of their own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from locks import uv

LOCKS = Path(__file__).resolve().parent
LICENCES, BOM = LOCKS / "licences.md", LOCKS / "bom.cdx.json"
LICENCE_TOOL, BOM_TOOL = "pip-licenses==5.5.5", "cyclonedx-bom==7.5.0"


def tool(package: str, *command: str) -> None:
    python = Path(sys.executable)
    subprocess.run([str(uv.executable(python)), "tool", "run", "--from", package, *command], check=True)


def main() -> None:
    shown = ("--format=markdown", "--with-urls", "--with-system", f"--output-file={LICENCES}")
    tool(LICENCE_TOOL, "pip-licenses", "--python", sys.executable, *shown)
    told = ("--output-format", "JSON", "--output-reproducible", "--output-file", str(BOM))
    tool(BOM_TOOL, "cyclonedx-py", "environment", sys.executable, *told)


if __name__ == "__main__":
    main()
