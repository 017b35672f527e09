"""The option table. It turns module arguments and the configuration file into one `Config`. This table is the only
place that names an option: the manual and the help texts are made from it or compared with it. Does no I/O: the caller
passes in the text of the configuration file. Imports only `errors`.
"""

from __future__ import annotations

from pam_softtoken.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Value = bool | int | str

DEFAULT_CONF = "/etc/security/softtoken.conf"
DEFAULT_FLEET_KEYS = "/etc/softtoken/fleet"
HOME_STORE = "%h/.softtoken"
DEFAULT_PROMPT = "Verification code:"
MAX_GRACE_S = 30 * 24 * 60 * 60
MAX_NODES, MAX_REALM_CHARACTERS, MAX_HOST_CHARACTERS = 9, 63, 253
_FLEET_FORM = "etcd://HOST:PORT,HOST:PORT,.../REALM"
_REALM_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.-"
_HOST_CHARACTERS = f"{_REALM_CHARACTERS}:ABCDEFGHIJKLMNOPQRSTUVWXYZ_"
_UNIT_S = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60}


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


def _flag(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError("stands alone, or with =yes or =no")
    return text == "yes"


def _whole_number(minimum: int, maximum: int) -> Callable[[str], int]:
    def check(text: str) -> int:
        plain = text.isascii() and text.isdecimal() and len(text) <= 6 and (text == "0" or text[0] != "0")
        if not plain or not minimum <= int(text) <= maximum:
            raise ValueError(f"takes a whole number from {minimum} to {maximum}")
        return int(text)

    return check


def _duration(text: str) -> int:
    if text == "0":
        return 0
    number, unit = text[:-1], text[-1:]
    plain = number.isascii() and number.isdecimal() and len(number) <= 7 and number[0] != "0"
    seconds = int(number) * _UNIT_S[unit] if plain and unit in _UNIT_S else 0
    if not 1 <= seconds <= MAX_GRACE_S:
        raise ValueError("takes 0, or a number and s, m, h or d, such as 8h, up to 30d")
    return seconds


def _absolute_path(text: str) -> str:
    if not text.startswith("/") or not text.isprintable() or len(text) > 1024:
        raise ValueError("takes an absolute path")
    return text


def _prompt(text: str) -> str:
    if not 1 <= len(text) <= 128 or not text.isprintable() or text != text.strip():
        raise ValueError("takes 1 to 128 visible characters")
    return text


def _names(text: str) -> str:
    names = text.split(" ")
    if not all(name and name.isprintable() and "," not in name for name in names) or len(text) > 1024:
        raise ValueError("takes names of users, with one space between them")
    return text


def _store(text: str) -> str:
    fields = [piece[:1] for piece in text.replace("%%", "").split("%")[1:]]
    if any(field not in ("u", "U", "h") for field in fields) or "%h" in text[1:] or "/../" in text + "/":
        raise ValueError("takes a path with %u (user), %U (uid) or, at its start, %h (home)")
    if not text.startswith(("/", "%h/")) or not text.isprintable() or len(text) > 1024:
        raise ValueError("takes an absolute path, or one that starts with %h/")
    if text.startswith("/") and not {"u", "U"} & set(fields):
        raise ValueError("needs %u or %U, or all users would share one token")
    return text


def fleet_parts(text: str) -> tuple[tuple[tuple[str, int], ...], str]:
    """Return the nodes of a `fleet` option, each with its port, and the realm.

    >>> fleet_parts("etcd://a.example:2379,[2001:db8::1]:2379/office")
    ((('a.example', 2379), ('2001:db8::1', 2379)), 'office')

    Raises:
        ValueError: it is no such option.
    """
    nodes, slash, realm = text.removeprefix("etcd://").partition("/")
    if not text.startswith("etcd://") or not slash:
        raise ValueError(f"takes {_FLEET_FORM}")
    if not realm or len(realm) > MAX_REALM_CHARACTERS or realm[0] in ".-" or realm.strip(_REALM_CHARACTERS):
        raise ValueError("takes a realm of a-z, 0-9, dots and hyphens, up to 63, such as office")
    found = []
    for node in nodes.split(","):
        host, _, port = node.rpartition(":")
        if host.startswith("[") and host.endswith("]") and ":" in host:
            host = host[1:-1]
        elif ":" in host:
            host = ""
        if not host or len(host) > MAX_HOST_CHARACTERS or host.strip(_HOST_CHARACTERS) or host.startswith("-"):
            raise ValueError(f"takes {_FLEET_FORM}")
        found.append((host, _whole_number(1, 65535)(port)))
    if len(found) > MAX_NODES:
        raise ValueError(f"takes at most {MAX_NODES} nodes")
    return tuple(found), realm


def _fleet(text: str) -> str:
    fleet_parts(text)
    return text


def day_number(date: str) -> int:
    """Compute the number of days in the Gregorian calendar up to a date. The difference of two results is a distance in
    days.

    >>> day_number("2028-03-01") - day_number("2028-02-28")
    2
    """
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:])
    if month < 3:  # if the year starts in March, its leap day comes last
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * month - 457) // 5 + day


