"""Training in a child process: started, fed, timed and, should it hang, killed by the process that rates."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import msgspec

from rempart.detection.models.model_file import MAX_BYTES
from rempart.detection.models.trained import Trained
from rempart.detection.models.training import Job
from rempart.kernel.errors import RempartError, Unavailable, Unprocessable

WITHIN = 900.0  # seconds, on a machine that has other things to do
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_KINDS: dict[str, type[RempartError]] = {"no_trainer": Unavailable, "not_enough_data": Unprocessable}


class ChildTrainer:
    """Implements `detection.models.ports.Trainer`."""

    def __init__(self, within: float = WITHIN) -> None:
        self._within = within

    async def train(self, job: Job) -> Trained:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "rempart.servers.model_trainer",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={
                **dict.fromkeys(_THREADS, "1"),
                "JOBLIB_MULTIPROCESSING": "0",
                "PATH": os.environ.get("PATH", os.defpath),
            },
        )
        try:
            out, err = await asyncio.wait_for(child.communicate(msgspec.msgpack.encode(job)), self._within)
        except TimeoutError:
            raise Unavailable(
                "training_failed", f"it took more than {self._within:g} s", "see docs/models.md"
            ) from None
        finally:
            if child.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    child.kill()
                await child.wait()
        if child.returncode:
            raise _refusal(child.returncode, err)
        if len(out) > MAX_BYTES:
            raise Unavailable("training_failed", "its model is too large", "see docs/models.md")
        try:
            return msgspec.json.decode(out, type=Trained)
        except (msgspec.DecodeError, UnicodeDecodeError):
            raise Unavailable("training_failed", "it gave no model", "see `rempart logs models`") from None


def _refusal(code: int, err: bytes) -> RempartError:
    line = err.strip().rpartition(b"\n")[2]
    try:
        said = msgspec.json.decode(line, type=dict[str, str])
        kind = _KINDS.get(said["code"])
        if kind is not None:
            return kind(said["code"], said["reason"], said.get("remedy", ""))
        why = said["reason"]
    except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
        why = f"it ended with {code}"
    return Unavailable("training_failed", why[:200], "see docs/models.md")
