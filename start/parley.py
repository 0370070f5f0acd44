"""The single entry point: what `python3 main.py` accepts and does.

The first start creates the environment (environment.py) and continues inside it. Until then, standard library only.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from start.environment import ROOT, VENV, SetupError, ensure_environment
from web.preconditions import ServeError, data_folder, listen

PROFILES = ("offline", "small", "cpu", "gpu")


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py",
        description="Talk with Parley. The first start sets everything up (a few minutes, once); then the page opens.",
        epilog="Without a browser: `main.py talk --input question.wav --output reply.wav`, or `main.py talk` for this "
        "computer's sound card; see `main.py talk --help`. For many users: `main.py gateway --help`.",
    )
    parser.add_argument(
        "--host", help="address to listen on (default 127.0.0.1, this computer only; with --https 0.0.0.0)"
    )
    parser.add_argument("--port", type=port, default=8000, help="port of the page (8000)")
    parser.add_argument("--data", type=Path, default=ROOT / "data", metavar="DIR",
                        help="folder for settings, memory and logs (default: data/ beside main.py)")  # fmt: skip
    parser.add_argument(
        "--profile",
        choices=PROFILES,
        help="set of engines; offline needs no download; a first start uses small if it runs well here",
    )
    parser.add_argument("--wyoming", type=address, metavar="[ADDRESS:]PORT",
                        help="serve Home Assistant and other Wyoming clients, without a key (off)")  # fmt: skip
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="a page on another site that may use the API, such as https://page.example; may be repeated",
    )
    parser.add_argument(
        "--https",
        action="store_true",
        help="serve phones on the network, with a certificate that Parley makes; prints a code to scan",
    )
    parser.add_argument("--cert", type=Path, metavar="FILE", help="serve over https with this certificate (PEM)")
    parser.add_argument("--key", type=Path, metavar="FILE", help="the certificate's key, if it is not in the same file")
    parser.add_argument(
        "--public",
        action="append",
        default=[],
        metavar="URL",
        help="the address at which your proxy serves Parley, such as https://parley.example; may be repeated",
    )
    parser.add_argument(
        "--proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="trust the X-Forwarded-… headers of the proxy at this address; may be repeated",
    )
    parser.add_argument("--otlp", metavar="URL",
                        help="send each turn's times, never its words, to this OpenTelemetry collector")  # fmt: skip
    parser.add_argument("--drain", type=float, metavar="SECONDS",
                        help="how long conversations may continue after a SIGTERM (0: not at all)")  # fmt: skip
    parser.add_argument("--no-browser", action="store_true", help="do not open the page")
    return parser


def gateway_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="main.py gateway",
        description="Hold the conversations of many users at once, each with their own memory, settings and records. "
        "Several gateways may share a data folder behind a proxy; see docs/SCALING.md.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this computer only)")
    parser.add_argument("--port", type=port, default=8000, help="port to listen on (8000)")
    parser.add_argument("--data", type=Path, default=ROOT / "data", metavar="DIR",
                        help="folder for the administrator's settings and each user's data")  # fmt: skip
    parser.add_argument("--profile", choices=PROFILES, help="set of engines, instead of the one in the settings")
    parser.add_argument("--users", type=Path, metavar="FILE",
                        help="file of the users who may talk here (default: users.json in the data folder); see "
                             "`main.py users`")  # fmt: skip
    parser.add_argument("--user-header", metavar="NAME",
                        help="the header in which a proxy names the authenticated user; needs --proxy")  # fmt: skip
    parser.add_argument("--proxy", action="append", default=[], metavar="ADDRESS",
                        help="trust the forwarding headers of the proxy at this address; may be repeated")  # fmt: skip
    parser.add_argument("--public", action="append", default=[], metavar="URL",
                        help="the address at which the proxy serves it, such as https://parley.example; may be "
                             "repeated")  # fmt: skip
    parser.add_argument("--origin", action="append", default=[], metavar="URL",
                        help="a page on another site that may use the API; may be repeated")  # fmt: skip
    parser.add_argument("--otlp", metavar="URL",
                        help="send the times of everybody's turns, never their words, to this OpenTelemetry "
                             "collector")  # fmt: skip
    parser.add_argument("--most", type=int, metavar="NUMBER",
                        help="conversations at once (default: as many as cores and memory allow)")  # fmt: skip
    parser.add_argument("--talks-each", type=at_least_one, default=3, metavar="NUMBER",
                        help="conversations of one user at once (default 3)")  # fmt: skip
    parser.add_argument("--requests-each", type=at_least_one, default=12, metavar="NUMBER",
                        help="other requests of one user at once (default 12)")  # fmt: skip
    parser.add_argument("--requests-a-minute", type=at_least_one, default=600, metavar="NUMBER",
                        help="requests of one user in a minute (default 600)")  # fmt: skip
    parser.add_argument("--drain", type=float, default=3600.0, metavar="SECONDS",
                        help="how long conversations may continue after a SIGTERM (default 3600)")  # fmt: skip
    return parser


def users_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="main.py users", description="Who may talk at a gateway.")
    parser.add_argument("do", choices=("add", "remove", "list"),
                        help="what to do; add prints a token, which replaces an earlier one")  # fmt: skip
    parser.add_argument("name", nargs="?", help="name of the user to add or remove")
    parser.add_argument("--data", type=Path, default=ROOT / "data", metavar="DIR", help="the gateway's data folder")
    parser.add_argument("--users", type=Path, metavar="FILE", help="the file, if not users.json in the data folder")
    return parser


def at_least_one(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 1")
    return int(text)


def port(text: str) -> int:
    """Parse a port; 0 means any free port."""
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text} is not a port: choose one from 1024 to 65535, as in --port 8000")
    return int(text)


def address(text: str) -> tuple[str, int]:
    """Parse where to listen: 10300 is this computer only, 0.0.0.0:10300 is all of its addresses."""
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


def enter_environment() -> None:
    """Continue in .venv's Python; return if this already is it."""
    python = ensure_environment()
    if Path(sys.prefix).resolve() == VENV.resolve():
        return
    command = [str(python), str(ROOT / "main.py"), *sys.argv[1:]]
    if os.name == "nt":  # on Windows, exec would detach from the console
        sys.exit(subprocess.run(command, check=False).returncode)
    os.execv(str(python), command)


