"""Log lines: fixed order, one line for any input, a closed list of reasons."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pam_softtoken import log
from pam_softtoken.admin.log_view import log_lines
from tests.support.installation import TREE


class _Sink:
    def __init__(self) -> None:
        self.lines: list[tuple[int, str]] = []

    def __call__(self, level: int, line: str) -> None:
        self.lines.append((level, line))


def test_outcome__has_its_fields_in_a_fixed_order() -> None:
    sink = _Sink()
    record = log.Log(sink)
    record.user, record.rhost = "alice", "192.0.2.7"
    record.outcome(log.NOTICE, "denied", "replayed", token="phone")
    assert sink.lines == [(5, "user=alice rhost=192.0.2.7 token=phone result=denied reason=replayed")]


def test_outcome__an_unknown_reason_is_a_bug() -> None:
    with pytest.raises(ValueError, match="not a reason"):
        log.Log(_Sink()).outcome(log.NOTICE, "denied", "because")


@given(st.text(max_size=400))
@example(100 * "\x80 ")
@example(400 * "\x80")
def test_outcome__nothing_from_outside_breaks_the_line(value: str) -> None:
    sink = _Sink()
    record = log.Log(sink)
    record.user = record.rhost = value
    record.outcome(log.NOTICE, "denied", "mismatch", detail=value)
    line = sink.lines[0][1]
    assert line.isascii()
    assert line.isprintable()
    assert line.count("result=") == 1 + value.count("result=")
    assert len(line) < 2 * 256 + 512 + 60


def test_escape__spaces_quotes_and_equals_signs_cannot_make_a_field() -> None:
    assert log.escape('a b"c=d\n') == r"a\x20b\x22c\x3dd\x0a"


def test_escape__half_of_a_surrogate_pair_is_a_character_like_others() -> None:
    assert log.escape("\ud800\udcff\udfff") == r"\xed\xa0\x80\xff\xed\xbf\xbf"


def test_outcome__a_detail_of_many_words_is_cut_as_well() -> None:
    sink = _Sink()
    log.Log(sink).outcome(log.NOTICE, "denied", "mismatch", detail="\x80 " * 200)
    assert len(sink.lines[0][1]) < 600


def test_note__debug_lines_need_debug() -> None:
    sink = _Sink()
    record = log.Log(sink)
    record.note(log.DEBUG, "a step")
    assert not sink.lines
    record.debugging = True
    record.note(log.DEBUG, "a step")
    assert sink.lines == [(7, 'user= detail="a step"')]


# -- written and read again


def unescaped(value: str) -> str:
    """Undo the escapes of a value. Only the log writes backslashes."""
    plain = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes.fromhex(found[1].decode()), value.encode("ascii"))
    return plain.decode("utf-8")


TEXT = st.text(st.characters(codec="utf-8"), max_size=20)  # so short that nothing is cut off


@given(
    service=st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
    phase=st.sampled_from(log.PHASES),
    user=TEXT,
    uid=st.integers(0, 2**32 - 2),
    rhost=TEXT,
    trial=st.booleans(),
    result=st.sampled_from(sorted(log.RESULTS)),
    reason=st.sampled_from(sorted(log.REASONS)),
    token=TEXT,
    detail=TEXT,
)
@example("a:auth)", "auth", "a result=x", 0, "b", False, "denied", "replayed", 'c"', 'a="b" c')
def test_line__that_was_written_is_read_again(
    service: str, phase: str, user: str, uid: int, rhost: str, trial: bool, result: str, reason: str, token: str,
    detail: str,
) -> None:  # fmt: skip
    sink = _Sink()
    record = log.Log(sink)
    record.user, record.uid, record.rhost, record.trial = user, str(uid) if uid else "", rhost, trial
    record.outcome(log.NOTICE, result, reason, token=token, detail=detail)
    line = log.head(service, phase) + sink.lines[0][1]
    read = log_lines.read_message(line)
    assert read is not None, line
    assert unescaped(read[0]) == service
    wanted = {
        "user": user, "uid": record.uid, "rhost": rhost, "token": token, "result": result, "reason": reason,
        "trial": "yes" if trial else "", "detail": " ".join(detail.split()),
    }  # fmt: skip
    assert {name: unescaped(value) for name, value in read[1].items()} == {k: v for k, v in wanted.items() if v}
    assert list(read[1]) == [name for name in log.FIELDS if wanted[name]]


def test_line__of_the_bridge_is_read_however_long_its_detail_is() -> None:
    source = (TREE / "pam_softtoken" / "bridge" / "pam_softtoken.c").read_text()
    most = int(source.partition("#define MAX_DETAIL_BYTES ")[2].split()[0])
    for length, is_ours in ((most - 1, True), (most + 1, False)):
        line = f'pam_softtoken(sshd:auth): result=denied reason=backend detail="{"x" * length}"'
        assert (log_lines.read_message(line) is not None) == is_ours


@given(st.dictionaries(st.text(st.characters(min_codepoint=97, max_codepoint=122), min_size=1), st.text(max_size=300)))
def test_words__of_a_deed_are_read_again(facts: dict[str, str]) -> None:
    fields = {"action": "revoke", "user": "alice", **facts}
    read = log_lines.read_message(f"softtoken-admin: {log.words(fields)}")
    if fields["action"] and fields["user"]:
        assert read is not None
        assert (read[1]["result"], read[1]["user"]) == (log.escape(fields["action"]), log.escape(fields["user"]))
        rest = [name for name in facts if name not in ("action", "user") and facts[name]]
        assert re.findall(r"([a-z]+)=", read[1]["detail"]) == rest


# -- the journal


def entry_of(**fields: str) -> log_lines.Entry | None:
    """Return a journal's entry with these fields."""
    return log_lines.read_journal_entry({"__REALTIME_TIMESTAMP": "1111111109000000", **fields})


OURS = "pam_softtoken(su:auth): user=root uid=1000 result=denied reason=mismatch"


def test_journal_entry__has_its_writer() -> None:
    entry = entry_of(MESSAGE=OURS, _UID="0", SYSLOG_IDENTIFIER="anything")
    assert entry is not None
    assert (entry.when, entry.service, entry.writer_uid) == (1111111109, "su", 0)
    assert entry.fields["uid"] == "1000"


@pytest.mark.parametrize("uid", ["", "-1", "0x0", "\u0660", "9" * 5000])
def test_journal_entry__with_an_unknown_writer_does_not_count_as_roots(uid: str) -> None:
    entry = entry_of(MESSAGE=OURS, _UID=uid)
    assert entry is not None
    assert entry.writer_uid == -1
    without = entry_of(MESSAGE=OURS)
    assert without is not None
    assert without.writer_uid == -1


def test_journal_entry__of_dropped_lines_is_shown_if_the_journal_itself_says_so() -> None:
    said = {"MESSAGE": "Suppressed 12 messages from session-3.scope", "MESSAGE_ID": log_lines.SUPPRESSION, "_UID": "0"}
    entry = entry_of(**said, _TRANSPORT="driver")
    assert entry is not None
    assert (entry.service, entry.fields) == (
        "systemd-journald",
        {"result": "suppressed", "detail": "Suppressed 12 messages from session-3.scope"},
    )
    assert entry_of(**said, _TRANSPORT="journal") is None
    assert entry_of(**said) is None
