"""Write `--png`, `--svg` and `--sheet`: the content and owner of the files, and no file after a failure."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

import html5lib
import pytest

from tests.support.account import Person
from tests.support.browser import Paper, screenshot
from tests.support.enroller import (
    CODE_PROMPT,
    ENTER_PROMPT,
    OTHERS_CODE_PROMPT,
    Dialogue,
    Enroller,
    recovery_codes_in,
    uri_in,
)
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.sampling import sampled
from tests.support.screen import read_qr_codes_of

SCRIPT = ("--no-confirm", "--json", "--period=300")
OPTIONS = ("--png", "--svg", "--sheet")
SYSTEM_CALLS_OF_WRITING = ("pwrite64", "fdatasync", "fsync", "renameat", "flock", "write")
LONGEST_KEY = b"GEZDGNBVGY3TQOJQ" * 12  # 120 bytes


def files_in(directory: Path) -> list[str]:
    """Return options for one file of each kind."""
    return [f"{option}={directory / option.strip('-')}" for option in OPTIONS]


def in_groups(key: str) -> str:
    """Write a key in groups, as people read it aloud."""
    return " ".join(key[place : place + 4] for place in range(0, len(key), 4))


class Sheet:
    """A page that the program has written, and its record."""

    def __init__(self, record: dict[str, object], html: Path) -> None:
        self.uri, self.key = str(record["uri"]), str(record["key"])
        self.codes = [str(code) for code in record["recovery_codes"]]  # type: ignore[attr-defined]
        self.html = html

    def on(self, paper: str) -> Path:
        """Write a copy of the page with a paper size, as a user chooses it when printing, and return its path."""
        text = self.html.read_text()
        assert text.count("@page {") == 1
        copy = self.html.with_name(f"{self.html.stem}-{paper}.html")
        copy.write_text(text.replace("@page {", f"@page {{ size: {paper};"))
        return copy


@pytest.fixture(scope="module")
def sheets(world: Path, installed: Installation, resident: Person) -> dict[str, Sheet]:
    """Pages with no, the usual number of, and the most recovery codes; also with long names and a long key."""
    directory = world / "sheets"
    directory.mkdir()
    common = (*SCRIPT, "--force", f"--user={resident.name}")
    host = "import socket, sys; socket.sethostname('w' * 64)"
    crowded = ("--recovery-codes=24", "--algorithm=SHA512", "--digits=8", f"--name={'W' * 64}", "--key-file=-")
    enroller = Enroller(installed.enroll)
    long_named = enroller.after("unshare", "--uts", "sh", "-c", f'python3 -c "{host}"; exec "$@"', "sh")
    made = {}
    for name, program, options in (
        ("none", enroller, ("--recovery-codes=0",)),
        ("usual", enroller, ("--recovery-codes=10",)),
        ("crowded", long_named, crowded),
    ):
        page = directory / f"{name}.html"
        store = f"--store={directory}/{name}/%U"  # another name in the same place would add one more token
        done = program.run(*common, *options, store, f"--sheet={page}", typed=LONGEST_KEY)
        assert (done.status, done.stderr) == (0, "")
        made[name] = Sheet(json.loads(done.stdout), page)
    return made


@pytest.mark.parametrize(
    ("name", "size"), [("none", "letter"), ("usual", "A4"), ("crowded", "letter"), ("crowded", "A4")]
)
def test_sheet__prints_on_one_page_with_all_that_one_needs(
    sheets: dict[str, Sheet], outside: Path, name: str, size: str
) -> None:
    sheet = sheets[name]
    paper = Paper(sheet.on(size), outside / "paper.pdf")
    assert paper.facts()["Pages"] == "1"
    assert f"({size})" in paper.facts()["Page size"]
    assert read_qr_codes_of(paper.picture()) == [sheet.uri]
    text = paper.text()
    assert in_groups(sheet.key) in text
    assert sorted(recovery_codes_in(text)) == sorted(sheet.codes)
    assert len(sheet.codes) == {"none": 0, "usual": 10, "crowded": 24}[name]
    assert "Period 300 seconds" in text


def parsed(page: Path) -> ET.Element:
    """Read a page by the rules of HTML. Every parse error of the standard is an error here, too."""
    root: ET.Element = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(page.read_bytes())
    return root


def text_of(element: ET.Element | None) -> str:
    """Return the text below an element."""
    assert element is not None
    return "".join(element.itertext())


@pytest.mark.parametrize("name", ["none", "crowded"])
def test_sheet__is_valid_html_without_scripts_and_without_anything_from_elsewhere(
    sheets: dict[str, Sheet], name: str
) -> None:
    root = parsed(sheets[name].html)
    assert root.attrib["lang"] == "en"
    assert text_of(root.find("head/title")).startswith("Soft token for ")
    elements = {str(element.tag).rpartition("}")[2] for element in root.iter()}
    assert not elements & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a", "image", "use"}
    attributes = {attribute for element in root.iter() for attribute in element.attrib}
    assert not {attribute for attribute in attributes if attribute.startswith("on")}
    assert not attributes & {"src", "href", "{http://www.w3.org/1999/xlink}href", "style", "srcset", "background"}
    styles = text_of(root.find("head/style"))
    assert not [word for word in ("url(", "@import", "image(", "\\") if word in styles]
    pictures = root.findall(".//*[@role='img']")
    assert [bool(picture.attrib["aria-label"]) for picture in pictures] == [True]


@pytest.mark.parametrize(
    "name",
    [
        "<script>alert(1)</script>",
        "&amp; & &lt;",
        "\"'><img src=x>",
        "</title></dd></main>",
        "{key} %s",
        "שלום é 日本 😀",
    ],
)
def test_sheet__names_are_texts_and_nothing_else(enroller: Enroller, alice: Person, outside: Path, name: str) -> None:
    host = name.encode()[:60].decode(errors="ignore")
    script = 'python3 -c "import socket, sys; socket.sethostname(sys.argv[1])" "$1"; shift; exec "$@"'
    inside = enroller.after("unshare", "--uts", "sh", "-euc", script, "sh", host)
    page = outside / "sheet"
    done = inside.run(*SCRIPT, f"--user={alice.name}", f"--name={name}", f"--sheet={page}")
    assert (done.status, done.stderr) == (0, "")
    root = parsed(page)
    assert text_of(root.find("head/title")) == f"Soft token for {alice.name} on {host}"
    assert text_of(root.find(".//h1")) == f"Soft token for {alice.name} on {host}"
    assert text_of(root.find(".//dd")) == name
    assert not {element.tag for element in root.iter()} & {"script", "img"}


def test_pictures__hold_the_key_uri(enroller: Enroller, alice: Person, outside: Path) -> None:
    done = enroller.run(*SCRIPT, f"--user={alice.name}", *files_in(outside))
    assert (done.status, done.stderr) == (0, "")
    uri = json.loads(done.stdout)["uri"]
    assert read_qr_codes_of(outside / "png") == [uri]
    picture = (outside / "svg").rename(outside / "qr.svg")
    assert read_qr_codes_of(screenshot(picture, outside / "shown.png")) == [uri]


@pytest.mark.parametrize("umask", [0, 0o777], ids=["0000", "0777"])
@pytest.mark.parametrize("caller", ["alice", "root"])
def test_files__belong_to_the_owner_of_the_home_and_only_the_owner_reads_them(
    enroller: Enroller, alice: Person, caller: str, umask: int
) -> None:
    person = alice if caller == "alice" else None
    done = enroller.run(*SCRIPT, f"--user={alice.name}", *files_in(alice.home), person=person, umask=umask)
    assert (done.status, done.stderr) == (0, "")
    for option in OPTIONS:
        status = (alice.home / option.strip("-")).lstat()
        assert (stat.filemode(status.st_mode), status.st_nlink) == ("-rw-------", 1)
        assert status.st_uid == alice.uid


def test_files__may_be_named_from_the_working_directory(enroller: Enroller, alice: Person) -> None:
    done = enroller.run(*SCRIPT, "--png=qr.png", "--sheet", "./token.html", person=alice, cwd=alice.home)
    assert (done.status, done.stderr) == (0, "")
    assert read_qr_codes_of(alice.home / "qr.png") == [json.loads(done.stdout)["uri"]]
    assert json.loads(done.stdout)["key"]


def make_file(path: Path) -> None:
    """Create a file whose value to the user is unknown."""
    path.write_bytes(b"\0" * 10)


def make_directory(path: Path) -> None:
    """Create a directory with the name."""
    path.mkdir()


def make_link(path: Path) -> None:
    """Create a link to a file that the caller could write."""
    path.with_name("target").write_text("mine")
    path.symlink_to("target")


def make_dangling_link(path: Path) -> None:
    """Create a link that would create a file elsewhere."""
    path.symlink_to(path.with_name("nothing"))


def make_pipe(path: Path) -> None:
    """Create a pipe without a reader."""
    os.mkfifo(path)


def close_directory(path: Path) -> None:
    """Remove the write permission of the directory that would hold the file."""
    path.parent.chmod(0o555)


def remove_directory(path: Path) -> None:
    """Remove the directory."""
    path.parent.rmdir()


PLACES: dict[Callable[[Path], None], str] = {
    make_file: "is there already",
    make_directory: "is there already",
    make_link: "is there already",
    make_dangling_link: "is there already",
    make_pipe: "is there already",
    close_directory: "Permission denied",
    remove_directory: "No such file or directory",
}


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_file__that_cannot_be_made_is_refused_before_anything_is_shown(
    enroller: Enroller, alice: Person, place: Callable[[Path], None]
) -> None:
    directory = alice.home / "prints"
    directory.mkdir()
    os.chown(directory, alice.uid, alice.gid)
    place(directory / "file")
    before = listing(alice.home)
    for option in OPTIONS:
        # A second file that could be created is not created either.
        other = f"{'--svg' if option == '--png' else '--png'}={alice.home}/other"
        with enroller.start(other, option, directory / "file", person=alice) as dialogue:
            mistake = dialogue.refused()
        assert mistake.before == ""
        assert f'"{directory}/file"' in mistake.error
        assert PLACES[place] in mistake.error
        assert "new file" in mistake.hint
        assert enroller.run(*SCRIPT, option, directory / "file", person=alice).refused().error == mistake.error
    assert listing(alice.home) == before


def test_file__of_one_name_cannot_be_two(enroller: Enroller, alice: Person) -> None:
    before = listing(alice.home)
    mistake = enroller.run(*SCRIPT, "--png=qr", "--svg=./qr", person=alice, cwd=alice.home).refused()
    assert "is there already" in mistake.error
    assert listing(alice.home) == before


@pytest.mark.parametrize("name", ["", "-"])
@pytest.mark.parametrize("option", OPTIONS)
def test_file__without_a_name_is_a_usage_error(enroller: Enroller, alice: Person, option: str, name: str) -> None:
    before = listing(alice.home)
    mistake = enroller.run(*SCRIPT, f"{option}={name}", person=alice, cwd=alice.home).refused(2)
    assert mistake.error.startswith(option)
    assert listing(alice.home) == before


@pytest.mark.parametrize("option", OPTIONS)
def test_file__where_nothing_is_enrolled_is_a_usage_error(enroller: Enroller, alice: Person, option: str) -> None:
    before = listing(alice.home)
    with enroller.start("--check", f"{option}={alice.home}/file", person=alice) as dialogue:
        assert dialogue.finish() == 2
        assert "--check" in dialogue.transcript
    assert listing(alice.home) == before


def test_file__on_a_file_system_without_modes_is_refused(enroller: Enroller, alice: Person, outside: Path) -> None:
    # The error of VFAT, as on most USB sticks, when a program changes the mode of a file.
    strict = enroller.after("strace", "-o", "/dev/null", "-e", "inject=fchmod:error=EPERM:when=1")
    before = listing(outside)
    mistake = strict.run(*SCRIPT, f"--user={alice.name}", f"--sheet={outside}/page").refused()
    assert "Operation not permitted" in mistake.error
    assert listing(outside) == before
    assert not alice.store.exists()


def fill(directory: Path) -> None:
    """Use the last block of a file system."""
    with (directory / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError:
            return


@pytest.mark.parametrize("option", OPTIONS)
def test_full_disk__is_one_error_and_enrols_nobody(
    enroller: Enroller, alice: Person, small_home: Path, outside: Path, option: str
) -> None:
    fill(small_home)
    before = listing(small_home), listing(outside)
    options = (f"--user={alice.name}", f"--store={outside}/%U", f"{option}={small_home}/file")
    mistake = enroller.run(*SCRIPT, *options).refused()
    assert "No space left on device; nothing was changed" in mistake.error
    assert "room" in mistake.hint
    assert (listing(small_home), listing(outside)) == before
    with enroller.start(*options, "--period=300") as dialogue:
        if option == "--sheet":  # only then are there recovery codes
            go_on_to_the_end(dialogue, prompt=OTHERS_CODE_PROMPT.format(alice.name))
        else:
            assert dialogue.refused().before == "", "nobody should scan a key that cannot be kept"
        assert dialogue.refused().error == mistake.error
    assert (listing(small_home), listing(outside)) == before


def go_on_to_the_end(dialogue: Dialogue, *, prompt: str = CODE_PROMPT) -> None:
    """Answer all questions."""
    dialogue.expect(prompt)
    dialogue.type(dialogue.phone().totp())
    dialogue.expect(ENTER_PROMPT)
    dialogue.type("")


def test_dialogue__picture_can_be_scanned_instead_of_the_screen(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--period=300", "--qr=none", *files_in(alice.home), person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        assert f'"{alice.home}/png"' in dialogue.transcript
        assert read_qr_codes_of(alice.home / "png") == [uri_in(dialogue.transcript)]
        phone = dialogue.confirm_from_here()
        for option in OPTIONS:
            assert f'"{alice.home}/{option[2:]}"' in dialogue.transcript.partition("Done.")[2]
    text = " ".join(text_of(parsed(alice.home / "sheet").find("body")).split())
    assert in_groups(str(phone.record["key"])) in text
    assert recovery_codes_in(text) == phone.recovery_codes


@pytest.mark.parametrize("prompt", [CODE_PROMPT, ENTER_PROMPT])
@pytest.mark.parametrize("earlier", [False, True], ids=["new", "replacing"])
def test_interrupted__leaves_no_file(
    enroller: Enroller, installed: Installation, alice: Person, *, prompt: str, earlier: bool
) -> None:
    if earlier:
        alice.enrol(installed, "--recovery-codes=0")
    before = listing(alice.home)
    with enroller.start("--force", "--period=300", *files_in(alice.home), person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        if prompt == ENTER_PROMPT:
            dialogue.type(dialogue.phone().totp())
            dialogue.expect(ENTER_PROMPT)
        assert (alice.home / "svg").stat().st_size > 0
        assert (alice.home / "sheet").stat().st_size == 0
        dialogue.press_control("C")
        dialogue.refused()
    assert listing(alice.home) == before


def test_failed__confirmation_or_output_leaves_no_file(enroller: Enroller, alice: Person) -> None:
    before = listing(alice.home)
    with enroller.start("--type=hotp", *files_in(alice.home), person=alice) as dialogue:
        for _ in range(3):
            dialogue.expect(CODE_PROMPT)
            dialogue.type("1")
        dialogue.refused()
    assert listing(alice.home) == before
    to_a_full_disk = enroller.after("sh", "-c", '"$@" >/dev/full', "sh")
    to_a_full_disk.run(*SCRIPT, *files_in(alice.home), person=alice).refused()
    assert listing(alice.home) == before


def test_already_enrolled__leaves_no_file(enroller: Enroller, installed: Installation, alice: Person) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    before = listing(alice.home)
    assert "already enrolled" in enroller.run(*SCRIPT, *files_in(alice.home), person=alice).refused().error
    assert listing(alice.home) == before


def test_interrupted__moved_picture_is_emptied_and_a_new_file_at_its_path_stays(
    enroller: Enroller, alice: Person
) -> None:
    picture, moved = alice.home / "qr.png", alice.home / "moved.png"
    with enroller.start(f"--png={picture}", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        picture.rename(moved)
        picture.write_text("somebody else's")
        dialogue.press_control("C")
        dialogue.refused()
    assert moved.read_bytes() == b""
    assert picture.read_text() == "somebody else's"


def test_killed__at_any_call_leaves_no_enrolment_without_its_sheet(
    enroller: Enroller, alice: Person, outside: Path
) -> None:
    """An ordinary run kills at the first and the last call of each kind, and at some others."""
    page, tokens, trace = outside / "page", outside / str(alice.uid) / "tokens", outside / "trace"
    options = (*SCRIPT, "--force", f"--user={alice.name}", f"--store={outside}/%U", f"--sheet={page}")
    tracing = ("strace", "-o", trace, "-e", f"trace={','.join(SYSTEM_CALLS_OF_WRITING)}")
    # The first run makes the state, which stays, and the second one has the calls of all later ones.
    for program in (enroller, enroller.after(*tracing)):
        assert program.run(*options).status == 0
        page.unlink()
        tokens.unlink()
    names = [line.partition("(")[0] for line in trace.read_text().splitlines()]
    found = {name: range(1, names.count(name) + 1) for name in SYSTEM_CALLS_OF_WRITING}
    assert all(found.values())
    ends = [(name, number) for name, numbers in found.items() for number in (numbers[0], numbers[-1])]
    every = [(name, number) for name, numbers in found.items() for number in numbers]
    for name, number in sampled(every, 0.1, always=ends):
        killed = enroller.after("strace", "-o", "/dev/null", "-e", f"inject={name}:signal=KILL:when={number}")
        assert killed.run(*options).status == -signal.SIGKILL, f"did not happen at {name} {number}"
        if tokens.exists():
            (token,) = json.loads(tokens.read_bytes())["tokens"]
            assert in_groups(token["key"]) in page.read_text(), f"{name} {number}"
            tokens.unlink()
        page.unlink(missing_ok=True)


class TestWithoutSegno:
    """On a host where python3-segno is not installed."""

    @pytest.mark.parametrize("option", OPTIONS)
    def test_file__without_segno_is_refused_with_a_hint(self, enroller: Enroller, alice: Person, option: str) -> None:
        root = Path(enroller.program[0]).parents[1]
        start = (
            f"import sys; sys.path.insert(0, {str(root)!r}); "
            "from pam_softtoken.enroll.program import main; sys.exit(main())"
        )
        bare = Enroller("/usr/bin/python3", "-I", "-S", "-c", start)
        before = listing(alice.home)
        mistake = bare.run(*SCRIPT, f"{option}={alice.home}/file", person=alice).refused()
        assert mistake.error == "QR codes need the segno library"
        assert option in mistake.hint
        assert listing(alice.home) == before
