"""The administrator's file of users, and the command that changes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from web.gateway.accounts import Accounts, AccountsError, add, remove, user_name
from web.gateway.users import main


def test_a_token_is_its_user_s_and_cannot_be_read_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "users.json"
    anna, ben = add(file, "Anna"), add(file, "ben@example.org")
    accounts = Accounts.read(file)
    assert (accounts.owner_of(anna), accounts.owner_of(ben)) == ("anna", "ben@example.org")
    assert accounts.owner_of("") is None
    assert accounts.owner_of(accounts.digests["anna"]) is None, "the file opens nothing"
    assert anna not in file.read_text()
    assert file.stat().st_mode & 0o077 == 0

    again = add(file, "anna")
    accounts = Accounts.read(file)
    assert (accounts.owner_of(anna), accounts.owner_of(again)) == (None, "anna")
    remove(file, "anna")
    assert Accounts.read(file).owner_of(again) is None
    with pytest.raises(AccountsError, match="no user"):
        remove(file, "anna")


@pytest.mark.parametrize("name", ["", " ", ".", "..", "../x", "a/b", "a\\b", ".hidden", "x.", "zoë", "a" * 101, "a\n"])
def test_a_name_is_never_a_way_out_of_a_folder(name: str) -> None:
    if name == "a\n":
        assert user_name(name) == "a"
        return
    with pytest.raises(AccountsError, match="cannot be a user's name"):
        user_name(name)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "cannot be read"),
        ("[]", "not a JSON object"),
        ('{"anna": "secret"}', "no SHA-256"),
        (json.dumps({"Anna": "0" * 64}), "small letters"),
        (json.dumps({"../anna": "0" * 64}), "cannot be a user's name"),
    ],
    ids=["damaged", "a list", "a token in it", "capitals", "a path"],
)
def test_a_file_that_is_wrong_is_told(tmp_path: Path, text: str, sentence: str) -> None:
    file = tmp_path / "users.json"
    file.write_text(text)
    with pytest.raises(AccountsError, match=sentence):
        Accounts.read(file)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "users.json"
    assert main("list", None, file) == 0
    assert capsys.readouterr().out == "There are no users yet.\n"
    assert main("add", "anna", file) == 0
    token = capsys.readouterr().out.splitlines()[-1]
    assert Accounts.read(file).owner_of(token) == "anna"
    assert main("list", None, file) == 0
    assert capsys.readouterr().out == "anna\n"
    assert main("add", None, file) == 1
    assert main("add", "no/name", file) == 1
    assert main("remove", "ben", file) == 1
    assert main("remove", "anna", file) == 0
    assert len(capsys.readouterr().err.splitlines()) == 3
