"""Attacks on the bank's money. Each is judged by the balances before and after, whatever was answered."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from .model import Actor, Alert, Attack, Outcome, Trace, blocked, got_through, not_tried
from .scene import Scene, Session
from .wire import Reply

_REFUSED = Trace(("money.refused", "decision"))
NEEDS = ("/wallet", "/payments")
_FUNDS = 400  # cents; put into the poorer demo wallets before, and left there


def attacks() -> Iterator[Attack]:
    def money(
        id: str,
        title: str,
        tried: str,
        expected: str,
        run: Callable[[Scene], Outcome],
        actor: Actor = Actor.STOLEN_TOKEN,
    ) -> Attack:
        return Attack(id, actor, title, tried, expected, run, Alert.MONEY, alone=True, needs=NEEDS)

    for id, title, amounts in AMOUNTS:
        yield money(
            f"T-amount-{id}",
            title,
            f"payments of {', '.join(repr(a)[:30] for a in amounts[:4])}",
            "400, 403 or 422 and no money moved",
            lambda scene, amounts=amounts: _amounts(scene, amounts),  # type: ignore[misc]  # mypy infers no default argument
        )
    yield money("T-pay-self", "Payment to oneself", "receiver_id of the payer", "4xx and no money moved", _self)
    yield money(
        "T-pay-nobody",
        "Payment to nobody",
        "receivers that don't exist, or aren't ids",
        "4xx and no money moved",
        _nobody,
    )
    yield money(
        "T-pay-extra",
        "More in the body",
        "source, role, balance and limit beside the amount",
        "own money moved or 4xx",
        _extra,
    )
    yield money(
        "T-replay", "Replay", "one payment sent five times with its key", "one answer, money moved once", _replay
    )
    yield money(
        "T-replay-body",
        "Replay with another amount",
        "the same key, ten times the amount",
        "409, money moved once",
        _replay_body,
    )
    yield money("T-replay-key", "Keys", "no key, an empty, a huge one, two of them", "4xx and no money moved", _keys)
    yield money(
        "T-replay-other",
        "Another person's key",
        "a key that another person used",
        "own payment or 4xx, never their answer",
        _foreign_key,
    )
    yield money("T-race", "Race", "the same wallet emptied 50 times at once", "only what was there moved", _race)
    yield money(
        "T-race-key", "Race with one key", "one payment 20 times at once with one key", "money moved once", _race_key
    )
    yield money(
        "E-limit",
        "Over the limit",
        "one cent more than the person's limit",
        "403 or 422 and no money moved",
        _over_limit,
    )
    yield money(
        "E-no-funds", "Without funds", "one cent more than the balance", "403 or 422 and no money moved", _no_funds
    )
    yield money(
        "E-csrf",
        "From another web site",
        "a payment with Origin: https://evil.example",
        "403 and no money moved",
        _origin,
    )


AMOUNTS: Sequence[tuple[str, str, Sequence[Any]]] = (
    ("negative", "Negative amounts", (-1, -100, -(2**63), -0.0)),
    ("zero", "Zero", (0, 0.0, False)),
    ("overflow", "Overflows", (2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 + 1, 10**30, b"1" + b"0" * 400, b"1e400")),
    ("fraction", "Fractions", (0.5, 1.5, 1e-9, 0.1 + 0.2, b"1.0", b"1e0", b"1E2")),
    ("type", "Other types", ("1", "1; DROP TABLE entries", None, True, [1], {"$gt": 0}, [[1]], {})),
    (
        "number",
        "What isn't a number in JSON",
        (b"NaN", b"Infinity", b"-Infinity", b"0x10", b"01", b"+1", b"1_000", b".5", b"1,5"),
    ),
    ("unicode", "Other digits", ("\u0661", "\uff11", "\u00b9", "1\u200b", "\u2212" + "1", "\u0967\u0966")),
    ("twice", "Two amounts", (b'1,"amount":100', b'1,"amount":-100', b'1,"receiver_id":"usr_0"')),
)


def pay(scene: Scene, who: Session, to: str, amount: Any, key: str = "", *more: tuple[str, str]) -> Reply:
    """`amount` as bytes goes into the JSON as it is."""
    headers = (("Idempotency-Key", key or _key()), *more)
    if isinstance(amount, bytes):
        body = b'{"receiver_id":"' + to.encode() + b'","amount":' + amount + b"}"
        return scene.send("POST", "/payments", body, who, *headers)
    return scene.send("POST", "/payments", {"receiver_id": to, "amount": amount}, who, *headers)


def _key() -> str:
    return f"attack-{uuid.uuid4()}"


class Money:
    """Two people with money, and what they have."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.payer, self.payee = scene.session("user"), scene.session("user", 1)
        if self.balance(self.payer) < self.balance(self.payee):
            self.payer, self.payee = self.payee, self.payer
        if self.balance(self.payer) < _FUNDS:
            self.fund(self.payer, _FUNDS)
        self.before = self.balances()

    def balance(self, who: Session) -> int:
        reply = self.scene.get(f"/wallet?user_id={who.id}", who)
        if reply.status != 200:
            raise NoMoney(f"a wallet can't be read: {reply.said}")
        return int(reply.json["balance"])

    def balances(self) -> tuple[int, int]:
        return self.balance(self.payer), self.balance(self.payee)

    def moved(self) -> tuple[int, int]:
        payer, payee = self.balances()
        return payer - self.before[0], payee - self.before[1]

    def limit(self) -> int | None:
        reply = self.scene.get(f"/users/{self.payer.id}", self.scene.session("admin"))
        value = reply.json.get("payment_limit") if reply.status == 200 and isinstance(reply.json, dict) else None
        return int(value) if value is not None else None

    def fund(self, who: Session, amount: int) -> None:
        agent = self.scene.agent()
        if agent is None:
            raise NoMoney("the demo wallets are empty and the deposit agent can't be run here")
        body = f'{{"receiver_id":"{who.id}","amount":{amount}}}'.encode()
        headers = (("Content-Type", "application/json"), ("Idempotency-Key", _key()))
        reply = self.scene.mtls("wallet", agent[0], "POST", "/deposit", headers, body)
        if reply.status != 201:
            raise NoMoney(f"the deposit agent can't deposit: {reply.said}")


