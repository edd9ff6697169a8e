"""Static files under names that hold the hash of their content: cached for good, and never stale.

By their plain names they are there, too, for pages of other rooms, and kept for minutes only.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib import resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from rempart.kernel.errors import NotFound

PREFIX = "/auth/static/"
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}
_FOR_NOW, _FOR_GOOD = "public, max-age=300", "public, max-age=31536000, immutable"


class Assets:
    """Read once, at the first page."""

    @cached_property
    def _files(self) -> dict[str, tuple[str, bytes]]:
        """Plain name → (served name, content)."""
        found = {}
        for file in resources.files(__package__).joinpath("static").iterdir():
            stem, _, kind = file.name.rpartition(".")
            if kind in _TYPES:
                content = file.read_bytes()
                found[file.name] = (f"{stem}.{hashlib.sha256(content).hexdigest()[:16]}.{kind}", content)
        return found

    @cached_property
    def _served(self) -> dict[str, bytes]:
        return {**dict(self._files.values()), **{name: content for name, (_, content) in self._files.items()}}

    def path(self, name: str) -> str:
        return PREFIX + self._files[name][0]

    def routes(self) -> list[BaseRoute]:
        return [Route(PREFIX + "{name}", self.serve, methods=["GET"])]

    async def serve(self, request: Request) -> Response:
        name = request.path_params["name"]
        content = self._served.get(name)
        if content is None:
            raise NotFound("no_such_file", "there is no such file")
        return Response(
            content,
            headers={
                "content-type": _TYPES[name.rpartition(".")[2]],
                "cache-control": "public, max-age=300"
                if name in self._files
                else "public, max-age=31536000, immutable",
                "x-content-type-options": "nosniff",
                "cross-origin-resource-policy": "same-origin",
                "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
            },
        )
