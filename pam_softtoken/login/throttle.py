"""Decide which wrong answers slow down which sources. These are pure decisions on the state's records. Does no I/O.

Wrong answers are counted in buckets, so that guesses from elsewhere cannot keep the owner out. Each source from which
the owner has recently logged in has its own bucket. All other sources share one bucket for this host and one for the
network. After `FREE_ANSWERS` wrong answers a bucket has to wait one second, then two, and so on up to a day. During the
wait one code alone is refused. Two consecutive codes, a recovery code and an issued code are still accepted, because
they cannot be guessed. With a PIN, the PIN is what is being guessed. Then nothing is compared during the wait, and the
wait ends after 15 minutes.
"""

from __future__ import annotations

from pam_softtoken.account.state import SHARED_BUCKETS
from pam_softtoken.otp.mac import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_softtoken.account.state import State

LOCAL, REMOTE = SHARED_BUCKETS
FREE_ANSWERS = 5
LONGEST_WAIT_S = 24 * 60 * 60
LONGEST_WAIT_WITH_PIN_S = 15 * 60
FORGOTTEN_AFTER_S = 30 * 24 * 60 * 60
"""A bucket without a wrong answer for this many seconds starts anew. Waiting for this is slower for a guesser than
going on: the 22 answers up to the longest wait then take more than 30 days, in which 30 more would have been judged.
"""
KNOWN_FOR_S = 30 * 24 * 60 * 60
FORGIVEN_A_DAY = 4
"""How many wrong answers of the owner's own bucket the first success of a day forgives. A success forgives no more. A
guesser may share the place, such as a program of the owner's, and would get as many new guesses.
"""
_DAY_S = 24 * 60 * 60


class Source:
    """The place that an attempt comes from: an address or this host.

    Attributes:
        name: 16 hexadecimal digits. All addresses of an IPv6 /64 have one name, because one machine has all of them.
        shared: the bucket that the source shares with others until it is known.
        key: its answers are noted under this key: 24 hexadecimal digits of the name and the session. So answers of
            others from the same source cannot come between two consecutive codes of one session.
    """

    __slots__ = ("key", "name", "shared")

    def __init__(self, name: str, shared: str, *, session: int) -> None:
        self.name = name
        self.shared = shared
        self.key = f"{name}{session & 0xFFFFFFFF:08x}"


def source_of(rhost: str, caller_uid: int, *, session: int = 0, peer: bool = False, host: str = "") -> Source:
    """Return the source of an attempt.

    Args:
        rhost: `PAM_RHOST`; empty for this host.
        caller_uid: real uid of the process that asks. It tells local sources apart.
        session: session id (`getsid`) of that process; 0 when not known.
        peer: that process runs without root, and asks about others. So its `rhost` is only what it claims. Such a
            source is never the one of a login that root's programs have seen, nor that of a local user.
        host: name of this host, if other hosts use the same state. A uid is another user there.
    """
    local = f"host {host} uid {caller_uid}" if host else f"uid {caller_uid}"
    if peer:
        return Source(_name_of(f"peer {local.removeprefix('uid ')} {_network_of(rhost)}"), REMOTE, session=session)
    place = f"rhost {_network_of(rhost)}" if rhost else local
    return Source(_name_of(place), REMOTE if rhost else LOCAL, session=session)


def _name_of(place: str) -> str:
    return sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def note_keys(state: State, source: Source, is_alive: Callable[[int], bool]) -> tuple[str, ...]:
    """Return the keys of notes to which an answer from this source can be the second code.

    These are the notes of the source's own session, and of ended sessions of the same source. Some hosts take only one
    answer in each connection. One wrong answer spoils all of them, so that there is one guess for each note.

    Args:
        state: has the notes.
        source: where the answer comes from.
        is_alive: checks whether a session of that id still exists.
    """
    others = [key for key in state.notes if key[:16] == source.name and key != source.key]
    return (source.key, *(key for key in others if not is_alive(int(key[16:], 16))))


