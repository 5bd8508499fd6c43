"""What stands before every request: a log line, a question for a token, a bound on its body in bytes and seconds."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable
from typing import Any

from parsers.errors import LexisegError
from service.api.errors import ApiError, Failure, answer
from service.api.settings import ApiSettings
from service.api.site import Site
from service.api.tokens import who

OPEN_PATHS = ("/health/live", "/health/ready", "/openapi.json")
"""What may be asked without a token."""
UPLOADS = re.compile(r"^/v1/(uploads/|segment$)")
log = logging.getLogger("lexiseg.api")


class Door:
    """Lets nobody in without a token that is known, before a byte of a body is read. What the token is good for is the
    routes' business."""

    def __init__(self, app: Callable[..., Any], site: Site) -> None:
        self._app, self._site = app, site

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http" or self._site.open_to_all or scope["path"] in OPEN_PATHS:
            await self._app(scope, receive, send)
            return
        secret = _bearer_of(scope["headers"])
        try:
            token = None if secret is None else who(secret, self._site.tokens())
        except LexisegError as error:
            log.error("%s", error)
            await answer(503, Failure(code=error.code, message="The list of tokens cannot be read.",
                                      next_step="Ask who runs the site; the log has more."))(scope, receive, send)
            return
        if token is None:
            missing = secret is None
            response = answer(401, Failure(
                code="token-missing" if missing else "token-unknown",
                message="A bearer token is needed." if missing else "The token is not known here.",
                next_step="Ask who runs the site for: lexiseg tokens add NAME"))
            response.headers["Connection"] = "close"  # nobody waits for the body of a stranger
            await response(scope, receive, send)
            return
        scope.setdefault("state", {})["token"] = token
        await self._app(scope, receive, send)


def _bearer_of(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """The token in the head of a request."""
    for name, value in headers:
        if name == b"authorization":
            scheme, _, secret = value.decode("latin-1").partition(" ")
            return secret.strip() if scheme.lower() == "bearer" and secret.strip() else None
    return None


class BodyLimit:
    """Stops bodies that are too long (413), arrive too slowly (408), or end before they are whole (400), whatever their
    headers say."""

    def __init__(self, app: Callable[..., Any], settings: ApiSettings) -> None:
        self._app, self._settings = app, settings

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = UPLOADS.match(scope["path"]) is not None
        limit = self._settings.max_upload if is_upload else self._settings.max_body
        seconds = self._settings.upload_timeout_s if is_upload else self._settings.body_timeout_s
        deadline, taken, whole, begun = time.monotonic() + seconds, 0, False, False
        stopped: ApiError | None = None

        async def bounded_receive() -> dict[str, Any]:
            nonlocal taken, whole, stopped
            if whole:  # the body is complete: what comes now is the end of the connection
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    message = await receive()
            except TimeoutError:
                stopped = ApiError(408, "body-slow", f"The body took longer than {seconds:g} s.",
                                   "Send less at once, or use paths on the server.")
                raise stopped from None
            if message["type"] == "http.disconnect" and not begun:
                stopped = ApiError(400, "body-cut", f"The body ended after {taken:,} bytes, before it was whole.",
                                   "Send it again.")
                raise stopped
            taken += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if taken > limit:
                stopped = ApiError(413, "body-large", f"The body has more than {limit:,} bytes.",
                                   "Send less at once, or use paths on the server.")
                raise stopped
            return message

        async def noted_send(message: dict[str, Any]) -> None:
            nonlocal begun
            if stopped is not None and not begun:  # what the routes make of a body that was cut off
                return
            begun = begun or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, bounded_receive, noted_send)
        except BaseException:
            if stopped is None or begun:
                raise
        if stopped is not None and not begun:
            response = answer(stopped.status, stopped.failure)
            response.headers["Connection"] = "close"
            await response(scope, receive, send)


class AccessLog:
    """One line a request: method, path without its query, status, milliseconds, whose token. Never a header or body."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status = time.monotonic(), 500

        async def noted_send(message: dict[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noted_send)
        finally:
            fields = {"method": scope["method"], "path": scope["path"][:300], "status": status,
                      "ms": round(1000 * (time.monotonic() - started), 1),
                      "token": getattr(scope.get("state", {}).get("token"), "name", None)}
            log.info("request", extra={"fields": fields})
