"""Install from source, into the directories of any distribution. `scripts/build` runs this with the interpreter that
logins will use, after it has compiled the bridge. So the bundle and the compiled modules are that interpreter's.

The layout is that of the Debian packages: the Python side is in a directory of its own with the version in its name.
"""

from __future__ import annotations

import argparse
import compileall
import os
import re
import shlex
import shutil
import site
import sys
import sysconfig
from pathlib import Path

sys.dont_write_bytecode = True
TREE = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TREE), str(TREE / "scripts" / "lib")]

import bundle  # noqa: E402
import completion  # noqa: E402
import conf  # noqa: E402
import facts  # noqa: E402
import manual  # noqa: E402

from pam_softtoken import __version__  # noqa: E402

ZSH = "zsh/vendor-completions", "zsh/site-functions"
"""Debian's directory of completions for zsh, and everybody else's."""


class Layout:
    """Where the files go.

    Args:
        destdir: in front of every path; empty to install into this machine.
        prefix, libdir, sbindir: as in other projects' builds. PAM modules are in `libdir`/security.
        python: the interpreter of logins.
        package: the package that will hold the files; empty if there is none.
        sudo_plugins: the directory of plugins for sudo.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self.destdir: str = options.destdir
        self.prefix: str = options.prefix
        self.modules = f"{options.libdir}/security"
        self.sbin: str = options.sbindir or f"{options.prefix}/sbin"
        self.python: str = options.python
        self.package: str = options.package
        self.sudo_plugins: str = options.sudo_plugins
        self.home = f"{options.prefix}/lib/pam_softtoken"
        self.versioned = f"{self.home}/{__version__}"

    def path(self, name: str) -> Path:
        """Return where a file is written that will have this name, and make its directory."""
        path = Path(f"{self.destdir}{name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def put(self, name: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file in one step: a login that starts meanwhile sees the old one or the new one."""
        path = self.path(name)
        new = path.with_name(f"{path.name}.new")
        new.write_bytes(content.encode() if isinstance(content, str) else content)
        new.chmod(mode)
        new.replace(path)

    def put_if_missing(self, name: str, content: str, mode: int = 0o644) -> None:
        """Write a file that an administrator may change."""
        if not os.path.lexists(f"{self.destdir}{name}"):
            self.put(name, content, mode)


def main() -> None:
    """Install everything."""
    os.umask(0o022)
    layout = Layout(_options())
    _python_side(layout)
    for name in ("softtoken", "softtoken-enroll"):
        layout.put(f"{layout.prefix}/bin/{name}", _program(layout, name), 0o755)
    layout.put(f"{layout.sbin}/softtoken-admin", _program(layout, "softtoken-admin"), 0o755)
    for name, text in {**manual.pages(), **completion.scripts()}.items():
        layout.put(f"{layout.prefix}/share/{name.replace(*ZSH)}", text)
    _host_side(layout)
    # Last: from now on, logins run the new version.
    layout.put(f"{layout.home}/pam_module.py", _read("debian/pam_module.py.in").replace("@PATH@", layout.versioned))
    for name in ("softtoken-approver", "softtoken-relay", "softtoken-backend"):
        layout.put(f"{layout.home}/bin/{name}", _program(layout, name), 0o755)
    layout.put(f"{layout.modules}/pam_softtoken.so", Path(os.environ["BUILD_DIR"], "pam_softtoken.so").read_bytes())
    plugin = Path(os.environ["BUILD_DIR"], "softtoken_approval.so")
    if plugin.exists():
        layout.put(f"{layout.sudo_plugins}/{plugin.name}", plugin.read_bytes())
    print(f"installed into {layout.destdir or '/'}; no login was changed")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/build", allow_abbrev=False)
    for name in ("destdir", "prefix", "libdir", "sbindir", "python", "package", "sudo-plugins"):
        parser.add_argument(f"--{name}", default="")
    options = parser.parse_args()
    for name, value in vars(options).items():
        if value and name != "package" and (not value.startswith("/") or not re.fullmatch(r"[\w/.+~-]+", value)):
            parser.error(f"--{name.replace('_', '-')} takes an absolute path of letters, digits and ./_+~-")
    options.destdir = options.destdir.rstrip("/")
    return options


