"""Module arguments and the configuration file: one table, and every mistake is reported."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken import config
from pam_softtoken.config import Config
from pam_softtoken.errors import ConfigError
from pam_softtoken.option_table import OPTIONS


def _load(*arguments: str, text: str = "") -> Config:
    return config.load(list(arguments), lambda path, required: text)


def test_config__without_anything_all_defaults_hold() -> None:
    settings = _load()
    assert {option.name: getattr(settings, option.name) for option in OPTIONS} == {
        option.name: option.default for option in OPTIONS
    }


def test_config__declares_each_option_in_the_order_of_the_table() -> None:
    assert list(Config.__annotations__) == [option.name for option in OPTIONS]


def test_config__every_default_is_a_value_that_could_be_given() -> None:
    for option in OPTIONS:
        if option.default != "":
            text = str(option.default)
            if isinstance(option.default, bool):
                text = "yes" if option.default else "no"
            assert option.check(text) == option.default


def test_config__an_option_with_an_empty_default_says_what_that_means_and_has_an_example() -> None:
    for option in OPTIONS:
        if option.default == "":
            assert option.unset, f"say in the option table what holds without {option.name}: the manual shows it"
        if option.default == "" and not option.argument_only:
            assert option.example, f"give {option.name} an example in the option table: softtoken.conf shows it"
            option.check(option.example)


def test_config__arguments_win_over_the_file() -> None:
    settings = _load("window=2", "nullok=no", text="window = 3\nnullok\nlook_ahead=7\n")
    assert (settings.window, settings.nullok, settings.look_ahead) == (2, False, 7)


@pytest.mark.parametrize(("given", "taken"), [("timeout=1", 10), ("timeout=60", 60), ("debug", 10)])
def test_config__a_program_without_root_chooses_no_shorter_timeout(given: str, taken: int) -> None:
    assert config.load([given], lambda *_: "", relayed=True).timeout == taken


def test_config__the_file_has_comments_blank_lines_and_spaces() -> None:
    settings = _load(text="# a comment\n\n  echo  \nprompt = Code of your phone:\n")
    assert settings.echo
    assert settings.prompt == "Code of your phone:"


def test_config__all_mistakes_are_reported_with_their_place() -> None:
    with pytest.raises(ConfigError) as caught:
        _load("windw=1", "window=x", "nullok=maybe", text="look_ahead=0\nbackend=/x\nwhat\n")
    problems = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 6
    for piece in ("'windw'", "window takes", "nullok stands", ".conf:1: look_ahead", ".conf:2: backend", ".conf:3"):
        assert piece in problems


@pytest.mark.parametrize(
    "argument",
    [
        "window",
        "window=",
        "window=-1",
        "window=+1",
        "window=01",
        "window=21",
        "window=1.0",
        "window=\u0661",
        "look_ahead=0",
        "look_ahead=101",
        "timeout=0",
        "timeout=121",
        "nullok=",
        "nullok=1",
        "NULLOK",
        "=x",
        "",
        "prompt=",
        "prompt= x",
        "prompt=a\x1b[2J",
        "conf=relative",
        "backend=relative",
        "store=relative/%u",
        "store=/var/lib/softtoken",
        "store=/a/%x/%u",
        "store=/a/%h/%u",
        "store=%h",
        "store=/a/../%u",
        "store=/a/%u%",
        "store=%homes/x",
    ],
)
def test_config__a_bad_argument_is_refused(argument: str) -> None:
    with pytest.raises(ConfigError):
        _load(argument)


def test_config__an_option_given_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="twice"):
        _load("echo", "echo=no")


@pytest.mark.parametrize("store", ["%h/.softtoken", "%h/a/b", "/var/lib/softtoken/%U", "/srv/%u/token", "/a%%b/%U"])
def test_config__a_good_store_is_taken(store: str) -> None:
    assert _load(f"store={store}").store == store


@given(st.lists(st.text(max_size=40), max_size=5), st.text(max_size=200))
def test_config__any_text_gives_settings_or_one_error(arguments: list[str], text: str) -> None:
    try:
        settings = _load(*arguments, text=text)
    except ConfigError:
        return
    assert 0 <= settings.window <= 20


def test_config__does_not_change() -> None:
    with pytest.raises(AttributeError):
        _load().nullok = True
