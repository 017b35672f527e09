"""Define the modules of a login from the bundle. `bundle.py` compiles this file into the bundle, and
`scripts/softtoken-backend` runs it.
"""

from marshal import loads
from posix import stat
from sys import modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import CodeType
    from typing import Any

    Module = tuple[str, str, CodeType, dict[str, bytes]]


def _maker(scope: "dict[str, Any]", late: "dict[str, bytes]") -> "Any":
    """Return a module's `__getattr__`. It defines a late name when it is first used."""

    def make(name: str) -> "Any":
        if name not in late:
            raise AttributeError(name)
        exec(loads(late[name]), scope)
        return scope[name]

    return make


def define(home: str, sources: "tuple[tuple[str, int, int], ...]", codes: "tuple[Module, ...]") -> None:
    """Define all modules, or none if the file of one of them was changed. After an error, none stays defined.

    Args:
        home: the directory that holds the package.
        sources: for each module, its file below `home`, its size, and its time of change in nanoseconds.
        codes: for each module, in the order of imports: its name, its file, the code that defines it, and the code of
            each late name, as `marshal` writes it.
    """
    for path, size, changed_ns in sources:
        found = stat(home + path)
        if found.st_size != size or found.st_mtime_ns != changed_ns:
            return
    new_module = type(modules["sys"])
    defined = []
    try:
        for name, path, code, late in codes:
            module = new_module(name)
            parent, _, tail = name.rpartition(".")
            scope = module.__dict__
            scope["__file__"] = home + path
            if path.endswith("/__init__.py"):
                scope["__package__"] = name
                scope["__path__"] = [(home + path).removesuffix("/__init__.py")]
            else:
                scope["__package__"] = parent
                scope["_own_module"] = module
                scope["__getattr__"] = _maker(scope, late)
            defined.append(name)
            modules[name] = module
            exec(code, scope)
            if parent:
                setattr(modules[parent], tail, module)
    except BaseException:
        for name in defined:
            del modules[name]
        raise
