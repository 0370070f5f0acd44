"""The gateway identifies the user and passes each request to that user's own app, which holds no other user's data."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from config import SettingsError
from web.api.audio.errors import error_response
from web.api.metrics import METRICS, figures
from web.forwarded import Network, comes_from
from web.gateway.accounts import Accounts, AccountsError, user_name
from web.gateway.home import Home, HomeTaken
from web.gateway.limits import Requests, TooManyRequests
from web.gateway.user import Lender, User
from web.keys import OneToken, given_cookies, given_in_the_address, given_keys
from web.service import Dismissal

NAMED = "parley.user"
"""Key of a request's scope: the user named by a proxy."""
IDLE_S = 300.0
"""Seconds of inactivity after which a user is released and their data takes no memory here."""
LOOK_EVERY_S = 0.25
ARRIVE_S = 8.0
"""Seconds within which another gateway must give a user up."""
END_S = 3.0
"""Seconds for a user's requests to end when the user leaves; a conversation still saves what it has to."""
RETRY_S = 1
MOVED = Dismissal("you are connected to another server now", elsewhere=True)
GONE_ON = Dismissal("restarting: connect again to continue the conversation")
REMOVED = Dismissal("this token is no longer valid")

logger = logging.getLogger(__name__)


class _Visits:
    """How many requests of a user are under way, and since when there have been none."""

    def __init__(self) -> None:
        self.over = asyncio.Event()
        self.over.set()
        self.since = asyncio.get_running_loop().time()
        self._open = 0

    def begin(self) -> None:
        self._open += 1
        self.over.clear()

    def end(self) -> None:
        self._open -= 1
        if not self._open:
            self.since = asyncio.get_running_loop().time()
            self.over.set()


