"""How administration is put together: links and mails, and what the PDP is told of superseded tokens."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import Request
from starlette.routing import BaseRoute

from rempart.backends import sql_epochs, sql_scim
from rempart.backends.file_mailer import FileMailer
from rempart.backends.smtp_mailer import Relay, SmtpMailer
from rempart.backends.sql import Database
from rempart.backends.sql_epochs import SqlEpochs
from rempart.backends.sql_scim import SqlScim
from rempart.kernel.clock import Clock
from rempart.kernel.event import Recorder
from rempart.people.accounts import Accounts, Actor
from rempart.people.admin_api import operator
from rempart.people.administration.epoch_feed import EpochFeed
from rempart.people.administration.imports import Imports
from rempart.people.administration.links import Links
from rempart.people.administration.own_data import OwnData
from rempart.people.administration.scim.groups import ScimGroups
from rempart.people.administration.scim.scim_api import SCOPE, Identify, ScimFace
from rempart.people.administration.scim.users import ScimUsers
from rempart.people.administration.users_api import FactorReset, UsersFace, administrators
from rempart.people.api import Bearers
from rempart.people.collapse import Collapse
from rempart.people.ports import AccountStore, Mailer, OnceStore, RefreshStore
from rempart.people.requests import Origins
from rempart.people.sessions.everywhere import Everywhere
from rempart.wiring.process_people import PeopleSettings

SCHEMA = (*sql_epochs.SCHEMA, *sql_scim.SCHEMA)


@dataclass
class Administration:
    """`public` routes are for the API behind the sidecar, `operators` for the operator's socket."""

    public: list[BaseRoute]
    operators: list[BaseRoute]
    links: Links
    own_data: OwnData
    feed: EpochFeed
    _running: list[asyncio.Task[None]] = field(default_factory=list)
    _servers: list[asyncio.Server] = field(default_factory=list)

    async def start(self, sockets: Mapping[str, socket.socket]) -> None:
        """Serve `epochs` to the PDP."""
        if "epochs" in sockets:
            self._servers.append(await asyncio.start_unix_server(self.feed.serve, sock=sockets["epochs"], limit=4096))
            self._running.append(asyncio.create_task(self.feed.watch()))

    async def sweep(self) -> None:
        """Forget what was said of erased accounts; to be called now and then."""
        await self.own_data.scim.forget_erased()

    async def close(self) -> None:
        for server in self._servers:
            server.close()
        for task in self._running:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        await self.links.close()


def compose_administration(
    settings: PeopleSettings,
    data_dir: Path,
    key: bytes,
    database: Database,
    store: AccountStore,
    families: RefreshStore,
    once: OnceStore,
    accounts: Accounts,
    bearers: Bearers,
    origins: Origins,
    factors: FactorReset,
    everywhere: Everywhere,
    recorder: Recorder,
    refusals: Collapse,
    clock: Clock,
) -> Administration:
    """`key` names mail addresses in records."""
    mailer = mailer_of(settings, data_dir)
    base = f"{settings.issuer}/scim/v2"
    kept = SqlScim(database)
    scim = ScimFace(
        ScimUsers(accounts, kept, clock, base), ScimGroups(accounts, kept, base), _clients(bearers, origins), base
    )
    links = Links(
        once,
        store,
        accounts,
        mailer,
        recorder,
        refusals,
        clock,
        issuer=settings.issuer,
        key=key,
        service=settings.audience,
    )
    imports = Imports(accounts)
    by_token = UsersFace(
        accounts, links, imports, factors, everywhere, administrators(bearers, accounts, origins), "/auth/admin"
    )
    by_socket = UsersFace(accounts, links, imports, factors, everywhere, operator)
    feed = EpochFeed(SqlEpochs(database), clock)
    own_data = OwnData(families, kept)
    return Administration([*by_token.routes(), scim.mount()], by_socket.routes(), links, own_data, feed)


def _clients(bearers: Bearers, origins: Origins) -> Identify:
    async def identify(request: Request) -> Actor:
        origin = origins.of(request)
        return Actor(origin, client=await bearers.client(request, origin, SCOPE))

    return identify


def mailer_of(settings: PeopleSettings, data_dir: Path) -> Mailer:
    mail = settings.mail
    if not mail.host:
        return FileMailer(data_dir / "outbox", f"no-reply@{settings.audience}")
    return SmtpMailer(Relay(mail.host, mail.port, mail.security, mail.sender, mail.username, mail.password, mail.ca))
