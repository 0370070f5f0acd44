"""A real Chroma server in a process of its own."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from rag import ChromaServer


class Server(ChromaServer):
    """Not running at first."""

    def run(self, folder: Path) -> None:
        """Return when it listens."""
        program = Path(sys.executable).with_name("chroma")
        process = subprocess.Popen(
            [str(program), "run", "--host", self.host, "--port", str(self.port), "--path", str(folder)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            restore_signals=False,  # so a write beyond a limit fails, as on a full disk, and does not end it
        )
        object.__setattr__(self, "process", process)  # the address is frozen
        deadline = time.monotonic() + 120
        while True:
            with socket.socket() as probe:
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            assert process.poll() is None and time.monotonic() < deadline, "the Chroma server did not start"
            time.sleep(0.05)

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def fill(self) -> None:
        """Until it ends, nothing can be written, as on a full disk."""
        psutil.Process(self.process.pid).rlimit(psutil.RLIMIT_FSIZE, (0, 0))


def unused() -> Server:
    """Return a server on a free port that does not run yet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return Server("127.0.0.1", probe.getsockname()[1])


@contextmanager
def served(folder: Path) -> Iterator[Server]:
    server = unused()
    server.run(folder)
    try:
        yield server
    finally:
        server.kill()
