"""All pages of one process, as routes."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.routing import BaseRoute

from rempart.kernel.clock import Clock
from rempart.people.password_rules import DEFAULT_LENGTH
from rempart.people.requests import Origins

from .account import AccountPages
from .assets import Assets
from .device import DevicePages
from .enrol import EnrolPages
from .forms import FormGuard
from .links import LinkPages
from .page import Pages
from .ports import (
    BrowserSessions,
    DeviceRequests,
    Interactions,
    Links,
    OwnAccount,
    OwnFactors,
    SigningIn,
    SignOuts,
)
from .security import SecurityPages
from .sign_in import SignInPages
from .sign_out import SignOutPages
from .visit import Door


@dataclass(frozen=True)
class Rooms:
    """What pages stand on."""

    sessions: BrowserSessions
    signing_in: SigningIn
    interactions: Interactions
    devices: DeviceRequests
    sign_outs: SignOuts
    links: Links
    factors: OwnFactors
    account: OwnAccount


def page_routes(
    rooms: Rooms,
    origins: Origins,
    clock: Clock,
    *,
    issuer: str,
    brand: str,
    key: bytes,
    least_length: int = DEFAULT_LENGTH,
) -> list[BaseRoute]:
    """`issuer` tells our own origin; `brand` is the name that people know us by; `key` authenticates forms;
    `least_length` of a password that stands alone."""
    assets = Assets()
    parts = urlsplit(issuer)
    guard = FormGuard(key, f"{parts.scheme}://{parts.netloc}")
    door = Door(Pages(assets, brand, least_length), guard, rooms.sessions, origins, clock)
    return [
        *assets.routes(),
        *SignInPages(rooms.signing_in, rooms.interactions).routes(door),
        *EnrolPages(rooms.signing_in, rooms.factors).routes(door),
        *DevicePages(rooms.devices, rooms.signing_in).routes(door),
        *SignOutPages(rooms.sessions, rooms.sign_outs).routes(door),
        *LinkPages(rooms.links).routes(door),
        *AccountPages(rooms.account, rooms.sessions).routes(door),
        *SecurityPages(rooms.factors, rooms.account).routes(door),
    ]
