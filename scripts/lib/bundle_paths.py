"""What a login uses of `os.path`, for the bundle, because `posixpath` would load `os`. Each path is a text."""

from _stat import S_ISDIR
from posix import lstat, stat, stat_result


def basename(path: str) -> str:
    return path[path.rfind("/") + 1 :]


def dirname(path: str) -> str:
    head = path[: path.rfind("/") + 1]
    return head.rstrip("/") or head


def normpath(path: str) -> str:
    # POSIX lets two slashes at the start mean something else than one, but not three.
    root = "" if not path.startswith("/") else "//" if path.startswith("//") and not path.startswith("///") else "/"
    parts: list[str] = []
    for part in path.split("/"):
        if part in ("", "."):
            continue
        if part != ".." or (not root and not parts) or (parts and parts[-1] == ".."):
            parts.append(part)
        elif parts:
            parts.pop()
    return root + "/".join(parts) or "."


def lexists(path: str) -> bool:
    try:
        lstat(path)
    except (OSError, ValueError):
        return False
    return True


def isdir(path: str) -> bool:
    try:
        return S_ISDIR(stat(path).st_mode)
    except (OSError, ValueError):
        return False


def samestat(one: stat_result, other: stat_result) -> bool:
    return one.st_ino == other.st_ino and one.st_dev == other.st_dev