def _network_of(rhost: str) -> str:
    """Return the /64 of an IPv6 address, or the IPv4 address of a mapped one. Anything else is returned unchanged."""
    if ":" not in rhost:
        return rhost
    import _socket  # noqa: PLC0415 - most addresses are IPv4

    try:
        address = _socket.inet_pton(_socket.AF_INET6, rhost.partition("%")[0])
    except (OSError, ValueError):
        return rhost
    if address[:12] == bytes(10) + b"\xff\xff":
        return _socket.inet_ntop(_socket.AF_INET, address[12:])
    return _socket.inet_ntop(_socket.AF_INET6, address[:8] + bytes(8)) + "/64"


def bucket_of(state: State, source: Source, *, now: int) -> str:
    """Return the bucket whose wrong answers count for a source.

    Returns:
        The source's own bucket when its last success is less than 30 days ago; otherwise the shared one.
    """
    succeeded = state.sources.get(source.name)
    # A success in the future was stored under another clock. It still happened.
    return source.name if succeeded is not None and now - succeeded < KNOWN_FOR_S else source.shared


def wait_s(wrong: int, *, with_pin: bool = False) -> int:
    """Return for how many seconds a bucket has to wait after `wrong` wrong answers in a row.

    >>> [wait_s(wrong) for wrong in (4, 5, 6, 7, 14, 21, 22, 1000)]
    [0, 1, 2, 4, 512, 65536, 86400, 86400]
    >>> wait_s(1000, with_pin=True)
    900
    """
    if wrong < FREE_ANSWERS:
        return 0
    return min(1 << min(wrong - FREE_ANSWERS, 20), LONGEST_WAIT_WITH_PIN_S if with_pin else LONGEST_WAIT_S)


def left_s(state: State, bucket: str, *, now: int, with_pin: bool = False) -> int:
    """Return for how many more seconds a bucket has to wait. 0 means that its answers are judged."""
    wrong, last = state.wrong.get(bucket, (0, 0))
    return max(0, wait_s(wrong, with_pin=with_pin) - (now - last))


def set_right(state: State, *, now: int) -> State:
    """Return a state whose waits begin now, if they would end too late only because the clock was set back.

    Returns:
        The same state if there is no such wait.
    """
    for bucket, (wrong, last) in state.wrong.items():
        if last > now:
            state = state.with_wrong(bucket, wrong, now)
    return state


def after_wrong_answer(state: State, source: Source, bucket: str, *, now: int) -> State:
    """Return a state with one more wrong answer of this source and bucket."""
    wrong, last = state.wrong.get(bucket, (0, 0))
    if now - last >= FORGOTTEN_AFTER_S:
        wrong = 0
    return state.with_wrong(bucket, wrong + 1, now).with_missed(source.name)


def after_success(
    state: State, source: Source, bucket: str, *, now: int, with_pin: bool = False, told: bool = True
) -> State:
    """Return a state that knows the source as one of the owner's and forgives wrong answers in its own bucket.

    Wrong answers of others in a shared bucket stay. A success must not earn a guesser new free answers.

    Args:
        with_pin: a PIN stands in front of the codes.
        told: the owner is told now how many wrong answers came from elsewhere. Otherwise they are told next time.
    """
    if bucket not in SHARED_BUCKETS:
        # With a PIN a guesser gains little, because the wait ends soon in any case.
        state = state.without_wrong(bucket) if with_pin else _forgiven(state, source, bucket, now=now)
    return state.without_missed("" if told else source.name).with_source(source.name, now)


def _forgiven(state: State, source: Source, bucket: str, *, now: int) -> State:
    """Return a state that forgives the owner's likely typing errors. It opens the bucket, unless too many answers came
    from another person.
    """
    wrong, last = state.wrong.get(bucket, (0, 0))
    succeeded = state.sources.get(source.name)
    if succeeded is None:
        return state.without_wrong(bucket)
    if succeeded // _DAY_S != now // _DAY_S:
        wrong -= FORGIVEN_A_DAY
    if wrong <= 0:
        return state.without_wrong(bucket)
    wait = wait_s(wrong)
    if wait <= LONGEST_WAIT_WITH_PIN_S:
        last = min(last, now - wait)
    return state.with_wrong(bucket, wrong, last)


def missed_elsewhere(state: State, source: Source) -> int:
    """Return the number of wrong answers from other sources since the last success."""
    return sum(count for name, count in state.missed.items() if name != source.name)
