"""What a User-Agent header tells: browser, operating system, kind of device, and whether a program sent it.

The lists are those of uap-core (browsers, systems) and crawler-user-agents (bots), which others keep up to date; an
engine made for such lists goes through both in some microseconds.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any, NamedTuple, cast

from ua_parser.loaders import load_builtins
from ua_parser_rs import OSExtractor, UserAgentExtractor

NAME_LENGTH = 64
_REMEMBERED = 16384

_TABLET = re.compile(r"iPad|Tablet|PlayBook|Silk/|Kindle|Android(?!.*Mobi)")
_MOBILE = re.compile(r"Mobi|iPhone|iPod|Android|Windows Phone|BlackBerry|Opera Mini")
_TELEVISION = re.compile(r"(?i)smart-?tv|googletv|appletv|hbbtv|netcast|\btv\b|bravia|roku")
_DESKTOP = re.compile(r"Windows NT|Macintosh|X11|CrOS|Linux")


class Agent(NamedTuple):
    """What is known of a visitor's program; what is not known is empty.

    Attributes:
        browser: family, without a version.
        system: family of the operating system.
        device: `desktop`, `mobile`, `tablet`, `tv`, `bot` or empty.
        bot: 1 where a program follows links by itself.
    """

    browser: str
    system: str
    device: str
    bot: int


@lru_cache(maxsize=_REMEMBERED)
def agent_of(user_agent: str) -> Agent:
    """Return what a User-Agent header tells."""
    browsers, systems, bots = _lists()
    browser, system = browsers.extract(user_agent), systems.extract(user_agent)
    bot = bots.extract(user_agent) is not None
    return Agent(
        browser.family[:NAME_LENGTH] if browser else "",
        system.family[:NAME_LENGTH] if system else "",
        "bot" if bot else _device(user_agent),
        int(bot),
    )


def _device(user_agent: str) -> str:
    for device, form in (("tv", _TELEVISION), ("tablet", _TABLET), ("mobile", _MOBILE), ("desktop", _DESKTOP)):
        if form.search(user_agent):
            return device
    return ""


@cache
def _lists() -> tuple[UserAgentExtractor, OSExtractor, UserAgentExtractor]:
    """Read the lists; takes a quarter of a second and 30 MiB, so it is done once and where it is needed."""
    # Their type says less than they have.
    browsers, systems, _ = cast("tuple[Any, Any, Any]", load_builtins())
    crawlers = json.loads((files("crawleruseragents") / "crawler-user-agents.json").read_text(encoding="utf-8"))
    return (
        UserAgentExtractor((m.regex, m.family, m.major, m.minor, m.patch, m.patch_minor) for m in browsers),
        OSExtractor((m.regex, m.family, m.major, m.minor, m.patch, m.patch_minor) for m in systems),
        UserAgentExtractor((crawler["pattern"], "bot", None, None, None, None) for crawler in crawlers),
    )
