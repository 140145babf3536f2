"""Whether the libraries that take HTTP apart run as machine code."""

from __future__ import annotations

import multidict
from aiohttp import http_parser, http_writer
from yarl import _quoting


def missing_extensions() -> list[str]:
    """Return the libraries that fell back to Python: slower by a multiple, and another reader than is tested.

    They do so without a word when their compiled part does not fit the machine, or where a variable such as
    AIOHTTP_NO_EXTENSIONS is set.
    """
    compiled = {
        "aiohttp's parser": http_parser.HttpRequestParser.__module__ == "aiohttp._http_parser",
        "aiohttp's writer": http_writer._serialize_headers is not http_writer._py_serialize_headers,
        "multidict": multidict.CIMultiDict.__module__ == "multidict._multidict",
        "yarl": _quoting._Quoter.__module__ == "yarl._quoting_c",
    }
    return [name for name, fits in compiled.items() if not fits]
