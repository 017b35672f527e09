"""Stores of root's that fit no account: the account is gone, was renamed, or got another uid. Looks only."""

from __future__ import annotations

import os

from pam_softtoken import files, store, tokenfile, user_lookup
from pam_softtoken.errors import ConfigError, LookUpFailed, PathError, UnknownUser
from pam_softtoken.store import TOKENS, Location

Orphan = dict[str, str | int | None]


def find(template: str) -> list[Orphan]:
    """List the directories of a store with tokens that no account can use.

    Args:
        template: the `store` option; a store in the home directories has no orphans.

    Returns:
        For each directory `path`, `user` and `uid` as the tokens name them, None where they name nobody, and `problem`.
    """
    start, words = store.split(template)
    if start == "%h":
        return []
    paths = [start.rstrip("/")]
    for word in words:
        if "%" in word.replace("%%", ""):
            paths = [f"{path}/{name}" for path in paths for name in _directories_in(path)]
        else:
            paths = [f"{path}/{word.replace('%%', '%')}" for path in paths]
    return [orphan for path in paths for orphan in _look(path, template)]


def _directories_in(path: str) -> list[str]:
    try:
        with os.scandir(path or "/") as entries:
            return sorted(entry.name for entry in entries if entry.is_dir(follow_symlinks=False))
    except OSError:
        return []


def _look(path: str, template: str) -> list[Orphan]:
    try:
        owner = _owner_of(path)
    except FileNotFoundError:
        return []
    except PathError as error:
        return [{"path": path, "user": None, "uid": None, "problem": str(error)}]
    problem = _problem_of(owner, path, template)
    if not problem:
        return []
    name, uid = owner if owner is not None else (None, None)
    return [{"path": path, "user": name, "uid": uid, "problem": problem}]


def _owner_of(path: str) -> tokenfile.Owner | None:
    directory = files.open_directory(path, below=None, owner=os.geteuid())
    try:
        tokens = files.open_file(f"{path}/{TOKENS}", os.O_RDONLY, below=directory, owner=os.geteuid())
    finally:
        os.close(directory)
    try:
        data = files.read(tokens, tokenfile.MAX_BYTES, path=f"{path}/{TOKENS}")
    finally:
        os.close(tokens)
    return tokenfile.parse_any(data, path=f"{path}/{TOKENS}")[1]


def _problem_of(owner: tokenfile.Owner | None, path: str, template: str) -> str:
    if owner is None:
        return "the tokens do not name their account"
    name = owner[0]
    try:
        account = user_lookup.account_of_name(name)
    except UnknownUser:
        return f"there is no account {name} any more"
    except LookUpFailed:
        return ""
    if (account.name, account.uid) != owner:
        return f"the account {name} is {tokenfile.described((account.name, account.uid))} now"
    try:
        right = Location(template, account).path
    except ConfigError:
        return ""
    return "" if right == path else f"the tokens of {name} are looked for in {right}"
