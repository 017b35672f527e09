"""`softtoken-enroll`: define its command line, and check which options go together."""

from __future__ import annotations

import sys

from pam_softtoken.enroll import operations, provisioning
from pam_softtoken.enroll import through_sudo as self_service
from pam_softtoken.enroll.options import SIGNING_NAME, Options, spelt
from pam_softtoken.enroll.run_context import PROGRAM
from pam_softtoken.otp import hotp, recovery_code
from pam_softtoken.otp.token import DEFAULT_NAME
from pam_softtoken.program_errors import UsageError
from pam_softtoken.ui import command_line, terminal

DESCRIPTION = "Link soft tokens (apps that show one-time codes) to this account."
EPILOG = """\
examples:
  softtoken-enroll
      enrol yourself: scan, confirm, keep the recovery codes
  softtoken-enroll --name spare
      one more token; it takes a code of a token that is enrolled
  softtoken-enroll --force
      replace the token "phone", for instance after the phone was lost
  softtoken-enroll --type hotp
      a token that counts instead of going by the clock
  softtoken-enroll --list
      which tokens are there, and how many recovery codes are left?
  softtoken-enroll --remove spare
      take a token away; its codes are refused from then on
  softtoken-enroll --new-recovery-codes
      the old ones are used up, or somebody has seen them
  softtoken-enroll --pin
      set a PIN; 4711 and the code 287082 are typed as 4711287082
  softtoken-enroll --import ~/.google_authenticator
      go on with the token that google-authenticator knows
  softtoken-enroll --check
      does the app's code work, and if not, why?
  softtoken-enroll --sign
      a token that signs sudo commands, on your laptop
  softtoken-enroll --user alice
      as root, for another user; root needs no code
  softtoken-enroll --no-confirm --json --key-file key.txt
      from a script, with a key that is in a token already
  softtoken-enroll --if-absent --no-confirm --json --key-file key.txt
      the same, from a script that runs again and again
"""
# The options of each tool besides those that say where. The other options describe a new token.
TOOLS = {
    "check": (),
    "list": ("json",),
    "remove": ("force", "no_confirm"),
    "new_recovery_codes": ("recovery_codes", "no_confirm", "json"),
    "print_recovery_codes": ("recovery_codes",),
    "import_file": ("name", "no_confirm", "dry_run", "skip_unusable", "passphrase_file", "recovery_codes"),
    "pin": (),
    "no_pin": (),
}
# The same for --sign, alone and with one of the tools that go with it.
SIGNING = {"list": ("json",), "remove": ("no_confirm",), "": ("name", "force")}
NEVER_TOGETHER = (("if_absent", "force"), ("recovery_hashes", "recovery_codes"), ("here", "store"))
ONLY_WITH_IMPORT = ("dry_run", "skip_unusable", "passphrase_file")


def build_parser() -> command_line.Parser:
    """Return the command line's parser. `--help` is made from it, too."""
    parser = command_line.Parser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        usage="%(prog)s [OPTION ...]",
    )
    command_line.add_version(parser)
    token = parser.add_argument_group("the token")
    token.add_argument(
        "--name", metavar="NAME", help=f"what to call it (default: {DEFAULT_NAME}; with --sign: {SIGNING_NAME})"
    )
    token.add_argument(
        "--type", choices=("totp", "hotp"), default="totp", help="by the clock or counting (default: totp)"
    )
    token.add_argument(
        "--algorithm", choices=hotp.ALGORITHMS, default="SHA1", help="default: SHA1, which every app can do"
    )
    token.add_argument("--digits", type=int, default=6, metavar="6|7|8", help="length of a code (default: 6)")
    token.add_argument(
        "--period", type=int, metavar="SECONDS", help="how long a TOTP code lasts, 1 to 300 (default: 30)"
    )
    token.add_argument("--key-file", metavar="FILE", help="take the key, in Base32, from FILE, or - for stdin")
    token.add_argument(
        "--recovery-codes", type=int, default=recovery_code.USUAL_CODES, metavar="N",
        help=f"how many codes for when the token is lost, 0 to {recovery_code.MAX_CODES} (default: 10)",
    )  # fmt: skip
    token.add_argument(
        "--recovery-hashes", metavar="FILE",
        help="enrol recovery codes that somebody has already, by their hashes: see --print-recovery-codes",
    )  # fmt: skip
    where = parser.add_argument_group("where it goes")
    where.add_argument("--user", metavar="USER", help="another user's tokens; root only")
    where.add_argument("--store", metavar="TEMPLATE", help="where the files are, as in the module's store= option")
    where.add_argument(
        "--here", action="store_true",
        help="on a host of a realm: tokens of this host alone, which count while the nodes do not answer",
    )  # fmt: skip
    where.add_argument(
        "--self", action="store_true", dest="through_sudo",
        help="as root for the user who comes through sudo; added where root keeps the tokens",
    )  # fmt: skip
    where.add_argument("--force", action="store_true", help="replace the token of that name, and the recovery codes")
    where.add_argument(
        "--if-absent", action="store_true",
        help="only if the account is not enrolled: nothing is changed where it has the token of --key-file, or any "
        "token without --key-file; exit status 4 where it has another one, or had one that was taken away",
    )  # fmt: skip
    tools = parser.add_argument_group("instead of enrolling")
    tools.add_argument("--list", action="store_true", help="show the tokens, and how many recovery codes are left")
    tools.add_argument("--remove", metavar="NAME", help="take a token away; the last one only with --force")
    tools.add_argument(
        "--sign", action="store_true",
        help="enrol a token that signs sudo commands, which softtoken sign on a laptop does; with --list or --remove: "
        "the same for these tokens",
    )  # fmt: skip
    tools.add_argument(
        "--new-recovery-codes", action="store_true", help="make new recovery codes; the old ones stop working"
    )
    tools.add_argument(
        "--print-recovery-codes", action="store_true",
        help="make recovery codes for later and show them with their hashes, as JSON; no account is touched",
    )  # fmt: skip
    tools.add_argument(
        "--import", metavar="FILE", dest="import_file", help="take over the tokens of another program, from FILE or -"
    )
    tools.add_argument("--dry-run", action="store_true", help="with --import: only say what would be taken over")
    tools.add_argument(
        "--skip-unusable", action="store_true",
        help="with --import: leave out entries that cannot be used, and list them; without it nothing is taken over",
    )  # fmt: skip
    tools.add_argument("--passphrase-file", metavar="FILE", help="with --import: what opens an encrypted file")
    tools.add_argument(
        "--pin", action="store_true", help="set a PIN, to be typed in front of each code, or another one"
    )
    tools.add_argument("--no-pin", action="store_true", help="take codes without a PIN again")
    tools.add_argument(
        "--check", action="store_true", help="try a code, and say what is wrong; a right one cannot be used again"
    )
    how = parser.add_argument_group("how it is shown")
    how.add_argument("--qr", choices=("utf8", "ansi", "none"), help="how the QR code is drawn (default: what fits)")
    how.add_argument("--png", metavar="FILE", help="the QR code as a picture, too, in a new file")
    how.add_argument("--svg", metavar="FILE", help="the same, as SVG")
    how.add_argument(
        "--sheet", metavar="FILE.html", help="a page to print, in a new file: QR code, key, recovery codes, what to do"
    )
    how.add_argument("--no-confirm", action="store_true", help="ask nothing; write at once")
    how.add_argument("--json", action="store_true", help="one JSON object on stdout, for programs")
    return parser