class Gateway:
    """The innermost app. It also checks the keys for the guard around it (web.keys.Keys)."""

    given_by = "that you were given for this server"

    def __init__(
        self,
        lender: Lender,
        users: Path,
        accounts: Accounts,
        watching: str | None = None,
        *,
        patience_s: float = ARRIVE_S,
        idle_s: float = IDLE_S,
    ) -> None:
        """
        Args:
            users: the folder that contains a folder for each user.
            watching: the token that opens the metrics, but no user's data; None if nobody reads them.
            patience_s: how long another gateway may take to give a user up.
            idle_s: how long an inactive user stays.
        """
        self.lender = lender
        self.accounts = accounts
        self._folder = users
        self._watching = OneToken(watching)
        self._figures = FastAPI(openapi_url=None)
        self._figures.include_router(figures(lender.metrics))
        self._patience_s = patience_s
        self._idle_s = idle_s
        self._here: dict[str, tuple[User, _Visits]] = {}
        self._doors: dict[str, asyncio.Lock] = {}
        """Locks by user: each arrives or leaves one step at a time."""
        self._going: set[asyncio.Task[None]] = set()
        self._requests = Requests(lender.limits)

    # -- who asks -------------------------------------------------------------------------------------------------

    def needed(self, scope: Scope) -> bool:
        return NAMED not in scope

    def fit(self, key: str) -> bool:
        return self.accounts.owner_of(key) is not None or self._watching.fit(key)

    def opens(self, key: str) -> bool:
        """Whether it is a short-lived key that one of the users here has made."""
        return self._maker(key) is not None

    def _maker(self, key: str) -> str | None:
        return next((name for name, (user, _) in self._here.items() if user.secrets.opens(key)), None)

    def who(self, scope: Scope) -> str | None:
        """Return the user named by a trusted proxy; otherwise the owner of the given key, in the guard's order."""
        if NAMED in scope:
            return str(scope[NAMED])
        return next((name for key in _given(scope) if (name := self.accounts.owner_of(key) or self._maker(key))), None)

    @property
    def here(self) -> dict[str, User]:
        """The users here, by name."""
        return {name: user for name, (user, _) in self._here.items()}

    # -- requests -------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        name = self.who(scope)
        if name is None and scope["path"] == METRICS and any(map(self._watching.fit, _given(scope))):
            await self._figures(scope, receive, send)
            return
        if name is None:
            await answer(scope, receive, send, 401, f"Send the token {self.given_by}.")
            return
        try:
            with self._requests.one(name, scope):
                async with self.present(name) as user:
                    await user.app(scope, receive, send)
        except TooManyRequests as error:
            self.lender.metrics.refused("user_limit")
            await answer(scope, receive, send, 429, str(error), error.retry_s)
        except (HomeTaken, SettingsError) as error:
            await answer(scope, receive, send, 503, str(error), RETRY_S)

    @asynccontextmanager
    async def present(self, name: str) -> AsyncIterator[User]:
        """Hold a user here until this and all their other work has ended. Raises HomeTaken, SettingsError."""
        async with self._door(name):
            if name not in self._here:
                try:
                    user = await User.arrived(name, self._folder / name, self.lender, self._patience_s)
                except OSError as error:
                    logger.warning("A user's folder cannot be used: %s.", error)
                    raise HomeTaken("Your data cannot be read at the moment: try again soon.") from error
                self._here[name] = user, _Visits()
            user, visits = self._here[name]
            visits.begin()
        try:
            yield user
        finally:
            visits.end()

    # -- coming and going -----------------------------------------------------------------------------------------

    async def tend(self) -> None:
        """Release users that another gateway asks for and users that are inactive; runs until cancelled."""
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            wanted = await asyncio.to_thread(_wanted, {name: user.home for name, (user, _) in self._here.items()})
            idle = {name for name, (_, visits) in self._here.items() if clock() - visits.since > self._idle_s}
            for name in wanted | idle:
                self._send_away(name, self._moved if name in wanted else None)

    def _send_away(self, name: str, dismissal: Dismissal | None) -> asyncio.Task[None]:
        """Begin to let a user go. A fault costs no other user anything, and `end` waits for it."""
        going = asyncio.create_task(self.let_go(name, dismissal))
        self._going.add(going)
        going.add_done_callback(self._gone)
        return going

    def _gone(self, going: asyncio.Task[None]) -> None:
        self._going.discard(going)
        if not going.cancelled() and (error := going.exception()) is not None:
            logger.error("a user could not be let go", exc_info=error)

    @property
    def _moved(self) -> Dismissal:
        """A gateway that drains gets no new connections: a client that reconnects by itself reaches another one."""
        return MOVED if self.lender.places.closed is None else GONE_ON

    async def let_go(self, name: str, dismissal: Dismissal | None) -> None:
        """Release a user: their conversations end, and everything is on the disk when this returns.

        Args:
            dismissal: None releases the user only if they are inactive.
        """
        async with self._door(name):
            if name not in self._here:
                return
            user, visits = self._here[name]
            if dismissal is None and (not visits.over.is_set() or user.service.timers.running):
                return
            del self._here[name]
            try:
                if dismissal is not None:
                    user.service.dismiss(dismissal)
                async with asyncio.timeout(END_S):
                    await visits.over.wait()
            except TimeoutError:
                logger.info("requests of a user are cut off, who is asked for elsewhere")
            await user.leave()

    def dismiss(self, dismissal: Dismissal) -> None:
        """End all conversations of all users."""
        for user, _ in self._here.values():
            user.service.dismiss(dismissal)

    async def end(self) -> None:
        """Release all users."""
        going = [*self._going, *(self._send_away(name, GONE_ON) for name in list(self._here))]
        await asyncio.gather(*going, return_exceptions=True)

    async def follow(self, accounts: Accounts) -> None:
        """Apply a changed file of users: release those no longer in it, unless a proxy vouches for them."""
        gone = [name for name in self._here if name in self.accounts and name not in accounts]
        self.accounts = accounts
        if going := [self._send_away(name, REMOVED) for name in gone]:
            await asyncio.wait(going)

    def _door(self, name: str) -> asyncio.Lock:
        return self._doors.setdefault(name, asyncio.Lock())


def _wanted(homes: Mapping[str, Home]) -> set[str]:
    """Return the users that another gateway asks for. Looks at the disk."""
    return {name for name, home in homes.items() if home.wanted()}


def _given(scope: Scope) -> Iterator[str]:
    """Yield the given keys in the guard's order."""
    headers = Headers(scope=scope)
    yield from given_keys(headers)
    yield from given_cookies(headers)
    yield from given_in_the_address(scope)


class NamedByProxy:
    """ASGI middleware around all others: takes the user's name from a trusted proxy."""

    def __init__(self, app: ASGIApp, proxies: Iterable[Network], header: str | None) -> None:
        """`header` contains the name of the authenticated user; None if users bring tokens."""
        self._app = app
        self._proxies = tuple(proxies)
        self._header = header

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._header is None or scope["type"] == "lifespan" or not comes_from(scope, self._proxies):
            await self._app(scope, receive, send)
            return
        names = Headers(scope=scope).getlist(self._header)
        try:
            if len(names) > 1:
                raise AccountsError(f"The proxy sent more than one user in {self._header}: correct its configuration.")
            named = {NAMED: user_name(names[0])} if names else {}
        except AccountsError as error:
            await answer(scope, receive, send, 401, str(error))
            return
        await self._app({**scope, **named}, receive, send)


async def answer(
    scope: Scope, receive: Receive, send: Send, status: int, text: str, retry_s: int | None = None
) -> None:
    """Answer the request in place of the app."""
    response = error_response(status, text, retry_s=retry_s)
    if scope["type"] == "websocket":
        await WebSocket(scope, receive, send).send_denial_response(response)
    else:
        await response(scope, receive, send)
