"""The server: the pages at once, the engines as soon as they are loaded, and a shutdown that leaves nothing behind."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import secrets
import signal
import socket
import sys
import threading
import webbrowser
from collections.abc import Callable, Coroutine, Generator, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from filelock import FileLock, Timeout

from config import Settings, SettingsError, SettingsStore
from config.console import closing_ends
from config.nvidia import one_card
from config.profiles import PROFILES
from config.text import printable
from pipeline.engines.running import Engines
from web import logs, origins
from web.address import Address
from web.app import VERSION, create_app
from web.certificate import Certificate, CertificateError, keep_fresh, own
from web.changes import SettingsRefused, check
from web.drain import drain
from web.forwarded import Network, network
from web.metrics.traces import NoCollector, Traces
from web.network import is_everywhere, is_loopback, lan_addresses
from web.phone import addresses, code
from web.preconditions import ServeError, data_folder, listen
from web.protocols import Http, RealtimeSocket
from web.realtime.connection import MAX_MESSAGE
from web.service import Service

TOKEN_FILE, HTTPS_FOLDER = "token", "https"
LOCK_FILE = ".lock"
HANG_UP: int | None = getattr(signal, "SIGHUP", None)
GRACE = 3
"""Seconds that connections have to end after Ctrl-C."""


@dataclass(frozen=True, slots=True)
class ServeOptions:
    host: str = "127.0.0.1"
    port: int = 8000
    data: Path = Path("data")
    profile: str | None = None
    """Choose this profile's engines, and save that choice; None leaves the settings as they are."""
    browser: bool = True
    wyoming: tuple[str, int] | None = None
    """Where to listen for Wyoming clients, which have no key; None is nowhere."""
    origins: tuple[str, ...] = ()
    """Origins of foreign pages that may use the API."""
    https: bool = False
    """Whether to use https, with a certificate of Parley's own unless one is given."""
    certificate: tuple[Path, Path] | None = None
    """A certificate chain and its key."""
    public: tuple[str, ...] = ()
    """Origins at which the owner's proxy serves it."""
    proxies: tuple[str, ...] = ()
    """The proxies whose statements about clients are trusted."""
    otlp: str | None = None
    """A collector that receives each turn's timings; None sends nothing."""
    drain_s: float | None = None
    """How long conversations may go on after a SIGTERM; None ends them at once."""


