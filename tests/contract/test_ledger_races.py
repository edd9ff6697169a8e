"""The ledger under races, crashes and random play; on SQLite and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from tests.ledger_places import BANK, NOW, Place, deposit, new_place, on, outcomes, pay
from tests.postgres import postgres

from rempart.kernel.errors import BadInput, RempartError
from wallet.ledger import SOURCE, Kind, Ledger, Order, reversal


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres() as conninfo:
        yield conninfo


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return new_place(request, request.param, tmp_path)


def test_one_wallet_emptied_fifty_times_at_once_pays_once(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000))
        done, refused = await outcomes(*(ledger.transfer(pay("ann", f"p{n}", 1000, key=f"k{n}")) for n in range(50)))
        assert len(done) == 1
        assert {error.code for error in refused} == {"insufficient_funds"}
        assert await ledger.balance("ann") == 0

    on(place, play)


def test_one_key_used_twenty_times_at_once_moves_money_once(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000))
        done, refused = await outcomes(*(ledger.transfer(pay("ann", "bob", 10, key="k")) for _ in range(20)))
        assert len({outcome.transaction_id for outcome in done}) == 1
        assert not refused
        assert await ledger.balance("bob") == 10

    on(place, play)


def test_one_transaction_rolled_back_twenty_times_at_once_goes_back_once(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000))
        await ledger.transfer(deposit("bob", 1000))
        paid = await ledger.transfer(pay("ann", "bob", 10))
        original = await ledger.find(paid.transaction_id)
        assert original is not None
        orders = [reversal(original, reason="x", now=NOW, maximum=1000, by={}) for _ in range(20)]
        done, refused = await outcomes(*(ledger.transfer(o) for o in orders))
        assert len(done) == 1
        assert {error.code for error in refused} == {"already_rolled_back"}
        assert await ledger.balance("bob") == 1000

    on(place, play)


def test_payments_in_a_circle_do_not_wait_for_each_other(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        names = [f"p{n}" for n in range(6)]
        for name in names:
            await ledger.transfer(deposit(name, 1000))
        pairs = [(a, b) for a in names for b in names if a != b]
        done, refused = await outcomes(*(ledger.transfer(pay(a, b, 3)) for a, b in pairs * 3))
        assert len(done) == len(pairs) * 3
        assert not refused
        assert sum([await ledger.balance(name) for name in names]) == 6000

    on(place, play)


def test_pages_show_each_transaction_once_while_others_write(place: Place) -> None:
    async def play(ledger: Ledger) -> None:
        async def write(writer: int) -> None:
            for n in range(15):
                await ledger.transfer(deposit(f"w{writer}", n + 1))

        async def read() -> list[str]:
            seen, after = [], ""
            while not writing.done() or after:
                page = await ledger.transactions(None, 0.0, after, 7)
                seen += [t.id for t in page.transactions] if page.next else []
                after = page.next or after
                if not page.next and writing.done():
                    page = await ledger.transactions(None, 0.0, after, 500)
                    return seen + [t.id for t in page.transactions]
                await asyncio.sleep(0)
            return seen

        writing = asyncio.ensure_future(asyncio.gather(*(write(n) for n in range(4))))
        seen = await read()
        await writing
        assert len(seen) == len(set(seen)) == 60
        of_one = await ledger.transactions("w2", 0.0, "", 100)
        assert len(of_one.transactions) == 15
        assert (await ledger.transactions(None, NOW + 1, "", 10)).transactions == []
        for bad in ("x", "after-1", "after-a-b", "after-1-" + "9" * 40, "after-٣-1"):
            with pytest.raises(BadInput):
                await ledger.transactions(None, 0.0, bad, 10)

    on(place, play)


_WRITER = """
import asyncio, sys
sys.path[:0] = [{bank!r}, {repository!r}]
from tests.ledger_places import deposit, open_url, pay

async def write(ledger, worker):
    n = 0
    while True:
        n += 1
        try:
            await ledger.transfer(pay("ann", f"p{{worker}}", 1, key=f"{{worker}}-{{n}}"))
        except BaseException as error:
            print("error", error, flush=True)
            raise
        print(f"{{worker}}-{{n}}", flush=True)

async def main():
    ledger = await open_url({url!r})
    await ledger.transfer(deposit("ann", 10**9, key="start"))
    await asyncio.gather(*(write(ledger, worker) for worker in range(8)))

