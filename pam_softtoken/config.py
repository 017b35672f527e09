"""Turn module arguments and the configuration file into one `Config`. Does no I/O: the caller passes in the text of the
file. Imports only `errors` and the option table.
"""

from __future__ import annotations

from pam_softtoken.errors import ConfigError
from pam_softtoken.option_table import DEFAULT_CONF, OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pam_softtoken.option_table import Value

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
        return Config(
            **{
                **{option.name: getattr(kept, option.name) for option in OPTIONS},
                "store": self.fleet_alone,
            }
        )


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
