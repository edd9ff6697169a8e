"""Reading a policy directory: Rego files, their tests beside them, and data files where OPA's bundles have them.

`data.json`, `data.yaml` and `data.yml` are mounted at the path of their directory (`limits/data.json` is
`data.limits`). Everything else is ignored. Source of the layout: OPA, "Bundle file format".
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput

from .model import Bundle, PolicyFile

MAX_FILES = 1000
MAX_BYTES = 16 << 20
DEFAULT_ENTRYPOINT = "data.authz.decision"
BASE_PATH = "rempart/base.rego"
_DATA_NAMES = frozenset({"data.json", "data.yaml", "data.yml"})
_BUILTIN = Path(__file__).parent / "builtin"


def read_directory(directory: Path, entrypoint: str = DEFAULT_ENTRYPOINT) -> Bundle:
    """Raises BadInput `bad_policy_directory`, `policy_too_large`, `bad_policy_data`, `no_policy`."""
    files: list[PolicyFile] = []
    data: dict[str, Any] = {}
    total = 0
    for path in policy_paths(directory):
        relative = path.relative_to(directory).as_posix()
        try:
            raw = path.read_bytes()
        except OSError as error:
            raise BadInput(
                "bad_policy_directory", f"{relative} can't be read: {error.strerror}", "check its rights"
            ) from None
        total += len(raw)
        if total > MAX_BYTES:
            raise BadInput(
                "policy_too_large", f"{directory} holds more than {MAX_BYTES >> 20} MiB of policy", "split off the data"
            )
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadInput(
                "bad_policy_directory", f"{relative} is not UTF-8: {error.reason}", "save it as UTF-8"
            ) from None
        if path.suffix == ".rego":
            files.append(PolicyFile(relative, text))
        else:
            _mount(data, path.parent.relative_to(directory).parts, _parse_data(relative, text), relative)
    if not any(not file.is_test for file in files):
        raise BadInput("no_policy", f"{directory} holds no .rego file", "write one, or leave [policy] out")
    return make(files, data, entrypoint)


def policy_paths(directory: Path) -> list[Path]:
    """The files that make up the policy, sorted; hidden ones and links out of the directory aren't. Raises BadInput."""
    root = directory.resolve()
    if not root.is_dir():
        raise BadInput("bad_policy_directory", f"{directory} is not a directory", "name the one with the .rego files")
    found = [
        path
        for path in sorted(root.rglob("*"))
        if (path.suffix == ".rego" or path.name in _DATA_NAMES)
        and not any(part.startswith(".") for part in path.relative_to(root).parts)
        and path.is_file()
        and path.resolve().is_relative_to(root)
    ]
    if len(found) > MAX_FILES:
        raise BadInput("policy_too_large", f"{directory} holds more than {MAX_FILES} files", "name the right directory")
    return [directory / path.relative_to(root) for path in found]


def fingerprint(directory: Path) -> tuple[tuple[str, int, int, int], ...]:
    """Changes whenever a file of the policy may have changed: names, times, sizes, inodes. Empty when unreadable."""
    try:
        stats = [(path, path.stat()) for path in policy_paths(directory)]
    except (BadInput, OSError):
        return ()
    return tuple((str(path), stat.st_mtime_ns, stat.st_size, stat.st_ino) for path, stat in stats)


def builtin(entrypoint: str = DEFAULT_ENTRYPOINT) -> Bundle:
    """What decides for an application that brings no policy."""
    names = ("authz.rego", "authz_test.rego")
    return make([PolicyFile(f"rempart/{name}", (_BUILTIN / name).read_text()) for name in names], {}, entrypoint)


def make(files: list[PolicyFile], data: Mapping[str, Any], entrypoint: str) -> Bundle:
    """Add the base rules and name the version."""
    base = PolicyFile(BASE_PATH, (_BUILTIN / "base.rego").read_text())
    everything = tuple(sorted([*files, base], key=lambda file: file.path))
    canonical = json.dumps(
        {"entrypoint": entrypoint, "files": [[f.path, f.text] for f in everything], "data": data},
        sort_keys=True,
        ensure_ascii=True,
        separators=(",", ":"),
    )
    return Bundle(everything, data, entrypoint, hashlib.sha256(canonical.encode()).hexdigest())


def dump(bundle: Bundle) -> bytes:
    return json.dumps(
        {
            "entrypoint": bundle.entrypoint,
            "version": bundle.version,
            "data": bundle.data,
            "files": [[file.path, file.text] for file in bundle.files if file.path != BASE_PATH],
        }
    ).encode()


def load(raw: bytes) -> Bundle:
    """What `dump` wrote, with today's base rules (so the version may differ from the one kept). Raises BadInput."""
    try:
        document = json.loads(raw)
        files = [PolicyFile(str(path), str(text)) for path, text in document["files"]]
        return make(files, dict(document["data"]), str(document["entrypoint"]))
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput(
            "bad_policy", f"the kept policy can't be read: {error}", "load one with `rempart policy reload`"
        ) from None


def _parse_data(name: str, text: str) -> dict[str, Any]:
    try:
        value = strict_json.loads(text, max_depth=100) if name.endswith(".json") else _parse_yaml(text)
    except BadInput as error:
        raise BadInput("bad_policy_data", f"{name}: {error.reason}", error.remedy) from None
    if not isinstance(value, dict):
        raise BadInput("bad_policy_data", f"{name} is not an object", "its members become members of `data`")
    return value


def _parse_yaml(text: str) -> Any:
    import yaml

    try:
        value = yaml.safe_load(text)
        return strict_json.loads(json.dumps(value, allow_nan=False), max_depth=100)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        raise BadInput("bad_yaml", f"{where}{getattr(error, 'problem', None) or 'not YAML'}", "correct it") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput("bad_yaml", f"it has no JSON form: {error}", "use only what JSON has") from None


def _mount(data: dict[str, Any], where: tuple[str, ...], value: dict[str, Any], name: str) -> None:
    for part in reversed(where):
        value = {part: value}
    if "rempart" in value:
        raise BadInput("bad_policy_data", f"{name} sets data.rempart, which is Rempart's own", "use another name")
    _merge(data, value, name)


def _merge(into: dict[str, Any], value: dict[str, Any], name: str) -> None:
    for key, member in value.items():
        present = into.get(key)
        if key not in into:
            into[key] = member
        elif isinstance(present, dict) and isinstance(member, dict):
            _merge(present, member, name)
        else:
            raise BadInput("bad_policy_data", f"{name} sets {key!r}, which another data file sets too", "set it once")
