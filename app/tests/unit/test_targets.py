from __future__ import annotations

from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linkrift.api.targets import MAXIMUM_LENGTH, TargetError, normalise

OWN = frozenset({"go.example.org", "api.example.org", "198.51.100.7"})


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("https://example.org", "https://example.org/"),
        ("  https://example.org/  ", "https://example.org/"),
        ("HTTPS://Example.ORG:8443/A?b=C#D", "https://example.org:8443/A?b=C#D"),
        ("https://example.org/a%2Fb%20c?x=%7B+%27#%C3%B6", "https://example.org/a%2Fb%20c?x=%7B+%27#%C3%B6"),
        ("https://example.org/?", "https://example.org/?"),
        ("https://example.org/a b", "https://example.org/a%20b"),
        ("https://bücher.example/straße?q=ö", "https://xn--bcher-kva.example/stra%C3%9Fe?q=%C3%B6"),
        ("http://[2001:DB8::0:1]:80/", "http://[2001:db8::1]/"),
        ("https://example.org:443/", "https://example.org/"),
        ("http://example.org:443/", "http://example.org:443/"),
        ("https://example.org/a/../b/%2e%2e/./c", "https://example.org/c"),
        ("https://example.org/@name?mail=a@b", "https://example.org/@name?mail=a@b"),
        ("https://example.org?x=https://u@v/", "https://example.org/?x=https://u@v/"),
        ("https://a_b.example.org./", "https://a_b.example.org./"),
        ("http://192.0.2.1/", "http://192.0.2.1/"),
        ("http://0xc0.0.513/", "http://192.0.2.1/"),
        ("https://other.go.example.org/", "https://other.go.example.org/"),
    ],
)
def test_what_a_link_may_lead_to(url: str, target: str) -> None:
    assert normalise(url, OWN) == target


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "//example.org",
        "javascript:alert(1)",
        "data:text/html,x",
        "ftp://example.org/",
        "file:///etc/passwd",
        "https:example.org",
        "https:///example.org",
        "https://",
        "https://user@example.org/",
        "https://user:secret@example.org/",
        "https://@example.org/",
        "https://example.org\\@evil.example/",
        "https://example.org/\\evil.example/",
        "https://example.org/\r\nSet-Cookie: a=b",
        "https://example.org/\x00",
        "https://exam\tple.org/",
        "https://example.org/\x85",
        "https://example.org:99999/",
        "https://example.org:port/",
        "https://example.org:0/",
        "https://[::1/",
        "https://[nonsense]/",
        "https://[fe80::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://a]b/",
        "https://exa mple.org/",
        "https://" + "x" * 64 + ".org/",
        "https://-/",
        "https://\u2024/",
        "https://a..example.org/",
        "https:///",
        "https://?x",
        "https://example.org/\ud800",
        "https://ex%00ample.org/",
        "https://ex%2Fample.org/",
        "https://ex<ample.org/",
        "https://xn--\u00fc.example/",
        "https://256.1.1.1/",
        "https://API.example.org:8443/",
        "https://go%2Eexample.org/",
        "http://0xc6336407/",
        "https://go.example.org/abc",
        "https://GO.Example.org./abc",
        "http://go.example.org:8080/",
        "https://ｇｏ.example.org/",  # noqa: RUF001 - full-width letters are the point
        "https://example.org/" + "x" * MAXIMUM_LENGTH,
        "https://example.org/" + "ö" * 1000,
    ],
)
def test_what_no_link_leads_to(url: str) -> None:
    with pytest.raises(TargetError):
        normalise(url, OWN)


@given(st.text(max_size=60), st.sampled_from(["https://example.org/", "http://", "https://a", ""]))
def test_whatever_comes_out_is_plain_and_stays_as_it_is(text: str, start: str) -> None:
    try:
        target = normalise(start + text, OWN)
    except TargetError:
        return
    assert target.isascii()
    assert target.isprintable()
    assert " " not in target
    assert urlsplit(target).scheme in ("http", "https")
    assert urlsplit(target).hostname not in OWN
    assert normalise(target, OWN) == target
