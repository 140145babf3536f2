# Copyright (c) 2026 Linkrift Platform Team
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which hosts a rollout moves at once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

_SHARE = re.compile(r"(\d{1,3})%")


class BatchError(ValueError):
    """A batch is neither a number nor a share; the message says what is expected."""


def batch_size(wished: int | str, hosts: int) -> int:
    """Return how many of some hosts are moved at once: shares are rounded up, and it is at least one.

    Args:
        wished: a number of hosts, or a share of them such as `25%`.
        hosts: how many there are.

    Raises:
        BatchError: it is neither, or not within 1 and 100 %.
    """
    text = str(wished).strip()
    share = _SHARE.fullmatch(text)
    if share and 1 <= int(share[1]) <= 100:
        return max(1, -(-hosts * int(share[1]) // 100))
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    msg = f"batch is {wished!r}: expected a number of hosts, such as 2, or a share of them, such as 25%"
    raise BatchError(msg)


def batches(moving: Sequence[str], size: int, serving: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """Return hosts in their order, so many at once, but never all that serve something, if they are several.

    Args:
        moving: the hosts, in their order.
        size: how many at once.
        serving: the hosts that serve now, by service.
    """
    shared = [set(hosts) for hosts in serving.values() if len(set(hosts)) > 1]
    found: list[list[str]] = []
    for host in moving:
        together = {*found[-1], host} if found else set()
        if not found or len(found[-1]) >= size or any(hosts <= together for hosts in shared):
            found.append([])
        found[-1].append(host)
    return found
