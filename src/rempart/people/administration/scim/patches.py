"""PATCH (RFC 7644 section 3.5.2): operations applied to a resource's JSON, one after the other, all or none.

What comes out is checked as what a PUT would bring; so an operation can't make what couldn't be written whole.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from .filters import MAX_LENGTH, Compare, Filter, matches, parse, parse_path
from .refusals import ScimRefusal, check_schema

PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
MAX_OPERATIONS = 1000
READ_ONLY = frozenset({"id", "meta", "groups", "schemas"})
_PATH = re.compile(r"(?P<attribute>[^\[\]\s]+)(?:\[(?P<filter>.+)\](?:\.(?P<below>[A-Za-z$][\w$-]*))?)?", re.ASCII)


def apply(resource: dict[str, Any], body: Any, multivalued: frozenset[str]) -> dict[str, Any]:
    """The changed copy. `multivalued` are attributes that hold lists. Raises ScimRefusal."""
    check_schema(body, PATCH)
    operations = _get(body, "operations")
    if not isinstance(operations, list) or not 1 <= len(operations) <= MAX_OPERATIONS:
        raise ScimRefusal("invalidSyntax", f"Operations must be a list of 1 to {MAX_OPERATIONS}")
    changed = copy.deepcopy(resource)
    for operation in operations:
        _apply_one(changed, operation, multivalued)
    return changed


def _apply_one(resource: dict[str, Any], operation: Any, multivalued: frozenset[str]) -> None:
    if not isinstance(operation, dict):
        raise ScimRefusal("invalidSyntax", "an operation is not an object")
    verb, path, value = _get(operation, "op"), _get(operation, "path"), _get(operation, "value")
    verb = verb.lower() if isinstance(verb, str) else verb
    if verb not in ("add", "replace", "remove"):
        raise ScimRefusal("invalidSyntax", "op must be add, replace or remove")
    if path is None:
        if verb == "remove":
            raise ScimRefusal("noTarget", "remove needs a path")
        if not isinstance(value, dict):
            raise ScimRefusal("invalidValue", "without a path the value is an object of attributes")
        for name, member in value.items():
            if name.lower() not in READ_ONLY:
                _change(resource, parse_path(name), None, None, verb, member, multivalued)
        return
    if not isinstance(path, str) or len(path) > MAX_LENGTH:
        raise ScimRefusal("invalidPath", "path is not a string of sensible length")
    found = _PATH.fullmatch(path.strip())
    if found is None:
        raise ScimRefusal("invalidPath", "the path is not understood")
    attribute = parse_path(found["attribute"])
    if attribute.partition(".")[0] in READ_ONLY:
        raise ScimRefusal("mutability", f"{attribute} can't be changed")
    chosen = parse(found["filter"]) if found["filter"] else None
    below = found["below"].lower() if found["below"] else None
    _change(resource, attribute, chosen, below, verb, value, multivalued)


def _change(
    resource: dict[str, Any],
    attribute: str,
    chosen: Filter | None,
    below: str | None,
    verb: str,
    value: Any,
    multivalued: frozenset[str],
) -> None:
    name, _, sub = attribute.partition(".")
    if verb == "replace" and value is None:  # RFC 7643 section 2.5: null is no value
        verb = "remove"
    if verb != "remove" and value is None:
        raise ScimRefusal("invalidValue", "a value is missing")
    if chosen is not None:
        if name in multivalued or _get(resource, name) is not None:  # what isn't kept is ignored, as everywhere
            _change_chosen(resource, name, chosen, below, verb, value)
    elif name in multivalued:
        _change_list(resource, name, sub, verb, value)
    elif sub:
        holder = _get(resource, name)
        if not isinstance(holder, dict):
            holder = {}
            _set(resource, name, holder)
        _set(holder, sub, None if verb == "remove" else value)
    elif verb == "remove":
        _set(resource, name, None)
    else:
        old = _get(resource, name)
        both = isinstance(old, dict) and isinstance(value, dict)
        _set(resource, name, {**old, **value} if both else value)


def _change_list(resource: dict[str, Any], name: str, sub: str, verb: str, value: Any) -> None:
    present = _get(resource, name) or []
    if sub:
        for entry in present:
            _set(entry, sub, None if verb == "remove" else value)
        return
    given = value if isinstance(value, list) else [value]
    if any(not isinstance(entry, dict) for entry in given if entry is not None):
        raise ScimRefusal("invalidValue", f"the values of {name} are objects")
    if verb == "remove":
        gone = {_key(entry) for entry in given if entry is not None}
        kept = [entry for entry in present if _key(entry) not in gone] if gone else []
        _set(resource, name, kept)
    elif verb == "replace":
        _set(resource, name, given)
    else:
        new = [entry for entry in given if _key(entry) not in {_key(old) for old in present}]
        if any(isinstance(entry, dict) and entry.get("primary") is True for entry in new):
            present = [{**old, "primary": False} for old in present]  # RFC 7643 section 2.4: one is primary at most
        _set(resource, name, [*present, *new])


def _change_chosen(
    resource: dict[str, Any], name: str, chosen: Filter, below: str | None, verb: str, value: Any
) -> None:
    entries = _get(resource, name) or []
    if not isinstance(entries, list):
        raise ScimRefusal("invalidPath", f"{name} has no values to choose from")
    targets = [entry for entry in entries if isinstance(entry, dict) and matches(entry, chosen, name)]
    if not targets:
        if verb == "remove":
            return
        if verb == "add" and below and isinstance(chosen, Compare) and chosen.operator == "eq":
            _set(resource, name, [*entries, {chosen.path: chosen.value, below: value}])  # as Entra ID adds one
            return
        raise ScimRefusal("noTarget", "no value is the one that the path means")
    if below is not None:
        for target in targets:
            _set(target, below, None if verb == "remove" else value)
    elif verb == "remove":
        _set(resource, name, [entry for entry in entries if entry not in targets])
    elif isinstance(value, dict):
        for target in targets:
            target.update(value)
    else:
        raise ScimRefusal("invalidValue", "the value must be an object")


def _key(entry: Any) -> Any:
    """What makes two values of a list the same."""
    if isinstance(entry, dict):
        return str(_get(entry, "value"))
    return str(entry)


def _get(holder: dict[str, Any], name: str) -> Any:
    return next((value for key, value in holder.items() if key.lower() == name), None)


def _set(holder: Any, name: str, value: Any) -> None:
    if not isinstance(holder, dict):
        raise ScimRefusal("invalidPath", f"nothing can be set below {name}")
    for key in [key for key in holder if key.lower() == name]:
        if value is None:
            del holder[key]
        else:
            holder[key] = value
        return
    if value is not None:
        holder[name] = value
