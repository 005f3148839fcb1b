"""The database file of the embedded store: opening, versions, migrations.

`PRAGMA user_version` is the schema version. A step is never edited once released; a new one is added, with a fixture
of the version before it in tests/unit/dataplane/store_fixtures. A record of the model that gains or loses a field
needs a step as well (an empty one will do), so that an older release refuses the file instead of misreading it.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from dataplane.errors import SchemaTooNewError, StoreError

APPLICATION_ID = 0x6E706C6E  # "npln": `file` and we recognise the database by it

_STEPS: tuple[tuple[str, ...], ...] = (
    # 1: the objects as JSON documents, and the position of the last transaction
    (
        "CREATE TABLE objects (kind TEXT NOT NULL, id TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, id))"
        " WITHOUT ROWID",
        "CREATE TABLE head (only INTEGER PRIMARY KEY CHECK (only = 1), position INTEGER NOT NULL)",
        "INSERT INTO head (only, position) VALUES (1, 0)",
    ),
    # 2: the journal of leases; the order of the row ids is the order in which guests were heard
    (
        "CREATE TABLE leases (port_id TEXT NOT NULL, address TEXT NOT NULL, body TEXT NOT NULL,"
        " UNIQUE (port_id, address))",
    ),
    # 3: what is made here and must not be lost, such as the keys of tokens; passwords that guests posted, by instance.
    # And the model gained Instance.metadata_options, Network.metadata_backend, Port.project_id.
    (
        "CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
        "CREATE TABLE passwords (instance TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    ),
    # 4: the model gained security groups, address groups and firewall policies, and fields of Port that go with them.
    (),
)
VERSION = len(_STEPS)


def connect(path: Path) -> sqlite3.Connection:
    """Open (or create, readable by its owner only) the database and bring it to the newest schema version.

    The connection belongs to the calling thread and is in autocommit mode: transactions are begun explicitly.
    Raises SchemaTooNewError or StoreError.
    """
    try:
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"cannot open {path}: {error}") from error
    try:
        try:
            return _connect(path)
        except sqlite3.OperationalError:
            # On a full disk there is no room for the index of the log that processes share. Without sharing it is in
            # memory: guests are served, and what cannot be written is refused until there is room.
            return _connect(path, shared=False)
    except sqlite3.Error as error:
        damaged = getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
        hint = "move it away or restore a copy" if damaged else "make room, or check the disk and the permissions"
        raise StoreError(f"cannot read {path}: {error}; {hint}") from error


def _connect(path: Path, *, shared: bool = True) -> sqlite3.Connection:
    """`shared`: other processes may read the database meanwhile, to copy it. Raises sqlite3.Error too."""
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        if not shared:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        _check_ours(connection, path)
        # FULL: the write-ahead log is synced at each commit, so what was acknowledged survives loss of power too.
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA journal_size_limit = 16777216")
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, to: int = VERSION) -> None:
    """Carry out the steps up to version `to`, each in a transaction of its own."""
    for version in range(_version(connection) + 1, to + 1):
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in _STEPS[version - 1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {version}")
            connection.execute("COMMIT")
        except BaseException:
            connection.rollback()
            raise


def _check_ours(connection: sqlite3.Connection, path: Path) -> None:
    (application_id,) = connection.execute("PRAGMA application_id").fetchone()
    (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    if application_id != APPLICATION_ID and (application_id or tables):
        raise StoreError(f"{path} is a database of another program")
    if (version := _version(connection)) > VERSION:
        raise SchemaTooNewError(
            f"{path} has schema version {version}, this release knows {VERSION}: start the newer release again"
        )


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)
