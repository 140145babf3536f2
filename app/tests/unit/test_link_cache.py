"""Links in memory: how many there is room for, how long they are used without asking."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from linkrift.links import LinkState, Rules
from linkrift.redirect import cache as cache_module
from linkrift.redirect.cache import LINK_BYTES, UNKNOWN_BYTES, MemoryCache
from linkrift.redirect.changes import KEEP_SECONDS, Changes
from linkrift.redirect.settings import RedirectSettings

LINK = LinkState("https://x", 1)
# What the cache reckons for it under a code of one character.
WEIGHT = LINK_BYTES + 1 + len(LINK.target)


def room_for(links: int) -> MemoryCache:
    """Return a cache with room for that many such links, and the twentieth of all room for unknown codes."""
    return MemoryCache(-(-links * WEIGHT * 20 // 19) + UNKNOWN_BYTES)


def test_the_cache_is_bounded_and_keeps_what_is_used() -> None:
    cache = room_for(3)
    for code in "abc":
        cache.store(code, LINK, 0.0)
    cache.links.move_to_end("a")
    cache.store("d", LINK, 0.0)
    assert list(cache.links) == ["c", "a", "d"]
    assert cache.recent(2) == ["d", "a"]
    # A link of three times the size takes the room of three; one that is larger than all is kept alone.
    cache.store("e", LinkState("https://x" + "y" * 2 * WEIGHT, 1), 0.0)
    assert list(cache.links) == ["e"]
    cache.store("f", LinkState("https://x" + "y" * 9 * WEIGHT, 1), 0.0)
    assert list(cache.links) == ["f"]


def test_what_goes_leaves_its_room_behind() -> None:
    cache = room_for(3)
    for version in range(2, 50):
        cache.store("a", LinkState("https://x" + "y" * version, version), 0.0)
    assert cache.used_bytes() == WEIGHT + 49
    cache.store("a", LinkState("https://x", 50, rules=Rules(status=301)), 0.0)
    assert cache.used_bytes() == WEIGHT + cache_module.RULES_BYTES
    cache.forget("a", 51)
    assert cache.used_bytes() == 0
    cache.store("a", LINK, 0.0)
    cache.store("a", None, 0.0)
    assert cache.used_bytes() == UNKNOWN_BYTES
    for _ in range(3):
        for code in "abc":
            cache.store(code, LINK, 0.0)
    assert (cache.used_bytes(), cache.sizes()) == (3 * WEIGHT, (3, 0))


def test_a_scan_of_unknown_codes_pushes_out_no_link() -> None:
    cache = room_for(100)
    for number in range(90):
        cache.store(f"link{number}", LINK, 0.0)
    for number in range(10_000):
        cache.store(f"scan{number}", None, 0.0)
    links, unknown = cache.sizes()
    assert links == 90
    assert 5 < unknown < 12


def test_by_default_there_is_room_for_what_is_promised() -> None:
    cache = MemoryCache(RedirectSettings.cache_bytes)
    entries = [cache.store(f"{number:07d}", LinkState("https://x".ljust(100, "y"), 1), 0.0) for number in range(500)]
    assert cache.used_bytes() / 500 * 100_000 <= cache._maximum
    # One float for each of them would be three megabytes.
    assert len({id(entry.fresh_until) for entry in entries if entry is not None}) < 50


def test_moments_that_are_shared_are_not_kept_for_ever() -> None:
    cache = room_for(10)
    for second in range(10_000):
        entry = cache.store("a", LINK, float(second))
        assert entry is not None
        assert 7.9 < entry.fresh_until - second <= 10.0
    assert len(cache._moments) <= cache_module._MOMENTS


@pytest.mark.parametrize("length", [20, 100, 400])
def test_what_is_reckoned_is_what_it_takes(length: int) -> None:
    gc.collect()
    tracemalloc.start()
    try:
        cache = MemoryCache(1 << 30)
        for number in range(22_000):
            cache.store(f"{number:07d}", LinkState("https://x".ljust(length, "y"), 1), float(number))
        gc.collect()
        links = tracemalloc.get_traced_memory()[0]
        for number in range(22_000):
            cache.store(f"{number:06d}-", None, float(number))
        gc.collect()
        both = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    unknown = 22_000 * UNKNOWN_BYTES
    # Reckoned is some more: an allocator rounds up, and tables grow in leaps.
    assert 0.8 < links / (cache.used_bytes() - unknown) < 1.05
    assert 0.6 < (both - links) / unknown < 1.05


def test_unknown_codes_are_asked_for_again() -> None:
    cache = room_for(100)
    cache.store("a", None, 0.0)
    cache.heard = True
    cache.store("b", None, 0.0)
    assert cache.is_unknown("a", 1.9)
    assert not cache.is_unknown("a", 2.0), "nobody would say that it was made"
    assert cache.is_unknown("b", 9.9)
    assert not cache.is_unknown("b", 10.0)
    assert not cache.is_unknown("c", 0.0)
    cache.store("c", None, 0.0)
    cache.store("c", LINK, 0.0)
    assert not cache.is_unknown("c", 0.0)


def test_links_are_fresh_for_a_shorter_time_while_nobody_says_what_changed() -> None:
    def fresh(cache: MemoryCache) -> float:
        entries = [cache.store(f"code{number}", LINK, 100.0) for number in range(300)]
        times = [entry.fresh_until - 100.0 for entry in entries if entry is not None]
        # Not all at once.
        assert len(set(times)) > 15
        assert max(times) * 0.8 <= min(times)
        return max(times)

    cache = room_for(1000)
    # The hash of a text differs from process to process: of 300, some are in the upper sixth.
    assert 9.66 < fresh(cache) <= 10.0
    cache.checked_until = 100.1
    assert 290 < fresh(cache) <= 300.0
    cache.checked_until = 100.0
    assert fresh(cache) <= 10.0
    cache.heard = True
    assert 290 < fresh(cache) <= 300.0


def test_a_change_is_forgotten_unless_it_is_known() -> None:
    cache = room_for(100)
    cache.store("a", LinkState("https://x", 5), 0.0)
    cache.forget("a", 5)
    assert "a" in cache.links
    cache.forget("a", 6)
    assert "a" not in cache.links
    cache.store("b", None, 0.0)
    cache.forget("b", 1)
    assert not cache.is_unknown("b", 0.0)


def test_in_doubt_links_are_kept_and_what_was_unknown_is_not() -> None:
    cache = room_for(100)
    cache.store("a", LINK, 1000.0)
    cache.store("b", None, 1000.0)
    cache.doubt_all()
    assert cache.links["a"].fresh_until == 0.0
    assert not cache.is_unknown("b", 1000.0)


def test_changes_are_remembered_as_long_as_redis_keeps_a_link() -> None:
    changes = Changes()
    assert changes.at_least("a") == 0
    assert changes.note("a", 3, 0.0)
    assert not changes.note("a", 3, 1.0), "no news"
    assert not changes.note("a", 2, 1.0)
    assert changes.at_least("a") == 3
    assert changes.note("a", 4, 2.0)
    changes.note("b", 2, KEEP_SECONDS + 1.0)
    assert changes.at_least("a") == 4
    changes.note("b", 3, KEEP_SECONDS + 2.0)
    assert changes.at_least("a") == 0


def test_a_code_that_was_made_anew_counts_from_the_beginning() -> None:
    changes = Changes()
    assert changes.note("a", 8, 0.0)
    assert changes.note("a", 2, KEEP_SECONDS)
    assert changes.at_least("a") == 2


def test_changes_take_no_more_room_than_they_may(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linkrift.redirect.changes.MAXIMUM", 3)
    changes = Changes()
    for number in range(10):
        changes.note(f"code{number}", 2, 0.0)
    assert [number for number in range(10) if changes.at_least(f"code{number}")] == [7, 8, 9]
    assert not changes.note("code8", 2, 0.0), "no news, and nothing has to go for it"
    assert [number for number in range(10) if changes.at_least(f"code{number}")] == [7, 8, 9]
