"""The model files of the process: which is in force, and why another was refused."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rempart.crypto.aead import seal, unseal
from rempart.crypto.signing import NoteSigner, NoteVerifier
from rempart.kernel.durable_file import replace_file
from rempart.kernel.errors import Integrity

from .model import Subject
from .model_file import MAX_BYTES, Body, SignedModel, read_model, write_model
from .training import features_of

KEPT = 3  # files of a subject
_NAME = re.compile(r"([a-z]+)-([0-9]{6,12})\.model")
_SEED = b"models/signing-key"


def open_signer(path: Path, trust_domain: str, key: bytes) -> NoteSigner:
    """The key that signs models, sealed at rest; made at the first start. Raises Integrity `seal_broken`, OSError."""
    name = f"{trust_domain}/rempart/models"
    try:
        return NoteSigner(name, unseal(key, path.read_bytes(), _SEED))
    except FileNotFoundError:
        seed = NoteSigner.new_seed()
        replace_file(path, seal(key, seed, _SEED))
        return NoteSigner(name, seed)


@dataclass
class ModelFiles:
    """Files in `directory`: `SUBJECT-SERIAL.model`, and `SUBJECT-SERIAL.new` until the record names it. One writer."""

    directory: Path
    signer: NoteSigner
    refused: dict[Subject, Integrity] = field(default_factory=dict)

    @property
    def verifier(self) -> NoteVerifier:
        return NoteVerifier(self.signer.name, self.signer.public_key)

    def load(self, serials: Mapping[Subject, int]) -> dict[Subject, SignedModel]:
        """The newest file of each subject, if it holds; `refused` says why one does not. `serials`: the newest that the
        record names. An older file never takes the place of a newest one that is refused."""
        found: dict[Subject, SignedModel] = {}
        self.refused = {}
        for subject in Subject:
            least = serials.get(subject, 0)
            try:
                self._adopt(subject, least)
            except OSError as error:
                self.refused[subject] = Integrity("model_unreadable", f"it can't be kept: {error.strerror}", "see logs")
                continue
            files = self._files(subject)
            if not files:
                if least:
                    why = f"model number {least} is gone"
                    self.refused[subject] = Integrity("model_missing", why, "`rempart models train` makes a new one")
                continue
            try:
                found[subject] = self._believed(subject, *files[-1], least)
            except Integrity as error:
                self.refused[subject] = error
            except OSError as error:
                self.refused[subject] = Integrity("model_unreadable", f"it can't be read: {error.strerror}", "see logs")
        return found

    def _believed(self, subject: Subject, serial: int, path: Path, least: int) -> SignedModel:
        """Raises Integrity, OSError."""
        model = read_model(_read(path), subject, features_of(subject), self.verifier, at_least=least)
        if model.body.serial != serial:
            raise Integrity("model_foreign", "the file's name and content name different models", "train it")
        return model

    def next_serial(self, subject: Subject, known: int) -> int:
        """A newer file than the record `known`s that isn't believed doesn't count either: it is put aside as
        `NAME.refused`, so that nobody uses the numbers up. Raises OSError."""
        files = self._files(subject)
        while files and files[-1][0] > known:
            serial, path = files[-1]
            try:
                self._believed(subject, serial, path, known)
                return serial + 1
            except Integrity:
                path.rename(path.with_suffix(".refused"))
                files.pop()
        return known + 1

    def stage(self, body: Body) -> SignedModel:
        """Signed, read back and durable when it returns, and not used at any start before `adopt` or before the record
        names it. Raises Integrity when what was trained makes no sense, OSError."""
        subject = body.model.subject
        features = features_of(subject)
        content = write_model(body, features, self.signer)
        model = read_model(content, subject, features, self.verifier)
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        replace_file(self._path(subject, body.serial, ".new"), content)
        return model

    def adopt(self, model: SignedModel) -> None:
        """It is the newest from now on; for a model that the record names. Raises OSError."""
        subject = model.body.model.subject
        self._adopt(subject, model.body.serial)
        for _, path in self._files(subject)[:-KEPT]:
            path.unlink(missing_ok=True)
        self.refused.pop(subject, None)

    def _adopt(self, subject: Subject, serial: int) -> None:
        with contextlib.suppress(FileNotFoundError):  # it is already
            self._path(subject, serial, ".new").rename(self._path(subject, serial, ".model"))

    def _path(self, subject: Subject, serial: int, suffix: str) -> Path:
        return self.directory / f"{subject.value}-{serial:06d}{suffix}"

    def _files(self, subject: Subject) -> list[tuple[int, Path]]:
        """By serial, the newest last."""
        try:
            names = os.listdir(self.directory)
        except FileNotFoundError:
            return []
        matched = ((_NAME.fullmatch(name), name) for name in names)
        return sorted((int(m[2]), self.directory / name) for m, name in matched if m and m[1] == subject.value)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_BYTES + 1)