PARSERS = {"gateway": gateway_parser, "users": users_parser}
"""Parsers of the commands that must work before anything is installed, at least for --help and mistakes."""


def main(argv: list[str]) -> int:
    command, rest = (argv[0], argv[1:]) if argv[:1] and argv[0] in {"talk", *PARSERS} else ("", argv)
    options = None if command == "talk" else PARSERS.get(command, parser)().parse_args(rest)
    try:
        if options is not None and command != "users":
            check_preconditions(options)
        enter_environment()
    except ServeError as error:
        print(f"Parley cannot start: {error}", file=sys.stderr)
        return 1
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    if options is None:
        from pipeline.commands.talk import main as talk

        return talk(rest)
    if command == "users":
        from web.gateway.users import main as users

        return users(options.do, options.name, options.users or options.data / "users.json")
    return gateway(options) if command == "gateway" else page(options)


def check_preconditions(options: argparse.Namespace) -> None:
    """Check what would prevent the start before installing and downloading for minutes. Raises ServeError."""
    wyoming = getattr(options, "wyoming", None)
    for host, port in filter(None, ((host_of(options), options.port), wyoming)):
        listen(host, port).close()
    data_folder(options.data)


def host_of(options: argparse.Namespace) -> str:
    """Return the address to listen on; for phones, all addresses unless one is given."""
    for_phones = getattr(options, "https", False) or getattr(options, "cert", None)
    return str(options.host or ("0.0.0.0" if for_phones else "127.0.0.1"))


def gateway(options: argparse.Namespace) -> int:
    from web.gateway.limits import Limits
    from web.gateway.serve import GatewayOptions, serve_gateway

    return serve_gateway(
        GatewayOptions(
            host=options.host,
            port=options.port,
            data=options.data,
            profile=options.profile,
            accounts=options.users,
            header=options.user_header,
            most=options.most,
            limits=Limits(options.talks_each, options.requests_each, options.requests_a_minute),
            drain_s=options.drain,
            origins=tuple(options.origin),
            public=tuple(options.public),
            proxies=tuple(options.proxy),
            otlp=options.otlp,
        )
    )


def page(options: argparse.Namespace) -> int:
    from config.hardware import look
    from pipeline.commands.first_start import first_profile
    from web.serve import ServeOptions, serve

    return serve(
        ServeOptions(
            host=host_of(options),
            port=options.port,
            data=options.data,
            profile=options.profile,
            browser=not options.no_browser,
            wyoming=options.wyoming,
            origins=tuple(options.origin),
            https=options.https,
            certificate=None if options.cert is None else (options.cert, options.key or options.cert),
            public=tuple(options.public),
            proxies=tuple(options.proxy),
            otlp=options.otlp,
            drain_s=options.drain,
        ),
        lambda data: first_profile(data, look()),
    )


def run(argv: list[str]) -> int:
    try:
        return main(argv)
    except KeyboardInterrupt:
        return 130
