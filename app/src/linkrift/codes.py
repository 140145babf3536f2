"""Short codes: how they look, which ones nobody gets, and how new ones are made."""

from __future__ import annotations

import re
import secrets
import string

GENERATED_LENGTH = 7
MAXIMUM_LENGTH = 64

_FORM = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ALPHABET = string.digits + string.ascii_letters

# Paths that a visitor, a browser, a crawler or a balancer asks for, now or some day, and words that would mislead.
_WORDS = """
about abuse account accounts admin administrator api app apps assets auth billing blog cdn config contact css
dashboard dev docs domain domains download edit email error errors faq favicon feed feedback forgot ftp go graphql
health healthz help home host hostmaster icon img images index info internal invite js jobs legal link linkrift
links live livez login logout mail manage me metrics mobile monitoring new news null oauth openapi password ping
postmaster preview pricing privacy prod ready readyz redirect register report reset robots root rss save search
security settings setup shop shortener signin signout signup sitemap ssl staging static stats status stream
subscribe support system team teams terms test tos token tokens undefined undo unsubscribe update upload url urls
user users v1 v2 verify web webhook webhooks webmaster well-known wellknown worker www
"""
RESERVED = frozenset(_WORDS.split())

CANARY = "ping"
"""The link that a rollout's gates ask for (migration 000004): a word that nobody gets. Its clicks are not counted."""


def is_code(text: str) -> bool:
    """Tell whether a text could be the code of a link."""
    return _FORM.fullmatch(text) is not None and (text == CANARY or text.lower() not in RESERVED)


def is_reserved(text: str) -> bool:
    """Tell whether a text is a word that no link gets, in whatever case."""
    return text.lower() in RESERVED


def generate(length: int = GENERATED_LENGTH) -> str:
    """Return a new code from the operating system's random numbers: 62**7 is 3.5 million million."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
