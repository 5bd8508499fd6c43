"""The tables of the ledger, their version, and the steps from one version to the next."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    inspect,
    select,
    text,
)

from parsers.errors import Code, JobError

metadata = MetaData()
_Id = BigInteger().with_variant(Integer, "sqlite")
_Name = Text().with_variant(Text(collation="C"), "postgresql")
"""Sorts by code points in both databases, as Python does."""

meta = Table("meta", metadata, Column("key", String(32), primary_key=True), Column("value", Text, nullable=False))

jobs = Table(
    "jobs", metadata,
    Column("id", String(16), primary_key=True),
    Column("out", Text, nullable=False, unique=True),
    Column("state", String(16), nullable=False),
    Column("priority", String(16), nullable=False),
    Column("spec", Text, nullable=False),           # JSON
    Column("digest", String(64), nullable=False),   # of what decides about a mask
    Column("shard_size", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),    # after so many an item is quarantined
    Column("stage", Integer, nullable=False),       # shards of a later stage are held back
    Column("made_with", Text),                      # JSON: model, code and versions; of the first worker
    Column("notes", Text, nullable=False),          # JSON: warnings and unreadable folders of the submission
    Column("error_code", String(32)),
    Column("error", Text),
    Column("created", Float, nullable=False),       # seconds since 1970, UTC
    Column("finished", Float),
    Column("lease_until", Float),                   # of the one who finalises
    Column("files", Text),                          # JSON: path below OUT to sha256, of what finalising wrote
    Column("llm_calls", Integer, nullable=False, server_default="0"),   # of the language model, counted before
    Index("jobs_by_state", "state"),
)

shards = Table(
    "shards", metadata,
    Column("id", _Id, primary_key=True),
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("stage", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("published", Float),                     # when its last message was sent
    Column("sent", Integer, nullable=False),        # messages since it last got on
    Index("shards_by_state", "job_id", "state", "stage"),
    sqlite_autoincrement=True,
)

items = Table(
    "items", metadata,
    Column("id", _Id, primary_key=True),            # never used again, so an old fence cannot fit a new item
    Column("job_id", ForeignKey("jobs.id"), nullable=False),
    Column("shard_id", ForeignKey("shards.id")),
    Column("name", _Name, nullable=False),
    Column("root", LargeBinary, nullable=False),    # bytes, as the file system has them
    Column("relative", LargeBinary, nullable=False),
    Column("source", LargeBinary, nullable=False),  # digest of the real path
    Column("size", BigInteger),                     # of the file when it was submitted; null: it was not there
    Column("mtime_ns", BigInteger),
    Column("state", String(16), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("owner", String(128)),
    Column("lease_until", Float),
    Column("code", String(32)),
    Column("image_sha256", String(64)),
    Column("told", Text, server_default=""),        # JSON: what is said of it; null: to be said before it is segmented;
                                                    # empty: names are given
    Index("items_by_name", "job_id", "name", unique=True),
    Index("items_by_source", "job_id", "source", unique=True),
    Index("items_by_shard", "shard_id", "state"),
    Index("items_by_state", "job_id", "state"),
    Index("items_by_lease", "state", "lease_until"),
    Index("items_by_owner", "owner"),
    sqlite_autoincrement=True,
)

results = Table(
    "results", metadata,
    Column("item_id", ForeignKey("items.id", ondelete="CASCADE"), primary_key=True),
    Column("line", Text, nullable=False),           # of results.jsonl
    Column("files", Text, nullable=False),          # JSON: path below OUT to sha256
    Column("decode_s", Float, nullable=False),
    Column("score_s", Float, nullable=False),
    Column("finish_s", Float, nullable=False),
    Column("finished", Float, nullable=False),      # seconds since 1970, UTC
    Index("results_by_time", "finished"),
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    ("ALTER TABLE items ADD COLUMN told TEXT DEFAULT ''",),
    ("ALTER TABLE jobs ADD COLUMN llm_calls INTEGER DEFAULT 0 NOT NULL",
     "CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (state)"),
)
"""SQL statements that lead from version 1 + i to the next. A new ledger is made at the newest version at once."""
SCHEMA_VERSION = 1 + len(MIGRATIONS)


def migrate(connection: Connection, steps: Sequence[Sequence[str]] = MIGRATIONS) -> None:
    """Makes the tables, or brings those of an older version up to the present one, within the caller's transaction.

    Raises JobError (`ledger-unavailable`) for a ledger of a newer lexiseg.
    """
    newest = 1 + len(steps)
    if not inspect(connection).has_table("meta"):
        metadata.create_all(connection)
        connection.execute(meta.insert().values(key="schema_version", value=str(newest)))
        return
    found = int(connection.execute(select(meta.c.value).where(meta.c.key == "schema_version")).scalar_one())
    if found > newest:
        raise JobError(Code.LEDGER_UNAVAILABLE, f"The ledger has schema version {found}.",
                       f"This lexiseg knows versions up to {newest}.", "Use the lexiseg that made it, or a newer one.")
    for statements in steps[found - 1:]:
        for statement in statements:
            connection.execute(text(statement))
    if found < newest:
        connection.execute(meta.update().where(meta.c.key == "schema_version").values(value=str(newest)))
