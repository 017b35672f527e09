"""debian/ against the code: versions, and the libraries that the programs import."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from functools import partial
from pathlib import Path

import pytest

import pam_softtoken
from pam_softtoken import config, option_table
from pam_softtoken.account import places
from tests.support.installation import TREE
from tests.support.tools import needs_package_lists

CONTROL = (TREE / "debian/control").read_text()
PACKAGE = TREE / "pam_softtoken"
OTHER_NAMES = {"zxingcpp": "python3-zxing-cpp"}
"""Libraries whose Debian package is not named `python3-` and the name of the library."""


def libraries(path: Path) -> set[str]:
    """Return the Debian packages of the libraries that a module imports at run time."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body.clear()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
    foreign = names - set(sys.stdlib_module_names) - {"pam_softtoken", ""}
    foreign -= {name for name in foreign if name.startswith("_")}  # Python's own, of a later version
    return {OTHER_NAMES.get(name, f"python3-{name.lower().replace('_', '-')}") for name in foreign}


def named_by(package: str) -> set[str]:
    """Return the packages that one of ours depends on, recommends or suggests."""
    stanza = next(text for text in CONTROL.split("\n\n") if f"Package: {package}\n" in text)
    fields = re.findall(r"^(?:Depends|Recommends|Suggests): ((?:.*\n)(?: .*\n)*)", stanza, re.MULTILINE)
    return set(re.findall(r"(?<![\w$:{-])[a-z][a-z0-9+.-]+", " ".join(fields)))


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_packages__name_every_library_that_is_imported(path: Path) -> None:
    package = "softtoken" if path.parent.name in ("device", "apps") else "libpam-softtoken"
    assert libraries(path) - named_by(package) == set()


def test_packages__have_the_version_of_the_project() -> None:
    """The version is defined once. Debian's own file is checked against it."""
    project = tomllib.loads((TREE / "pyproject.toml").read_text())
    assert "version" in project["project"]["dynamic"]
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "pam_softtoken.__version__"}
    changelog = (TREE / "debian/changelog").read_text()
    assert changelog.startswith(f"pam-softtoken ({pam_softtoken.__version__}) ")


def test_changelog__is_made_from_that_of_debian() -> None:
    made = subprocess.run(
        ["/usr/bin/python3", "-I", TREE / "scripts/lib/changelog.py"], check=True, capture_output=True, text=True
    ).stdout
    assert (TREE / ".github/CHANGELOG.md").read_text() == made, "scripts/lib/changelog.py >.github/CHANGELOG.md"
    assert f"## {pam_softtoken.__version__} (" in made
    assert len(made.splitlines()) > 8


def field(package: str, name: str) -> set[str]:
    """Return the names in a field of debian/control, such as Depends."""
    stanza = next(text for text in CONTROL.split("\n\n") if f"Package: {package}\n" in text)
    found = re.search(rf"^{name}: ((?:.*\n)(?: .*\n)*)", stanza, re.MULTILINE)
    return set(re.findall(r"(?<![\w$:{-])[a-z][a-z0-9+.-]+", found[1])) if found else set()


@needs_package_lists()
def test_packages__of_a_server_bring_no_libraries_for_pictures() -> None:
    brought = (field("libpam-softtoken", "Depends") | field("libpam-softtoken", "Recommends")) - {"softtoken-common"}
    assert {"python3-pil", "python3-zxing-cpp"} <= field("libpam-softtoken", "Suggests")
    left_out = [f"--no-{kind}" for kind in ("suggests", "enhances", "conflicts", "breaks", "replaces")]
    done = subprocess.run(
        ["apt-cache", "depends", "--recurse", *left_out, *sorted(brought)], check=True, capture_output=True, text=True
    )
    everything = set(re.findall(r"^[a-z]\S*", done.stdout, re.MULTILINE))
    assert brought <= everything
    assert {name for name in everything if re.search("numpy|-pil$|zxing|jpeg|freetype", name)} == set()


def test_packages__end_their_first_installation_with_the_next_step() -> None:
    for package, words in (("libpam-softtoken", "softtoken-admin enable sshd"), ("softtoken", "softtoken add")):
        # The server's script is not run here: it creates directories. `$2` is the version that was there before.
        first = re.split(r'-z "\$2" \]', (TREE / f"debian/{package}.postinst").read_text())[1]
        shown = re.findall(r"^\t+echo '(.*)'$", first, re.MULTILINE)
        assert any(words in line for line in shown), package


def test_conf__says_nothing_and_every_line_of_it_can_be_taken(tmp_path: Path) -> None:
    path = tmp_path / "softtoken.conf"
    subprocess.run(["/usr/bin/python3", "-I", TREE / "scripts/lib/conf.py", path], check=True)
    text = path.read_text()
    assert [line for line in text.splitlines() if line and not line.startswith("#")] == []
    assert config.load([], lambda path, required: text).window == config.Config().window
    lines = [line[1:] for line in text.splitlines() if re.match(r"#\w", line)]
    options = [option for option in option_table.OPTIONS if not option.argument_only]
    assert [line.partition(" = ")[0] for line in lines] == [option.name for option in options]
    for option, line in zip(options, lines, strict=True):
        settings = config.load([], partial(_given, line))
        assert getattr(settings, option.name) == option.default or option.default == ""
    # Join wrapped lines.
    prose = re.sub(r"\s*\n# ", " ", text)
    for option in options:
        assert option.meaning.replace("`", "") in prose


def _given(text: str, path: str, required: bool) -> str:
    return text


def test_profile__asks_behind_the_password_and_counts_every_failure() -> None:
    profile = (TREE / "debian/pam-configs/softtoken").read_text()
    assert "Default: no\n" in profile
    assert profile.endswith("Auth-Type: Additional\nAuth:\n\trequired\tpam_softtoken.so\n")


def test_profile__name_is_one_choice_and_warns_of_refusals() -> None:
    """pam-auth-update joins the names with commas. It shows nothing else before a profile is enabled."""
    (name,) = re.findall(r"^Name: (.*)$", (TREE / "debian/pam-configs/softtoken").read_text(), re.MULTILINE)
    assert "," not in name
    assert "who has not enrolled is refused" in name
    assert len(name) <= 70


def test_socket__has_one_path_in_the_unit_the_bridge_and_the_modules() -> None:
    unit = (TREE / "debian/libpam-softtoken.softtoken-login.socket").read_text()
    assert f"\nListenSequentialPacket={places.RELAY_SOCKET}\n" in unit
    assert f'#define SERVICE_SOCKET "{places.RELAY_SOCKET}"\n' in (TREE / "pam_softtoken/bridge/service.h").read_text()


def test_service__for_programs_without_root_can_ask_a_cluster() -> None:
    """Without the network, the tokens of `fleet_alone` would always count there."""
    unit = (TREE / "debian/libpam-softtoken.softtoken-login.service").read_text()
    (families,) = re.findall(r"^RestrictAddressFamilies=(.*)$", unit, re.MULTILINE)
    assert set(families.split()) == {"AF_UNIX", "AF_INET", "AF_INET6"}
    assert not re.search(r"^(IPAddress|PrivateNetwork|SocketBind)", unit, re.MULTILINE)


def test_socket__is_not_stopped_by_an_upgrade() -> None:
    """Nothing would start it again, and screen lockers would unlock for nobody."""
    (line,) = (
        line
        for line in (TREE / "debian/rules").read_text().splitlines()
        if "dh_installsystemd --name=softtoken-login" in line
    )
    assert {"--no-enable", "--no-start", "--no-stop-on-upgrade"} <= set(line.split())
