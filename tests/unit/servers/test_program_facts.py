"""What is told of the program of a process, supervised or not."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from pathlib import Path

from rempart.servers.program_facts import ProgramFacts
from rempart.servers.spawn import start_time
from rempart.workloads import programs


def test_path_and_digest_of_any_process():
    interpreter = os.path.realpath(sys.executable)
    status = os.stat(interpreter)
    told = asyncio.run(ProgramFacts().of(os.getpid(), True))
    assert told == {
        "start_time": start_time(os.getpid()),
        "program": [status.st_dev, status.st_ino],
        "exe": interpreter,
        "sha256": hashlib.sha256(Path(interpreter).read_bytes()).hexdigest(),
    }
    assert "sha256" not in asyncio.run(ProgramFacts().of(os.getpid(), False))


def test_nothing_is_told_of_who_is_gone():
    assert asyncio.run(ProgramFacts().of(2**22 + 1, True)) == {}


def test_a_program_that_is_too_large_is_not_read(monkeypatch):
    monkeypatch.setattr(programs, "LARGEST", 10)
    assert "sha256" not in asyncio.run(ProgramFacts().of(os.getpid(), True))
