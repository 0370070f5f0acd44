"""The kernel, which is built once."""

from __future__ import annotations

import pytest

from csm.backends.cpu_kernel import Kernel, KernelUnavailable


@pytest.fixture(scope="module")
def kernel() -> Kernel:
    try:
        return Kernel.build()
    except KernelUnavailable as reason:
        if "no C++ compiler" not in str(reason):
            raise
        pytest.skip(str(reason))