class NoMoney(Exception):
    pass


def with_money(run: Callable[[Scene, Money], Outcome]) -> Callable[[Scene], Outcome]:
    def wrapped(scene: Scene) -> Outcome:
        try:
            return run(scene, Money(scene))
        except NoMoney as why:
            return not_tried(str(why))

    return wrapped


def unmoved(money: Money, replies: Sequence[Reply]) -> Outcome:
    """Every answer a 4xx, and no balance changed."""
    for reply in replies:
        if not 400 <= reply.status < 500:
            return got_through(reply.said, reply.evidence)
    if money.moved() != (0, 0):
        return got_through(f"balances changed by {money.moved()}", replies[-1].evidence)
    return blocked(f"{replies[-1].said}, no money moved", "payment and ledger", replies[-1].evidence or _REFUSED)


def _amounts(scene: Scene, amounts: Sequence[Any]) -> Outcome:
    return with_money(
        lambda scene, money: unmoved(money, [pay(scene, money.payer, money.payee.id, amount) for amount in amounts])
    )(scene)


@with_money
def _self(scene: Scene, money: Money) -> Outcome:
    return unmoved(
        money, [pay(scene, money.payer, money.payer.id, 1), pay(scene, money.payer, money.payer.id + " ", 1)]
    )


@with_money
def _nobody(scene: Scene, money: Money) -> Outcome:
    receivers = (
        "usr_00000000000000000000000000",
        "",
        "*",
        "../admin",
        "bank",
        "external",
        "usr_0'--",
        "a" * 5000,
        money.payee.id.upper(),
    )
    return unmoved(money, [pay(scene, money.payer, to, 1) for to in receivers])


@with_money
def _extra(scene: Scene, money: Money) -> Outcome:
    order = {
        "receiver_id": money.payer.id,
        "amount": 1,
        "source": money.payee.id,
        "payer": money.payee.id,
        "role": "admin",
        "payment_limit": 10**9,
    }
    replies = [scene.send("POST", "/payments", order, money.payer, ("Idempotency-Key", _key()))]
    return unmoved(money, replies)


@with_money
def _replay(scene: Scene, money: Money) -> Outcome:
    key = _key()
    replies = [pay(scene, money.payer, money.payee.id, 1, key) for _ in range(5)]
    if replies[0].status != 201:
        return not_tried(f"the payment itself was answered {replies[0].said}")
    if money.moved() != (-1, 1):
        return got_through(f"balances changed by {money.moved()}", replies[-1].evidence)
    if len({reply.json.get("transaction_id") for reply in replies}) != 1:
        return got_through("several transactions for one key", replies[-1].evidence)
    return blocked("one transaction, balances moved once", "ledger: idempotency key", replies[-1].evidence)


