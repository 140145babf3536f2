"""The moments at which a soak kills the first installation."""

from __future__ import annotations

from tools.soak import LONGEST_SECONDS, moment


def test_a_seed_repeats_its_moment_and_others_have_other_ones() -> None:
    moments = [moment(seed) for seed in range(50)]
    assert moments == [moment(seed) for seed in range(50)]
    assert len(set(moments)) == 50
    assert all(5.0 <= found <= LONGEST_SECONDS for found in moments)
