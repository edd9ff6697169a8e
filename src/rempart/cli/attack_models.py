"""What `rempart attack` is lent of the models: to learn from poisoned events, and to be given model files."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from importlib.util import find_spec
from typing import Any

from rempart.detection.models.model import Row, Subject
from rempart.detection.models.stream import Stream
from rempart.detection.models.trained import Trained
from rempart.detection.models.training import Job, features_of, train

SUBJECT = Subject.LOGINS


def models_means() -> dict[str, Any]:
    """Nothing where the extra `models` is missing: then these attacks are not tried, which the report says."""
    if find_spec("sklearn") is None:
        return {}
    return {"learn": learn, "model": model_file}


def learn(history: Iterable[bytes], after: Iterable[bytes]) -> list[tuple[str, str]]:
    stream = Stream()
    for event in history:
        stream.take(event)
    model = _train(list(stream.samples[SUBJECT].choose(stream.clock.now + 3600).rows))
    rows = [row for event in after for row in stream.rows(event, SUBJECT)]
    return [(row.principal, model.rate(row)[2].value) for row in rows]


def _train(rows: list[Row]) -> Trained:
    from rempart.backends.sklearn_fitter import SklearnFitter

    return train(Job(SUBJECT, rows, len(features_of(SUBJECT))), SklearnFitter())


@cache
def model_file() -> tuple[bytes, Callable[[bytes], str]]:
    """Signed by a key made for it: the running system's never leaves its process."""
    from rempart.crypto.signing import NoteSigner, NoteVerifier
    from rempart.detection.models.model_file import Body, read_model, write_model
    from rempart.detection.models.staged import BEGIN, staged
    from rempart.kernel.errors import Integrity

    signer = NoteSigner("attack.example/rempart/models", NoteSigner.new_seed())
    verifier, features = NoteVerifier(signer.name, signer.public_key), features_of(SUBJECT)
    stream = Stream()
    rows = [row for one in staged(SUBJECT, 7, 1) for row in stream.rows_of(one.own, SUBJECT)]
    names = [one.name for one in features]
    body = Body(serial=1, trained_at=BEGIN, features=names, left_out={}, model=_train(rows))

    def believe(content: bytes) -> str:
        try:
            read_model(content, SUBJECT, features, verifier)
        except Integrity as error:
            return error.code
        return ""

    return write_model(body, features, signer), believe
