"""Read the QR code as a phone sees it on the screen, and the Key URI as other soft tokens read it."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pyotp
import pytest

from tests.support.account import Person
from tests.support.enroller import CODE_PROMPT, ENVIRONMENT, Enroller, record_of, uri_in
from tests.support.screen import THEMES, read_qr_codes

ALGORITHMS = ("SHA1", "SHA256", "SHA512")
ANSI_COLUMNS = 160  # two columns for each module
QUICK = ("--no-confirm", "--recovery-codes=0")


def shown_in_terminal(
    enroller: Enroller, person: Person, *options: str, columns: int = 80, settings: Mapping[str, str] | None = None
) -> str:
    """Enrol without questions in a terminal, and return what it has shown."""
    environment = {**ENVIRONMENT, **(settings or {})}
    with enroller.start(*QUICK, *options, person=person, columns=columns, environment=environment) as dialogue:
        assert dialogue.finish() == 0, dialogue.transcript
        return dialogue.transcript


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("style", ["utf8", "ansi"])
def test_qr__in_colours_is_readable_on_any_background(
    enroller: Enroller, alice: Person, style: str, theme: str
) -> None:
    shown = shown_in_terminal(enroller, alice, f"--qr={style}", columns=ANSI_COLUMNS)
    assert "\x1b[" in shown
    assert read_qr_codes(shown, theme=theme, columns=ANSI_COLUMNS) == [uri_in(shown)]


def test_qr__piped_half_blocks_have_no_colours_and_are_readable_on_dark(enroller: Enroller, alice: Person) -> None:
    done = enroller.run(*QUICK, person=alice)
    assert "\x1b" not in done.stdout + done.stderr
    assert read_qr_codes(done.stdout, theme="dark") == [uri_in(done.stdout)]


def test_qr__renderer_tells_light_from_dark(enroller: Enroller, alice: Person) -> None:
    # The control for the tests above: if the picture were readable either way, they would prove nothing.
    done = enroller.run(*QUICK, person=alice)
    assert read_qr_codes(done.stdout, theme="light") == []


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("style", ["utf8", "ansi", None])
def test_qr__fits_into_80_columns_or_is_left_out_with_a_word(
    enroller: Enroller, alice: Person, style: str | None, algorithm: str
) -> None:
    options = [f"--qr={style}"] if style else []
    shown = shown_in_terminal(enroller, alice, f"--algorithm={algorithm}", *options, columns=80)
    readable = read_qr_codes(shown, columns=80) == [uri_in(shown)]
    assert readable or "columns" in shown, "a code that wraps at the edge can be read by nobody"


def test_qr__narrow_terminal_gets_a_message_and_no_wrapped_code(enroller: Enroller, alice: Person) -> None:
    shown = shown_in_terminal(enroller, alice, columns=40)
    assert "█" not in shown
    assert "columns" in shown
    assert uri_in(shown)


def test_qr__none_shows_key_and_uri_only(enroller: Enroller, alice: Person) -> None:
    shown = shown_in_terminal(enroller, alice, "--qr=none")
    assert read_qr_codes(shown) == []
    assert "Scan" not in shown
    assert uri_in(shown)


def kinds() -> list[tuple[str, ...]]:
    """Return the kinds of token, with extreme and with middle values."""
    periods = ("1", "30", "300")
    # A Latin square: every pair of values occurs once.
    totp = [
        ("totp", algorithm, digits, periods[(row + column) % 3])
        for row, algorithm in enumerate(ALGORITHMS)
        for column, digits in enumerate("678")
    ]
    return [*totp, *(("hotp", *pair) for pair in zip(ALGORITHMS, "678", strict=True))]


def options_for(kind: str, algorithm: str, digits: str, period: str = "") -> list[str]:
    """Return the options for a kind of token."""
    options = [f"--type={kind}", f"--algorithm={algorithm}", f"--digits={digits}"]
    return [*options, f"--period={period}"] if period else options


@pytest.mark.parametrize("kind", kinds(), ids="-".join)
def test_uri__other_soft_tokens_read_it_and_agree(enroller: Enroller, alice: Person, kind: tuple[str, ...]) -> None:
    shown = enroller.run(*QUICK, *options_for(*kind), person=alice).stdout
    uri = uri_in(shown)
    assert read_qr_codes(shown) == [uri]

    record, now = record_of(uri), int(time.time())
    wanted = [kind[0], kind[1], int(kind[2]), int(kind[3]) if kind[0] == "totp" else None]
    assert [record[field] for field in ("type", "algorithm", "digits", "period")] == wanted
    if kind[0] == "totp":
        codes = {pyotp_code(uri, now), oathtool_code(record, f"--totp={kind[1]}", f"--time-step-size={kind[3]}s", now)}
    else:
        assert record["counter"] == 0
        codes = {pyotp_code(uri, 5)}
        if kind[1] == "SHA1":  # oathtool counts with no other
            codes.add(oathtool_code(record, "--hotp", "--counter=5"))
    assert len(codes) == 1
    assert {len(code) for code in codes} == {int(kind[2])}


def pyotp_code(uri: str, place: int) -> str:
    """Return pyotp's code for a Key URI and a counter or a time."""
    if "period=300" in uri:  # pyotp accepts 120 s at most; RFC 6238 names no limit, and we follow it
        token = pyotp.parse_uri(uri.replace("/totp/", "/hotp/").replace("period=300", "counter=0"))
        place //= 300
    else:
        token = pyotp.parse_uri(uri)
    assert isinstance(token, (pyotp.HOTP, pyotp.TOTP))
    return str(token.at(place))


