"""The users of a gateway: each one's name, and the SHA-256 of the token that opens their data.

    users.json: {"anna": "9f86d081884c7d65…", "ben": "…"}

The file belongs to the administrator and reveals no secret: a token has 256 random bits.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path

FILE_NAME = "users.json"
NAME = re.compile(r"[a-z0-9](?:[a-z0-9._@+-]{0,98}[a-z0-9])?")
"""The name is also a folder's name, perhaps on a file system that ignores case."""
DIGEST = re.compile(r"[0-9a-f]{64}")


class AccountsError(Exception):
    """The file of users, or a name, is invalid; the message is one sentence that says what to do."""


def user_name(given: str) -> str:
    """Return the name under which a user's data is kept. Raises AccountsError if no user can have that name."""
    name = given.strip().lower()
    if not NAME.fullmatch(name):
        raise AccountsError(
            f"{given[:40]!r} cannot be a user's name: use at most 100 letters from a to z, digits, and . _ @ + - "
            "between them."
        )
    return name


class Accounts:
    """The users as of one reading of the file."""

    def __init__(self, digests: Mapping[str, str]) -> None:
        self.digests = dict(digests)
        self._names = {digest: name for name, digest in self.digests.items()}

    def owner_of(self, token: str) -> str | None:
        """Return the user with this token; looking up its digest makes the time taken reveal nothing about a token."""
        return self._names.get(_digest(token))

    def __contains__(self, name: str) -> bool:
        return name in self.digests

    @classmethod
    def read(cls, file: Path) -> Accounts:
        """Read the file; without one there are no users. Raises AccountsError."""
        try:
            tree = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls({})
        except (OSError, ValueError) as error:
            raise AccountsError(f"The file of users {file} cannot be read ({error}): correct it.") from error
        if not isinstance(tree, dict):
            raise AccountsError(f"The file of users {file} is not a JSON object of names and digests: correct it.")
        for name, digest in tree.items():
            if user_name(name) != name:
                raise AccountsError(f"In {file}, write the name {name!r} in small letters.")
            if not isinstance(digest, str) or not DIGEST.fullmatch(digest):
                raise AccountsError(f"In {file}, the user {name} has no SHA-256 of a token: add the user again.")
        return cls(tree)


def add(file: Path, name: str) -> str:
    """Give a user a token, which replaces any earlier one. Raises AccountsError."""
    token = secrets.token_urlsafe(32)
    _write(file, {**Accounts.read(file).digests, user_name(name): _digest(token)})
    return token


def remove(file: Path, name: str) -> None:
    """Remove a user; what they said stays on the disk. Raises AccountsError if there is no such user."""
    digests = Accounts.read(file).digests
    if digests.pop(user_name(name), None) is None:
        raise AccountsError(f"There is no user {name!r}: list them with `python3 main.py users list`.")
    _write(file, digests)


def _write(file: Path, digests: Mapping[str, str]) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, new = tempfile.mkstemp(dir=file.parent, prefix=".users-")  # readable by nobody else
        with os.fdopen(handle, "w", encoding="utf-8") as written:
            written.write(json.dumps(dict(sorted(digests.items())), indent=2) + "\n")
        Path(new).replace(file)
    except OSError as error:
        raise AccountsError(
            f"The file of users {file} cannot be written ({error.strerror}): check who may write in its folder."
        ) from error


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
