"""What the figures are to reach. One that does not is said aloud; it ends nothing, for machines differ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tools.bench.results import Result


@dataclass(frozen=True)
class Target:
    """A bound of a figure's value, or of its ratio to the baseline."""

    least: float | None = None
    most: float | None = None
    ratio: bool = False

    def missed(self, result: Result) -> str:
        """Say how a figure misses it; nothing when it does not."""
        found = result.ratio if self.ratio else result.value
        what = "a ratio of " if self.ratio else ""
        unit = "" if self.ratio else f" {result.unit}"
        if found is None:
            return ""
        if self.least is not None and found < self.least:
            return f"{result.name} is {what}{found:g}{unit}, less than {self.least:g}"
        if self.most is not None and found > self.most:
            return f"{result.name} is {what}{found:g}{unit}, more than {self.most:g}"
        return ""


TARGETS: Mapping[str, Target] = {
    "redirect_hit_c16_vs_bare_aiohttp": Target(least=1.3, ratio=True),
    "redirect_c1_p50_ms": Target(most=0.2),
    "redirect_c1_p99_ms": Target(most=1.0),
    "redirect_paced_p99_ms": Target(most=1.0),
    "click_capture_cost": Target(most=3.0),
    "worker_events_per_s": Target(least=50_000),
    "redirect_rss_mib_100k": Target(most=100),
    "api_create_p99_ms": Target(most=10),
}


def missed(results: Sequence[Result]) -> list[str]:
    """Return which targets are missed, as sentences."""
    found = (TARGETS[result.name].missed(result) for result in results if result.name in TARGETS)
    return [sentence for sentence in found if sentence]
