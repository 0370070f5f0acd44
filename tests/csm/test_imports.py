"""What importing costs: the model and the ways to run it need torch, numpy and safetensors, and nothing more."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

LEAN = (
    "model",
    "rows",
    "prompt",
    "sampling",
    "batch",
    "codec.mimi",
    "backends.choose",
    "backends.quantize",
    "checkpoint.checkpoint",
)
HEAVY = {"soundfile", "soxr", "tokenizers", "huggingface_hub", "sounddevice", "moshi", "silentcipher", "transformers"}


def imported(statement: str) -> set[str]:
    """The packages that a fresh Python holds after a statement."""
    script = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    result = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, check=True)
    return set(result.stdout.split())


def test_the_model_needs_torch_and_little_else() -> None:
    assert not imported("\n".join(f"import csm.{name}" for name in LEAN)) & HEAVY


def test_the_package_itself_needs_nothing() -> None:
    assert not imported("import csm") & {*HEAVY, "torch", "numpy"}


def test_the_library_knows_nothing_of_the_app() -> None:
    statement = "import csm.commands.cli, csm.session, csm.loading, csm.chat_format, csm.commands.voices, generator"
    assert not imported(statement) & {"pipeline", "rag", "web", "config", "main", "setup", "start"}


def test_the_version_is_that_of_the_package() -> None:
    import csm

    project = tomllib.loads((Path(csm.__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))
    assert csm.__version__ == project["project"]["version"]