def parse(arguments: list[str]) -> tuple[str, Options]:
    """Return the tool that a command line asks for, "" for an enrolment, and its options.

    Raises:
        UsageError: the command line is wrong.
    """
    parser = build_parser()
    options = command_line.options_of(Options, parser.parse_args(arguments))
    tool = _tool(parser, options)
    return tool, options


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Exit status: 0 done, 1 failed, 2 usage."""
    command_line.settle_in()
    words = sys.argv[1:] if arguments is None else arguments
    status = terminal.run(PROGRAM, lambda screen: _run(screen, words), [word for word in words if word != "--self"])
    return self_service.FAILED if status == 1 and "--self" in words else status


def _run(screen: terminal.Terminal, arguments: list[str]) -> None:
    tool, options = parse(arguments)
    if tool == "print_recovery_codes":
        provisioning.print_codes(screen, options.recovery_codes)
    else:
        operations.carry_out(screen, tool, options, arguments)


def _tool(parser: command_line.Parser, options: Options) -> str:
    """Return the tool that is wanted, "" for an enrolment. Check that every given option applies to it."""
    given = parser.given(options)
    if options.sign:
        return _signing(given)
    tool = next((name for name in TOOLS if name in given), "")
    fitting = (tool, "user", "store", "here", "through_sudo", *TOOLS[tool]) if tool else given
    for name in given:
        if name not in fitting:
            raise UsageError(f"--{spelt(name)} does not go with --{spelt(tool)}", hint=f"see {PROGRAM} --help")
        if not tool and name in ONLY_WITH_IMPORT:
            raise UsageError(f"--{spelt(name)} goes with --import", hint=f"see {PROGRAM} --help")
    for one, other in NEVER_TOGETHER:
        if one in given and other in given:
            raise UsageError(f"--{spelt(one)} does not go with --{spelt(other)}", hint=f"see {PROGRAM} --help")
    _require_number_of_codes(options)
    _require_one_use_of_stdin(options)
    return tool


def _signing(given: list[str]) -> str:
    tool = next(name for name in SIGNING if name in given or not name)
    for name in given:
        if name not in ("sign", "user", "through_sudo", tool, *SIGNING[tool]):
            also = f" --{spelt(tool)}" if tool else ""
            raise UsageError(f"--{spelt(name)} does not go with --sign{also}", hint=f"see {PROGRAM} --help")
    return "sign"


def _require_number_of_codes(options: Options) -> None:
    """Check that the requested number of recovery codes is possible.

    Raises:
        UsageError: the number is not possible.
    """
    if not 0 <= options.recovery_codes <= recovery_code.MAX_CODES:
        raise UsageError(
            f'--recovery-codes: "{options.recovery_codes}" is not 0 to {recovery_code.MAX_CODES}', hint="10 is usual"
        )


def _require_one_use_of_stdin(options: Options) -> None:
    """Check that the command line names stdin at most once.

    Raises:
        UsageError: it names stdin twice.
    """
    if options.key_file == options.recovery_hashes == "-":
        raise UsageError("only one of --key-file and --recovery-hashes can be stdin", hint="name a file for the other")
