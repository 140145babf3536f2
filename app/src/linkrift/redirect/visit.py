"""A request for a short link, with all that is needed to answer it. Links without rules are answered without."""

from __future__ import annotations

import time
from dataclasses import dataclass

from aiohttp import web

from linkrift.redirect import pages
from linkrift.redirect.answers import Answer, Answers

Reply = tuple[int, Answer]
"""An answer and its status."""

RETRY_AFTER_SECONDS = 5

NOT_THERE = ("404 Not Found", "There is no such short link.")
GONE = ("410 Gone", "This short link is no longer active.")
TOO_MANY_UNKNOWN = ("429 Too Many Requests", "You asked for too many short links that do not exist.")


@dataclass(frozen=True, slots=True)
class Visit:
    """A request.

    Attributes:
        code: what is asked for, or may be none.
        close: the connection is closed after the answer.
    """

    request: web.BaseRequest
    code: str
    request_id: str
    answers: Answers
    close: bool

    @property
    def head(self) -> bool:
        """The request is HEAD: the answer has no body."""
        return self.request.method == "HEAD"

    def text(self, status: str, text: str, extra: dict[str, str] | None = None, *, close: bool = False) -> Reply:
        """Answer with a sentence."""
        close = close or self.close
        answer = self.answers.text(status, text, self.request_id, head=self.head, close=close, extra=extra)
        return int(status[:3]), answer

    def page(self, status: str, html: str, extra: dict[str, str] | None = None) -> Reply:
        """Answer with a page."""
        headers = {**pages.HEADERS, **(extra or {})}
        answer = self.answers.whole(status, html, self.request_id, head=self.head, close=self.close, headers=headers)
        return int(status[:3]), answer

    def redirect(self, status: int, location: bytes | None, *, cookie: str = "") -> Reply:
        """Answer with a redirection."""
        now = time.time()
        answer = self.answers.redirect(status, location, self.request_id, now, close=self.close, cookie=cookie)
        return status, answer

    def not_there(self) -> Reply:
        """There is no such link, or it is to look like that."""
        return self.text(*NOT_THERE)

    def gone(self) -> Reply:
        """The link does not lead anywhere any more."""
        return self.text(*GONE)

    def slow_down(self, seconds: int) -> Reply:
        """The visitor is to ask again after so many seconds."""
        return self.text(*TOO_MANY_UNKNOWN, {"Retry-After": str(seconds)})

    def unavailable(self, text: str, seconds: int = RETRY_AFTER_SECONDS) -> Reply:
        """Nobody can tell at the moment."""
        return self.text("503 Service Unavailable", text, {"Retry-After": str(seconds)})