def serve(options: ServeOptions, first_profile: Callable[[Path], str | None] = lambda data: None) -> int:
    """Serve until Ctrl-C; returns the exit status. Whatever prevents a start is printed as one sentence on stderr.

    If the options name no profile, `first_profile` is called once nothing else prevents the start: it may download for
    minutes.
    """
    os.umask(0o077)  # memory, logs, recordings and settings must be readable by their owner only
    try:
        with ExitStack() as opened:
            listener = opened.enter_context(listen(options.host, options.port))
            wyoming = opened.enter_context(listen(*options.wyoming)) if options.wyoming is not None else None
            data = opened.enter_context(alone_with(data_folder(options.data)))
            token = None if is_loopback(options.host) and not options.public else access_token(data)
            certificate = certificate_for(options, data)
            address = Address(
                options.host,
                listener.getsockname()[1],
                token,
                origins=frozenset(listed(options.origins)),
                https=certificate is not None,
                public=listed(options.public),
            )
            proxies = believed(options.proxies)
            traces = None if options.otlp is None else Traces(options.otlp, VERSION)
            options = replace(options, profile=options.profile or first_profile(data))
            settings, store, notice = load_settings(data, options.profile)
            logs.configure(data, level=settings.log.level, words=settings.log.words)
            os.environ.update(one_card())
            service = Service(Engines(settings, data), store, data, settings)
            if notice is not None:
                service.tell("warning", notice)
            app = create_app(service, address, wyoming, certificate, proxies, traces)
            server = Server(
                server_config(app, certificate),
                lambda: welcome(address, service, options, certificate),
                lambda: certificate_for(options, data),
                None if options.drain_s is None else partial(drain, service.places, service.dismiss, options.drain_s),
            )
            with closing_ends(server.end):
                asyncio.run(server.serve(sockets=[listener]))
    except (ServeError, SettingsError, CertificateError, NoCollector) as error:
        print(f"Parley cannot start: {printable(str(error))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:  # uvicorn raises the signal again once it is done
        pass
    print("Parley has ended.")
    return 0


def listed(pages: Iterable[str]) -> tuple[str, ...]:
    """Normalise origins. Raises ServeError if one is not an origin."""
    try:
        return tuple(origins.origin(each) for each in pages)
    except ValueError as error:
        raise ServeError(str(error)) from error


def believed(proxies: Iterable[str]) -> list[Network]:
    """Parse proxies' addresses. Raises ServeError if one is not an address."""
    try:
        return [network(each) for each in proxies]
    except ValueError as error:
        raise ServeError(str(error)) from error


def certificate_for(options: ServeOptions, data: Path) -> Certificate | None:
    """Return the certificate for https, if it is wanted. Raises CertificateError."""
    if options.certificate is not None:
        given = Certificate(*options.certificate)
        given.context()
        return given
    return own(data / HTTPS_FOLDER, own_addresses(options.host)) if options.https else None


def own_addresses(host: str) -> list[str]:
    """Return this machine's addresses at which a server bound to `host` is reached."""
    if is_everywhere(host):
        return lan_addresses()
    try:
        return [str(ipaddress.ip_address(host.strip("[]")))]
    except ValueError:
        return []  # a name, which refers to this machine itself


def server_config(app: object, certificate: Certificate | None = None) -> uvicorn.Config:
    return uvicorn.Config(
        app,  # type: ignore[arg-type]  # any kind of ASGI app
        log_config=None,
        http=Http,
        lifespan="on",
        ws=RealtimeSocket,
        ws_max_size=MAX_MESSAGE,
        ws_per_message_deflate=False,  # base64 of sound hardly shrinks, and deflate costs time and memory
        timeout_graceful_shutdown=GRACE,
        server_header=False,
        proxy_headers=False,
        ssl_context_factory=None if certificate is None else lambda *_: certificate.context(),
    )


class Server(uvicorn.Server):
    """uvicorn's server, which here reports when it listens."""

    def __init__(
        self,
        config: uvicorn.Config,
        listening: Callable[[], None],
        renew: Callable[[], Certificate | None] = lambda: None,
        drain: Callable[[], Coroutine[Any, Any, None]] | None = None,
    ) -> None:
        """
        Args:
            renew: returns the certificate to use from now on.
            drain: what a SIGTERM waits for; None ends the server at once, as Ctrl-C always does.
        """
        super().__init__(config)
        self._drain = drain
        self._draining: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening = listening
        self._renew = renew
        self._renewing: asyncio.Task[None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._loop = asyncio.get_running_loop()
        if self.started:
            self._listening()
        if self.config.ssl is not None:
            self._renewing = asyncio.create_task(keep_fresh(self.config.ssl, self._renew))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for task in (self._renewing, self._draining):
            if task is not None:
                task.cancel()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """Catch the signals that end uvicorn, and that of a closed terminal unless it is ignored (nohup)."""
        with super().capture_signals():
            if HANG_UP is None or signal.getsignal(HANG_UP) is not signal.SIG_DFL:
                yield
                return
            signal.signal(HANG_UP, self.handle_exit)
            try:
                yield
            finally:
                signal.signal(HANG_UP, signal.SIG_DFL)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Shut down in order on the first Ctrl-C. The second ends the process at once: children notice the closed pipe.

        A closing terminal sends its signal twice: itself, and through its shell. If a drain is set, the first SIGTERM
        lets conversations finish.
        """
        if sig == signal.SIGTERM and self._drain is not None and self._loop is not None and not self.should_exit:
            drain, self._drain = self._drain, None
            self._loop.call_soon_threadsafe(self._begin_draining, drain)
            return
        if self.should_exit and sig != HANG_UP:
            os._exit(128 + sig)
        super().handle_exit(sig, frame)

    def end(self) -> None:
        """Shut down in order, without a drain. Any thread may call this."""
        self.should_exit = True

    def _begin_draining(self, drain: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async def drained() -> None:
            await drain()
            self.should_exit = True

        self._draining = asyncio.create_task(drained())


def welcome(address: Address, service: Service, options: ServeOptions, certificate: Certificate | None = None) -> None:
    """The server listens: print its address, open the browser, and load the engines behind the first page."""
    service.begin(keep=options.profile is not None)
    print(f"Parley is at {address.url}   (Ctrl-C ends it)", flush=True)
    others = addresses(address)
    for elsewhere in others:
        print(f"From your other devices: {elsewhere}", flush=True)
    if certificate is not None and certificate.authority is not None:
        print(f"Browsers warn about the certificate, because Parley made it: continue anyway, or trust it as "
              f"docs/how-to/phone.md explains.\nSHA-256 of the certificate: {certificate.fingerprint}\nSHA-256 of "
              "the authority (/parley.crt): "
              f"{certificate.authority_fingerprint}", flush=True)  # fmt: skip
    if others and others[0].startswith("https:"):
        with suppress(UnicodeEncodeError):  # the terminal cannot draw it
            print(code(others[0]), flush=True)
    if options.browser:
        # A browser can take seconds to open, and some block until they are closed.
        threading.Thread(target=webbrowser.open, args=(address.url,), daemon=True).start()


@contextmanager
def alone_with(data: Path) -> Iterator[Path]:
    """Lock the data folder for this Parley: two would write the same settings and memory.

    The system releases the lock when the program ends, however it ends.

    Raises ServeError if another Parley has the folder.
    """
    lock = FileLock(data / LOCK_FILE)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ServeError(
            f"Parley is already running with the data folder {data}: use that one, or choose another folder with "
            "--data FOLDER."
        ) from error
    with lock:
        yield data


def load_settings(data: Path, profile: str | None) -> tuple[Settings, SettingsStore, str | None]:
    """Return the settings to start with; those of a profile are saved once they run.

    Raises SettingsError if they cannot be read, ServeError for a profile that cannot be used.
    """
    store = SettingsStore(data)
    loaded = store.load()
    if profile is None:
        return loaded.settings, store, loaded.notice
    chosen = next((each for each in PROFILES.values() if each.name == profile), None)
    if chosen is None:
        raise ServeError(f"The profile {profile} is not part of this version; choose one of: {', '.join(PROFILES)}.")
    settings = chosen.applied_to(loaded.settings)
    try:
        check(loaded.settings, settings)
    except SettingsRefused as refused:
        how = f" Run `python3 setup.py models --profile {profile}`." if refused.lacking else ""
        raise ServeError(f"The profile {profile} cannot be used: {refused}{how}") from refused
    return settings, store, loaded.notice


def access_token(data: Path) -> str:
    """Return the token. It is made once and readable by its owner only; bookmarks and cookies survive a restart."""
    file = data / TOKEN_FILE
    try:
        if not file.exists():
            handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w", encoding="ascii") as written:
                written.write(secrets.token_urlsafe(32))
        token = file.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise ServeError(f"The access token in {file} cannot be used ({error}); delete that file.") from error
    if len(token) < 32:
        raise ServeError(f"The access token in {file} is too short to protect anything; delete that file.")
    return token
