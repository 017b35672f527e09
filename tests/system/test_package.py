"""Test the life of the Debian packages on a fresh Debian, from `apt install` to `apt purge`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import pam_softtoken
from tests.support.account import Person, Phone
from tests.support.fresh_debian import ENVIRONMENT, FreshDebian, InsideHost, InsideSSH, InsideSu, Resident, pam_files
from tests.support.installation import TREE
from tests.support.packages import CONF, HOME, NAMES, PROGRAMS, PYTHON, Packages

LINE = "auth required pam_softtoken.so\n"


@pytest.fixture
def alice(debian: FreshDebian) -> Iterator[Resident]:
    """A user of the fresh Debian."""
    made = Resident(debian)
    yield made
    made.remove()


@pytest.fixture
def su(debian: FreshDebian) -> Iterator[InsideSu]:
    """Another user who runs `su`."""
    caller = Resident(debian)
    yield InsideSu(debian, caller)
    caller.remove()


@pytest.fixture
def ssh(debian: FreshDebian) -> InsideSSH:
    """The fresh Debian's sshd."""
    return InsideSSH(debian)


def status(debian: FreshDebian, name: str) -> list[str]:
    """Return dpkg's status of a package, and its version; nothing if dpkg does not know it."""
    return debian.try_to_run("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Version}", name).stdout.split()


def wrong(phone: Phone) -> str:
    """Return a code that a token does not show at any time near now."""
    near = {phone.hotp_at(max(0, phone.counter + step)) for step in range(-20, 120)}
    return next(code for code in (6 * str(digit) for digit in range(10)) if code not in near)


def assert_takes_a_code(host: InsideHost, person: Person, phone: Phone) -> str:
    """Log in with a code, and return it."""
    code = phone.hotp()
    visit = host.log_in(person, code)
    assert (visit.entered_as, visit.prompts) == (person.name, ["password", "code"]), visit
    return code


def assert_asks_for_codes(host: InsideHost, person: Person, phone: Phone) -> None:
    """Log in with a code. Then check that the same code and a wrong one are refused."""
    for answer in (assert_takes_a_code(host, person, phone), wrong(phone)):
        visit = host.log_in(person, answer)
        assert (visit.entered_as, visit.prompts) == ("", ["password", "code"]), visit


def assert_asks_for_no_code(host: InsideHost, person: Person) -> None:
    visit = host.log_in(person)
    assert (visit.entered_as, visit.prompts) == (person.name, ["password"]), visit


def assert_nothing_of_ours_is_left(debian: FreshDebian) -> None:
    places = ("/etc", "/lib/systemd", "/run", "/usr", "/var")
    # A message of apt, which lists the files in /root that it was given.
    found = debian.run("find", *places, "-name", "*softtoken*", "-not", "-path", "/var/lib/apt/*").splitlines()
    assert found == []