asyncio.run(main())
"""


def test_kill_9_loses_nothing_that_was_told(place: Place) -> None:
    for _ in range(2):
        program = _WRITER.format(bank=str(BANK), repository=str(BANK.parents[1]), url=place.url)
        child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        told = [child.stdout.readline().strip() for _ in range(40)]
        os.kill(child.pid, signal.SIGKILL)
        told += [line.strip() for line in child.stdout.read().splitlines(keepends=True) if line.endswith("\n")]
        child.wait()
        child.stdout.close()
        assert not [line for line in told if line.startswith("error") or not line]

        async def play(ledger: Ledger, told: list[str] = told) -> None:
            async def again() -> int:
                for key in told:
                    await ledger.transfer(pay("ann", f"p{key.partition('-')[0]}", 1, key=key))
                return await ledger.balance("ann")

            before = await again()  # by then the server has ended what the killed one had asked for last
            assert await again() == before, "every one that was told is there: asking again moves nothing"
            pages = (await ledger.transactions(None, 0.0, "", 100_000)).transactions
            assert len(pages) == len(await ledger.pending(100_000))

        on(place, play)


def test_postgresql_that_drops_its_connections_is_reached_again(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    place = new_place(request, "postgresql", tmp_path)

    async def play(ledger: Ledger) -> None:
        await ledger.transfer(deposit("ann", 1000, key="a"))
        place.tamper(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        await ledger.transfer(deposit("ann", 1000, key="a"))
        await ledger.transfer(deposit("ann", 1, key="b"))
        assert await ledger.balance("ann") == 1001

    on(place, play)


class Play(RuleBasedStateMachine):
    """Random orders beside the simplest possible model: a dictionary of balances and one of answers by key."""

    place: Place

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.ledger: Ledger = self.runner.run(self.place.open())
        self.balances: dict[str, int] = {}
        self.answers: dict[tuple[str, str], tuple[str, str]] = {}
        self.paid: list[str] = []
        self.reversed: set[str] = set()

    def ask(self, order: Order, expected: str) -> None:
        """`expected` is the code of a refusal, or empty."""
        given = (order.scope, order.key)
        known = self.answers.get(given) if order.key else None
        if known is not None:
            expected = known[1] if known[0] == order.body_hash() else "idempotency_conflict"
        try:
            self.runner.run(self.ledger.transfer(order))
            code = ""
        except RempartError as error:
            code = error.code
        assert code == expected
        if known is None:
            if order.key:
                self.answers[given] = (order.body_hash(), code)
            if not code:
                self.balances[order.source] = self.balances.get(order.source, 0) - order.amount
                self.balances[order.destination] = self.balances.get(order.destination, 0) + order.amount
                if order.kind is not Kind.ROLLBACK:
                    self.paid.append(order.transaction_id)

    def short(self, order: Order) -> str:
        enough = order.source == SOURCE or self.balances.get(order.source, 0) >= order.amount
        return "" if enough else "insufficient_funds"

    who = st.sampled_from(["ann", "bob", "cid"])
    amount = st.integers(1, 60)
    key = st.sampled_from(["", "", "k1", "k2", "k3"])

    @rule(to=who, amount=amount, key=key)
    def put_in(self, to: str, amount: int, key: str) -> None:
        self.ask(deposit(to, amount, key=key), "")

    @rule(source=who, to=who, amount=amount, key=key)
    def transfer(self, source: str, to: str, amount: int, key: str) -> None:
        if source != to:
            order = pay(source, to, amount, key=key)
            self.ask(order, self.short(order))

    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        if not self.paid:
            return
        identifier = data.draw(st.sampled_from(self.paid))
        original = self.runner.run(self.ledger.find(identifier))
        assert original is not None
        assert (original.status == "rolled_back") == (identifier in self.reversed)
        with contextlib.suppress(RempartError):
            order = reversal(original, reason="x", now=NOW, maximum=10**6, by={})
            expected = self.short(order)
            self.ask(order, expected)
            if not expected:
                self.reversed.add(identifier)

    @rule()
    def reopen(self) -> None:
        self.runner.run(self.ledger.close())
        self.ledger = self.runner.run(self.place.open())

    @invariant()
    def balances_agree(self) -> None:
        for account, balance in self.balances.items():
            assert self.runner.run(self.ledger.balance(account)) == balance
            assert balance >= 0 or account == SOURCE

    def teardown(self) -> None:
        soundness = self.runner.run(self.ledger.examine())
        self.runner.run(self.ledger.close())
        self.runner.close()
        assert not soundness.problems


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_random_play_agrees_with_the_model(request: pytest.FixtureRequest, kind: str) -> None:
    with tempfile.TemporaryDirectory() as directory:

        class Here(Play):
            def __init__(self) -> None:
                self.place = new_place(request, kind, Path(directory))
                super().__init__()

        run_state_machine_as_test(
            Here,
            settings=settings(
                max_examples=8,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=list(HealthCheck),
            ),
        )