def oathtool_code(record: dict[str, object], *options: str | int) -> str:
    """Return oathtool's code for a counter or a time."""
    words = [option if isinstance(option, str) else f"--now=@{option}" for option in options]
    command = ["oathtool", "--base32", f"--digits={record['digits']}", *words, str(record["key"])]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


@pytest.fixture
def name_with(alice: Person) -> Iterator[Callable[[str], str]]:
    """Rename Alice to a login name with characters that this machine's tools would advise against."""
    first = alice.name

    def rename(ending: str) -> str:
        name = f"{first}{ending}"
        subprocess.run(["usermod", "--badname", "--login", name, alice.name], check=True, capture_output=True)
        alice.name = name
        return name

    yield rename
    subprocess.run(["usermod", "--badname", "--login", first, alice.name], check=True, capture_output=True)
    alice.name = first


@pytest.mark.parametrize("ending", ["@example.org", "+x", "%41", "&a=b", "#?=", " b", "é", "ł", ".$", "'\""])
def test_uri__user_name_comes_out_as_it_went_in(
    enroller: Enroller, alice: Person, name_with: Callable[[str], str], ending: str
) -> None:
    try:
        name = name_with(ending)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"usermod refuses such a name: {error.stderr.decode().strip()}")
    shown = enroller.run(*QUICK, person=alice).stdout
    uri = uri_in(shown)
    assert uri.isascii()
    assert read_qr_codes(shown) == [uri]
    token = pyotp.parse_uri(uri)
    assert token.name == name
    assert token.secret == record_of(uri)["key"]


@pytest.mark.parametrize("host", ["vm.example.org", "my host", "a&secret=b"])
def test_uri__host_name_comes_out_as_it_went_in(enroller: Enroller, alice: Person, host: str) -> None:
    script = 'hostname "$1" 2>/dev/null || python3 -c "import socket,sys; socket.sethostname(sys.argv[1])" "$1"'
    inside = enroller.after("unshare", "--uts", "sh", "-euc", f'{script}; shift; exec "$@"', "sh", host)
    done = inside.run(*QUICK, "--user", alice.name)
    token = pyotp.parse_uri(uri_in(done.stdout))
    assert (token.issuer, token.name) == (host, alice.name)
    assert read_qr_codes(done.stdout) == [uri_in(done.stdout)]


