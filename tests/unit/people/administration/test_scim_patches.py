"""PATCH: RFC 7644 section 3.5.2's cases, what some clients send instead, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from rempart.people.administration.scim.patches import PATCH, apply
from rempart.people.administration.scim.refusals import ScimRefusal

USER: dict[str, Any] = {
    "id": "usr_1",
    "userName": "ann",
    "displayName": "Ann",
    "active": True,
    "name": {"familyName": "Lee", "givenName": "Ann"},
    "emails": [{"value": "a@b.example", "type": "work", "primary": True}, {"value": "c@d.example", "type": "home"}],
}
GROUP: dict[str, Any] = {"id": "teller", "displayName": "teller", "members": [{"value": "u1"}, {"value": "u2"}]}
LISTS = frozenset({"emails", "members"})


def patched(resource: dict[str, Any], *operations: dict[str, Any]) -> dict[str, Any]:
    return apply(resource, {"schemas": [PATCH], "Operations": list(operations)}, LISTS)


def test_add_replace_and_remove_simple_attributes() -> None:
    assert patched(USER, {"op": "replace", "path": "displayName", "value": "B"})["displayName"] == "B"
    assert patched(USER, {"op": "add", "path": "title", "value": "Dr"})["title"] == "Dr"
    assert "displayName" not in patched(USER, {"op": "remove", "path": "DISPLAYNAME"})
    assert patched(USER, {"op": "add", "value": {"displayName": "B", "active": False}})["active"] is False
    urn = "urn:ietf:params:scim:schemas:core:2.0:User:displayName"
    assert patched(USER, {"op": "replace", "path": urn, "value": "B"})["displayName"] == "B"
    assert USER["displayName"] == "Ann"  # the original is left alone


def test_some_clients_write_the_verb_with_a_capital_and_repeat_what_is_read_only() -> None:
    done = patched(USER, {"op": "Replace", "value": {"id": "other", "active": "False", "meta": {}}})
    assert (done["id"], done["active"]) == ("usr_1", "False")


def test_parts_of_complex_attributes() -> None:
    assert patched(USER, {"op": "replace", "path": "name.familyName", "value": "Ray"})["name"]["familyName"] == "Ray"
    assert patched(USER, {"op": "add", "path": "name", "value": {"formatted": "A"}})["name"]["givenName"] == "Ann"
    assert patched({"id": "1"}, {"op": "add", "path": "name.formatted", "value": "A"})["name"] == {"formatted": "A"}
    assert "familyname" not in str(patched(USER, {"op": "remove", "path": "name.familyName"})).lower()


def test_values_of_a_list_chosen_by_a_filter() -> None:
    path = 'emails[type eq "work"]'
    done = patched(USER, {"op": "replace", "path": f"{path}.value", "value": "x@y.example"})
    assert [entry["value"] for entry in done["emails"]] == ["x@y.example", "c@d.example"]
    assert len(patched(USER, {"op": "remove", "path": path})["emails"]) == 1
    done = patched(USER, {"op": "replace", "path": path, "value": {"value": "n@b.example"}})
    assert done["emails"][0] == {"value": "n@b.example", "type": "work", "primary": True}


def test_what_is_not_kept_is_ignored_however_it_is_named() -> None:
    """Entra ID's usual mapping has telephone numbers and addresses, and sets one after the other by filter."""
    for path in ('phoneNumbers[type eq "work"].value', 'addresses[type eq "work"].country', "nickName"):
        for verb in ("Add", "Replace", "Remove"):
            after = patched(USER, {"op": verb, "path": path, "value": "x"})
            assert {name: after.get(name) for name in USER} == USER, (verb, path)


def test_a_value_that_the_filter_describes_is_added() -> None:
    bare = {name: value for name, value in USER.items() if name != "emails"}
    add = {"op": "Add", "path": 'emails[type eq "work"].value', "value": "e@b.example"}
    assert patched(bare, add)["emails"] == [{"type": "work", "value": "e@b.example"}]
    assert patched(USER, add)["emails"][0]["value"] == "e@b.example"
    other = patched(USER, {**add, "path": 'emails[type eq "other"].value'})["emails"]
    assert [entry["type"] for entry in other] == ["work", "home", "other"]


def test_null_is_no_value() -> None:
    assert "displayName" not in patched(USER, {"op": "replace", "path": "displayName", "value": None})
    assert "displayName" not in patched(USER, {"op": "replace", "value": {"displayName": None}})
    assert patched(USER, {"op": "replace", "path": "name.givenName", "value": None})["name"] == {"familyName": "Lee"}


def test_a_new_primary_address_takes_the_old_ones_place() -> None:
    done = patched(USER, {"op": "add", "path": "emails", "value": [{"value": "n@b.example", "primary": True}]})
    assert [entry.get("primary") for entry in done["emails"]] == [False, False, True]


def test_members_come_once_and_go_by_filter_or_by_value() -> None:
    added = patched(GROUP, {"op": "add", "path": "members", "value": [{"value": "u2"}, {"value": "u3"}]})
    assert [member["value"] for member in added["members"]] == ["u1", "u2", "u3"]
    gone = patched(GROUP, {"op": "remove", "path": 'members[value eq "u1"]'})
    assert [member["value"] for member in gone["members"]] == ["u2"]
    gone = patched(GROUP, {"op": "remove", "path": "members", "value": [{"value": "u2"}]})  # as Entra sends it
    assert [member["value"] for member in gone["members"]] == ["u1"]
    assert patched(GROUP, {"op": "remove", "path": "members"})["members"] == []
    assert len(patched(GROUP, {"op": "replace", "path": "members", "value": {"value": "u9"}})["members"]) == 1


@pytest.mark.parametrize(
    ("operation", "scim_type"),
    [
        ({"op": "replace", "path": "id", "value": "x"}, "mutability"),
        ({"op": "remove", "path": "groups"}, "mutability"),
        ({"op": "add", "path": "meta.version", "value": "x"}, "mutability"),
        ({"op": "remove"}, "noTarget"),
        ({"op": "replace", "path": 'emails[type eq "other"].value', "value": "x"}, "noTarget"),
        ({"op": "move", "path": "title", "value": "x"}, "invalidSyntax"),
        ({"op": ["add"], "path": "title", "value": "x"}, "invalidSyntax"),
        ({"op": "add", "path": "a[b", "value": "x"}, "invalidPath"),
        ({"op": "add", "path": 7, "value": "x"}, "invalidPath"),
        ({"op": "add", "path": "title"}, "invalidValue"),
        ({"op": "add", "value": "x"}, "invalidValue"),
        ({"op": "replace", "path": 'emails[type eq "work"]', "value": "x"}, "invalidValue"),
        ({"op": "remove", "path": "emails[type is 1]"}, "invalidFilter"),
        ({"op": "remove", "path": "userName[value pr]"}, "invalidPath"),
        ("remove", "invalidSyntax"),
    ],
)
def test_refused(operation: Any, scim_type: str) -> None:
    with pytest.raises(ScimRefusal) as refused:
        patched(USER, operation)
    assert refused.value.scim_type == scim_type


@pytest.mark.parametrize("body", [None, [], {}, {"schemas": [PATCH]}, {"schemas": [PATCH], "Operations": []}, "x"])
def test_a_body_that_is_no_patch(body: Any) -> None:
    with pytest.raises(ScimRefusal):
        apply(USER, body, LISTS)