@pytest.mark.claim("From installation to purge the PAM stack ends byte for byte as it began.")
def test_package__from_installation_to_purge_leaves_the_stack_as_it_was(
    debian: FreshDebian, packages: Packages, newer_packages: Packages, alice: Resident, su: InsideSu, ssh: InsideSSH
) -> None:
    before = pam_files(debian)
    debian.install(*packages.all)
    assert pam_files(debian) == before
    for host in (su, ssh):
        assert_asks_for_no_code(host, alice)

    phone = alice.link("--type=hotp")
    debian.run("pam-auth-update", "--enable", "softtoken")
    enabled = pam_files(debian)
    assert {name for name in before if before[name] != enabled[name]} == {"common-auth"}
    for host in (su, ssh):
        assert_asks_for_codes(host, alice, phone)
    # A wrong password ends the login, and the code is not asked for.
    visit = su.log_in(alice, phone.hotp_at(phone.counter), password="not " + alice.password)
    assert (visit.entered_as, visit.prompts) == ("", ["password"]), visit

    debian.install(*newer_packages.all)
    assert status(debian, "softtoken-common") == ["ii", newer_packages.version]
    assert pam_files(debian) == enabled
    for host in (su, ssh):
        assert_asks_for_codes(host, alice, phone)

    debian.run("pam-auth-update", "--disable", "softtoken")
    assert pam_files(debian) == before
    assert_asks_for_no_code(su, alice)

    debian.run("pam-auth-update", "--enable", "softtoken")
    assert pam_files(debian) == enabled
    worked, said = debian.apt("remove", *NAMES)
    assert worked, said
    assert pam_files(debian) == before
    assert_asks_for_no_code(ssh, alice)
    kept = [CONF, f"/var/lib/softtoken/enrolled/{alice.uid}", str(alice.store / "tokens"), str(alice.store / "state")]
    assert [path for path in kept if not debian.path(path).exists()] == []

    debian.install(*newer_packages.all)
    assert pam_files(debian) == before
    debian.run("pam-auth-update", "--enable", "softtoken")
    assert_asks_for_codes(su, alice, phone)

    worked, said = debian.apt("purge", *NAMES)
    assert worked, said
    assert pam_files(debian) == before
    assert_nothing_of_ours_is_left(debian)
    assert [debian.path(path).exists() for path in kept] == [False, False, True, True]
    assert_asks_for_no_code(su, alice)


def test_package__refuses_with_the_backend_gone_under_nullok_too(
    debian: FreshDebian, packages: Packages, alice: Resident, su: InsideSu
) -> None:
    debian.unpack_and_configure(*packages.all)
    debian.write(CONF, "nullok\n")
    debian.run("pam-auth-update", "--enable", "softtoken")
    assert_asks_for_no_code(su, alice)
    for gone in (f"{HOME}/bin/softtoken-backend", f"{HOME}/{packages.version}"):
        debian.run("mv", gone, "/root/aside")
        visit = su.log_in(alice)
        assert (visit.entered_as, visit.prompts) == ("", ["password"]), visit
        debian.run("mv", "/root/aside", gone)
    assert_asks_for_no_code(su, alice)


@pytest.mark.lockout(
    "the Python side of the module is gone",
    shows="backend missing",
    cure="apt install --reinstall softtoken-common",
)
def test_package__that_is_installed_again_brings_a_missing_backend_back(
    debian: FreshDebian, packages: Packages, alice: Resident, su: InsideSu
) -> None:
    debian.unpack_and_configure(*packages.all)
    phone = alice.link("--type=hotp")
    debian.run("pam-auth-update", "--enable", "softtoken")
    debian.run("rm", "-r", HOME)
    debian.log.clear()
    visit = su.log_in(alice, phone.hotp_at(phone.counter))
    assert (visit.entered_as, visit.prompts) == ("", ["password"]), visit
    assert "backend missing" in debian.log.outcomes()[0]["detail"]
    debian.run("dpkg", "--install", f"/root/{packages['softtoken-common'].name}")
    assert_asks_for_codes(su, alice, phone)


def changes_of_names(debian: FreshDebian, package: Path, record: Path) -> list[str]:
    """Unpack a package, and return the names that files got or lost, in that order."""
    shutil.copy(package, debian.path("/root"))
    dpkg = debian.command("dpkg", "--unpack", "--force-depends", f"/root/{package.name}")
    strace = ["strace", "-f", "-qq", "-e", "trace=rename,unlink,rmdir", "-o", str(record)]
    subprocess.run([*strace, *dpkg], check=True, capture_output=True, env=ENVIRONMENT)
    found = re.findall(r'(?:rename\(".*", |(?:unlink|rmdir)\()"(.*)"\)', record.read_text())
    assert found
    return found


