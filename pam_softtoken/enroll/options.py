"""What a command line of `softtoken-enroll` says, as a value. `program` parses it, and checks what goes together."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """The options. `softtoken-enroll --help` says what each is for."""

    name: str
    type: str
    algorithm: str
    digits: int
    period: int | None
    key_file: str | None
    recovery_codes: int
    recovery_hashes: str | None
    user: str | None
    store: str | None
    through_sudo: bool
    force: bool
    sign: bool
    if_absent: bool
    list: bool
    remove: str | None
    new_recovery_codes: bool
    print_recovery_codes: bool
    import_file: str | None
    dry_run: bool
    skip_unusable: bool
    passphrase_file: str | None
    pin: bool
    no_pin: bool
    check: bool
    qr: str | None
    png: str | None
    svg: str | None
    sheet: str | None
    no_confirm: bool
    json: bool


def spelt(name: str) -> str:
    """Return the option of a field, without its dashes."""
    return {"import_file": "import", "through_sudo": "self"}.get(name, name.replace("_", "-"))
