"""What there is to do between a set of migration files and the state of a database, decided without a database."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.linkrift.platform.plugins.module_utils._migrate_files import Migration, MigrationError


@dataclass(frozen=True)
class Record:
    """A row of linkrift_migrations.

    Attributes:
        version: number of the migration.
        name: the words of its file name when it was applied.
        checksum: SHA-256 of the file as it was applied.
        oldest: None for an expand migration, else the oldest schema level whose releases go on working.
    """

    version: int
    name: str
    checksum: str
    oldest: int | None


@dataclass(frozen=True)
class State:
    """What a database says about itself.

    Attributes:
        version: schema level by schema_migrations; 0 before the first migration.
        dirty: a migration of that version was begun and not finished.
        records: linkrift_migrations, in order of version.
        invalid_indexes: names of indexes that an interrupted CONCURRENTLY left behind.
    """

    version: int = 0
    dirty: bool = False
    records: tuple[Record, ...] = ()
    invalid_indexes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What has to be done.

    Attributes:
        start: schema level before.
        level: schema level afterwards.
        floor: oldest schema level whose releases work afterwards; 0 when there is no bound.
        pending: migrations to apply, in order.
        resume: a concurrent index whose building was interrupted: the first of `pending`, already marked dirty.
        adopt: migrations that golang-migrate applied, to be recorded.
        forget: versions recorded here that golang-migrate has taken back.
        ahead: the database is newer than the files (and the files' release still works on it).
        release_level: number of the last migration that the release has.
    """

    start: int
    level: int
    floor: int
    pending: tuple[Migration, ...] = ()
    resume: Migration | None = None
    adopt: tuple[Migration, ...] = ()
    forget: tuple[int, ...] = ()
    ahead: bool = False
    release_level: int = 0

    @property
    def changes(self) -> bool:
        """Whether there is anything to do."""
        return bool(self.pending or self.adopt or self.forget)

    def summary(self, *, done: bool) -> str:
        """Return a sentence for the operator: what was done, or what is to be done."""
        parts: list[str] = []
        if self.pending:
            labels = ", ".join(migration.label for migration in self.pending)
            parts.append(f"{'applied' if done else 'to apply'}: {labels}")
        if self.adopt:
            labels = ", ".join(migration.label for migration in self.adopt)
            parts.append(f"{'recorded' if done else 'to record'}, applied by another tool: {labels}")
        if self.forget:
            labels = ", ".join(f"{version:06d}" for version in self.forget)
            parts.append(f"{'forgotten' if done else 'to forget'}, taken back by another tool: {labels}")
        if self.ahead:
            parts.append(
                f"the database is at level {self.start}, newer than this release's {self.release_level}, "
                f"and releases from level {self.floor or 1} on work with it"
            )
        return "; ".join(parts) or f"the database is at level {self.level}, nothing to do"


def make_plan(
    migrations: list[Migration], state: State, *, target: int | None = None, allow_contract: bool = False
) -> Plan:
    """Decide what to apply, or refuse.

    Args:
        migrations: all files of the release, 1, 2, 3 … (see load_migrations).
        state: what the database says.
        target: last version to apply; None for all. A database already beyond it is left alone.
        allow_contract: apply contract migrations, too. On an empty database they always are: no release works on it
            yet that could break.

    Raises:
        MigrationError: the database is dirty; an applied file was changed; the database no longer serves this
            release; a contract migration is not allowed; the target is unknown.
    """
    release_level = migrations[-1].version
    if target is not None and not 0 <= target <= release_level:
        raise MigrationError(f"target {target} is not a migration of this release, which has 1 to {release_level}")
    resume = _resumable(migrations, state)
    applied_level = state.version - 1 if resume else state.version
    known = {record.version: record for record in state.records if record.version <= applied_level}
    _refuse_changed_files(migrations, known)

    pending = tuple(m for m in migrations if applied_level < m.version <= (release_level if target is None else target))
    if resume and resume not in pending:
        raise MigrationError(f"{resume.label} was interrupted and lies beyond target {target}: finish it first")
    if not allow_contract and applied_level > 0:
        _refuse_contract(pending)

    adopt = tuple(m for m in migrations if m.version <= applied_level and m.version not in known)
    floors = [record.oldest or 0 for record in known.values()] + [m.oldest or 0 for m in (*adopt, *pending)]
    floor = max(floors, default=0)
    if floor > release_level:
        raise MigrationError(
            f"the database (level {state.version}) serves only releases of schema level {floor} and newer; "
            f"this one has level {release_level}"
        )
    return Plan(
        start=applied_level,
        level=pending[-1].version if pending else applied_level,
        floor=floor,
        pending=pending,
        resume=resume,
        adopt=adopt,
        forget=tuple(r.version for r in state.records if r.version > applied_level),
        ahead=applied_level > release_level,
        release_level=release_level,
    )


def _resumable(migrations: list[Migration], state: State) -> Migration | None:
    """Return the interrupted concurrent index that can simply be built anew; refuse every other dirty state."""
    if not state.dirty:
        return None
    interrupted = next((m for m in migrations if m.version == state.version), None)
    if interrupted and interrupted.concurrent_index:
        return interrupted
    name = interrupted.label if interrupted else f"migration {state.version:06d}, which this release does not have,"
    indexes = f" Invalid indexes: {', '.join(state.invalid_indexes)}." if state.invalid_indexes else ""
    raise MigrationError(
        f"the database is dirty: {name} was begun and not finished, and nobody knows how much of it was done.{indexes} "
        "Compare the schema with the file. Either finish by hand what is missing and set 'dirty' to false in the one "
        "row of schema_migrations; or take back what was done and "
        + (f"set its 'version' to {state.version - 1}, too" if state.version > 1 else "remove that row")
        + ". Then run this again."
    )


def _refuse_changed_files(migrations: list[Migration], known: dict[int, Record]) -> None:
    """Compare every applied file with what was applied."""
    findings: list[str] = []
    for migration in migrations:
        record = known.get(migration.version)
        if record and record.checksum != migration.checksum:
            findings.append(
                f"{migration.label} was changed after it was applied (as {record.version:06d}_{record.name}, SHA-256 "
                f"{record.checksum[:12]}…, now {migration.checksum[:12]}…): an applied migration is never edited, "
                "write a new one"
            )
    if findings:
        raise MigrationError("; ".join(findings))


def _refuse_contract(pending: tuple[Migration, ...]) -> None:
    """Refuse contract migrations, saying how far one can go without them."""
    contracts = [migration for migration in pending if migration.oldest is not None]
    if not contracts:
        return
    first = contracts[0]
    before = [m.version for m in pending if m.version < first.version]
    way_out = f", or go only as far as target {before[-1]}" if before else ""
    raise MigrationError(
        f"{', '.join(m.label for m in contracts)} would break releases below schema level "
        f"{max(m.oldest or 0 for m in contracts)}: make sure that none is live, then allow contract migrations{way_out}"
    )
