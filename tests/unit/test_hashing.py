"""Hashes of new recovery codes are computed in parallel, and equal those computed one after the other."""

from __future__ import annotations

import hashlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from pam_softtoken.enroll import recovery_hashing
from pam_softtoken.otp import recovery_code

PATIENCE_S = 60
"""Only a test that fails waits for so long."""


def test_hashed__computes_the_given_number_of_hashes_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    scrypt = hashlib.scrypt
    together = threading.Barrier(3)

    def meeting(*data: bytes, **cost: object) -> bytes:
        together.wait(PATIENCE_S)  # breaks unless three are computed at the same time
        return scrypt(*data, **cost)  # type: ignore[arg-type]

    monkeypatch.setattr(hashlib, "scrypt", meeting)
    recovery_hashing.hashed(recovery_code.generate(6), at_once=3)


def test_hashed__uses_every_processor_and_not_more_memory_than_four_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    pools = []

    class Pool(ThreadPoolExecutor):
        def __init__(self, workers: int) -> None:
            pools.append(workers)
            super().__init__(workers)

    monkeypatch.setattr(recovery_hashing, "ThreadPoolExecutor", Pool)
    for processors, workers in ((1, []), (2, [2]), (64, [4])):
        monkeypatch.setattr(os, "sched_getaffinity", lambda process, count=processors: set(range(count)))
        pools.clear()
        recovery_hashing.hashed(recovery_code.generate(2))
        assert pools == workers


def test_hashed__each_code_is_found_by_its_own_hash() -> None:
    codes = recovery_code.generate(5)
    found = recovery_hashing.hashed(codes, at_once=2)
    for code, entry in zip(codes, found.hashes, strict=True):
        assert found.digest(code.replace("-", "")) == entry
    assert not found.scratch
    assert recovery_hashing.hashed(["12345678"]).scratch
    assert recovery_hashing.hashed([]).hashes == ()
