"""Define the command line of `softtoken-admin fleet`."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

from pam_softtoken.admin.common import person
from pam_softtoken.admin.fleet import backup, custody, overview, relief, rotation, set_up, take_over
from pam_softtoken.admin.fleet.cluster import Cluster
from pam_softtoken.admin.fleet.custody import Custody
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command

ACTIONS = ("init", "join", "import", "revoke", "unlock", "status", "floor", "export", "restore", "rotate")
INIT, JOIN, IMPORT, REVOKE, UNLOCK, STATUS, FLOOR, EXPORT, RESTORE, ROTATE = ACTIONS


@dataclass(frozen=True, slots=True)
class FleetOptions:
    """The options of `fleet`."""

    action: str
    words: tuple[str, ...]
    all: bool
    enrol: bool
    force: bool
    seal: bool
    finish: bool
    output: str | None
    keys: str | None
    store: str | None


def _run(screen: terminal.Terminal, options: FleetOptions) -> None:
    person.require_root(" ".join(("fleet", options.action, *options.words)))
    for given, name, actions in (
        (options.all, "--all", (IMPORT,)),
        (options.enrol, "--enrol", (JOIN,)),
        (options.force, "--force", (IMPORT, RESTORE)),
        (options.seal, "--seal", (ROTATE,)),
        (options.finish, "--finish", (ROTATE,)),
        (options.output is not None, "--output", (JOIN,)),
        (options.store is not None, "--store", (IMPORT,)),
    ):
        if given and options.action not in actions:
            words = " and ".join(actions)
            raise UsageError(f"{name} goes only with {words}", hint="see softtoken-admin fleet --help")
    directory = options.keys or custody.DIRECTORY
    if not directory.startswith("/") or not (options.output or "/").startswith("/"):
        raise UsageError("--keys and --output take an absolute path", hint="see softtoken-admin fleet --help")
    if options.action == INIT:
        set_up.init(screen, _one_word(options, "the address of the realm"), directory.rstrip("/"))
    elif options.action == JOIN:
        host = _one_word(options, "the name of the host")
        set_up.join(screen, host, directory.rstrip("/"), enrols=options.enrol, output=options.output)
    elif options.action == ROTATE:
        _rotate(screen, options, Custody(directory.rstrip("/")))
    else:
        _run_in_realm(screen, options, custody.choose(options.keys, person.settings_of(None)))


def _rotate(screen: terminal.Terminal, options: FleetOptions, here: Custody) -> None:
    _no_word(options)
    if options.seal and options.finish:
        raise UsageError("either --seal or --finish", hint="first one, and the other when every host has the new file")
    step = rotation.SEALING if options.seal else rotation.FINISHED if options.finish else rotation.PREPARED
    rotation.run(screen, here, step)


def _run_in_realm(screen: terminal.Terminal, options: FleetOptions, cluster: Cluster) -> None:
    action = options.action
    if action == IMPORT:
        settings = person.settings_of(options.store)
        if settings.store == person.settings_of(None).fleet_alone:
            raise AdministrationFailed(
                f"tokens in {settings.store} are for this host alone: in the realm, too, a code would work twice",
                hint="softtoken-enroll --user USER makes another token in the realm",
            )
        take_over.run(screen, cluster, settings, options.words, everybody=options.all, replaces=options.force)
    elif action == RESTORE:
        backup.restore(screen, cluster, _one_word(options, "a file"), replaces=options.force)
    elif action == STATUS:
        _no_word(options)
        overview.show(screen, cluster)
    elif action == FLOOR:
        if _one_word(options, 'the word "now"') != "now":
            raise UsageError("floor takes the word now", hint="softtoken-admin fleet floor now")
        overview.raise_floor(screen, cluster)
    else:
        works: dict[str, tuple[Callable[[terminal.Terminal, Cluster, str], None], str]] = {
            EXPORT: (backup.export, "a new file"),
            REVOKE: (relief.revoke, "a user"),
            UNLOCK: (relief.unlock, "a user"),
        }
        work, what = works[action]
        work(screen, cluster, _one_word(options, what))


def _one_word(options: FleetOptions, what: str) -> str:
    if len(options.words) != 1:
        raise UsageError(f"{options.action} takes {what}", hint="see softtoken-admin fleet --help")
    return options.words[0]


def _no_word(options: FleetOptions) -> None:
    if options.words:
        raise UsageError(f'unexpected argument: "{options.words[0]}"', hint="see softtoken-admin fleet --help")


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "action", metavar="ACTION", choices=ACTIONS,
        help="init: make a realm; join: make the keys of a host; import: copy tokens of this host into the realm; "
        "revoke: end all tokens of a user on all hosts; unlock: forget a user's wrong answers; "
        "status: who is in it; floor: after a restore from a backup, let no older code count; "
        "export: write a backup, sealed as it is; restore: write a backup into the realm, and raise the floor; "
        "rotate: change the seal key in three steps, the second with --seal, the third with --finish",
    )  # fmt: skip
    parser.add_argument(
        "words", metavar="WORD", nargs="*",
        help="for init the address, such as etcd://a:2379,b:2379,c:2379/office; for join the host; for import "
        "the users; for revoke and unlock the user; for floor the word now; for export and restore the file",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="import: all users of this host who have tokens")
    parser.add_argument("--enrol", action="store_true", help="join: the host may write tokens")
    parser.add_argument("--force", action="store_true", help="import, restore: even if the realm knows the user")
    parser.add_argument("--seal", action="store_true", help="rotate: every host has the new key; seal with it")
    parser.add_argument("--finish", action="store_true", help="rotate: every host seals with the new key; drop the old")
    parser.add_argument("--output", metavar="DIRECTORY", help="join: where to write the keys of the host")
    parser.add_argument(
        "--keys", metavar="DIRECTORY",
        help=f"what administers the realm (default: {custody.DIRECTORY}, and without it the keys of this host)",
    )  # fmt: skip
    person.add_store(parser)


FLEET = Command(
    "fleet", "set up one enrolment for many hosts, in etcd; see softtoken-fleet(7)", _add_arguments, FleetOptions, _run
)
