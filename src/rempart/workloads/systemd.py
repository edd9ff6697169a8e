"""Which unit file a unit was read from, by systemd's own search path (systemd.unit(5), "Unit File Load Path").

systemd isn't asked: what counts is what lies there now. All of it is root's; a user's units are no system units.
"""

from __future__ import annotations

import os
import re

LOAD_PATH = (
    *("/etc/systemd/system.control", "/run/systemd/system.control", "/run/systemd/transient"),
    *("/run/systemd/generator.early", "/etc/systemd/system", "/etc/systemd/system.attached", "/run/systemd/system"),
    *("/run/systemd/system.attached", "/run/systemd/generator", "/usr/local/lib/systemd/system"),
    *("/usr/lib/systemd/system", "/lib/systemd/system", "/run/systemd/generator.late"),
)
_INSTANCE = re.compile(r"([^@/]+@)[^@/]+(\.[a-z]+)")


def fragment_path(unit: str, root: str = "") -> str | None:
    """`root` stands before every path. A link leads to what is behind it; a masked unit (/dev/null) has no file."""
    template = _INSTANCE.fullmatch(unit)
    names = (unit, "".join(template.groups())) if template else (unit,)
    for name in names:
        for directory in LOAD_PATH:
            path = f"{root}{directory}/{name}"
            if os.path.isfile(path):
                return os.path.realpath(path).removeprefix(root)
            if os.path.lexists(path):
                return None
    return None
