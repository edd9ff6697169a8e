"""Files of authorities that rempart.toml names: PEM certificates that may issue."""

from __future__ import annotations

from pathlib import Path

from rempart.crypto.client_chain import load_authorities
from rempart.kernel.errors import BadInput

from .check import Reader

_MOST = 256 * 1024  # bytes of PEM
_REMEDY = "name a file of PEM certificates of authorities"


def read_authorities(reader: Reader, key: str, directory: Path) -> str:
    """The PEM text of the file that `key` names, relative to `directory`; "" without one."""
    name = reader.text(key)
    if not name:
        return ""
    file = directory / name
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST + 1).decode("ascii")
        if len(text) > _MOST:
            raise BadInput("bad_authorities", f"{file} is larger than {_MOST} bytes")
        load_authorities(text)
    except OSError as error:
        reader.refuse(key, f"{file} can't be read: {error.strerror}", _REMEDY)
    except UnicodeDecodeError:
        reader.refuse(key, f"{file} is not PEM", _REMEDY)
    except BadInput as error:
        reader.refuse(key, error.reason, _REMEDY)
    else:
        return text
    return ""
