"""Draining a server: it accepts nobody new, and open conversations may finish."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress

from web.places import Places
from web.service import Dismissal

LONGEST_S = 3600.0
"""That conversations may go on for, unless the administrator says otherwise."""
LAST_WORDS_S = 30.0
"""For the sentence that ends those which are left, and for what they still keep."""
CLOSED = "This server is about to restart and does not accept new conversations: connect again."
FAREWELL = Dismissal(
    "restarting: connect again to continue the conversation",
    "I have to restart now. Just connect again, and we can go on where we were.",
)

logger = logging.getLogger(__name__)


async def drain(places: Places, dismiss: Callable[[Dismissal], None], patience_s: float = LONGEST_S) -> None:
    """Ends when no conversation runs any more.

    Args:
        dismiss: ends all conversations that run.
        patience_s: how long those may go on that run now; 0 ends them at once.
    """
    places.close(CLOSED)
    logger.info("draining: %d conversations may go on for %.0f s", places.taken, patience_s)
    with suppress(TimeoutError):
        async with asyncio.timeout(patience_s):
            await places.empty()
    if not places.taken:
        return
    dismiss(FAREWELL)
    with suppress(TimeoutError):  # what does not end by then is cut off with the server
        async with asyncio.timeout(LAST_WORDS_S):
            await places.empty()
