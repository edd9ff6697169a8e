"""Rollback abused by those who may roll back, and by those who may not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from .model import Actor, Alert, Attack, Outcome, blocked, got_through, not_tried
from .money import NEEDS, Money, NoMoney, give_back, pay, unmoved, with_money
from .scene import Scene, Session
from .wire import Reply


def attacks() -> Iterator[Attack]:
    def insider(id: str, title: str, tried: str, expected: str, run: Callable[[Scene], Outcome]) -> Attack:
        return Attack(
            id, Actor.INSIDER, title, tried, expected, run, Alert.MONEY, alone=True, needs=(*NEEDS, "/transactions")
        )

    yield insider(
        "E-rollback-twice",
        "Rollback twice",
        "the same rollback again, and ten times at once",
        "409, money back once",
        _rollback_twice,
    )
    yield insider(
        "E-rollback-of-rollback",
        "Rollback of a rollback",
        "the rollback's own transaction",
        "4xx and no money moved",
        _rollback_rollback,
    )
    yield insider(
        "E-rollback-by-others",
        "Rollback by its parties",
        "payer, payee, admin and auditor roll back a payment that is there",
        "403 and no money moved",
        _rollback_others,
    )
    yield insider(
        "E-rollback-gone",
        "Rollback when the money is gone",
        "a rollback after the receiver spent it",
        "4xx, or no balance below zero",
        _rollback_gone,
    )


def _rollback(scene: Scene, who: Session, transaction: str) -> Reply:
    return scene.send("POST", f"/transactions/{transaction}/rollback", {"reason": "attack"}, who)


def _paid(scene: Scene, money: Money, amount: int = 1) -> str:
    reply = pay(scene, money.payer, money.payee.id, amount)
    if reply.status != 201:
        raise NoMoney(f"the payment itself was answered {reply.said}")
    return str(reply.json["transaction_id"])


@with_money
def _rollback_twice(scene: Scene, money: Money) -> Outcome:
    transaction, finance = _paid(scene, money), scene.session("finance")
    with ThreadPoolExecutor(10) as pool:
        replies = list(pool.map(lambda _: _rollback(scene, finance, transaction), range(10)))
    replies.append(_rollback(scene, finance, transaction))
    strange = next((reply for reply in replies if reply.status not in (200, 409)), None)
    passed = sum(reply.status == 200 for reply in replies)
    if strange is not None or passed != 1 or money.moved() != (0, 0):
        return got_through(
            f"{passed} passed, {(strange or replies[-1]).said}, balances {money.moved()}", replies[-1].evidence
        )
    return blocked(
        f"{replies[-1].said} ten times, money back once", "ledger: one rollback an original", replies[-1].evidence
    )


@with_money
def _rollback_rollback(scene: Scene, money: Money) -> Outcome:
    finance = scene.session("finance")
    first = _rollback(scene, finance, _paid(scene, money))
    if first.status != 200:
        return not_tried(f"the rollback itself was answered {first.said}")
    return unmoved(money, [_rollback(scene, finance, str(first.json["rollback_id"]))])


@with_money
def _rollback_others(scene: Scene, money: Money) -> Outcome:
    transaction = _paid(scene, money)
    money.before = money.balances()
    people = (money.payer, money.payee, scene.session("admin"), scene.session("audit"), scene.session("devops"))
    outcome = unmoved(money, [_rollback(scene, who, transaction) for who in people])
    _rollback(scene, scene.session("finance"), transaction)
    return outcome


@with_money
def _rollback_gone(scene: Scene, money: Money) -> Outcome:
    """The receiver pays all they have back to the payer in other payments, then the first payment is rolled back."""
    limit = money.limit()
    amount = min(20, limit or 20)
    transaction = _paid(scene, money, amount)
    have = money.balance(money.payee)
    give_back(scene, money, have, limit)
    if money.balance(money.payee):
        return not_tried("the receiver could not spend what they have")
    reply = _rollback(scene, scene.session("finance"), transaction)
    payer, payee = money.balances()
    if have > amount:
        pay(scene, money.payer, money.payee.id, min(have - amount, limit or have))
    if reply.status >= 500 or payer < 0 or payee < 0 or (reply.status == 200 and payee != 0):
        return got_through(f"{reply.said}, balances {payer} and {payee}", reply.evidence)
    return blocked(f"{reply.said}, balances {payer} and {payee}", "ledger: balances never negative", reply.evidence)