def _date(text: str) -> str:
    digits = text[:4] + text[5:7] + text[8:]
    plain = len(text) == 10 and text[4] == text[7] == "-" and len(digits) == 8
    if not plain or not digits.isascii() or not digits.isdecimal() or not _is_in_calendar(text):
        raise ValueError("takes a day, such as 2027-01-15, from 2000-01-01 to 2999-12-31")
    return text


def _is_in_calendar(date: str) -> bool:
    year, month, day = int(date[:4]), int(date[5:7]), int(date[8:])
    if not (2000 <= year <= 2999 and 1 <= month <= 12 and day >= 1):
        return False
    following = f"{year}-{month + 1:02}-01" if month < 12 else f"{year + 1}-01-01"
    return day_number(date) < day_number(following)


OPTIONS = (
    Option(
        "nullok",
        False,
        check=_flag,
        relayed=True,
        meaning="Let users in who have never enrolled: `PAM_IGNORE`, without a prompt.",
    ),
    Option(
        "required_from",
        "",
        value="DATE",
        unset="no such day",
        example="2027-01-15",
        check=_date,
        relayed=True,
        meaning="As `nullok`, but only until this day begins in the host's time zone, and with a reminder. Where both "
        "are given, this one counts.",
    ),
    Option(
        "enrol",
        False,
        check=_flag,
        relayed=True,
        meaning="Users who have never enrolled do so in the login itself, after all else in the PAM service has "
        "let them in. Needs an `account` line, too.",
    ),
    Option("echo", False, check=_flag, relayed=True, meaning="Show the code while it is typed."),
    Option(
        "prompt",
        DEFAULT_PROMPT,
        value="TEXT",
        check=_prompt,
        relayed=True,
        meaning="The prompt; one space is added.",
    ),
    Option(
        "try_first_pass",
        False,
        check=_flag,
        relayed=True,
        meaning="Look for the code at the end of the password that an earlier module has asked for, before asking.",
    ),
    Option(
        "use_first_pass",
        False,
        check=_flag,
        relayed=True,
        meaning="Take the code only from there, as `try_first_pass` does, and never ask.",
    ),
    Option(
        "forward_pass",
        False,
        check=_flag,
        relayed=True,
        meaning="The answer is the password with the code behind it; the password goes on to the next module.",
    ),
    Option(
        "window",
        1,
        value="N",
        check=_whole_number(0, 20),
        meaning="TOTP: time steps before and after the present one that are accepted, 0 to 20.",
    ),
    Option(
        "look_ahead",
        10,
        value="N",
        check=_whole_number(1, 100),
        meaning="HOTP: how many counters, from the next one on, are accepted, 1 to 100.",
    ),
    Option(
        "no_drift",
        False,
        check=_flag,
        meaning="Do not learn how far an app's clock is off, nor accept two consecutive codes from outside the window.",
    ),
    Option(
        "pin_required",
        False,
        check=_flag,
        meaning="Refuse users who have not set a PIN.",
    ),
    Option(
        "grace",
        0,
        value="DURATION",
        check=_duration,
        meaning="After a code, ask for no other from the same source and service for this time: `30m`, `8h`, `1d`.",
    ),
    Option(
        "store",
        HOME_STORE,
        value="TEMPLATE",
        check=_store,
        meaning="Directory of the token and the state file: `%h` home (at the start only), "
        "`%u` the user's canonical name, `%U` uid. Outside the home it is root's.",
    ),
    Option(
        "fleet",
        "",
        value="ADDRESS",
        unset="none: this host keeps its own tokens",
        example="etcd://a.example:2379,b.example:2379,c.example:2379/office",
        check=_fleet,
        meaning="The tokens are those of a realm of many hosts, in this etcd cluster, and not in `store`. "
        "See softtoken-fleet(7).",
    ),
    Option(
        "fleet_keys",
        DEFAULT_FLEET_KEYS,
        value="DIRECTORY",
        check=_absolute_path,
        meaning="With `fleet`: the host's certificate and the realm's keys, which only root can read.",
    ),
    Option(
        "fleet_alone",
        "",
        value="TEMPLATE",
        unset="none: without the cluster nobody is accepted",
        example="/var/local/softtoken/%U",
        check=_store,
        meaning="With `fleet`: a store as in `store`, with tokens of this host only. It counts while the cluster "
        "does not answer.",
    ),
    Option(
        "conf",
        DEFAULT_CONF,
        value="FILE",
        check=_absolute_path,
        argument_only=True,
        meaning="Configuration file; one that is named must exist.",
    ),
    Option(
        "backend",
        "",
        value="FILE",
        unset="the one that was installed with the module",
        check=_absolute_path,
        argument_only=True,
        meaning="The program that the bridge starts.",
    ),
    Option(
        "timeout",
        10,
        value="SECONDS",
        check=_whole_number(1, 120),
        argument_only=True,
        relayed=True,
        meaning="How long the host waits for the backend, the person's time not counted, 1 to 120.",
    ),
    Option(
        "no_throttle",
        False,
        check=_flag,
        meaning="Do not slow down wrong answers; for tests, and for hosts that have another limit.",
    ),
    Option(
        "relay_for",
        "",
        value="USERS",
        unset="no user",
        example="dovecot postgres",
        check=_names,
        file_only=True,
        meaning="Services that run as these users may ask for codes of all users through `softtoken-login.socket`; "
        "other programs without root only for those of their own user.",
    ),
    Option(
        "debug",
        False,
        check=_flag,
        relayed=True,
        meaning="Log the steps of an attempt; no key, code or answer is among them.",
    ),
)