def _read(name: str) -> str:
    return (TREE / name).read_text(encoding="utf-8")


def _replaced(pattern: str, new: str, text: str) -> str:
    text, times = re.subn(pattern, lambda _: new, text, flags=re.MULTILINE)
    if not times:
        raise SystemExit(f"scripts/build: error: nothing matches {pattern}")
    return text


def _program(layout: Layout, name: str) -> str:
    """Return a program that runs our interpreter and our modules."""
    text = _replaced(r"\A#!.*$", f"#!{layout.python} -I", _read(f"scripts/{name}"))
    return _replaced(r"^sys\.path\.insert\(.*", f'sys.path.insert(0, "{layout.versioned}")', text)


def _python_side(layout: Layout) -> None:
    """Install the modules, compiled, and the bundle. It is used while the files keep the times that it knows."""
    final = layout.path(layout.versioned)
    home, old = (final.with_name(f"{final.name}.{tail}") for tail in ("new", "old"))
    for left in (home, old):
        shutil.rmtree(left, ignore_errors=True)
    package = home / "pam_softtoken"
    for source in sorted((TREE / "pam_softtoken").rglob("*.py")):
        target = package / source.relative_to(TREE / "pam_softtoken")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
        target.chmod(0o644)
        if target.name == "platform_facts.py":
            facts.write(target, _facts(layout))
        # Packages keep whole seconds, and some lower later times to this one.
        seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or source.stat().st_mtime)
        os.utime(target, (seconds, seconds))
    compileall.compile_dir(home, quiet=1, stripdir=str(home), prependdir=layout.versioned)
    bundle.write(home)
    if final.exists():
        final.rename(old)
    home.rename(final)
    shutil.rmtree(old, ignore_errors=True)


def _libraries() -> str:
    """Return the directory of Python's libraries: the one with segno, or the one for packages without compiled code."""
    found = (place for place in site.getsitepackages() if os.path.isdir(f"{place}/segno"))
    return next(found, sysconfig.get_path("purelib"))


def _facts(layout: Layout) -> dict[str, str]:
    again = {"prefix": layout.prefix, "libdir": os.path.dirname(layout.modules), "python": layout.python}
    return {
        "INTERPRETER": layout.python,
        "HOME": layout.home,
        "MODULES": layout.modules,
        "SUDO_PLUGINS": layout.sudo_plugins,
        "LIBRARIES": _libraries(),
        "PACKAGE": layout.package,
        "COMMON_PACKAGE": layout.package,
        "BUILD": "" if layout.package else " ".join(
            ["scripts/build", *(f"--{name} {shlex.quote(value)}" for name, value in again.items())]
        ),
    }  # fmt: skip


def _host_side(layout: Layout) -> None:
    """Install what root and the host's other programs read."""
    layout.put_if_missing("/etc/security/softtoken.conf", conf.text())
    rule = _read("debian/softtoken.sudoers")
    rule = _replaced(r"/usr/bin/softtoken-enroll", f"{layout.prefix}/bin/softtoken-enroll", rule)
    layout.put_if_missing("/etc/sudoers.d/softtoken", rule, 0o440)
    unit = _read("debian/libpam-softtoken.softtoken-rollback.service")
    unit = _replaced(r"/usr/sbin/softtoken-admin", f"{layout.sbin}/softtoken-admin", unit)
    unit = _replaced(r"^(RequiresMountsFor=.*) /usr/sbin ", f"RequiresMountsFor=/etc {layout.sbin} ", unit)
    layout.put(f"{layout.prefix}/lib/systemd/system/softtoken-rollback.service", unit)
    unit = _read("debian/libpam-softtoken.softtoken-key.service")
    layout.put(f"{layout.prefix}/lib/systemd/system/softtoken-key.service", unit)
    for name in ("softtoken-login.socket", "softtoken-login.service"):
        unit = _read(f"debian/libpam-softtoken.{name}")
        unit = unit.replace("/usr/bin/python3", layout.python).replace("/usr/lib/pam_softtoken", layout.home)
        layout.put(f"{layout.prefix}/lib/systemd/system/{name}", unit)
    data = layout.path("/var/lib/softtoken")
    if not data.exists():
        data.mkdir()
        data.chmod(0o711)  # a screen locker may look for its own user's mark


if __name__ == "__main__":
    main()
