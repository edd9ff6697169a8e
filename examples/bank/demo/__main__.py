"""`python -m demo`, started by `rempart demo`: one JSON line per flow. Exit code 1 when one went otherwise."""

from __future__ import annotations

import sys

from . import outside, people, workloads
from .stage import Stage


def main() -> int:
    with Stage.from_environment() as stage:
        for module in (people, workloads, outside):
            module.play(stage)
        stage.tell()
        return 0 if stage.all_as_expected else 1


if __name__ == "__main__":
    sys.exit(main())
