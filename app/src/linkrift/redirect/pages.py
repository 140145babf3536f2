"""The pages that people see: asking for a password, and showing where a link leads. They need no scripts."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timezone
from html import escape

_STYLE = (
    "body{font:1rem/1.5 system-ui,sans-serif;margin:0;display:grid;place-items:center;min-height:100vh;"
    "color:#1a1a1a;background:#f6f6f4}main{max-width:36rem;padding:1.5rem;overflow-wrap:anywhere}"
    "h1{font-size:1.3rem}input,button{font:inherit;padding:.5rem .7rem;margin:.3rem .3rem .3rem 0}"
    ".wrong{color:#a40000}.target{font-weight:600}"
    "@media(prefers-color-scheme:dark){body{color:#eee;background:#1b1b1b}.wrong{color:#ff9c9c}a{color:#9ecbff}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

HEADERS = {
    "Content-Type": "text/html; charset=utf-8",
    # No form-action: browsers apply it to what a form's answer redirects to, which may be any target.
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    # Tells the target nothing, and still lets us see that a form is our own page's.
    "Referrer-Policy": "same-origin",
    "X-Robots-Tag": "noindex, nofollow",
}


def ask_for_password(message: str = "") -> str:
    """Return the page that asks for a link's password; it posts to the address that it has itself.

    Args:
        message: what was wrong with the last attempt.
    """
    wrong = f'<p class="wrong" role="alert">{escape(message)}</p>' if message else ""
    return _page(
        "This short link has a password",
        f'{wrong}<form method="post"><p><label for="password">Password</label><br>'
        '<input id="password" name="password" type="password" maxlength="128" required autofocus '
        'autocomplete="off"> <button>Open</button></p></form>',
    )


def preview(code: str, target: str | None, created_at: datetime | None) -> str:
    """Return the page that shows where a link leads.

    Args:
        code: of the link.
        target: None: it is shown to nobody who does not follow the link.
        created_at: when the link was made; None: unknown.
    """
    where = (
        f'<p>It leads to</p><p class="target">{escape(target)}</p>'
        if target is not None
        else "<p>Where it leads is shown to those only who follow it.</p>"
    )
    made = ""
    if created_at is not None:
        day = created_at.astimezone(timezone.utc).date().isoformat()
        made = f'<p>Made on <time datetime="{day}">{day}</time>.</p>'
    follow = f'<p><a href="/{escape(code)}" rel="nofollow noreferrer">Follow it</a></p>'
    return _page(f"Short link {code}", where + made + follow)


def _page(title: str, content: str) -> str:
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_STYLE}</style></head>'
        f"<body><main><h1>{escape(title)}</h1>{content}</main></body></html>\n"
    )
