"""What a realm needs of the store that its hosts share. `etcd` is the one engine there is. Another one needs quorum, a
read that sees every change made before it, and a comparison and a change in one step. Imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Engine(Protocol):
        """A connection to the shared store. Every wait ends at `deadline_s`, by the monotonic clock."""

        def read(self, keys: list[str], *, deadline_s: float) -> list[Entry]:
            """Return what is under these keys now, all at one moment.

            Raises:
                EngineDown: it is not known.
            """

        def swap(
            self, expected: dict[str, int], put: dict[str, bytes | None], read: list[str], *, deadline_s: float
        ) -> Swapped:
            """Change keys, if each of `expected` still has its revision. Otherwise read what is there now.

            The request may be sent more than once. If an answer was lost, the first one may have succeeded and the
            second one then finds the change. So the caller must know its own values.

            Raises:
                EngineDown: the change was made, was not made, or will be made.
            """

        def may_write(self, key: str, *, deadline_s: float) -> bool:
            """Return whether this host has the right to write a key. Nothing is written.

            Raises:
                EngineDown: it is not known.
            """

        def close(self) -> None:
            """End the connection."""


class EngineDown(Exception):
    """No answer came in time. The text is for the log."""


class AnswerTooLarge(EngineDown):
    """No node can answer, because the answer would be too large. A question about less helps."""


class Entry:
    """What is under one key.

    Args:
        value: None if there is no such key.
        revision: changes with each change of the key; 0 if there is no such key.
    """

    __slots__ = ("revision", "value")

    def __init__(self, value: bytes | None, revision: int) -> None:
        self.value = value
        self.revision = revision


class Swapped:
    """The answer to a swap.

    Args:
        done: the change was made by this request.
        revision: of the changed keys, if it was made.
        entries: otherwise what was found, in the order of the keys to read.
    """

    __slots__ = ("done", "entries", "revision")

    def __init__(self, *, done: bool, revision: int, entries: list[Entry]) -> None:
        self.done = done
        self.revision = revision
        self.entries = entries
