"""The engine on etcd: one request at a time, sent to the next node when one fails, until the time is over. Needs the
nodes of a cluster, and nothing of ours on them.
"""

from __future__ import annotations

import os
import time

from pam_softtoken.fleet import etcd_messages
from pam_softtoken.fleet.engine import AnswerTooLarge, EngineDown, Entry, Swapped
from pam_softtoken.fleet.http2 import BadAnswer, Conversation, TooLarge

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

TRANSACTION = "/etcdserverpb.KV/Txn"
SHORTEST_TRY_S = 0.3
_PAUSES_S = (0.0, 0.05, 0.1, 0.2, 0.4)
"""After each round of all nodes. A new leader is chosen within a second or two."""


_NO_REVISION = 2**62
"""No key has it."""


class _Refusal(BadAnswer):
    """The node answers, and does not do what was asked."""


class _Link:
    """A connection to one node."""

    __slots__ = ("_channel", "_conversation")

    def __init__(self, context: Any, endpoint: tuple[str, int], *, deadline_s: float) -> None:
        from pam_softtoken.fleet import tls  # noqa: PLC0415 - OpenSSL is large, and programs name clusters that they never ask

        self._channel = tls.Channel(context, *endpoint, deadline_s=deadline_s)
        self._conversation = Conversation()
        try:
            self._channel.send(self._conversation.greeting(), deadline_s=deadline_s)
        except BaseException:
            self.close()
            raise

    def call(self, method: str, message: bytes, *, deadline_s: float) -> bytes:
        """Return the answer to a call. Raises `OSError` or `BadAnswer`; the connection is then of no more use."""
        conversation = self._conversation
        timeout_ms = int((deadline_s - time.monotonic()) * 1000)
        self._channel.send(conversation.call(method, message, timeout_ms=timeout_ms), deadline_s=deadline_s)
        while not conversation.has_ended:
            replies = conversation.feed(self._channel.receive(deadline_s=deadline_s))
            if replies:
                self._channel.send(replies, deadline_s=deadline_s)
        if conversation.message is None:
            raise _Refusal("it refuses: no quorum, or no right")
        return conversation.message

    def close(self) -> None:
        self._channel.close()


class Etcd:
    """A cluster.

    Args:
        endpoints: host and port of each node.
        context: from `tls.context_of`.
    """

    __slots__ = ("_context", "_endpoints", "_link", "_next")

    def __init__(self, endpoints: tuple[tuple[str, int], ...], context: Any) -> None:
        self._endpoints = endpoints
        self._context = context
        self._link: _Link | None = None
        self._next = os.urandom(1)[0] % len(endpoints)  # so that the hosts spread over the nodes

    def read(self, keys: list[str], *, deadline_s: float) -> list[Entry]:
        """See `engine.Engine`."""
        names = [key.encode("ascii") for key in keys]
        request = etcd_messages.transaction({}, {}, names)
        found = self._ask(request, names, deadline_s)
        if not found.done or len(found.entries) != len(keys):
            raise EngineDown("the answer is to another question")
        return found.entries

    def swap(
        self, expected: dict[str, int], put: dict[str, bytes | None], read: list[str], *, deadline_s: float
    ) -> Swapped:
        """See `engine.Engine`."""
        names = [key.encode("ascii") for key in read]
        revisions = {key.encode("ascii"): expected[key] for key in expected}
        values = {key.encode("ascii"): put[key] for key in put}
        swapped = self._ask(etcd_messages.transaction(revisions, values, names), names, deadline_s)
        if len(swapped.entries) != (0 if swapped.done else len(read)):
            raise EngineDown("the answer is to another question")
        return swapped

    def may_write(self, key: str, *, deadline_s: float) -> bool:
        """See `engine.Engine`. etcd checks the rights for all that a transaction could do, also if it does the other.

        A node without a quorum refuses, too. So the same node has to answer a question after it has refused.
        """
        name = [key.encode("ascii")]
        question = etcd_messages.transaction({}, {}, name)
        attempt = etcd_messages.transaction({name[0]: _NO_REVISION}, {name[0]: b""}, name)
        for _ in self._endpoints:
            self.call(TRANSACTION, question, deadline_s=deadline_s)  # finds a node that answers
            try:
                try:
                    self._call_once(TRANSACTION, attempt, deadline_s=deadline_s)
                except _Refusal:
                    self._call_once(TRANSACTION, question, deadline_s=deadline_s)
                    return False
            except (OSError, BadAnswer, ValueError):
                self.close()
                self._next = (self._next + 1) % len(self._endpoints)
            else:
                return True
        raise EngineDown("no node answers twice")

    def call(self, method: str, message: bytes, *, deadline_s: float) -> bytes:
        """Return the answer to any call that may be sent more than once.

        Raises:
            AnswerTooLarge: most nodes have begun an answer that is too large. One alone may only be broken.
            EngineDown: no node answered in time.
        """
        problems: dict[str, str] = {}
        too_large: set[int] = set()  # nodes; the others may be down meanwhile
        tries = 0
        while True:
            in_round = tries % len(self._endpoints)
            if tries and not in_round:
                time.sleep(
                    max(
                        0.0,
                        min(
                            _PAUSES_S[min(tries // len(self._endpoints), len(_PAUSES_S) - 1)],
                            deadline_s - time.monotonic(),
                        ),
                    )
                )
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                raise EngineDown("; ".join(f"{place}: {why}" for place, why in problems.items()) or "no time was left")
            try_s = max(SHORTEST_TRY_S, left_s / (len(self._endpoints) - in_round))
            try:
                return self._call_once(method, message, deadline_s=min(deadline_s, time.monotonic() + try_s))
            except (OSError, BadAnswer, ValueError) as error:
                host, port = self._endpoints[self._next]
                problems[f"{host}:{port}"] = _words_of(error)
                self.close()
                (too_large.add if isinstance(error, TooLarge) else too_large.discard)(self._next)
                self._next = (self._next + 1) % len(self._endpoints)
                tries += 1
                if 2 * len(too_large) > len(self._endpoints):
                    raise AnswerTooLarge(problems[f"{host}:{port}"]) from None

    def close(self) -> None:
        """See `engine.Engine`."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def _call_once(self, method: str, message: bytes, *, deadline_s: float) -> bytes:
        if self._link is None:
            self._link = _Link(self._context, self._endpoints[self._next], deadline_s=deadline_s)
        return self._link.call(method, message, deadline_s=deadline_s)

    def _ask(self, request: bytes, read: list[bytes], deadline_s: float) -> Swapped:
        answer = self.call(TRANSACTION, request, deadline_s=deadline_s)
        try:
            done, revision, entries = etcd_messages.read_transaction(answer, read)
        except ValueError as error:
            self.close()
            raise EngineDown(str(error)) from None
        return Swapped(done=done, revision=revision, entries=entries)


def _words_of(error: Exception) -> str:
    """Return what is wrong with a node, without what its server may have sent."""
    if isinstance(error, TimeoutError):
        return "timed out"
    for name in ("verify_message", "reason", "strerror"):
        words = getattr(error, name, None)
        if isinstance(words, str) and words:
            return words.lower().replace("_", " ")
    return str(error)
