"""What must hold before Parley can serve: a free address, and a writable folder.

This uses the standard library only, since setup checks it before it installs or downloads anything.
"""

from __future__ import annotations

import errno
import os
import socket
import sys
from contextlib import suppress
from pathlib import Path

from web.unread import SYSTEM_S


class ServeError(Exception):
    """The server cannot start; the message is one sentence that says what to do."""


def listen(host: str, port: int, unread_s: float = SYSTEM_S) -> socket.socket:
    """Open a listening socket. Raises ServeError if the port is taken or the address is not this machine's."""
    if not 0 <= port <= 65535:
        raise ServeError(f"{port} is not a port: choose one from 1024 to 65535, as in --port 8000.")
    name = host.strip("[]")
    family = socket.AF_INET6 if ":" in name else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # on Windows this would let two servers share the port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sys.platform == "linux":  # RFC 5482; connections inherit it from their listener
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(1000 * unread_s))
        listener.bind((name, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ServeError(_why_not(error, host, port)) from error
    return listener


def _why_not(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} is in use, perhaps by Parley itself: open http://localhost:{port}, "
            f"or choose another port with --port {port + 1}."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} needs administrator rights: choose one above 1023, as in --port 8000."
    why = f"which is not an address of this machine ({error.strerror})"
    return f"Parley cannot listen on {host}, {why}: leave --host out."


def data_folder(path: Path) -> Path:
    """Return the folder, created if it is missing. Raises ServeError if it cannot be written to."""
    path = path.expanduser().absolute()
    probe = path / f".write-test-{os.getpid()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with suppress(PermissionError):  # if the folder is another user's, that user decides
            path.chmod(0o700)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ServeError(
            f"The data folder {path} cannot be written ({error.strerror}): make it writable, free some space, "
            "or choose another with --data FOLDER."
        ) from error
    return path
