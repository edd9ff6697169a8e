"""What settings of receivers have in common: where they are, what they are trusted by, with which secret."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from .check import Reader

_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_MAX_PEM = 1 << 20
URL = r"https?://[!-~]+"


def secret(reader: Reader, key: str, environment: Mapping[str, str], *, required: bool = False) -> str:
    """The value of a variable that the file names as `"${NAME}"`: no secret stands in it. Empty when refused."""
    text = reader.text(key, required=required)
    if not text:
        return ""
    reference = _REFERENCE.fullmatch(text)
    if reference is None:
        reader.refuse(key, f"{key} may not stand in this file", 'write "${NAME_OF_A_VARIABLE}"')
        return ""
    value = environment.get(reference[1], "")
    if not value:
        reader.refuse(key, f"the variable {reference[1]} is not set", "set it where `rempart up` runs")
    return value


def receiver_url(reader: Reader, key: str, url: str) -> str:
    """`url` without a slash at its end: https, or http on this host; never where a cloud tells machines their
    credentials (169.254.0.0/16). What is wrong with it is refused under `key`."""
    url = url.rstrip("/")
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        parts, host = urlsplit(""), ""
    address = ip(host)
    if not host or not re.fullmatch(URL, url):
        reader.refuse(key, "this is no URL", "write https://HOST:PORT")
    elif parts.username is not None or parts.password is not None:
        reader.refuse(key, "credentials may not stand in a URL", "use the keys for them")
    elif parts.query or parts.fragment:
        reader.refuse(key, "a query or fragment is not meant here", "leave it out")
    elif address is not None and address.is_link_local:
        reader.refuse(key, f"{host} is link-local, where no receiver is", "name the receiver's host")
    elif parts.scheme != "https" and not (host == "localhost" or (address and address.is_loopback)):
        reader.refuse(key, "without TLS only a receiver on this host is used", "write https://…")
    return url


def pem_text(reader: Reader, key: str, directory: Path, *, required: bool = False) -> str:
    """What a PEM file below `directory` holds; empty when there is none or it is refused."""
    name = reader.text(key, required=required)
    if not name:
        return ""
    path = directory / name
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_PEM).decode("ascii")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        reader.refuse(key, f"{path} can't be read: {why}", "name a PEM file that this user can read")
        return ""
    if "-----BEGIN " not in text:
        reader.refuse(key, f"{path} is no PEM file", "name a PEM file")
        return ""
    return text


def ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
