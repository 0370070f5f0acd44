"""Decides which requests are accepted: correct Host and Origin, the token if one is needed, and a bounded body.

Any page that the user visits can attack a voice assistant's server: it can send requests to 127.0.0.1, and by DNS
rebinding even under a name of its own. So Host and Origin are checked on every request, WebSockets included, before
anything else runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from urllib.parse import urlencode

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from config.hardware import in_words
from web import origins
from web.address import Address
from web.api.audio.errors import error_response
from web.api.audio.paths import canonical, is_api
from web.keys import COOKIE, Keys, OneToken, given_cookies, given_in_the_address, given_keys, query
from web.realtime.webrtc.routes import CALLS, SDP

REALTIME, KEY_PREFIX = "/v1/realtime", "ek_"
"""The only path that page keys open, over WebSocket or WebRTC, and the prefix of those keys."""
MAX_BODY = 1 << 20
"""Bytes of a request's body; a path in `Guard.larger_bodies` may take more."""
BODY_S = 30.0
"""Seconds that the server waits for each next LEAST bytes of a body, or for its end."""
LEAST = 16 << 10
"""A body that arrives more slowly is as good as none, and holds a connection."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
REASONS = {
    401: "token",
    403: "origin",
    408: "slow_body",
    413: "large_body",
    415: "content_type",
    421: "host",
}
"""The reason that a refusal is counted under, by status."""
JSON_TYPES = frozenset({"application/json", "application/jsonl", "application/x-ndjson"})


def content_security_policy(host: str, *, secure: bool) -> str:
    """Allow everything from this server only, nothing inline. `ws://` is listed for browsers whose 'self' omits it."""
    return "; ".join(
        (
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            f"connect-src 'self' {'wss' if secure else 'ws'}://{host}",
            "img-src 'self' data:",
            "font-src 'self'",
            "media-src 'self' blob:",
            "worker-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class _TooLarge(Exception):
    """A body exceeded its limit while it was being read."""


class _TooSlow(Exception):
    """The rest of a body did not arrive."""


class Guard:
    """ASGI middleware around the whole app."""

    def __init__(
        self,
        app: ASGIApp,
        address: Address,
        larger_bodies: Mapping[str, Callable[[], int]] | None = None,
        forms: Collection[str] = (),
        opens: Callable[[str], bool] = lambda _: False,
        refused: Callable[[str], None] = lambda reason: None,
        keys: Keys | None = None,
    ) -> None:
        """
        Args:
            larger_bodies: by canonical path, the most bytes of a body there.
            forms: canonical paths that take multipart/form-data. A foreign page can send that without a preflight,
                but not without its Origin, which is refused.
            opens: whether a key other than the token opens the Realtime API.
            refused: called with the reason for each refused request.
            keys: what opens everything; by default the address's token.
        """
        self.refused = refused
        self.keys = keys or OneToken(address.token)
        self.opens = opens
        self.app = app
        self.address = address
        self.larger_bodies = larger_bodies or {}
        self.forms = frozenset(forms)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            refusal = self._refusal(scope)
            if refusal is None:
                await self.app(scope, receive, send)
            else:
                await WebSocket(scope, receive, send).send_denial_response(self._counted(refusal))
        elif scope["type"] == "http":
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = self._refusal(scope)
        if refusal is not None:
            await self._counted(refusal)(scope, receive, send)
            return
        headers = Headers(scope=scope)
        bound = self.larger_bodies.get(canonical(scope["path"]), lambda: MAX_BODY)()
        declared = headers.get("content-length", "0")
        if not declared.isdigit() or int(declared) > bound:
            await self._counted(_too_large(scope, bound))(scope, receive, send)
            return
        read = paid = 0
        waited = 0.0
        started = complete = False
        clock = asyncio.get_running_loop().time

        async def bounded() -> Message:
            nonlocal read, paid, waited, complete
            began = clock()
            try:
                # After a complete body, only the disconnect comes.
                async with asyncio.timeout(None if complete else BODY_S - waited):
                    message = await receive()
            except TimeoutError:
                if not started:
                    raise _TooSlow from None
                message = await receive()  # an answer that has begun does not need the rest
            waited += clock() - began  # not the time in which the app was busy with what had come
            if message["type"] == "http.request":
                complete = not message.get("more_body", False)
                read += len(message.get("body", b""))
                if read - paid >= LEAST:
                    paid, waited = read, 0.0
                if read > bound:
                    raise _TooLarge
            return message

        async def secured(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                answered = MutableHeaders(scope=message)
                self._add_headers(answered, headers["host"], scope)
                if self._listed(scope, headers):
                    origins.admit(answered, headers["origin"])
            await send(message)

        try:
            await self.app(scope, bounded, secured)
        except _TooLarge:
            if not started:
                await self._counted(_too_large(scope, bound))(scope, receive, send)
        except _TooSlow:
            refusal = _refused(scope, "The rest of the request did not arrive: send the request again.", 408)
            refusal.headers["Connection"] = "close"
            await self._counted(refusal)(scope, receive, send)

    def _counted(self, refusal: Response) -> Response:
        if refusal.status_code in REASONS:  # neither the answer to a preflight nor the redirect to a page
            self.refused(REASONS[refusal.status_code])
        return refusal

    def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer to a request that is refused; None if it may pass."""
        headers = Headers(scope=scope)
        if headers.getlist("host") != [headers.get("host")] or not self.address.allows_host(headers.get("host")):
            return _refused(scope, f"This server does not answer to that name. Open {self._plain_url()} instead.", 421)
        unsafe = scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS
        asking = scope["path"].startswith("/api/") or is_api(scope["path"])
        if self._listed(scope, headers):
            if scope["type"] == "http" and scope["method"] == "OPTIONS":
                return origins.preflight(headers["origin"], headers.get("access-control-request-headers", ""))
            return self._token_refusal(scope, headers) or self._type_refusal(scope, headers)
        foreign = headers.get("sec-fetch-site") == "cross-site" and (unsafe or asking)
        if foreign or not self.address.allows_origin(headers.get("origin"), headers["host"], secure=_secure(scope)):
            return _refused(scope, "Only this server's own pages may do that.", 403)
        return self._type_refusal(scope, headers) or self._token_refusal(scope, headers)

    def _listed(self, scope: Scope, headers: Headers) -> bool:
        """Whether the request comes from a page that the owner has listed, on a path open to such pages."""
        asked = scope["path"].startswith(origins.PATHS)
        return asked and headers.get("origin", "").lower() in self.address.origins

    def _type_refusal(self, scope: Scope, headers: Headers) -> Response | None:
        unsafe = scope["type"] == "http" and scope["method"] not in SAFE_METHODS
        if unsafe and not self._takes(scope, headers):
            return _refused(scope, "Send JSON, with the header Content-Type: application/json.", 415)
        return None

    def _takes(self, scope: Scope, headers: Headers) -> bool:
        """Whether a body of this type may change something here."""
        kind = _media_type(headers)
        if scope["path"] == CALLS and kind == SDP:
            return True
        empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
        if empty and (scope["method"] == "DELETE" or scope["path"].startswith(f"{CALLS}/")):
            return True  # deleting and hanging up need no body; a page of another origin may not send DELETE
        return kind in JSON_TYPES or (kind == "multipart/form-data" and canonical(scope["path"]) in self.forms)

    def _token_refusal(self, scope: Scope, headers: Headers) -> Response | None:
        given = [*given_keys(headers), *([] if self._listed(scope, headers) else given_cookies(headers))]
        if scope["path"] in {REALTIME, CALLS} and any(map(self.opens, given)):
            return None
        if any(each.startswith(KEY_PREFIX) for each in given):
            return _refused(scope, "This key is not valid or has expired: get a new one.", 401)
        if not self.keys.needed(scope) or any(map(self.keys.fit, given)):
            return None
        token = next(filter(self.keys.fit, given_in_the_address(scope)), None)
        if token is None:
            how = "as Authorization: Bearer …" if is_api(scope["path"]) else "with the address, as ?token=…"
            return _refused(scope, f"Send the token {self.keys.given_by}, {how}.", 401)
        if scope["type"] == "websocket" or scope["method"] != "GET":
            return None
        rest = urlencode([(name, value) for name, value in query(scope) if name != "token"])
        # The path "//evil" would redirect the browser to another host.
        path = "/" + scope["path"].lstrip("/")
        answer = RedirectResponse(path + (f"?{rest}" if rest else ""), 303)
        month, secure = 30 * 24 * 3600, _secure(scope)
        answer.set_cookie(COOKIE, token, max_age=month, httponly=True, samesite="strict", secure=secure)
        answer.headers["Referrer-Policy"] = "no-referrer"
        answer.headers["Cache-Control"] = "no-store"
        return answer

    def _plain_url(self) -> str:
        return self.address.url.split("/?")[0]

    def _add_headers(self, headers: MutableHeaders, host: str, scope: Scope) -> None:
        path = scope["path"]
        headers["Content-Security-Policy"] = content_security_policy(host, secure=_secure(scope))
        headers["X-Content-Type-Options"] = "nosniff"
        headers["X-Frame-Options"] = "DENY"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["Cross-Origin-Resource-Policy"] = "same-origin"
        headers["Permissions-Policy"] = "microphone=(self), speaker-selection=(self), camera=(), geolocation=()"
        if "content-length" not in headers:  # a stream, whose pieces nginx would otherwise buffer
            headers["X-Accel-Buffering"] = "no"
        headers["Cache-Control"] = "no-cache" if path.startswith("/static/") else "no-store"


def _secure(scope: Scope) -> bool:
    """Whether the request came by TLS, our own or that of a trusted proxy."""
    return scope.get("scheme") in {"https", "wss"}


def _media_type(headers: Headers) -> str:
    """Return the media type: what a foreign page can send without a preflight (a form, plain text) never has JSON's."""
    return headers.get("content-type", "").split(";")[0].strip().lower()


def _too_large(scope: Scope, bound: int) -> Response:
    return _refused(scope, f"A request may have at most {in_words(bound)} here: send less.", 413)


def _refused(scope: Scope, text: str, status: int) -> Response:
    if is_api(scope["path"]):
        return error_response(status, text)
    return PlainTextResponse(text, status)
