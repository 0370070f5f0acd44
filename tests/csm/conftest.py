"""Tiny models gain nothing from threads, and lose much where other tests run beside them; and what no test asks for,
such as a Mac's GPU, none is given."""

from collections.abc import Iterator

import pytest
import torch

from csm.devices import Machine, has_mlx


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no device is named."""
    monkeypatch.setattr(Machine, "here", lambda: Machine(cuda=torch.cuda.is_available(), mlx=has_mlx()))
