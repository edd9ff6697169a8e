"""The body of a checkpoint (c2sp.org/tlog-checkpoint): origin, size and root, each on a line of its own."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from rempart.kernel.errors import Integrity


@dataclass(frozen=True, slots=True)
class Checkpoint:
    origin: str
    size: int
    root: bytes

    def encode(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @staticmethod
    def decode(text: str) -> Checkpoint:
        """Raises Integrity `bad_checkpoint`."""
        lines = text.split("\n")
        try:
            origin, size, root = lines[0], lines[1], base64.b64decode(lines[2], validate=True)
            if not origin or not size.isascii() or not size.isdigit() or str(int(size)) != size or len(root) != 32:
                raise ValueError(text)
        except (IndexError, ValueError, binascii.Error):
            raise Integrity("bad_checkpoint", "not a checkpoint: origin, size and root are expected") from None
        return Checkpoint(origin, int(size), root)
