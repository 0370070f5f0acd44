"""Other people's clients of the audio API, each in an environment of its own, hear themselves through Parley."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.packages import PIPER_JOE, SMOLLM2_135M, WHISPER_BASE
from pipeline.engines.trial import words_right
from tests.support.product import Product, started
from tests.support.real_models import folder

TEXT = "The weather in London is warm and sunny today."
CLIENTS = Path(__file__).parent / "audio_clients"
PYTHON = {
    "livekit": ("livekit-agents==1.8.9", "livekit-plugins-openai==1.8.9"),
    "pipecat": ("pipecat-ai[openai]==1.14.0",),
}

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.xdist_group("small")]


@pytest.fixture(scope="module")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    for model in (WHISPER_BASE, SMOLLM2_135M, PIPER_JOE):
        folder(model)
    with started(tmp_path_factory.mktemp("clients") / "data", "--profile", "small") as product:
        product.wait_until()
        yield product


def heard(product: Product, *command: str, cwd: Path) -> str:
    """What the client prints last."""
    url = f"http://127.0.0.1:{product.port}/v1"
    done = subprocess.run([*command, url, TEXT], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize("name", PYTHON)
def test_a_python_client_hears_itself(product: Product, tmp_path: Path, name: str) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PYTHON[name]], check=True)
    words, of = words_right(TEXT, heard(product, str(python), str(CLIENTS / f"{name}_client.py"), cwd=tmp_path))
    assert words >= of - 1


@pytest.mark.skipif(shutil.which("npm") is None, reason="needs npm")
def test_openais_javascript_client_hears_itself(product: Product, tmp_path: Path) -> None:
    shutil.copy(CLIENTS / "openai_client.mjs", tmp_path)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", "openai@7.59.0"], cwd=tmp_path, check=True)
    words, of = words_right(TEXT, heard(product, "node", "openai_client.mjs", cwd=tmp_path))
    assert words >= of - 1
