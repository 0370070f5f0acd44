"""`python3 main.py users add NAME`: the administrator's file of users, changed while gateways run."""

from __future__ import annotations

import sys
from pathlib import Path

from config.text import printable
from web.gateway.accounts import Accounts, AccountsError, add, remove


def main(do: str, name: str | None, file: Path) -> int:
    """Run the command and return the exit status. Errors are printed as one sentence on stderr."""
    try:
        if do == "list":
            print("\n".join(sorted(Accounts.read(file).digests)) or "There are no users yet.")
            return 0
        if name is None:
            raise AccountsError(f"Give the user's name, as in: python3 main.py users {do} anna")
        if do == "remove":
            remove(file, name)
            print(f"{name} can no longer talk here; what they said is kept until you delete it.")
            return 0
        token = add(file, name)
        print(f"Give {name} this token; it cannot be shown again:\n{token}")
        return 0
    except AccountsError as error:
        print(printable(str(error)), file=sys.stderr)
        return 1
