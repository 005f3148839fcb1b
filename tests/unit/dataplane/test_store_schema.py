"""store_schema: every earlier version is brought forward, foreign and newer files are refused unharmed."""

from __future__ import annotations

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from dataplane import store_schema
from dataplane.errors import SchemaTooNewError, StoreError
from dataplane.leases import LeaseRow
from dataplane.model import Ip, Mac, NetworkId, PortId
from dataplane.store import Store
from tests.unit.dataplane.states import UUID, network, port, state

FIXTURES = Path(__file__).parent / "store_fixtures"


def schema(connection: sqlite3.Connection) -> set[str]:
    return {sql for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL")}


def test_every_earlier_version_has_a_fixture() -> None:
    assert sorted(path.stem for path in FIXTURES.glob("*.sql")) == [f"v{n}" for n in range(1, store_schema.VERSION)]


@pytest.fixture(params=sorted(FIXTURES.glob("*.sql")), ids=lambda path: path.stem)
def earlier(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A database of an earlier version."""
    path = tmp_path / "store.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(request.param.read_text())
    return path


@pytest.mark.asyncio
async def test_upgrade(earlier: Path, tmp_path: Path) -> None:
    path, new = earlier, tmp_path / "new.db"
    store = await Store.open(path)
    assert store.position == 42
    assert store.desired.networks[NetworkId("blue")].mtu == 1450
    assert [p.id for p in store.desired.ports_of_instance(f"{UUID}1")] == ["p1"]
    assert store.desired.port_by_address[NetworkId("green"), Ip("10.0.0.5")].id == "p2"
    assert (await store.apply(state([network("grey", vni=9)], [port("p3", 7)]))).position == 43
    row = LeaseRow(NetworkId("blue"), PortId("p1"), Mac("fa:16:3e:00:00:05"), Ip("10.0.0.5"), "bound", 1.0, 2.0)
    store.record_leases([row])
    await store.close()

    store = await Store.open(path)
    assert store.position == 43
    assert await store.load_leases() == [row]
    await store.close()
    with closing(store_schema.connect(path)) as upgraded, closing(store_schema.connect(new)) as created:
        assert schema(upgraded) == schema(created)
        assert upgraded.execute("PRAGMA user_version").fetchone() == (store_schema.VERSION,)


def test_a_step_that_fails_leaves_the_version_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "store.db"
    store_schema.connect(path).close()
    broken = (*store_schema._STEPS, ("CREATE TABLE more (x)", "nonsense"))
    monkeypatch.setattr(store_schema, "_STEPS", broken)
    with closing(store_schema.connect(path)) as connection:
        before = schema(connection)
        with pytest.raises(sqlite3.OperationalError):
            store_schema.migrate(connection, to=len(broken))
        assert schema(connection) == before
        assert connection.execute("PRAGMA user_version").fetchone() == (store_schema.VERSION,)


def test_a_newer_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(store_schema.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {store_schema.VERSION + 1}")
    with pytest.raises(SchemaTooNewError, match="start the newer release"):
        store_schema.connect(path)


def test_a_foreign_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE songs (title)")
    before = path.read_bytes()
    with pytest.raises(StoreError, match="database of another program"):
        store_schema.connect(path)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreError, match="move it away or restore a copy"):
        store_schema.connect(path)


def test_only_the_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    with closing(store_schema.connect(path)) as connection:
        connection.execute("UPDATE head SET position = 1")
        for file in tmp_path.iterdir():
            assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot open"):
        store_schema.connect(tmp_path / "none" / "store.db")


def test_what_is_acknowledged_is_synced(tmp_path: Path) -> None:
    with closing(store_schema.connect(tmp_path / "store.db")) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,)
