"""Files that browsers and crawlers ask every host for."""

from __future__ import annotations

_DAY = {"Cache-Control": "public, max-age=86400"}

# Crawlers may follow links, for what they lead to; the previews say themselves that they are no pages of interest.
ROBOTS = "User-agent: *\nDisallow:\n"

FIXED: dict[str, tuple[str, str, dict[str, str]]] = {
    "robots.txt": ("200 OK", ROBOTS, _DAY),
    "favicon.ico": ("204 No Content", "", _DAY),
}
"""Path without its slash → status, content, headers."""
