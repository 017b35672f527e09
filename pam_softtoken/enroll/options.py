"""What a command line of `softtoken-enroll` says, as a value. `program` parses it, and checks what goes together."""

from __future__ import annotations

from dataclasses import dataclass

from pam_softtoken.otp.token import DEFAULT_NAME

SIGNING_NAME = "laptop"
"""The name of a token that signs, unless another one is given."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options. `softtoken-enroll --help` says what each is for."""

    name: str | None
    type: str
    algorithm: str
    digits: int
    period: int | None
    key_file: str | None
    recovery_codes: int
    recovery_hashes: str | None
    user: str | None
    store: str | None
    here: bool
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


def token_name(options: Options) -> str:
    """Return the name of the token that an enrolment or an import makes."""
    if options.name is not None:
        return options.name
    return SIGNING_NAME if options.sign else DEFAULT_NAME


def spelt(name: str) -> str:
    """Return the option of a field, without its dashes."""
    return {"import_file": "import", "through_sudo": "self"}.get(name, name.replace("_", "-"))
