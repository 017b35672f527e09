"""Which wrong answers slow whom down: pure decisions on the state's records of sources and wrong answers. No I/O.

Wrong answers are counted in buckets, so that somebody who guesses from elsewhere cannot keep the owner out: each source
from which the owner has logged in lately has a bucket of its own, and all others share one for this host and one for
the network. After `FREE_ANSWERS` wrong ones a bucket is closed for a second, then for two, and so on up to 15 minutes;
while it is closed, nothing that is typed is compared with anything.
"""

from __future__ import annotations

from pam_softtoken.errors import Throttled
from pam_softtoken.mac import sha256
from pam_softtoken.state import SHARED_BUCKETS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.state import State

    Source = tuple[str, str]

LOCAL, REMOTE = SHARED_BUCKETS
FREE_ANSWERS = 5
LONGEST_WAIT_S = 15 * 60
FORGOTTEN_AFTER_S = 24 * 60 * 60
"""A bucket without a wrong answer for a day starts anew: slower for a guesser than going on."""
KNOWN_FOR_S = 30 * 24 * 60 * 60


def source_of(rhost: str, caller_uid: int) -> Source:
    """Name the place that an attempt comes from.

    Args:
        rhost: `PAM_RHOST`; empty for this host.
        caller_uid: real uid of the process that asks, which tells the local ones apart.

    Returns:
        The source's own name, 16 hexadecimal digits, and the bucket that it shares until it is known.
    """
    place = f"rhost {rhost}" if rhost else f"uid {caller_uid}"
    name = sha256(place.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    return name, REMOTE if rhost else LOCAL


def bucket_of(state: State, source: Source, *, now: int) -> str:
    """Give the bucket whose wrong answers count for a source.

    Returns:
        The source's own when its last success is less than 30 days ago, otherwise the shared one.
    """
    name, shared = source
    succeeded = state.sources.get(name)
    # A success in the future was stored under another clock; it still happened.
    return name if succeeded is not None and now - succeeded < KNOWN_FOR_S else shared


def wait_s(wrong: int) -> int:
    """Give how long a bucket is closed after that many wrong answers in a row, in seconds.

    >>> [wait_s(wrong) for wrong in (4, 5, 6, 7, 14, 15, 1000)]
    [0, 1, 2, 4, 512, 900, 900]
    """
    if wrong < FREE_ANSWERS:
        return 0
    return min(1 << min(wrong - FREE_ANSWERS, 20), LONGEST_WAIT_S)


def require_open(state: State, bucket: str, *, now: int) -> None:
    """Let an attempt go on only if its bucket is open.

    Raises:
        Throttled: it is not; nothing must be compared.
    """
    wrong, last = state.wrong.get(bucket, (0, 0))
    closed_for_s = wait_s(wrong) - (now - last)
    if closed_for_s > 0:
        raise Throttled(closed_for_s)


def require_spare(state: State, bucket: str, *, now: int) -> None:
    """Let something be judged that may not have been meant as an answer, only if another could follow were it wrong.

    Raises:
        Throttled: it would close the bucket, or it is closed already.
    """
    require_open(after_wrong_answer(state, bucket, now=now), bucket, now=now)


def set_right(state: State, *, now: int) -> State:
    """Let the waits begin now that would end in the future only because the clock was set back.

    Returns:
        The same state if there are none.
    """
    for bucket, (wrong, last) in state.wrong.items():
        if last > now:
            state = state.with_wrong(bucket, wrong, now)
    return state


def after_wrong_answer(state: State, bucket: str, *, now: int) -> State:
    """Count a wrong answer."""
    wrong, last = state.wrong.get(bucket, (0, 0))
    if now - last >= FORGOTTEN_AFTER_S:
        wrong = 0
    return state.with_wrong(bucket, wrong + 1, now)


def after_success(state: State, source: Source, bucket: str, *, now: int) -> State:
    """Remember the source as one of the owner's, and open its own bucket again.

    The others' wrong answers in a shared bucket stay: a success must not give a guesser new free answers.
    """
    if bucket not in SHARED_BUCKETS:
        state = state.without_wrong(bucket)
    return state.with_source(source[0], now)
