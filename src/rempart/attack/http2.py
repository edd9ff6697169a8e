"""One HTTP/2 request with whatever headers: nothing is validated before it is sent."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from .wire import Address, NoAnswer, Reply, connect


def ask_h2(address: Address, ca: str, headers: Sequence[tuple[str, str]], *, source: str = "") -> Reply:
    """Raises NoAnswer when the stream or the connection is ended without an answer."""
    import h2.config
    import h2.connection
    import h2.events
    from h2.exceptions import ProtocolError

    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    with connect(address, context, source=source, timeout=3.0) as channel:
        config = h2.config.H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
        connection = h2.connection.H2Connection(config)
        connection.initiate_connection()
        connection.send_headers(1, list(headers), end_stream=True)
        reply: Reply | None = None
        body = b""
        try:
            channel.sendall(connection.data_to_send())
            while True:
                data = channel.recv(65536)
                if not data:
                    raise NoAnswer("connection closed")
                for event in connection.receive_data(data):
                    if isinstance(event, h2.events.ResponseReceived):
                        pairs = {_text(name): _text(value) for name, value in event.headers or []}
                        reply = Reply(int(pairs[":status"]), pairs)
                    elif isinstance(event, h2.events.DataReceived):
                        body += event.data or b""
                    elif isinstance(event, h2.events.StreamReset | h2.events.ConnectionTerminated):
                        raise NoAnswer("stream reset")
                    elif isinstance(event, h2.events.StreamEnded) and reply is not None:
                        return Reply(reply.status, reply.headers, body)
                channel.sendall(connection.data_to_send())
        except (OSError, ProtocolError) as error:
            raise NoAnswer(f"connection broken: {type(error).__name__}") from None


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
