"""The workload's side of the SPIFFE Workload API: fetch and follow one's own identity, from async or plain code.

    async with WorkloadApi() as api:
        svid = await api.fetch_x509_svid()
        async for svid in api.watch_x509_svid(): ...
    token = fetch_jwt_svid("https://partner.example").token     # without an event loop

The endpoint is `$SPIFFE_ENDPOINT_SOCKET` (SPIFFE_Workload_Endpoint.md section 4) unless given. Keys stay in memory.
"""

from __future__ import annotations

import asyncio
import base64
import os
import ssl
import textwrap
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from rempart.kernel.errors import BadInput, Denied, RempartError, Unavailable

T = TypeVar("T")
_SERVICE = "/SpiffeWorkloadAPI/"
_METADATA = {"workload.spiffe.io": "true"}
TIMEOUT = 15.0


@dataclass(frozen=True, slots=True)
class X509Svid:
    """`chain` (leaf first) and `roots` are DER certificates, `private_key` is PKCS#8 DER."""

    spiffe_id: str
    chain: tuple[bytes, ...] = field(repr=False)
    private_key: bytes = field(repr=False)
    roots: tuple[bytes, ...] = field(repr=False)
    hint: str = ""

    def certificate_pem(self) -> str:
        return "".join(map(ssl.DER_cert_to_PEM_cert, self.chain))

    def bundle_pem(self) -> str:
        return "".join(map(ssl.DER_cert_to_PEM_cert, self.roots))

    def private_key_pem(self) -> str:
        body = "\n".join(textwrap.wrap(base64.b64encode(self.private_key).decode(), 64))
        return f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n"


@dataclass(frozen=True, slots=True)
class JwtSvid:
    spiffe_id: str
    token: str = field(repr=False)
    hint: str = ""


def endpoint_path(endpoint: str | None = None) -> str:
    """The socket's path; raises BadInput `no_workload_api` when there is no endpoint, or one that is no unix socket."""
    given = endpoint or os.environ.get("SPIFFE_ENDPOINT_SOCKET", "")
    path = given.removeprefix("unix://").removeprefix("unix:")
    if not given.startswith("unix:") or not path.startswith("/"):
        raise BadInput(
            "no_workload_api",
            f"{given!r} is not the address of a workload API" if given else "SPIFFE_ENDPOINT_SOCKET is not set",
            "give unix:///absolute/path/to/workload.sock",
        )
    return path


def split_certificates(ders: bytes) -> tuple[bytes, ...]:
    """Certificates that follow one another in DER (X.690 section 8.1); raises BadInput `bad_certificate`."""
    found = []
    offset = 0
    while offset < len(ders):
        header = ders[offset : offset + 6]
        if len(header) < 2 or header[0] != 0x30:
            raise BadInput("bad_certificate", "this is not a sequence of DER certificates")
        length, begin = header[1], 2
        if length & 0x80:
            count = length & 0x7F
            if not 1 <= count <= 4 or len(header) < 2 + count:
                raise BadInput("bad_certificate", "this is not a sequence of DER certificates")
            length, begin = int.from_bytes(header[2 : 2 + count], "big"), 2 + count
        end = offset + begin + length
        if end > len(ders):
            raise BadInput("bad_certificate", "a DER certificate is cut off")
        found.append(ders[offset:end])
        offset = end
    return tuple(found)


