"""One-shot: fit one model and end. So scikit-learn, its 140 MB and its time are in no process that watches.

stdin: one `detection.models.training.Job` as MessagePack. stdout: `detection.models.trained.Trained` as JSON, exit code
0; else one JSON problem `{"code", "reason"}` on stderr and the exit code of its class. It gets the processor when
hardly anybody else wants it, opens no file and no socket after its imports, holds no key, and is bounded in time and
memory.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from typing import NoReturn

import msgspec

from rempart.kernel.errors import BadInput, RempartError, Unavailable

MAX_BYTES = 64 << 20
CPU_SECONDS = 600
MEMORY = 4 << 30


def stand_back() -> None:
    """The lowest niceness, as a batch job: a hundredth of what others get, and not nothing. Limits on processor time,
    memory and files written."""
    os.nice(19)
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    for limit, value in ((resource.RLIMIT_CPU, CPU_SECONDS), (resource.RLIMIT_AS, MEMORY), (resource.RLIMIT_FSIZE, 0)):
        hard = resource.getrlimit(limit)[1]
        least = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (least, least))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def fit(document: bytes) -> bytes:
    """Raises BadInput for a job that makes no sense, Unavailable `no_trainer` without scikit-learn."""
    from rempart.detection.models.training import Job, train

    try:
        job = msgspec.msgpack.decode(document, type=Job)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadInput("bad_job", "stdin does not hold a training job") from None
    try:
        from rempart.backends.sklearn_fitter import SklearnFitter
    except ImportError:
        raise Unavailable(
            "no_trainer", "scikit-learn is not installed", "install the extra: pip install 'rempart[models]'"
        ) from None
    return msgspec.json.encode(train(job, SklearnFitter()))


def main() -> NoReturn:
    try:
        stand_back()
        document = sys.stdin.buffer.read(MAX_BYTES + 1)
        if len(document) > MAX_BYTES:
            raise BadInput("bad_job", "the training job is too large")
        sys.stdout.buffer.write(fit(document))
        sys.stdout.buffer.flush()
    except RempartError as error:
        print(json.dumps({"code": error.code, "reason": error.reason, "remedy": error.remedy}), file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    raise SystemExit(0)


if __name__ == "__main__":
    main()