_NOT_WITH_ENROL = (
    ("use_first_pass", "that never asks"),
    ("forward_pass", "that has asked for no password yet when it is seen who is enrolled"),
    ("pin_required", "a user who enrols in a login has no PIN, and would be refused at the next one"),
)
_BY_NAME = {option.name: option for option in OPTIONS}


class Config:
    """The settings of one attempt, with one attribute for each option."""

    nullok: bool
    required_from: str
    enrol: bool
    echo: bool
    prompt: str
    try_first_pass: bool
    use_first_pass: bool
    forward_pass: bool
    window: int
    look_ahead: int
    no_drift: bool
    pin_required: bool
    grace: int
    store: str
    fleet: str
    fleet_keys: str
    fleet_alone: str
    conf: str
    backend: str
    timeout: int
    no_throttle: bool
    relay_for: str
    debug: bool

    def __init__(self, **values: Value) -> None:
        for option in OPTIONS:
            object.__setattr__(self, option.name, values.pop(option.name, option.default))
        if values:
            raise TypeError(f"no such option: {', '.join(values)}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError("a Config does not change")

    @property
    def place(self) -> str:
        """Return where the tokens are that count, for comparisons: `fleet` if it is set, or else `store`."""
        return self.fleet or self.store

    def without(self, *names: str) -> Config:
        """Return the same settings with some options at their defaults."""
        return Config(**{option.name: getattr(self, option.name) for option in OPTIONS if option.name not in names})

    def alone(self) -> Config:
        """Return the settings of a host of a realm for the tokens of this host alone."""
        kept = self.without("fleet", "fleet_keys", "fleet_alone", "store")
        return Config(**{**{option.name: getattr(kept, option.name) for option in OPTIONS}, "store": self.fleet_alone})


def load(arguments: list[str], read_conf: Callable[[str, bool], str], *, relayed: bool = False) -> Config:
    """Read the settings from a PAM line's arguments and the configuration file. Arguments win.

    Args:
        arguments: the module arguments, without the module's own path.
        read_conf: returns the text of the file. Its second argument says whether the file must exist. May raise
            `ConfigError`.
        relayed: the arguments are what a program without root claims. Only some options of it count, see `Option`. An
            argument that says otherwise than the host's file is a mistake. Nobody enrols in such a login. A short
            `timeout` only ends the program's own wait: here, a cluster would seem not to answer in that time.

    Raises:
        ConfigError: with every mistake of both.
    """
    problems: list[str] = []
    given = _collect([(argument, "module argument") for argument in arguments], problems, in_file=False)
    path = DEFAULT_CONF if relayed else str(given.get("conf", DEFAULT_CONF))
    text = ""
    # A wrong file name has already been reported. The default file is then not what the administrator meant.
    if "conf" in given or not any(argument.partition("=")[0] == "conf" for argument in arguments):
        try:
            text = read_conf(path, "conf" in given and not relayed)
        except ConfigError as error:
            problems.extend(error.problems)
    from_file = _collect(_settings_in(text, path), problems, in_file=True)
    values = {**from_file, **given}
    if values.get("fleet") and values.get("enrol"):
        problems.append("enrol does not go with fleet: hosts cannot write the tokens of a realm")
    problems.extend(f"enrol does not go with {name}: {why}" for name, why in _NOT_WITH_ENROL if _both(values, name))
    if relayed:
        problems.extend(_contradictions(given, from_file))
        values["enrol"] = False
        values["timeout"] = max(int(values.get("timeout", 0)), int(_BY_NAME["timeout"].default))
    if problems:
        raise ConfigError(tuple(problems))
    return Config(**values)


def _contradictions(given: dict[str, Value], from_file: dict[str, Value]) -> Iterable[str]:
    """List the arguments of a program without root that may not count, and say otherwise than the host's settings."""
    for name, value in given.items():
        option = _BY_NAME[name]
        if not option.relayed and value != from_file.get(name, option.default):
            yield f"{name}: without root, it counts only in {DEFAULT_CONF}, which says otherwise than the PAM line"


def _both(values: dict[str, Value], name: str) -> bool:
    return bool(values.get("enrol")) and bool(values.get(name))


def _settings_in(text: str, path: str) -> list[tuple[str, str]]:
    settings = []
    for number, line in enumerate(text.split("\n"), start=1):
        setting = line.strip()
        if setting and not setting.startswith("#"):
            name, equals, value = setting.partition("=")
            settings.append((name.rstrip() + equals + value.lstrip(), f"{path}:{number}"))
    return settings


def _collect(settings: Iterable[tuple[str, str]], problems: list[str], *, in_file: bool) -> dict[str, Value]:
    values: dict[str, Value] = {}
    seen: set[str] = set()
    for setting, place in settings:
        name, equals, text = setting.partition("=")
        option = _BY_NAME.get(name)
        if option is None:
            problems.append(f"{place}: unknown option {name[:64]!r}")
        elif in_file and option.argument_only:
            problems.append(f"{place}: {name} can only be a module argument")
        elif not in_file and option.file_only:
            problems.append(f"{place}: {name} can only be in {DEFAULT_CONF}")
        elif name in seen:
            problems.append(f"{place}: {name} is given twice")
        elif option.value and not equals:
            problems.append(f"{place}: {name} needs a value: {name}={option.value}")
        else:
            seen.add(name)
            try:
                values[name] = option.check(text if equals else "yes")
            except ValueError as error:
                problems.append(f"{place}: {name} {error}")
    return values
