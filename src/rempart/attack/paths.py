"""Elevation by spelling: paths that the policy and the router might read differently."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from .model import Actor, Alert, Attack, Outcome, blocked, got_through
from .scene import Scene
from .wire import NoAnswer

# id, title, spellings of a path that a user may not read; none may answer 2xx to a user. `{p}` is its name (users at
# the bank, else logs), `{o}` one that a user may read (wallet, else auth: what lies below an application's own route
# is its own affair).
SPELLINGS: Sequence[tuple[str, str, Sequence[str]]] = (
    ("slashes", "Doubled slashes", ("//{p}", "/{o}//../{p}", "///{p}", "//localhost/{p}")),
    ("dots", "Dot segments", ("/./{p}", "/{o}/../{p}", "/{o}/./../{p}", "/{o}/../../{p}")),
    (
        "encoded-dots",
        "Encoded dots",
        ("/{o}/%2e%2e/{p}", "/%2e/{p}", "/{o}/%2E%2E/{p}", "/{o}/.%2e/{p}"),
    ),
    (
        "encoded-slash",
        "Encoded slashes",
        ("/{o}%2f..%2f{p}", "/{o}/..%2f{p}", "/%2f{p}", "/{o}%5c..%5c{p}"),
    ),
    ("double-encoding", "Double encoding", ("/{o}/%252e%252e/{p}", "/{o}%252f..%252f{p}", "/%25{x0}{tail}")),
    ("semicolon", "Path parameters", ("/{p};a=b", "/{o}/..;/{p}", "/{o};/../{p}", "/{p};.css")),
    ("case", "Upper case", ("/{upper}", "/{title}", "/{mixed}", "/LOGS", "/Metrics")),
    (
        "trailing",
        "Trailing characters",
        ("/{p}.", "/{p}/", "/{p}/.", "/{p}%20", "/{p}%00", "/{p}.json", "/logs/"),
    ),
    ("backslash", "Backslashes", ("/{o}\\..\\{p}", "\\{p}", "/{o}/..\\{p}")),
    ("encoded-letters", "Encoded letters", ("/%{x0}{tail}", "/%6c%6f%67%73", "/%{X0}{tail}", "/{head}%{x2}{rest}")),
    (
        "unicode",
        "Overlong and full-width forms",
        ("/%c0%ae%c0%ae/{p}", "/{wide}", "/{long}", "/{o}/%u002e%u002e/{p}"),
    ),
    ("nul", "Control characters", ("/{p}%00.css", "/{p}%0d%0a", "/{p}%09", "/{o}%0a/../{p}", "/{p}\x01")),
    (
        "absolute-form",
        "Absolute form",
        ("https://localhost/{p}", "http://people/accounts", "http://127.0.0.1:1/{p}", "{p}"),
    ),
    ("fragment", "Fragments", ("/{p}#/login", "/login#/../{p}", "/{p}?#", "/login?/../{p}")),
)


def attacks() -> Iterator[Attack]:
    for id, title, spellings in SPELLINGS:
        yield Attack(
            f"E-path-{id}",
            Actor.STOLEN_TOKEN,
            title,
            f"{len(spellings)} spellings such as {spelled(spellings[0], 'users', 'wallet')!r} with a user's token",
            "4xx: the policy sees the same path as the router",
            lambda scene, spellings=spellings: _spelled(scene, spellings),  # type: ignore[misc]  # mypy infers no default argument
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
                f"/{_open(scene)}/{up * 6}etc/passwd"
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
        needs=("/wallet",),
    )


def spelled(spelling: str, private: str, open: str) -> str:
    """`spelling` for these two names of paths, without their slashes."""
    first, third = ord(private[0]), ord(private[2])
    return spelling.format(
        p=private,
        o=open,
        tail=private[1:],
        head=private[:2],
        rest=private[3:],
        x0=f"{first:02x}",
        X0=f"{first - 32:02x}",
        x2=f"{third:02x}",
        upper=private.upper(),
        title=private.title(),
        mixed="".join(c.upper() if i % 2 else c for i, c in enumerate(private)),
        long=private.replace("s", "\u017f", 1),
        wide=quote(chr(first + 0xFEE0)).lower() + private[1:],
    )


def _open(scene: Scene) -> str:
    return "auth" if scene.lacks(("/wallet",)) else "wallet"


def _spelled(scene: Scene, spellings: Sequence[str]) -> Outcome:
    return _try(scene, [spelled(one, scene.private[1:], _open(scene)) for one in spellings])


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
