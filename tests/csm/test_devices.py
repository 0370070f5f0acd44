"""Which device is taken, on machines that are not here."""

from __future__ import annotations

import subprocess
import warnings

import pytest
import torch

from csm import DeviceMissing
from csm.backends.eager import Engine
from csm.devices import Machine, agrees_with_the_cpu, choose_device, pick_device
from tests.csm.mlx_here import mlx_is_here, mps_is_here

MAC = Machine(apple_silicon=True, mlx=True)


@pytest.mark.parametrize(
    ("machine", "device"),
    [
        (Machine(), "cpu"),
        (Machine(cuda=True), "cuda"),
        (Machine(cuda=True, mlx=True), "cuda"),
        (Machine(mlx=True), "cpu"),  # Linux, for the tests: MLX computes on its processor
        (MAC, "mlx"),
        (Machine(apple_silicon=True), "cpu"),
        (Machine(apple_silicon=True, mps=True), "mps"),
    ],
)
@pytest.mark.parametrize("asked", [None, "auto"])
def test_the_fastest_that_speaks_right_is_taken(machine: Machine, device: str, asked: str | None) -> None:
    assert choose_device(asked, machine) == device


@pytest.mark.parametrize("asked", ["cpu", "mps", "mlx", torch.device("cpu")])
def test_what_is_asked_for_is_taken(asked: str | torch.device) -> None:
    assert choose_device(asked, MAC) == str(asked)


def test_without_the_gpu_asked_for_it_warns_and_takes_the_processor() -> None:
    with pytest.warns(UserWarning, match="no CUDA GPU"):
        assert choose_device("cuda:1", MAC) == "cpu"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert choose_device("cuda:1", Machine(cuda=True)) == "cuda:1"


def test_mlx_is_refused_where_it_is_not_installed_and_for_what_it_cannot_do() -> None:
    with pytest.raises(DeviceMissing, match="pip install"):
        choose_device("mlx", Machine(apple_silicon=True))
    with pytest.raises(DeviceMissing, match="PyTorch only"):
        pick_device("mlx")
    assert pick_device(None).type in ("cpu", "cuda")


def test_a_device_that_says_something_else_than_the_processor_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert agrees_with_the_cpu(torch.device("cpu"))
    assert not agrees_with_the_cpu(torch.device("meta"))  # which has no numbers to give back
    said = Engine.next_frame
    calls = iter(range(8))
    monkeypatch.setattr(Engine, "next_frame", lambda self, *how: said(self, *how) + (next(calls) == 5))
    assert not agrees_with_the_cpu(torch.device("cpu"))


@pytest.mark.skipif(not mps_is_here(), reason="no GPU of a Mac that PyTorch can use")
def test_mps_says_what_the_processor_says() -> None:
    assert agrees_with_the_cpu(torch.device("mps"))


def test_tests_of_a_macs_gpu_are_left_out_where_they_are_not_wanted_or_the_mac_is_virtual(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tests.csm.mlx_here.import_module", lambda name: None)  # as if it were installed
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    monkeypatch.delenv("SKIP_MLX_TESTS", raising=False)
    assert mlx_is_here()
    monkeypatch.setenv("SKIP_MLX_TESTS", "1")
    assert not mlx_is_here()
    monkeypatch.delenv("SKIP_MLX_TESTS")
    for told, real in (("0\n", True), ("1\n", False)):
        monkeypatch.setattr("platform.system", lambda: "Darwin")
        answer = subprocess.CompletedProcess([], 0, told)
        monkeypatch.setattr("tests.csm.mlx_here.subprocess.run", lambda *_, answer=answer, **__: answer)
        assert mlx_is_here() == mps_is_here() == real