@with_money
def _replay_body(scene: Scene, money: Money) -> Outcome:
    key = _key()
    first = pay(scene, money.payer, money.payee.id, 1, key)
    second = pay(scene, money.payer, money.payee.id, 10, key)
    if first.status != 201:
        return not_tried(f"the payment itself was answered {first.said}")
    if second.status != 409 or money.moved() != (-1, 1):
        return got_through(f"{second.said}, balances changed by {money.moved()}", second.evidence)
    return blocked(second.said, "ledger: idempotency key and body hash", second.evidence)


@with_money
def _keys(scene: Scene, money: Money) -> Outcome:
    order = {"receiver_id": money.payee.id, "amount": 1}
    keys: Sequence[Sequence[str]] = ((), ("",), ("a" * 5000,), ("a", "b"), ("\x7f",), ("' OR 1=1--\t",))
    return unmoved(
        money,
        [
            scene.send("POST", "/payments", order, money.payer, *(("Idempotency-Key", key) for key in some))
            for some in keys
        ],
    )


@with_money
def _foreign_key(scene: Scene, money: Money) -> Outcome:
    if money.before[1] < 2:
        money.fund(money.payee, 2)
        money.before = money.balances()
    key = _key()
    theirs = pay(scene, money.payer, money.payee.id, 1, key)
    mine = pay(scene, money.payee, money.payer.id, 1, key)
    if theirs.status != 201:
        return not_tried(f"the payment itself was answered {theirs.said}")
    expected = (0, 0) if mine.status == 201 else (-1, 1)
    same = mine.status == 201 and mine.json.get("transaction_id") == theirs.json.get("transaction_id")
    if same or mine.status >= 500 or money.moved() != expected:
        return got_through(f"{mine.said}, balances changed by {money.moved()}", mine.evidence)
    return blocked(f"{mine.said}, each paid for themselves", "ledger: keys belong to a payer", mine.evidence)


@with_money
def _race(scene: Scene, money: Money) -> Outcome:
    """Half of the balance and one cent, or the limit: of 50 payments only as many as there is money for may pass."""
    limit = money.limit()
    amount = money.before[0] // 2 + 1
    amount = min(amount, limit) if limit is not None else amount

    def once(_: int) -> Reply:
        return pay(scene, money.payer, money.payee.id, amount)

    with ThreadPoolExecutor(25) as pool:
        replies = list(pool.map(once, range(50)))
    passed = [reply for reply in replies if reply.status == 201]
    failed = next((reply for reply in replies if reply.status >= 500), None)
    payer, payee = money.balances()
    allowed = money.before[0] // amount
    moved = (payer - money.before[0], payee - money.before[1])
    evidence = replies[-1].evidence
    give_back(scene, money, -moved[0], limit)
    if failed is not None:
        return got_through(f"{failed.said} under load", failed.evidence)
    if payer < 0 or len(passed) > allowed or moved != (-amount * len(passed), amount * len(passed)):
        return got_through(
            f"{len(passed)} payments of {amount} with {money.before[0]}: balances changed by {moved}", evidence
        )
    return blocked(f"{len(passed)} of 50 passed, as the balance allows", "ledger: one transaction a transfer", evidence)


def give_back(scene: Scene, money: Money, amount: int, limit: int | None) -> None:
    while amount > 0:
        part = min(amount, limit) if limit else amount
        if pay(scene, money.payee, money.payer.id, part).status != 201:
            return
        amount -= part


@with_money
def _race_key(scene: Scene, money: Money) -> Outcome:
    key = _key()
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda _: pay(scene, money.payer, money.payee.id, 1, key), range(20)))
    strange = next((reply for reply in replies if reply.status not in (201, 409)), None)
    if strange is not None or money.moved() != (-1, 1):
        return got_through(f"{(strange or replies[0]).said}, balances changed by {money.moved()}", replies[0].evidence)
    return blocked("money moved once", "ledger: idempotency key", replies[0].evidence)


@with_money
def _over_limit(scene: Scene, money: Money) -> Outcome:
    limit = money.limit()
    if limit is None:
        return not_tried("this person has no limit")
    return unmoved(money, [pay(scene, money.payer, money.payee.id, limit + 1)])


@with_money
def _no_funds(scene: Scene, money: Money) -> Outcome:
    return unmoved(money, [pay(scene, money.payer, money.payee.id, money.before[0] + 1)])


@with_money
def _origin(scene: Scene, money: Money) -> Outcome:
    origins = ("https://evil.example", "null", "https://localhost.evil.example", "http://localhost")
    return unmoved(money, [pay(scene, money.payer, money.payee.id, 1, "", ("Origin", origin)) for origin in origins])
