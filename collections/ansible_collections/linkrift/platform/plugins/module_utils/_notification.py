# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Telling people of a rollout by webhooks that understand Slack's messages. Nothing here ever fails a rollout."""

from __future__ import annotations

import http.client
import json
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EVENTS = ("start", "success", "failure")

_COLOURS = {"start": "#2f6fdb", "success": "good", "failure": "danger"}
# Slack cuts off what is longer.
_TEXT = 3000
_VALUE = 500


@dataclass(frozen=True)
class Webhook:
    """Where to send a message. Whoever knows the address can send some, too: it is a secret, and so not shown."""

    url: str = field(repr=False)

    @property
    def host(self) -> str:
        """The part of the address that is no secret."""
        try:
            return urllib.parse.urlsplit(self.url).hostname or "a webhook without a host"
        except ValueError:
            return "a webhook whose address is none"


# -- what is said ------------------------------------------------------------------------------------------------------


def compose(event: str, about: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Return a message as Slack, Mattermost and Rocket.Chat understand it.

    Args:
        event: One of `EVENTS`.
        about: The rollout, as far as it is known: a report of filter rollout_report, or the part of it that there is
            (`id`, `purpose`, `by`, `releases`, `hosts`, `seconds`, `result`, `visitors`), `why` it failed or was
            refused (its `result` then), hosts that were `left_out`, and where its `report` is.
        where: Name of the installation.
    """
    text = _plain(f"{where}: {_sentence(event, about)}" if where else _sentence(event, about), _TEXT)
    fields = [
        {"title": title, "value": _plain(value, _VALUE), "short": len(value) <= 40}
        for title, value in _facts(about).items()
        if value
    ]
    return {
        "text": text,
        "attachments": [{"color": _COLOURS[event], "fallback": text, "fields": fields}] if fields else [],
    }


def _sentence(event: str, about: Mapping[str, Any]) -> str:
    purpose = about.get("purpose") or "rollout"
    releases = _releases(about.get("releases") or {})
    seconds = about.get("seconds")
    after = f" after {seconds:.0f} s" if isinstance(seconds, (int, float)) else ""
    if event == "start":
        return _joined(f"{purpose} has begun", releases)
    if event == "success":
        return _joined(f"{purpose} is done{after}", releases)
    outcome = {
        "undone": f"was undone{after}, and every host is as it was",
        "refused": "was refused, and nothing was begun",
    }.get(str(about.get("result")), f"has failed{after}")
    return _joined(f"{purpose} {outcome}", str(about.get("why") or ""), releases)


def _joined(*parts: str) -> str:
    return ": ".join(part for part in parts if part)


def _releases(releases: Mapping[str, Any]) -> str:
    """Return in words what goes where: services with the same way together."""
    ways: dict[str, list[str]] = {}
    for service, way in sorted(releases.items()):
        former, new = (way.get("from"), way.get("to")) if isinstance(way, Mapping) else (None, way)
        ways.setdefault(f"{former} → {new}" if former else str(new), []).append(service)
    return "; ".join(f"{', '.join(services)} {way}" for way, services in ways.items())


def _facts(about: Mapping[str, Any]) -> dict[str, str]:
    hosts = about.get("hosts") or []
    return {
        "Run": str(about.get("id") or ""),
        "By": str(about.get("by") or ""),
        "Hosts": ", ".join(map(str, hosts)) if len(hosts) <= 5 else f"{len(hosts)} hosts",
        "Left out": "; ".join(map(str, about.get("left_out") or [])),
        "Visitors meanwhile": _visitors((about.get("visitors") or {}).get("during") or {}),
        "Report": str(about.get("report") or ""),
    }


def _visitors(figures: Mapping[str, Any]) -> str:
    if not figures:
        return ""
    return ", ".join(f"{int(figures.get(name) or 0):,} {name}" for name in ("requests", "failed", "retried"))


def _plain(text: str, limit: int) -> str:
    """Return a text that mentions nobody and links nowhere, whatever is in it (Slack reads `<!channel>` so)."""
    text = text if len(text) <= limit else text[: limit - 1] + "…"
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


# -- sending -----------------------------------------------------------------------------------------------------------


def send_all(
    webhooks: Sequence[Webhook], message: Mapping[str, Any], deadline: float, ca_path: str | None = None
) -> list[str]:
    """Send a message to all at once.

    Args:
        webhooks: Where to.
        message: What.
        deadline: Seconds after which nobody is waited for any more, wherever it is stuck: also a name that is not
            resolved, which knows no timeout of its own.
        ca_path: Certificates to trust instead of the system's.

    Returns:
        For each webhook why it was not told; an empty text if it was. No address is in there.
    """
    body = json.dumps(message).encode()
    outcomes = [f"no answer within {deadline:g} s"] * len(webhooks)

    def tell(number: int, webhook: Webhook) -> None:
        outcomes[number] = _send(webhook, body, deadline, ca_path)

    threads = [
        threading.Thread(target=tell, args=(number, webhook), daemon=True) for number, webhook in enumerate(webhooks)
    ]
    until = time.monotonic() + deadline
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return list(outcomes)


class _Stay(urllib.request.HTTPRedirectHandler):
    """Goes nowhere else: a POST would become a GET there, and tell nobody."""

    def redirect_request(self, *_words: Any) -> None:
        """Return no other request."""


def _send(webhook: Webhook, body: bytes, timeout: float, ca_path: str | None) -> str:
    """Send a message; return why that failed, or an empty text."""
    try:
        scheme = urllib.parse.urlsplit(webhook.url).scheme
        if scheme not in ("http", "https"):
            return "its address is neither http nor https"
        request = urllib.request.Request(  # noqa: S310 - the lines above look at the scheme
            webhook.url, body, {"Content-Type": "application/json", "User-Agent": "linkrift-platform"}
        )
        handlers: list[urllib.request.BaseHandler] = [_Stay()]
        if scheme == "https":
            context = ssl.create_default_context(cafile=ca_path or None)
            handlers.append(urllib.request.HTTPSHandler(context=context))
        opener = urllib.request.build_opener(*handlers)
        with opener.open(request, timeout=timeout):
            return ""
    except urllib.error.HTTPError as error:
        return f"it answered {error.code}"
    except OSError as error:
        # urllib wraps what went wrong.
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return f"no answer within {timeout:g} s"
        return str(getattr(reason, "strerror", None) or reason)
    except (http.client.HTTPException, ValueError) as error:
        # What these say has parts of the address in it.
        return f"its address or its answer makes no sense ({type(error).__name__})"
