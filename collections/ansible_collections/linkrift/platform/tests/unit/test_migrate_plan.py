"""What is to be done, decided from files and a database's state alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.linkrift.platform.plugins.module_utils._migrate_files import Migration, MigrationError
from ansible_collections.linkrift.platform.plugins.module_utils._migrate_plan import Record, State, make_plan
from ansible_collections.linkrift.platform.plugins.module_utils._migrate_postgresql import advisory_lock_id


def migration(version: int, *, oldest: int | None = None, index: str | None = None, single: bool = False) -> Migration:
    return Migration(
        version=version,
        name="x",
        path=Path(f"{version:06d}_x.up.sql"),
        sql="",
        checksum=f"sum{version}",
        oldest=oldest,
        transactional=index is None and not single,
        concurrent_index=index,
    )


def applied(*versions: int, oldest: dict[int, int] | None = None) -> tuple[Record, ...]:
    return tuple(Record(version, "x", f"sum{version}", (oldest or {}).get(version)) for version in versions)


FIVE = [migration(version) for version in range(1, 6)]


def test_an_empty_database_gets_everything() -> None:
    plan = make_plan(FIVE, State())
    assert (plan.start, plan.level, plan.floor, plan.changes) == (0, 5, 0, True)
    assert list(plan.pending) == FIVE
    assert plan.summary(done=False).startswith("to apply: 000001_x.up.sql, 000002_x")
    assert plan.summary(done=True).startswith("applied: 000001_x.up.sql, 000002_x")


def test_a_database_up_to_date_gets_nothing() -> None:
    plan = make_plan(FIVE, State(5, records=applied(1, 2, 3, 4, 5)))
    assert not plan.changes
    assert plan.summary(done=True) == "the database is at level 5, nothing to do"


def test_only_up_to_the_target() -> None:
    plan = make_plan(FIVE, State(2, records=applied(1, 2)), target=4)
    assert [m.version for m in plan.pending] == [3, 4]
    assert plan.level == 4


def test_a_target_below_the_level_leaves_the_database_alone() -> None:
    plan = make_plan(FIVE, State(4, records=applied(1, 2, 3, 4)), target=2)
    assert not plan.changes
    assert plan.level == 4


@pytest.mark.parametrize("target", [-1, 6])
def test_an_unknown_target_is_refused(target: int) -> None:
    with pytest.raises(MigrationError, match=f"target {target} is not a migration of this release, which has 1 to 5"):
        make_plan(FIVE, State(), target=target)


def test_a_changed_file_is_refused_by_name() -> None:
    records = (Record(1, "x", "sum1", None), Record(2, "old_name", "other", None))
    with pytest.raises(
        MigrationError, match=r"000002_x\.up\.sql was changed after it was applied \(as 000002_old_name"
    ):
        make_plan(FIVE, State(2, records=records))


CONTRACTING = [*FIVE, migration(6, oldest=5), migration(7)]


def test_contract_is_refused_and_the_way_until_there_is_shown() -> None:
    with pytest.raises(MigrationError, match=r"000006_x.up.sql would break releases below schema level 5.*target 5"):
        make_plan(CONTRACTING, State(4, records=applied(1, 2, 3, 4)))


def test_contract_that_comes_first_shows_no_way_around() -> None:
    with pytest.raises(MigrationError, match=r"allow contract migrations$"):
        make_plan(CONTRACTING, State(5, records=applied(1, 2, 3, 4, 5)))


def test_contract_beyond_the_target_does_not_matter() -> None:
    plan = make_plan(CONTRACTING, State(4, records=applied(1, 2, 3, 4)), target=5)
    assert [m.version for m in plan.pending] == [5]


def test_contract_raises_the_floor_when_it_is_allowed() -> None:
    plan = make_plan(CONTRACTING, State(4, records=applied(1, 2, 3, 4)), allow_contract=True)
    assert (plan.level, plan.floor) == (7, 5)


def test_an_empty_database_gets_contract_migrations_too() -> None:
    assert make_plan(CONTRACTING, State()).floor == 5


def test_a_newer_database_that_still_serves_the_release() -> None:
    plan = make_plan(FIVE, State(7, records=applied(1, 2, 3, 4, 5, 6, 7, oldest={6: 5})))
    assert not plan.changes
    assert plan.ahead
    assert plan.floor == 5
    assert "at level 7, newer than this release's 5, and releases from level 5 on" in plan.summary(done=True)


def test_a_newer_database_that_no_longer_serves_the_release() -> None:
    with pytest.raises(MigrationError, match="serves only releases of schema level 6 and newer; this one has level 5"):
        make_plan(FIVE, State(7, records=applied(1, 2, 3, 4, 5, 6, 7, oldest={6: 6})))


def test_what_another_tool_applied_is_recorded_with_its_floor() -> None:
    plan = make_plan(CONTRACTING, State(7, records=applied(1, 2, 3)))
    assert [m.version for m in plan.adopt] == [4, 5, 6, 7]
    assert plan.changes
    assert plan.floor == 5
    assert "to record, applied by another tool: 000004_x.up.sql" in plan.summary(done=False)


def test_what_another_tool_took_back_is_forgotten() -> None:
    plan = make_plan(FIVE, State(3, records=applied(1, 2, 3, 4, 5)), target=3)
    assert plan.forget == (4, 5)
    assert plan.changes
    assert plan.summary(done=True) == "forgotten, taken back by another tool: 000004, 000005"


def test_a_dirty_database_is_refused_with_what_to_do() -> None:
    with pytest.raises(MigrationError) as caught:
        make_plan(FIVE, State(3, dirty=True, records=applied(1, 2), invalid_indexes=("broken_idx",)))
    text = str(caught.value)
    assert "dirty: 000003_x.up.sql was begun and not finished" in text
    assert "Invalid indexes: broken_idx." in text
    assert "set its 'version' to 2, too" in text


def test_a_dirty_first_migration() -> None:
    with pytest.raises(MigrationError, match="remove that row"):
        make_plan(FIVE, State(1, dirty=True))


def test_a_dirty_migration_that_the_release_does_not_have() -> None:
    with pytest.raises(MigrationError, match="migration 000009, which this release does not have, was begun"):
        make_plan(FIVE, State(9, dirty=True))


def test_an_interrupted_statement_that_builds_no_index_is_refused() -> None:
    with pytest.raises(MigrationError, match="the database is dirty"):
        make_plan([migration(1), migration(2, single=True)], State(2, dirty=True, records=applied(1)))


def test_an_interrupted_concurrent_index_is_resumed() -> None:
    files = [migration(1), migration(2, index="i"), migration(3)]
    plan = make_plan(files, State(2, dirty=True, records=applied(1)))
    assert plan.resume is files[1]
    assert [m.version for m in plan.pending] == [2, 3]
    assert (plan.start, plan.level) == (1, 3)


def test_an_interrupted_index_beyond_the_target_comes_first() -> None:
    files = [migration(1), migration(2, index="i")]
    with pytest.raises(MigrationError, match="interrupted and lies beyond target 1"):
        make_plan(files, State(2, dirty=True, records=applied(1)), target=1)


def test_the_lock_is_golang_migrates() -> None:
    # CRC-32 of "public", "schema_migrations" and "/linkrift" joined with NUL, times its salt, in 32 bits.
    assert advisory_lock_id("linkrift") == 4154879191