@pytest.mark.claim(
    "While dpkg upgrades, a login runs one version or the other. A package that is only unpacked still asks."
)
def test_package__dpkg_switches_versions_at_the_rename_of_the_backend(
    debian: FreshDebian, packages: Packages, newer_packages: Packages, tmp_path: Path
) -> None:
    debian.unpack_and_configure(*packages.all)
    names = changes_of_names(debian, newer_packages["softtoken-common"], tmp_path / "calls")
    switch = names.index(f"{HOME}/bin/softtoken-backend")
    new, old = (
        {path for path in each.files("softtoken-common") if path.startswith(f"{HOME}/{each.version}/")}
        for each in (newer_packages, packages)
    )
    assert new <= set(names[:switch])
    assert old <= set(names[switch:])
    assert not old & set(names[:switch])


@pytest.mark.parametrize(
    "names",
    [
        pytest.param(
            ("libpam-softtoken", "softtoken-common"),
            marks=pytest.mark.lockout("an upgrade stopped with the new module and the old Python side unpacked"),
        ),
        pytest.param(
            ("softtoken-common", "libpam-softtoken"),
            marks=pytest.mark.lockout("an upgrade stopped with the old module and the new Python side unpacked"),
        ),
    ],
    ids=["module first", "Python side first"],
)
@pytest.mark.claim(
    "While dpkg upgrades, a login runs one version or the other. A package that is only unpacked still asks."
)
def test_package__unpacked_but_not_configured_accepts_each_code_once(
    debian: FreshDebian,
    packages: Packages,
    newer_packages: Packages,
    alice: Resident,
    su: InsideSu,
    names: tuple[str, ...],
) -> None:
    debian.unpack_and_configure(*packages.all)
    phone = alice.link("--type=hotp")
    debian.run("pam-auth-update", "--enable", "softtoken")
    for name in (*names, "softtoken"):
        path = newer_packages[name]
        shutil.copy(path, debian.path("/root"))
        debian.run("dpkg", "--unpack", "--force-depends", f"/root/{path.name}")
        code = assert_takes_a_code(su, alice, phone)
        assert not su.log_in(alice, code).entered_as
    debian.run("dpkg", "--configure", "--pending")
    assert_asks_for_codes(su, alice, phone)
    assert not debian.path(f"{HOME}/{packages.version}").exists()


def test_package__every_module_is_compiled_by_the_installation(debian: FreshDebian, packages: Packages) -> None:
    debian.unpack_and_configure(*packages.all)
    version = debian.run("/usr/bin/python3", "-c", "import sys; print(sys.implementation.cache_tag)").strip()
    for path in packages.files("softtoken-common"):
        if path.startswith(HOME) and path.endswith(".py"):
            source = Path(path)
            compiled = debian.path(str(source.parent / "__pycache__" / f"{source.stem}.{version}.pyc"))
            assert compiled.exists(), path
            assert (compiled.stat().st_uid, compiled.stat().st_mode & 0o7777) == (0, 0o644), path


def test_package__logins_use_its_bundle(debian: FreshDebian, packages: Packages) -> None:
    """It is made before the package, and knows the modules' times. `-v` names what is imported in the usual way."""
    debian.unpack_and_configure(*packages.all)
    start = ("/usr/bin/python3", "-I", "-S", "-B", "-v", f"{HOME}/bin/softtoken-backend")
    usual = "import 'pam_softtoken.bridge.backend' #"
    said = debian.try_to_run(*start).stderr
    assert "import 'gc' #" in said
    assert usual not in said
    assert "ProtocolError" in said, "it ran"
    debian.run("touch", f"{HOME}/{packages.version}/pam_softtoken/errors.py")
    assert usual in debian.try_to_run(*start).stderr


def test_programs__run_on_a_fresh_debian(debian: FreshDebian, packages: Packages) -> None:
    debian.unpack_and_configure(*packages.all)
    for name in PROGRAMS:
        assert "usage: " in debian.run(name, "--help")


def test_softtoken__comes_without_anything_of_pam(debian: FreshDebian, packages: Packages) -> None:
    debian.install(packages["softtoken"], packages["softtoken-common"])
    assert "usage: " in debian.run("softtoken", "--help")
    assert {name for name in NAMES if "ii" in status(debian, name)} == {"softtoken", "softtoken-common"}


