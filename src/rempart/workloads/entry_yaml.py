"""Registration entries as YAML text, each map with its line: see `entry_document`."""

from __future__ import annotations

from typing import Any

import yaml

from rempart.kernel.errors import BadInput

from .entry_document import LINE, REMEDY, parse_document
from .model import Entry

MAX_BYTES = 1 << 20


class _Loader(yaml.SafeLoader):
    """Maps know their line, repeat no key, and aliases (which multiply) are refused."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # its stubs leave it untyped
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(None, None, "keys are plain words", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            seen.add(key.value)
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        mapping[LINE] = node.start_mark.line + 1
        return mapping


def parse_yaml(text: str, trust_domain: str, *, name: str = "entries.yaml") -> list[Entry]:
    """Raises BadInput `bad_entries` with every error as `name:line: what`."""
    if len(text) > MAX_BYTES:
        raise BadInput("bad_entries", f"{name} is larger than {MAX_BYTES} bytes", "split it")
    try:
        document = yaml.load(text, _Loader)  # nosec B506 - _Loader is a SafeLoader
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise BadInput("bad_entries", f"{name}:{line}: {error.problem}", REMEDY) from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise BadInput("bad_entries", f"{name}:1: this is not YAML", REMEDY) from None
    return parse_document(document, trust_domain, name=name)
