"""SCIM 2.0 over HTTP (RFC 7644), for OAuth clients that hold scope `scim`.

Such a client may do to accounts whatever an administrator may: register it as you would hand out that role.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from rempart.kernel import strict_json
from rempart.kernel.errors import BadInput, NotFound, RempartError, Unauthenticated

from ...accounts import Actor
from ...requests import challenge, read_body
from . import discovery
from .groups import ScimGroups, groups_are_declared
from .queries import LIST, SEARCH, Query
from .refusals import NotOffered, ScimRefusal, check_schema, error_document
from .users import ScimUsers

PREFIX = "/auth/scim/v2"
SCOPE = "scim"
MAX_BODY = 512 * 1024
_TYPES = ("application/scim+json", "application/json")
Identify = Callable[[Request], Awaitable[Actor]]


class ScimJson(JSONResponse):
    media_type = "application/scim+json"


class ScimFace:
    """`identify` proves the client of a request: raises Unauthenticated or Denied."""

    def __init__(self, users: ScimUsers, groups: ScimGroups, identify: Identify, base: str) -> None:
        self._users, self._groups, self._identify, self._base = users, groups, identify, base

    def mount(self) -> Mount:
        routes = [
            self._route("/Users", GET=self._list_users, POST=self._create_user),
            self._route("/Users/.search", POST=self._search_users),
            self._route("/Users/{id}", GET=self._get_user, PUT=self._put, PATCH=self._put, DELETE=self._delete_user),
            self._route("/Groups", GET=self._list_groups, POST=self._create_group),
            self._route("/Groups/.search", POST=self._search_groups),
            self._route(
                "/Groups/{id}",
                GET=self._get_group,
                PUT=self._put_group,
                PATCH=self._put_group,
                DELETE=self._create_group,
            ),
            self._route("/ServiceProviderConfig", GET=self._config),
            self._route("/ResourceTypes", GET=self._types),
            self._route("/ResourceTypes/{id}", GET=self._types),
            self._route("/Schemas", GET=self._schemas),
            self._route("/Schemas/{id}", GET=self._schemas),
            self._route("/.search", POST=self._not_offered),
            self._route("/Bulk", POST=self._not_offered),
            self._route("/Me", **dict.fromkeys(("GET", "POST", "PUT", "PATCH", "DELETE"), self._not_offered)),
        ]
        handlers: Mapping[Any, Any] = {RempartError: _refused, HTTPException: _http_refused}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False  # as `requests.application`: its redirects would name plain http
        return Mount(PREFIX, app)

    def _route(self, path: str, **by_method: Callable[[Request, Actor], Awaitable[Response]]) -> Route:
        async def answer(request: Request) -> Response:
            actor = await self._identify(request)
            return await by_method["GET" if request.method == "HEAD" else request.method](request, actor)

        return Route(path, answer, methods=list(by_method))

    async def _list_users(self, request: Request, actor: Actor) -> Response:
        return ScimJson(await self._users.search(_query(request)))

    async def _search_users(self, request: Request, actor: Actor) -> Response:
        return ScimJson(await self._users.search(_searched(await _body(request))))

    async def _create_user(self, request: Request, actor: Actor) -> Response:
        return _resource(request, await self._users.create(await _body(request), actor), 201)

    async def _get_user(self, request: Request, actor: Actor) -> Response:
        return _resource(request, await self._users.get(_id(request)))

    async def _put(self, request: Request, actor: Actor) -> Response:
        write = self._users.patch if request.method == "PATCH" else self._users.replace
        expected = request.headers.get("if-match")
        return _resource(request, await write(_id(request), await _body(request), expected, actor))

    async def _delete_user(self, request: Request, actor: Actor) -> Response:
        await self._users.delete(_id(request), request.headers.get("if-match"), actor)
        return Response(status_code=204)

    async def _list_groups(self, request: Request, actor: Actor) -> Response:
        return ScimJson(await self._groups.search(_query(request)))

    async def _search_groups(self, request: Request, actor: Actor) -> Response:
        return ScimJson(await self._groups.search(_searched(await _body(request))))

    async def _create_group(self, request: Request, actor: Actor) -> Response:
        if request.method == "DELETE":
            raise groups_are_declared()
        await self._groups.create(await _body(request))
        raise groups_are_declared()

    async def _get_group(self, request: Request, actor: Actor) -> Response:
        return _resource(request, await self._groups.get(_id(request), _query(request)), project=False)

    async def _put_group(self, request: Request, actor: Actor) -> Response:
        write = self._groups.patch if request.method == "PATCH" else self._groups.replace
        expected = request.headers.get("if-match")
        return _resource(request, await write(_id(request), await _body(request), expected, actor))

    async def _config(self, request: Request, actor: Actor) -> Response:
        return ScimJson(discovery.provider_config(self._base))

    async def _types(self, request: Request, actor: Actor) -> Response:
        return _listed(request, discovery.resource_types(self._base))

    async def _schemas(self, request: Request, actor: Actor) -> Response:
        return _listed(request, discovery.schemas(self._base))

    async def _not_offered(self, request: Request, actor: Actor) -> Response:
        raise NotOffered("not_offered", "this is not offered here", "see ServiceProviderConfig")


def _listed(request: Request, documents: list[dict[str, Any]]) -> Response:
    """The whole list, or the one whose id the path names. Filters are refused (RFC 7644 section 4)."""
    wanted = request.path_params.get("id")
    if wanted is not None:
        found = [document for document in documents if document["id"].lower() == str(wanted).lower()]
        if not found:
            raise NotFound("no_such_resource", "there is nothing of this name")
        return ScimJson(found[0])
    if "filter" in request.query_params:
        return ScimJson({**error_document(ScimRefusal("invalidFilter", "no filter here")), "status": "403"}, 403)
    count = len(documents)
    return ScimJson(
        {"schemas": [LIST], "totalResults": count, "startIndex": 1, "itemsPerPage": count, "Resources": documents}
    )


def _resource(request: Request, document: dict[str, Any], status: int = 200, *, project: bool = True) -> Response:
    """With `ETag` and `Location`; 304 where the client has this version (RFC 7644 section 3.14)."""
    meta = document.get("meta", {})
    headers = {"cache-control": "no-store"}
    if "location" in meta:
        headers["location"] = meta["location"]
    if "version" in meta:
        headers["etag"] = meta["version"]
        known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
        if request.method in ("GET", "HEAD") and (meta["version"] in known or known == ["*"]):
            return Response(status_code=304, headers=headers)
    return ScimJson(_query(request).project(document) if project else document, status, headers)


def _query(request: Request) -> Query:
    return Query.read(request.query_params)


def _searched(body: Any) -> Query:
    check_schema(body, SEARCH)
    return Query.read(body)


async def _body(request: Request) -> Any:
    """Raises BadInput `bad_content_type`, `body_too_large`, `bad_json`."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _TYPES:
        raise BadInput("bad_content_type", "the body must be JSON", f"send content-type: {_TYPES[0]}")
    return strict_json.loads(await read_body(request, most=MAX_BODY))


def _id(request: Request) -> str:
    return str(request.path_params["id"])[:64]


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RempartError)  # nosec B101 - how Starlette types its handlers
    headers = {"cache-control": "no-store"}
    if isinstance(error, Unauthenticated):
        headers["www-authenticate"] = challenge(error)
    return ScimJson(error_document(error), error.status, headers)


async def _http_refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # nosec B101 - how Starlette types its handlers
    known = RempartError("no_such_route" if error.status_code == 404 else "method_not_allowed", str(error.detail))
    document = {**error_document(known), "status": str(error.status_code)}
    return ScimJson(document, error.status_code, dict(error.headers or {}))