@pytest.mark.parametrize("surroundings", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_qr__no_escape_sequences_if_they_are_turned_off(
    enroller: Enroller, alice: Person, surroundings: dict[str, str]
) -> None:
    shown = shown_in_terminal(enroller, alice, settings=surroundings)
    assert "\x1b" not in shown
    assert read_qr_codes(shown, theme="dark") == [uri_in(shown)]


@pytest.mark.parametrize("surroundings", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_qr__no_escape_sequences_where_blocks_cannot_be_shown_either(
    enroller: Enroller, alice: Person, locales: dict[str, dict[str, str]], surroundings: dict[str, str]
) -> None:
    shown = shown_in_terminal(enroller, alice, columns=ANSI_COLUMNS, settings={**locales["latin"], **surroundings})
    assert "\x1b" not in shown
    assert uri_in(shown)


def test_qr__no_escape_sequences_in_a_pipe_where_blocks_cannot_be_shown(
    enroller: Enroller, alice: Person, locales: dict[str, dict[str, str]]
) -> None:
    done = enroller.run(*QUICK, person=alice, environment=locales["latin"])
    assert "\x1b" not in done.stdout
    assert uri_in(done.stdout)


def test_qr__empty_no_color_keeps_the_colours(enroller: Enroller, alice: Person) -> None:
    # https://no-color.org: "when present and not an empty string (regardless of its value)"
    assert "\x1b[" in shown_in_terminal(enroller, alice, settings={"NO_COLOR": ""})


def test_qr__terminal_without_utf8_gets_one_that_it_can_show(
    enroller: Enroller, alice: Person, locales: dict[str, dict[str, str]]
) -> None:
    shown = shown_in_terminal(enroller, alice, columns=ANSI_COLUMNS, settings=locales["latin"])
    assert read_qr_codes(shown, columns=ANSI_COLUMNS) == [uri_in(shown)]


def test_qr__blocks_that_the_terminal_cannot_show_are_refused(
    enroller: Enroller, alice: Person, locales: dict[str, dict[str, str]]
) -> None:
    with enroller.start("--qr=utf8", person=alice, environment=locales["latin"]) as dialogue:
        dialogue.refused()
    assert not alice.store.exists()


def test_enroll__c_locale_is_no_obstacle(enroller: Enroller, alice: Person) -> None:
    environment = {**ENVIRONMENT, "LC_ALL": "C"}
    with enroller.start(
        "--period=300", "--recovery-codes=1", "--name=é", person=alice, environment=environment
    ) as dialogue:
        dialogue.expect(CODE_PROMPT)
        assert read_qr_codes(dialogue.transcript) == [uri_in(dialogue.transcript)]
        dialogue.confirm_from_here()


class TestWithoutSegno:
    """On a host where python3-segno is not installed."""

    @pytest.fixture
    def bare(self, enroller: Enroller) -> Enroller:
        """The program with the standard library and our package only: `-S` leaves dist-packages out."""
        root = Path(enroller.program[0]).parents[1]
        start = (
            f"import sys; sys.path.insert(0, {str(root)!r}); "
            "from pam_softtoken.enroll.program import main; sys.exit(main())"
        )
        return Enroller("/usr/bin/python3", "-I", "-S", "-c", start)

    def test_qr__none_works_without_segno(self, bare: Enroller, alice: Person) -> None:
        with bare.start("--qr=none", "--recovery-codes=1", person=alice) as dialogue:
            dialogue.confirm()

    def test_enroll__json_without_questions_works_without_segno(self, bare: Enroller, alice: Person) -> None:
        assert bare.run("--no-confirm", "--json", "--recovery-codes=0", person=alice).status == 0

    @pytest.mark.parametrize("options", [(), ("--qr=utf8",), ("--qr=ansi",), ("--json",)])
    def test_qr__without_segno_is_refused_with_a_hint(
        self, bare: Enroller, alice: Person, options: tuple[str, ...]
    ) -> None:
        with bare.start(*options, person=alice) as dialogue:
            mistake = dialogue.refused()
        assert mistake.error == "QR codes need the segno library"
        assert "apt install python3-segno" in mistake.hint
        assert "--qr none" in mistake.hint
        assert not alice.store.exists()
