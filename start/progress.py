"""What is shown while something is installed. Standard library only."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
import threading
import time
from collections.abc import Iterator


class ProgressLine:
    """A progress line: rewritten in place on a terminal, printed now and then elsewhere."""

    EVERY = 15.0

    def __init__(self, title: str) -> None:
        self.title = title
        self.began = self.told = time.monotonic()
        self.packages = 0
        self.megabytes = 0.0
        self.doing = ""
        self.live = sys.stdout.isatty()
        self.tell(force=not self.live)

    @contextlib.contextmanager
    def ticking(self) -> Iterator[None]:
        """Refresh the line every second while the block runs, because an installer may be silent for minutes."""
        over = threading.Event()

        def tick() -> None:
            while not over.wait(1.0):
                self.tell()

        ticker = threading.Thread(target=tick, daemon=True)
        ticker.start()
        try:
            yield
        finally:
            over.set()
            ticker.join()

    def pip_said(self, text: str) -> None:
        if text.startswith("Collecting "):
            self.packages += 1
            self.doing = text[len("Collecting ") :].split(" ")[0]
        elif text.startswith(("Downloading ", "Using cached ")):
            size = re.search(r"\(([\d.]+) (kB|MB|GB)\)", text)
            if size:
                self.megabytes += float(size.group(1)) * {"kB": 0.001, "MB": 1.0, "GB": 1000.0}[size.group(2)]
            self.doing = "fetching " + text.split(" ")[1].rsplit("/", 1)[-1]
        elif text.startswith("Installing collected packages"):
            self.doing = "unpacking"
        self.tell()

    def uv_said(self, text: str) -> None:
        counted = re.match(r"(?:Resolved|Installed) (\d+) package", text)
        size = re.match(r"Downloading (\S+) \(([\d.]+)(KiB|MiB|GiB)\)", text)
        if counted:
            self.packages = int(counted.group(1))
        elif size:  # printed for each large package when its download starts
            self.megabytes += float(size.group(2)) * {"KiB": 0.001024, "MiB": 1.048576, "GiB": 1073.7}[size.group(3)]
            self.doing = f"fetching {size.group(1)}"
        self.tell()

    def words(self) -> str:
        packages = "1 package" if self.packages == 1 else f"{self.packages} packages" if self.packages else ""
        megabytes = f"{self.megabytes:.0f} MB" if self.megabytes else ""
        passed = duration(time.monotonic() - self.began)
        return f"{self.title}: {', '.join(filter(None, (packages, megabytes, passed)))}"

    def told_now(self) -> str:
        return f"{self.words()} · {self.doing}" if self.doing else self.words()

    def tell(self, force: bool = False) -> None:
        if self.live:
            text = self.told_now()
            print("\r\x1b[K" + text[: shutil.get_terminal_size().columns - 1], end="", flush=True)
        elif force or time.monotonic() - self.told >= self.EVERY:
            self.told = time.monotonic()
            print(self.told_now(), flush=True)

    def done(self, how: str) -> None:
        print(("\r\x1b[K" if self.live else "") + f"{self.words()}: {how}", flush=True)


def duration(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d} min" if minutes else f"{rest} s"
