"""Adds a visitor's query to a target's."""

from __future__ import annotations

from urllib.parse import quote, unquote_plus

MAXIMUM_LOCATION = 8000

# All that a query may consist of and that nobody encodes; what is encoded stays as it is.
_AS_IT_IS = "!$%&'()*+,-./:;=?@_~" + "{|}^[]`"


def forward(location: bytes, query: str) -> bytes:
    """Return a target with a visitor's query added to its own.

    The link's own parameters stay, first and unchanged. Of the visitor's, those with a name that the link sets itself
    are left out: nobody else gets to say what the owner said. All others follow in their order, repeated ones too, and
    the target's fragment stays at the end.

    Args:
        location: the target, in ASCII.
        query: what the visitor's request had behind the question mark, as it came.
    """
    query = query.partition("#")[0]
    if not query:
        return location
    start, mark, fragment = location.decode("ascii").partition("#")
    path, _, own = start.partition("?")
    taken = {_name(pair) for pair in own.split("&") if pair}
    added = [pair for pair in query.split("&") if pair and _name(pair) not in taken]
    if not added:
        return location
    encoded = quote("&".join(added), safe=_AS_IT_IS, errors="surrogateescape")
    merged = "&".join(filter(None, (own, encoded)))
    whole = f"{path}?{merged}{mark}{fragment}".encode("ascii")
    # More than anybody takes in a header: better the link without than no answer at all.
    return whole if len(whole) <= MAXIMUM_LOCATION else location


def _name(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0], errors="replace")