@pytest.mark.lockout("somebody removes the package while a service names the module")
@pytest.mark.claim("Removing the package leaves no PAM service that names a missing module.")
def test_remove__is_refused_while_a_service_names_the_module(
    debian: FreshDebian, packages: Packages, alice: Resident, su: InsideSu
) -> None:
    debian.unpack_and_configure(*packages.all)
    phone = alice.link("--type=hotp")
    debian.run("pam-auth-update", "--enable", "softtoken")
    debian.write("/etc/pam.d/sudo", debian.path("/etc/pam.d/sudo").read_text() + LINE)
    debian.write("/etc/pam.d/sshd.dpkg-old", LINE)
    debian.write("/etc/pam.d/login", f"# {LINE}" + debian.path("/etc/pam.d/login").read_text())
    enabled = pam_files(debian)
    # Without the Python side, nobody could log in either.
    for names in (NAMES, ["libpam-softtoken"], ["softtoken-common"]):
        worked, said = debian.apt("remove", *names)
        assert not worked
        assert "libpam-softtoken: error: still in use by: /etc/pam.d/sudo\n" in said
        assert "libpam-softtoken: hint: " in said
        assert pam_files(debian) == enabled
        assert [status(debian, name) for name in NAMES] == 3 * [["ii", packages.version]]
    assert_asks_for_codes(su, alice, phone)
    worked, said = debian.apt("remove", *NAMES, PAM_SOFTTOKEN_REMOVE_IN_USE="yes")
    assert worked, said
    assert LINE in debian.path("/etc/pam.d/sudo").read_text()
    assert_asks_for_no_code(su, alice)


_ENABLE_SUDO = """
import sys
sys.path.insert(0, sys.argv[1])
from pam_softtoken.admin.change import record as change, plan
planned = change.new("sudo", plan.Plan("sudo", "password", nullok=False).files, for_s=float(sys.argv[2]))
with change.locked():
    change.begin(planned)
    for each in planned.files:
        change.apply(each)
"""


def enable_sudo(debian: FreshDebian, version: str, for_s: int) -> None:
    """Enable sudo without a trial, and without a process that waits for the confirming login."""
    debian.run(*PYTHON, "-c", _ENABLE_SUDO, f"{HOME}/{version}", str(for_s))


@pytest.mark.lockout("the package is upgraded while a change waits to be confirmed")
def test_package__pending_change_goes_back_after_an_upgrade_or_removal(
    debian: FreshDebian, packages: Packages, newer_packages: Packages
) -> None:
    debian.unpack_and_configure(*packages.all)
    before = pam_files(debian)
    enable_sudo(debian, packages.version, 600)
    enabled = pam_files(debian)
    assert set(enabled) - set(before) == {".sudo.softtoken-old", ".sudo-i.softtoken-old"}
    worked, said = debian.apt("remove", *NAMES)
    assert not worked
    assert "error: still in use by: /etc/pam.d/sudo /etc/pam.d/sudo-i\n" in said
    assert "softtoken-admin disable SERVICE" in said
    debian.unpack_and_configure(*newer_packages.all)
    assert pam_files(debian) == enabled
    debian.run("softtoken-admin", "disable", "sudo")
    assert pam_files(debian) == before
    # Overdue before the upgrade, and undone by the next command after it.
    enable_sudo(debian, newer_packages.version, 0)
    debian.unpack_and_configure(*packages.all)
    debian.run("softtoken-admin", "status")
    assert pam_files(debian) == before
    # An editor removes our lines; the kept copies are removed with the package.
    enable_sudo(debian, packages.version, 600)
    for name in ("sudo", "sudo-i"):
        debian.write(f"/etc/pam.d/{name}", before[name].decode())
    worked, said = debian.apt("remove", *NAMES)
    assert worked, said
    assert pam_files(debian) == before


