"""Drains a server: it accepts no new conversations, and open ones may finish."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from web.places import Places
from web.service import Dismissal

LONGEST_S = 3600.0
"""Seconds that conversations may go on, unless the administrator says otherwise."""
LAST_WORDS_S = 30.0
"""Seconds for the remaining conversations' last sentence, and for what they still save."""
CLOSED = "This server is about to restart and does not accept new conversations: connect again."
FAREWELL = Dismissal(
    "restarting: connect again to continue the conversation",
    "I have to restart now. Just connect again, and we can go on where we were.",
)

logger = logging.getLogger(__name__)


async def drain(places: Places, dismiss: Callable[[Dismissal], None], patience_s: float = LONGEST_S) -> None:
    """Return once no conversation runs any more.

    Args:
        dismiss: ends all running conversations.
        patience_s: how long running conversations may go on; 0 ends them at once.
    """
    places.close(CLOSED)
    logger.info("draining: %d conversations may go on for %.0f s", places.taken, patience_s)
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await places.empty()
    if not places.taken:
        return
    dismiss(FAREWELL)
    with suppress(TimeoutError):  # what has not ended by then is cut off with the server
        async with asyncio.timeout(LAST_WORDS_S):
            await places.empty()
