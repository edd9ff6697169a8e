"""Make `src/rempart/people/common_passwords.bin` of plain lists, one password a line.

    python scripts/build_common_passwords.py LIST…

The one in the repository is made of the frequency lists of zxcvbn 4.5.0 for Python (MIT; `pip download zxcvbn`,
`zxcvbn/frequency_lists.py`, every list, one word a line). Only what has eight characters and more can be chosen at all
and is kept, in lower case.
"""

from __future__ import annotations

import sys
from pathlib import Path

from rempart.people.password_list import COMMON, sha1, write_list
from rempart.people.password_rules import LEAST_LENGTH

ODDS = 10_000


def main(paths: list[str]) -> None:
    words = {line.strip().lower() for path in paths for line in Path(path).read_text("utf-8").splitlines()}
    hashes = sorted(sha1(word) for word in words if len(word) >= LEAST_LENGTH)
    write_list(COMMON, hashes, len(hashes), ODDS)
    sys.stdout.write(f"{len(hashes)} passwords, {COMMON.stat().st_size} bytes\n")


if __name__ == "__main__":
    main(sys.argv[1:])
