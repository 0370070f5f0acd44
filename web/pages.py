"""The pages: Jinja2 with autoescape. A page is given little and asks the API for everything else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from web.service import Service, public_settings

TEMPLATES = Path(__file__).parent / "templates"


PERSONAL = {"talk": "Talk", "memory": "Memory"}
"""The pages about the user's own conversations."""
ALL = {**PERSONAL, "setup": "Setup"}
"""These, and the page that sets up the machine."""
ONE_OF_SEVERAL = {**PERSONAL, "settings": "Settings"}
"""Those, and the page with the settings that belong to one of several users."""


def pages(
    service: Service,
    *,
    version: str,
    token_needed: bool,
    elsewhere: Callable[[], list[str]] = list,
    shown: Mapping[str, str] = ALL,
) -> APIRouter:
    """
    Args:
        elsewhere: returns the addresses at which other devices can reach Parley.
        shown: the pages that exist: each one's path, and its name.
    """
    router = APIRouter()
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)

    def page(name: str) -> HTMLResponse:
        template = environment.get_template(f"{name}.html")
        known = {
            "settings": public_settings(service.settings),
            "version": version,
            "token_needed": token_needed,
            "pages": shown,
            "elsewhere": elsewhere() if name == "setup" else [],
        }
        return HTMLResponse(template.render(known))

    @router.get("/")
    async def first(request: Request) -> Response:
        """The setup page until it has been completed once, then the talk page."""
        return RedirectResponse("/talk" if service.settings.set_up else "/setup", 303)

    @router.get("/talk")
    async def talk() -> HTMLResponse:
        """The talk page."""
        return page("talk")

    @router.get("/memory")
    async def memory() -> HTMLResponse:
        """The memory page."""
        return page("memory")

    if "settings" in shown:

        @router.get("/settings")
        async def settings() -> HTMLResponse:
            """The page with a user's own settings, at a gateway."""
            return page("settings")

        return router

    @router.get("/setup")
    async def setup() -> HTMLResponse:
        """The setup page."""
        return page("setup")

    @router.get("/teach")
    async def teach() -> HTMLResponse:
        """The page that teaches CSM a voice."""
        return page("teach")

    @router.get("/activity")
    async def activity() -> HTMLResponse:
        """The page with the last hour's activity."""
        return page("activity")

    return router
