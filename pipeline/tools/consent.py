"""Recognizes yes or no after the user was asked for permission. Anything else is neither."""

from __future__ import annotations

import re

LONGEST = 200
"""Characters of an answer; a longer one is about something else."""
_POLITE = r"please|thanks|thank you|parley"
_YES = (
    r"yes|yeah|yea|yep|yup|sure|ok|okay|alright|all right|of course|certainly|absolutely|go ahead|go on|do it|do that"
    r"|do so|you may|you can|allow it|allow that|allow|i allow it|i do|that's fine|that is fine|fine|please do"
    r"|by all means"
)
_NO = (
    r"no|nope|nah|don't|do not|don't do it|don't do that|do not do it|do not do that|better not|rather not|not now"
    r"|no way|stop|cancel|cancel it|cancel that|never ?mind|don't allow it|don't allow that|you may not|leave it"
    r"|forget it|i don't|i do not"
)
_ANSWER = re.compile(rf"(?:(?:{_POLITE}) )*(?:(?P<yes>(?:(?:{_YES}|{_POLITE}) ?)+)|(?P<no>(?:(?:{_NO}|{_POLITE}) ?)+))")


def consent(said: str) -> bool | None:
    """Return whether the user agreed; None if the words are no answer, or more than one."""
    if len(said) > LONGEST:
        return None
    words = " ".join(re.findall(r"[^\W\d_]+(?:'[^\W\d_]+)*", said.lower().replace("’", "'")))
    if re.fullmatch(rf"(?:(?:{_POLITE}) ?)*", words):
        return None
    answer = _ANSWER.fullmatch(words)
    return None if answer is None else answer["yes"] is not None
