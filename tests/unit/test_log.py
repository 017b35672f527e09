"""Log lines: fixed order, one line whatever comes in, a closed list of reasons."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pam_softtoken import log


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
