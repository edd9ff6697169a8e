from __future__ import annotations

from pathlib import Path

import pytest

from rempart.kernel.errors import Unavailable
from rempart.servers.host import _check_readable


@pytest.mark.parametrize("closed", ["env/bin", "package", "package/__init__.py"])
def test_what_other_users_can_not_read_is_told_before_anything_starts(tmp_path: Path, closed: str) -> None:
    (tmp_path / "env" / "bin").mkdir(parents=True)
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    for path, mode in (("env/bin", 0o755), ("package", 0o755), ("package/__init__.py", 0o644)):
        (tmp_path / path).chmod(mode)
    _check_readable(tmp_path / "env", tmp_path / "package")
    (tmp_path / closed).chmod(0o700)
    with pytest.raises(Unavailable) as raised:
        _check_readable(tmp_path / "env", tmp_path / "package")
    assert raised.value.code == "unreadable_program"
    assert f"chmod -R go+rX {tmp_path}" in raised.value.remedy