@pytest.mark.claim("Removing the package leaves no PAM service that names a missing module.")
def test_remove__is_refused_if_common_auth_was_edited_by_hand(
    debian: FreshDebian, packages: Packages, alice: Resident, su: InsideSu
) -> None:
    debian.unpack_and_configure(*packages.all)
    phone = alice.link("--type=hotp")
    debian.run("pam-auth-update", "--enable", "softtoken")
    stack = debian.path("/etc/pam.d/common-auth")
    # A line that pam-auth-update has not written keeps it from writing anything.
    stack.write_text(stack.read_text().replace("\n# end of pam", "\nauth optional pam_echo.so\n# end of pam"))
    worked, said = debian.apt("remove", *NAMES)
    assert not worked
    assert "error: still in use by: /etc/pam.d/common-auth\n" in said
    assert_asks_for_codes(su, alice, phone)


def test_package__of_a_server_brings_no_picture_libraries_and_each_ends_with_the_next_step(
    debian: FreshDebian, packages: Packages
) -> None:
    debian.apt("autoremove", "--purge")  # packages that softtoken recommends, installed by other tests
    for path in packages.all:
        shutil.copy(path, debian.path("/root"))
    server, laptop, common = (f"/root/{packages[name].name}" for name in NAMES)
    worked, said = debian.apt("install", server, common)
    assert worked, said
    assert "Next:\n  softtoken-enroll " in said
    assert "  softtoken-admin enable sshd " in said
    for library in ("python3-numpy", "python3-pil", "python3-zxing-cpp"):
        assert "ii" not in status(debian, library)
    assert debian.run("softtoken-admin", "--version") == f"softtoken-admin {pam_softtoken.__version__}\n"
    worked, said = debian.apt("install", "--simulate", laptop)
    assert "Inst python3-zxing-cpp" in said, "what it recommends can be had"
    worked, said = debian.apt("install", "--no-install-recommends", laptop)
    assert worked, said
    assert "Next:\n  softtoken add " in said
    worked, said = debian.apt("install", "--reinstall", laptop)
    assert worked, said
    assert "Next:" not in said


def test_script__removes_the_packages_or_says_that_none_are_installed(debian: FreshDebian, packages: Packages) -> None:
    shutil.copytree(TREE / "scripts", debian.path("/root/scripts"), dirs_exist_ok=True)
    debian.unpack_and_configure(*packages.all)
    debian.write("/etc/pam.d/sudo", debian.path("/etc/pam.d/sudo").read_text() + LINE)
    done = debian.try_to_run("/root/scripts/install", "--remove", online=True)
    assert done.returncode != 0
    assert "error: still in use by: /etc/pam.d/sudo" in done.stdout
    debian.run("/root/scripts/install", "--remove", "--force", online=True)
    assert not {name for name in NAMES if "ii" in status(debian, name)}
    done = debian.try_to_run("/root/scripts/install", "--remove")
    assert (done.returncode, done.stdout) == (1, "")
    assert "error: the packages are not installed" in done.stderr
    for words in (["--sideways"], ["--laptop", "--server"], ["--laptop", "there"]):
        done = debian.try_to_run("/root/scripts/install", *words)
        assert done.returncode == 2
        assert "hint: --laptop, " in done.stderr


