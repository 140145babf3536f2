"""What every answer of the API tells browsers: it is data, for whoever asked, and nothing to be shown or framed.

How long a browser insists on TLS (HSTS) is said where TLS ends, at the balancers.
"""

from __future__ import annotations

from types import MappingProxyType

SECURITY_HEADERS = MappingProxyType(
    {
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        # The filter that this once switched on did more harm than good; where it is left, it is off.
        "X-XSS-Protection": "0",
    }
)
