"""Elevation by spelling: paths that the policy and the router might read differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .model import Actor, Alert, Attack, Outcome, blocked, got_through
from .scene import Scene
from .wire import NoAnswer

# id, title, spellings of /users (role admin) or of /logs (role audit); none may answer 2xx to a user
SPELLINGS: Sequence[tuple[str, str, Sequence[str]]] = (
    ("slashes", "Doubled slashes", ("//users", "/wallet//../users", "///users", "//localhost/users")),
    ("dots", "Dot segments", ("/./users", "/wallet/../users", "/wallet/./../users", "/payments/../../users")),
    (
        "encoded-dots",
        "Encoded dots",
        ("/wallet/%2e%2e/users", "/%2e/users", "/wallet/%2E%2E/users", "/wallet/.%2e/users"),
    ),
    (
        "encoded-slash",
        "Encoded slashes",
        ("/wallet%2f..%2fusers", "/wallet/..%2fusers", "/%2fusers", "/wallet%5c..%5cusers"),
    ),
    ("double-encoding", "Double encoding", ("/wallet/%252e%252e/users", "/wallet%252f..%252fusers", "/%2575sers")),
    ("semicolon", "Path parameters", ("/users;a=b", "/wallet/..;/users", "/wallet;/../users", "/users;.css")),
    ("case", "Upper case", ("/USERS", "/Users", "/uSeRs", "/LOGS", "/Metrics")),
    (
        "trailing",
        "Trailing characters",
        ("/users.", "/users/", "/users/.", "/users%20", "/users%00", "/users.json", "/logs/"),
    ),
    ("backslash", "Backslashes", ("/wallet\\..\\users", "\\users", "/wallet/..\\users")),
    ("encoded-letters", "Encoded letters", ("/%75sers", "/%6c%6f%67%73", "/%55sers", "/us%65rs")),
    (
        "unicode",
        "Overlong and full-width forms",
        ("/%c0%ae%c0%ae/users", "/%ef%bd%95sers", "/u\u017fers", "/wallet/%u002e%u002e/users"),
    ),
    ("nul", "Control characters", ("/users%00.css", "/users%0d%0a", "/users%09", "/wallet%0a/../users", "/users\x01")),
    (
        "absolute-form",
        "Absolute form",
        ("https://localhost/users", "http://people/accounts", "http://127.0.0.1:1/users", "users"),
    ),
    ("fragment", "Fragments", ("/users#/login", "/login#/../users", "/users?#", "/login?/../users")),
)


def attacks() -> Iterator[Attack]:
    for id, title, spellings in SPELLINGS:
        yield Attack(
            f"E-path-{id}",
            Actor.STOLEN_TOKEN,
            title,
            f"{len(spellings)} spellings such as {spellings[0]!r} with a user's token",
            "4xx: the policy sees the same path as the router",
            lambda scene, spellings=spellings: _try(scene, spellings),  # type: ignore[misc]  # mypy infers no default argument
            Alert.DENY_BURST,
        )
    yield Attack(
        "I-path-traversal",
        Actor.STOLEN_TOKEN,
        "Files of the host",
        "/wallet/../../../../etc/passwd in eight spellings",
        "4xx",
        lambda scene: _try(
            scene,
            [
                f"/wallet/{up * 6}etc/passwd"
                for up in ("../", "..%2f", "%2e%2e/", "..%5c", "..;/", "....//", "..%c0%af", "%252e%252e/")
            ],
        ),
        Alert.DENY_BURST,
    )
    yield Attack(
        "I-query-confusion",
        Actor.STOLEN_TOKEN,
        "Parameters twice",
        "user_id of oneself and of another person, in both orders and odd spellings",
        "4xx, or only one's own wallet",
        _query,
        Alert.DENY_BURST,
    )


def _try(scene: Scene, spellings: Sequence[str]) -> Outcome:
    who = scene.session("user")
    last, evidence = "", ""
    for target in spellings:
        try:
            reply = scene.ask("GET", target, who.bearer)
        except NoAnswer as refusal:
            last = str(refusal)
            continue
        if not 400 <= reply.status < 500 and not 300 <= reply.status < 400:
            return got_through(f"{target}: {reply.said}", reply.evidence)
        if reply.decision or not evidence:
            last, evidence = f"{target}: {reply.said}", reply.evidence
    return blocked(last, "path normalisation and policy", evidence)


def _query(scene: Scene) -> Outcome:
    me, other = scene.session("user"), scene.account("user", 1).user_id
    for query in (
        f"user_id={me.id}&user_id={other}",
        f"user_id={other}&user_id={me.id}",
        f"user_id[]={other}&user_id={me.id}",
        f"user_id={me.id},{other}",
        f"user_id={me.id};user_id={other}",
        f"USER_ID={other}&user_id={me.id}",
        f"user%5fid={other}&user_id={me.id}",
        f"user_id={me.id}%00{other}",
        f"user_id={me.id}%26user_id={other}",
        f"user_id={other}%23",
        f"user_id=%20{other}",
        "user_id=",
        "user_id=*",
        "",
    ):
        reply = scene.get(f"/wallet?{query}", me)
        if reply.status == 200 and isinstance(reply.json, dict) and reply.json.get("user_id") == me.id:
            continue
        if not 400 <= reply.status < 500:
            return got_through(f"?{query}: {reply.said}", reply.evidence)
    return blocked(reply.said, "policy decision", reply.evidence)