class WorkloadApi:
    """A connection to the Workload API. Raises Denied `no_identity` when the calling process has none, Unavailable
    `workload_api_unreachable` when nobody answers, BadInput for what the API calls an invalid argument."""

    def __init__(self, endpoint: str | None = None) -> None:
        self._path = endpoint_path(endpoint)
        self._channel: Any = None

    async def __aenter__(self) -> WorkloadApi:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    def _open(self) -> Any:
        from .unix_channel import UnixChannel

        if self._channel is None:
            self._channel = UnixChannel(path=self._path)
        return self._channel

    async def _unary(self, method: str, request: Any, reply: type) -> Any:
        from grpclib.client import UnaryUnaryMethod

        async with _told(self._path):
            call: Any = UnaryUnaryMethod(self._open(), _SERVICE + method, type(request), reply)
            return await call(request, timeout=TIMEOUT, metadata=_METADATA)

    async def _stream(self, method: str, request: Any, reply: type) -> AsyncIterator[Any]:
        from grpclib.client import UnaryStreamMethod

        async with _told(self._path):
            call: Any = UnaryStreamMethod(self._open(), _SERVICE + method, type(request), reply)
            async with call.open(metadata=_METADATA) as stream:
                await stream.send_message(request, end=True)
                async for message in stream:
                    yield message

    async def watch_x509_svids(self) -> AsyncIterator[list[X509Svid]]:
        """All identities of this process, at once and again at every rotation; ends with an error, never quietly."""
        from rempart.protocols.spiffe import workload_pb2 as wire

        async for message in self._stream("FetchX509SVID", wire.X509SVIDRequest(), wire.X509SVIDResponse):
            yield [
                X509Svid(
                    svid.spiffe_id,
                    split_certificates(svid.x509_svid),
                    svid.x509_svid_key,
                    split_certificates(svid.bundle),
                    svid.hint,
                )
                for svid in message.svids
            ]
        raise Unavailable("workload_api_unreachable", "the workload API ended the stream", "connect again")

    async def watch_x509_svid(self) -> AsyncIterator[X509Svid]:
        """The default identity, as `watch_x509_svids`."""
        async for svids in self.watch_x509_svids():
            yield svids[0]

    async def fetch_x509_svid(self) -> X509Svid:
        """The default identity, once."""
        return (await self.fetch_x509_svids())[0]

    async def fetch_x509_svids(self) -> list[X509Svid]:
        stream = self.watch_x509_svids()
        try:
            async with asyncio.timeout(TIMEOUT):
                return await anext(stream)
        except TimeoutError:
            raise _unreachable(self._path, "it did not answer in time") from None
        finally:
            await stream.aclose()  # type: ignore[attr-defined]  # an async generator, declared as an iterator

    async def fetch_jwt_svid(self, audience: str | Sequence[str], spiffe_id: str = "") -> JwtSvid:
        from rempart.protocols.spiffe import workload_pb2 as wire

        audiences = [audience] if isinstance(audience, str) else list(audience)
        request = wire.JWTSVIDRequest(audience=audiences, spiffe_id=spiffe_id)
        message = await self._unary("FetchJWTSVID", request, wire.JWTSVIDResponse)
        return JwtSvid(message.svids[0].spiffe_id, message.svids[0].svid, message.svids[0].hint)

    async def fetch_jwt_bundles(self) -> dict[str, bytes]:
        """The JWKS document of each trust domain (`spiffe://…`) whose JWT-SVIDs this process may trust."""
        from rempart.protocols.spiffe import workload_pb2 as wire

        stream = self._stream("FetchJWTBundles", wire.JWTBundlesRequest(), wire.JWTBundlesResponse)
        try:
            async with asyncio.timeout(TIMEOUT):
                return dict((await anext(stream)).bundles)
        except TimeoutError:
            raise _unreachable(self._path, "it did not answer in time") from None
        finally:
            await stream.aclose()  # type: ignore[attr-defined]  # an async generator, declared as an iterator

    async def validate_jwt_svid(self, token: str, audience: str) -> tuple[str, dict[str, Any]]:
        """The SPIFFE ID and the claims of somebody's token for `audience`; raises BadInput when it isn't valid."""
        from google.protobuf.json_format import MessageToDict

        from rempart.protocols.spiffe import workload_pb2 as wire

        request = wire.ValidateJWTSVIDRequest(svid=token, audience=audience)
        message = await self._unary("ValidateJWTSVID", request, wire.ValidateJWTSVIDResponse)
        return message.spiffe_id, MessageToDict(message.claims)


@asynccontextmanager
async def _told(path: str) -> AsyncIterator[None]:
    """Turn what grpclib raises into our errors."""
    from grpclib import GRPCError, Status
    from grpclib.exceptions import ProtocolError, StreamTerminatedError

    try:
        yield
    except GRPCError as error:
        kinds: dict[Status, tuple[type[RempartError], str]] = {
            Status.PERMISSION_DENIED: (Denied, "no_identity"),
            Status.INVALID_ARGUMENT: (BadInput, "bad_workload_request"),
        }
        kind, code = kinds.get(error.status, (Unavailable, "workload_api_failed"))
        reason = (error.message or error.status.name).removesuffix(f" [{code}]")  # ours names its code for all clients
        raise kind(code, reason, "see `rempart entry list` and `rempart status`") from None
    except (OSError, ProtocolError, StreamTerminatedError) as error:
        raise _unreachable(path, str(error)) from None


def _unreachable(path: str, why: str) -> Unavailable:
    return Unavailable("workload_api_unreachable", f"no answer from {path}: {why}", "start it with `rempart up`")


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def fetch_x509_svids(endpoint: str | None = None) -> list[X509Svid]:
    """For code without an event loop."""

    async def fetch() -> list[X509Svid]:
        async with WorkloadApi(endpoint) as api:
            return await api.fetch_x509_svids()

    return _run(fetch())


def fetch_x509_svid(endpoint: str | None = None) -> X509Svid:
    """For code without an event loop."""
    return fetch_x509_svids(endpoint)[0]


def fetch_jwt_svid(audience: str | Sequence[str], spiffe_id: str = "", endpoint: str | None = None) -> JwtSvid:
    """For code without an event loop."""

    async def fetch() -> JwtSvid:
        async with WorkloadApi(endpoint) as api:
            return await api.fetch_jwt_svid(audience, spiffe_id)

    return _run(fetch())
