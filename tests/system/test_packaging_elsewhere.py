"""What `scripts/packaging` has for other distributions, as far as Debian's tools can check it: a real rpmbuild, the
compiler of SELinux modules, and a run of the function in the PKGBUILD.
"""

from __future__ import annotations

import marshal
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from pam_softtoken import __version__
from tests.support.installation import TREE

PACKAGING = TREE / "scripts" / "packaging"
NAME = f"pam_softtoken-{__version__}"


def needs(program: str) -> None:
    if shutil.which(program) is None:
        assert not os.environ.get("TEST_TOOLS"), program
        pytest.skip(f"needs {program}")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree under the name that an archive of a version has."""
    root = tmp_path_factory.mktemp("source") / NAME
    root.mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.bundle", "made")
    for part in ("pam_softtoken", "scripts", "debian"):
        shutil.copytree(TREE / part, root / part, ignore=ignored)
    for file in ("LICENSE", "README.md"):
        shutil.copy(TREE / file, root)
    return root


def sources_in(bundle: Path) -> list[tuple[str, int, int]]:
    """Return the files, with sizes and times, for which a bundle counts."""
    _, sources, _ = marshal.loads(bundle.read_bytes()[12:])
    return list(sources)


@pytest.mark.parametrize(
    ("file", "pattern"), [("pam_softtoken.spec", r"^Version: +(.*)$"), ("PKGBUILD", r"^pkgver=(.*)$")]
)
def test_packaging__has_the_version_of_the_project(file: str, pattern: str) -> None:
    assert re.findall(pattern, (PACKAGING / file).read_text(), re.MULTILINE) == [__version__]


def test_rpm__is_built_with_every_file_and_its_time(source: Path, tmp_path: Path) -> None:
    needs("rpmbuild")
    (tmp_path / "SOURCES").mkdir()
    archive = tmp_path / "SOURCES" / f"{NAME}.tar.gz"
    subprocess.run(["tar", "-C", source.parent, "-czf", archive, NAME], check=True)
    words = ["rpmbuild", "-ba", "--nodeps", "--define", f"_topdir {tmp_path}", str(PACKAGING / "pam_softtoken.spec")]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (package,) = (tmp_path / "RPMS").rglob("*.rpm")
    dump = subprocess.run(["rpm", "-qp", "--dump", package], check=True, capture_output=True, text=True).stdout
    files = {line.split()[0]: line.split() for line in dump.splitlines()}
    libdir = subprocess.run(["rpm", "-E", "%{_libdir}"], check=True, capture_output=True, text=True).stdout.strip()
    modes = {path: fields[4][-4:] for path, fields in files.items()}
    assert modes[f"{libdir}/security/pam_softtoken.so"] == "0644"
    assert modes["/etc/sudoers.d/softtoken"] == "0440"
    assert modes["/var/lib/softtoken"] == "0711"
    assert modes["/usr/sbin/softtoken-admin"] == modes["/usr/lib/pam_softtoken/bin/softtoken-backend"] == "0755"
    assert {fields[5] + fields[6] for fields in files.values()} == {"rootroot"}
    bundle, _ = sorted((path for path in files if path.endswith(".bundle")), reverse=True)
    with package.open("rb") as content:  # with a file name, rpm 4.20 writes to its stdout, and 4.18 beside the package
        packed = subprocess.run(["rpm2archive", "-"], stdin=content, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-C", tmp_path, "-xz"], input=packed, check=True)
    home = bundle.rpartition("/pam_softtoken/")[0]
    sources = sources_in(Path(f"{tmp_path}{bundle}"))
    assert len(sources) > 20
    for path, size, changed_ns in sources:
        fields = files[home + path]
        assert (int(fields[1]), int(fields[2]) * 10**9) == (size, changed_ns), path


def test_pkgbuild__installs_the_layout_of_arch(source: Path, tmp_path: Path) -> None:
    needs("shellcheck")
    subprocess.run(["shellcheck", PACKAGING / "PKGBUILD"], check=True)
    script = (
        f'set -eu; . "{PACKAGING}/PKGBUILD"; srcdir="{source.parent}" pkgdir="{tmp_path}/pkg" CFLAGS="-O2 -g"; package'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    made = {f"/{path.relative_to(tmp_path / 'pkg')}" for path in (tmp_path / "pkg").rglob("*") if path.is_file()}
    assert {"/usr/lib/security/pam_softtoken.so", "/usr/bin/softtoken-admin", "/etc/security/softtoken.conf"} <= made
    assert not {path for path in made if path.startswith(("/usr/sbin", "/usr/local", "/lib", "/usr/lib64"))}
    facts = (tmp_path / f"pkg/usr/lib/pam_softtoken/{__version__}/pam_softtoken/platform_facts.py").read_text()
    assert 'PACKAGE = "pam_softtoken"\n' in facts
    assert 'BUILD = ""\n' in facts


def test_selinux__module_compiles(tmp_path: Path) -> None:
    """It was never loaded: no host with SELinux was there."""
    needs("checkmodule")
    module, package = tmp_path / "softtoken.mod", tmp_path / "softtoken.pp"
    subprocess.run(
        ["checkmodule", "-M", "-m", "-o", module, PACKAGING / "softtoken.te"], check=True, capture_output=True
    )
    subprocess.run(["semodule_package", "-o", package, "-m", module, "-f", PACKAGING / "softtoken.fc"], check=True)
    assert b"/var/lib/softtoken" in package.read_bytes()
