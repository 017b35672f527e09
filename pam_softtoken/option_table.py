"""The only place that names the options of the module. The manual and the help texts are made from it, or
compared with it. Imports only `option_values`.
"""

from __future__ import annotations

from pam_softtoken import option_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Value = bool | int | str

DEFAULT_CONF = "/etc/security/softtoken.conf"
DEFAULT_FLEET_KEYS = "/etc/softtoken/fleet"
HOME_STORE = "%h/.softtoken"
DEFAULT_PROMPT = "Verification code:"


class Option:
    """One option: its spelling, its allowed values and its default.

    Args:
        name: as written in a PAM line or the file. It is also the attribute of `Config`.
        default: the value when the option is not given. Its type is the option's type.
        value: placeholder of the value in documentation; empty for a flag.
        meaning: one sentence for the manual.
        check: takes the text and returns the value. Raises `ValueError` with what would be right.
        argument_only: the configuration file cannot set the option.
        file_only: a PAM line cannot set the option.
        relayed: the PAM line of a program that does not run as root counts, too, where root's service answers. All
            other options are then those of the host, because that program could say anything.
        unset: in words for the manual, what an empty default means: "The default is ...".
        example: what the configuration file shows in place of an empty default.
    """

    __slots__ = (
        "argument_only", "check", "default", "example", "file_only", "meaning", "name", "relayed", "unset", "value"
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        default: Value,
        *,
        meaning: str,
        check: Callable[[str], Value],
        value: str = "",
        argument_only: bool = False,
        file_only: bool = False,
        relayed: bool = False,
        unset: str = "",
        example: str = "",
    ) -> None:
        self.name = name
        self.default = default
        self.value = value
        self.meaning = meaning
        self.check = check
        self.argument_only = argument_only
        self.file_only = file_only
        self.relayed = relayed
        self.unset = unset
        self.example = example


OPTIONS = (
    Option(
        "nullok",
        False,
        check=option_values.flag,
        relayed=True,
        meaning="Let users in who have never enrolled: `PAM_IGNORE`, without a prompt.",
    ),
    Option(
        "required_from",
        "",
        value="DATE",
        unset="no such day",
        example="2027-01-15",
        check=option_values.date,
        relayed=True,
        meaning="As `nullok`, but only until this day begins in the host's time zone, and with a reminder. Where both "
        "are given, this one counts.",
    ),
    Option(
        "enrol",
        False,
        check=option_values.flag,
        relayed=True,
        meaning="Users who have never enrolled do so in the login itself, after all else in the PAM service has "
        "let them in. Needs an `account` line, too.",
    ),
    Option("echo", False, check=option_values.flag, relayed=True, meaning="Show the code while it is typed."),
    Option(
        "prompt",
        DEFAULT_PROMPT,
        value="TEXT",
        check=option_values.prompt,
        relayed=True,
        meaning="The prompt; one space is added.",
    ),
    Option(
        "try_first_pass",
        False,
        check=option_values.flag,
        relayed=True,
        meaning="Look for the code at the end of the password that an earlier module has asked for, before asking.",
    ),
    Option(
        "use_first_pass",
        False,
        check=option_values.flag,
        relayed=True,
        meaning="Take the code only from there, as `try_first_pass` does, and never ask.",
    ),
    Option(
        "forward_pass",
        False,
        check=option_values.flag,
        relayed=True,
        meaning="The answer is the password with the code behind it; the password goes on to the next module.",
    ),
    Option(
        "window",
        1,
        value="N",
        check=option_values.whole_number(0, 20),
        meaning="TOTP: time steps before and after the present one that are accepted, 0 to 20.",
    ),
    Option(
        "look_ahead",
        10,
        value="N",
        check=option_values.whole_number(1, 100),
        meaning="HOTP: how many counters, from the next one on, are accepted, 1 to 100.",
    ),
    Option(
        "no_drift",
        False,
        check=option_values.flag,
        meaning="Do not learn how far an app's clock is off, nor accept two consecutive codes from outside the window.",
    ),
    Option(
        "pin_required",
        False,
        check=option_values.flag,
        meaning="Refuse users who have not set a PIN.",
    ),
    Option(
        "grace",
        0,
        value="DURATION",
        check=option_values.duration,
        meaning="After a code, ask for no other from the same source and service for this time: `30m`, `8h`, `1d`.",
    ),
    Option(
        "store",
        HOME_STORE,
        value="TEMPLATE",
        check=option_values.store,
        meaning="Directory of the token and the state file: `%h` home (at the start only), "
        "`%u` the user's canonical name, `%U` uid. Outside the home it is root's.",
    ),
    Option(
        "fleet",
        "",
        value="ADDRESS",
        unset="none: this host keeps its own tokens",
        example="etcd://a.example:2379,b.example:2379,c.example:2379/office",
        check=option_values.fleet,
        meaning="The tokens are those of a realm of many hosts, in this etcd cluster, and not in `store`. "
        "See softtoken-fleet(7).",
    ),
    Option(
        "fleet_keys",
        DEFAULT_FLEET_KEYS,
        value="DIRECTORY",
        check=option_values.absolute_path,
        meaning="With `fleet`: the host's certificate and the realm's keys, which only root can read.",
    ),
    Option(
        "fleet_alone",
        "",
        value="TEMPLATE",
        unset="none: without the cluster nobody is accepted",
        example="/var/local/softtoken/%U",
        check=option_values.store,
        meaning="With `fleet`: a store as in `store`, with tokens of this host only. It counts while the cluster "
        "does not answer.",
    ),
    Option(
        "conf",
        DEFAULT_CONF,
        value="FILE",
        check=option_values.absolute_path,
        argument_only=True,
        meaning="Configuration file; one that is named must exist.",
    ),
    Option(
        "backend",
        "",
        value="FILE",
        unset="the one that was installed with the module",
        check=option_values.absolute_path,
        argument_only=True,
        meaning="The program that the bridge starts.",
    ),
    Option(
        "timeout",
        10,
        value="SECONDS",
        check=option_values.whole_number(1, 120),
        argument_only=True,
        relayed=True,
        meaning="How long the host waits for the backend, the person's time not counted, 1 to 120.",
    ),
    Option(
        "no_throttle",
        False,
        check=option_values.flag,
        meaning="Do not slow down wrong answers; for tests, and for hosts that have another limit.",
    ),
    Option(
        "relay_for",
        "",
        value="USERS",
        unset="no user",
        example="dovecot postgres",
        check=option_values.names,
        file_only=True,
        meaning="Services that run as these users may ask for codes of all users through `softtoken-login.socket`; "
        "other programs without root only for those of their own user.",
    ),
    Option(
        "debug",
        False,
        check=option_values.flag,
        relayed=True,
        meaning="Log the steps of an attempt; no key, code or answer is among them.",
    ),
)