def test_package__replaces_an_installation_without_packages(
    debian: FreshDebian, packages: Packages, alice: Resident, su: InsideSu
) -> None:
    # As scripts/install did in earlier versions.
    for directory in ("pam_softtoken", "bin"):
        debian.run("mkdir", "-p", f"{HOME}/{directory}")
    shutil.copytree(TREE / "pam_softtoken", debian.path(f"{HOME}/pam_softtoken"), dirs_exist_ok=True)
    for name in ("softtoken-backend", "softtoken-enroll"):
        shutil.copy(TREE / "scripts" / name, debian.path(f"{HOME}/bin/{name}"))
    debian.run("ln", "-s", f"{HOME}/bin/softtoken-enroll", "/usr/bin/softtoken-enroll")
    pages = ("man1/softtoken-enroll.1", "man5/softtoken.conf.5", "man8/pam_softtoken.8")
    for page in pages:
        debian.run("mkdir", "-p", f"/usr/share/man/{page[:4]}")
        debian.write(f"/usr/share/man/{page}", "an older one\n")
    phone = alice.link("--type=hotp")
    debian.write("/etc/pam.d/su", debian.path("/etc/pam.d/su").read_text() + LINE)

    debian.unpack_and_configure(*packages.all)
    assert_asks_for_codes(su, alice, phone)
    assert not debian.path("/usr/bin/softtoken-enroll").is_symlink()
    assert '"phone"' in debian.run("softtoken-enroll", "--user", alice.name, "--list", "--json")
    owned = debian.run("dpkg", "-L", *NAMES).split()
    found = debian.run("find", HOME, "/usr/share/man", "/usr/bin", "-name", "*softtoken*", "!", "-type", "d").split()
    assert [path for path in found if path not in owned and not path.endswith(".pyc")] == []
    assert not debian.path(f"{HOME}/pam_softtoken").exists()


def test_pam_python__runs_the_installed_module(
    debian: FreshDebian, packages: Packages, alice: Resident, su: InsideSu
) -> None:
    debian.install(*packages.all, "libpam-python")
    phone = alice.link("--type=hotp")
    line = f"auth required pam_python.so {HOME}/pam_module.py\n"
    debian.write("/etc/pam.d/su", debian.path("/etc/pam.d/su").read_text() + line)
    assert_asks_for_codes(su, alice, phone)
    worked, said = debian.apt("remove", *NAMES)
    assert not worked
    assert "error: still in use by: /etc/pam.d/su\n" in said


@pytest.mark.skipif(not (TREE / "debian/softtoken.sudoers").exists(), reason="there is no rule for sudo in this tree")
def test_sudoers__are_taken_by_visudo(debian: FreshDebian, packages: Packages) -> None:
    debian.unpack_and_configure(*packages.all)
    assert "/etc/sudoers.d/softtoken: parsed OK" in debian.run("visudo", "-c")
    kept = debian.path("/etc/sudoers.d/softtoken").stat()
    assert (kept.st_uid, kept.st_gid, kept.st_mode & 0o7777) == (0, 0, 0o440)
    assert "/etc/sudoers.d/softtoken" in debian.run("dpkg-query", "-W", "-f", "${Conffiles}", "libpam-softtoken")


@pytest.mark.parametrize("name", ["softtoken-rollback.service", "softtoken-key.service"])
def test_unit__runs_a_program_of_the_package_at_the_next_start(
    debian: FreshDebian, packages: Packages, name: str
) -> None:
    debian.unpack_and_configure(*packages.all)
    (file,) = (path for path in packages.files("libpam-softtoken") if path.endswith(f"/{name}"))
    unit = debian.path(file).read_text()
    for path in re.findall(r"^Exec\w+=(/\S+)", unit, re.MULTILINE):
        if os.path.basename(path).startswith("systemd-"):
            continue  # what runs units brings it along; this tree has no systemd
        assert debian.path(path).exists(), path
    assert str(debian.path(f"/etc/systemd/system/multi-user.target.wants/{name}").readlink()) == file


def test_autopkgtest__passes_on_the_installed_packages(debian: FreshDebian, packages: Packages) -> None:
    before = pam_files(debian)
    debian.unpack_and_configure(*packages.all)
    shutil.copytree(TREE / "debian/tests", debian.path("/root/tests"), dirs_exist_ok=True)
    listed = re.findall(r"^Tests: (\S+)$", (TREE / "debian/tests/control").read_text(), re.MULTILINE)
    assert listed
    for name in listed:
        done = debian.try_to_run(f"/root/tests/{name}")
        assert done.returncode == 0, done.stdout + done.stderr
    assert pam_files(debian) == before
