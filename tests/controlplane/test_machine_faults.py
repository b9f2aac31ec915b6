"""The machine lets the control plane down: no space, a file that cannot be written or read, a clock that goes back."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest

from lab.errors import PublishError
from services.controlplane.publishing.publisher import Timeouts
from services.controlplane.registry.clock import Clock
from services.controlplane.registry.records import Phase
from services.controlplane.registry.revisions import Registry
from services.controlplane.registry.sqlite import SqliteSession
from tests.controlplane.nodes import ControlPlane, failed_start, running, table_of
from tests.missing import missing

# Root without its power to overlook who may write a file.
AS_A_USER = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"] if os.geteuid() == 0 else []
HOUR_NS = 3_600_000_000_000
DOCUMENT = {"use_cases": {"A": {"pad": "x" * 8_000}}, "models": {}, "clusters": {}}
ON_1, ON_2 = {"v1": "ml-cluster-1"}, {"v1": "ml-cluster-2"}


def session_of(control_plane: ControlPlane) -> SqliteSession:
    """The connection to the registry's file."""
    session = control_plane.publisher.registry._db
    assert isinstance(session, SqliteSession)
    return session


def _filled(path: Path, revisions: int = 20) -> None:
    with closing(Registry(path)) as registry:
        for _ in range(revisions):
            revision, _ = registry.append(DOCUMENT, author="ada", comment="")
            registry.record(revision, Phase.CONVERGED)


def test_a_registry_that_may_not_be_written_ends_the_start_with_one_line(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    _filled(path, 1)
    path.chmod(0o444)
    tmp_path.chmod(0o555)
    try:
        line = failed_start(str(path), *AS_A_USER)
    finally:
        tmp_path.chmod(0o755)

    assert f"{path}: cannot use the registry of revisions" in line
    assert "make the file and its folder writable" in line


def _torn_pages(path: Path) -> None:
    with path.open("r+b") as file:
        for page in range(2, 12):
            file.seek(page * 4096)
            file.write(b"\xa5" * 4096)


def _cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _no_longer_json(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'{"use_cases"', b'{"use_cases\x01'))


@pytest.mark.parametrize("damage", [_torn_pages, _cut_short, _no_longer_json])
def test_a_damaged_registry_ends_the_start_with_one_line_and_is_left_as_it_is(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "registry.sqlite"
    _filled(path)
    damage(path)
    before = path.read_bytes()

    line = failed_start(str(path), *AS_A_USER)

    assert str(path) in line
    assert "restore a copy" in line
    assert path.read_bytes() == before


async def test_a_full_disk_stops_a_publish_and_nothing_else(control_plane: ControlPlane) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    follower = await control_plane.follower("homepage-resolver")
    await control_plane.publish(table_of(ON_1))
    sent = len(follower.updates)
    database = session_of(control_plane)._db
    [pages] = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")

    async def publish_until_there_is_no_room_left() -> None:
        while True:
            await control_plane.publish(table_of(ON_1))

    with pytest.raises(PublishError, match=r"disk is full; nothing was stored: free space"):
        await publish_until_there_is_no_room_left()

    in_force = control_plane.publisher.revision
    assert control_plane.publisher.registry.in_force() == in_force
    assert len(follower.updates) >= sent
    # Replicas come and go all the same, and once there is room again all is well.
    await control_plane.replica("ml-cluster-2", "bb")
    database.execute("PRAGMA max_page_count = 1000000")
    await control_plane.publish(table_of(ON_2))
    assert control_plane.publisher.registry.in_force() > in_force


@pytest.mark.parametrize("phase", [Phase.LOADED, Phase.ENDPOINTS, Phase.CONVERGED])
async def test_what_cannot_be_stored_half_way_is_put_back_everywhere(
    control_plane: ControlPlane, phase: Phase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await control_plane.replica("ml-cluster-1", "a")
    await control_plane.replica("ml-cluster-2", "bb")
    gateway = await control_plane.follower("gateway-1", with_endpoints=True)
    await control_plane.publish(table_of(ON_1))
    database = session_of(control_plane)

    insert = database.insert

    def full(statement: str, parameters: Sequence[object] = ()) -> int:
        if "INTO events" in statement and parameters[1] in (phase, Phase.FAILED):
            raise sqlite3.OperationalError("database or disk is full")
        return insert(statement, parameters)

    monkeypatch.setattr(database, "insert", full)
    with pytest.raises(PublishError, match="full"):
        await control_plane.publish(table_of(ON_2))
    monkeypatch.undo()

    assert control_plane.publisher.revision == 1
    assert gateway.updates[-1].revision in (0, 1)
    assert [each.cluster for update in gateway.updates for each in update.endpoints][-1] == "ml-cluster-1"
    await control_plane.publish(table_of(ON_2))
    assert control_plane.publisher.registry.in_force() == 3


def test_a_disk_that_is_really_full_loses_nothing(tmp_path: Path) -> None:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        missing("its own small disk: it needs root, and unshare")
    script = """
import sys
from pathlib import Path
from lab.errors import RegistryError
from services.controlplane.registry.revisions import Registry
from services.controlplane.registry.records import Phase
from tests.controlplane.nodes import running
path = Path(sys.argv[1]) / "registry.sqlite"
registry, stored = Registry(path), 0
try:
    while stored < 1000:
        revision, _ = registry.append({"use_cases": {"A": {"pad": "x" * 8000}}}, author="ada", comment="")
        stored = revision
        registry.record(revision, Phase.CONVERGED)
except RegistryError as error:
    print(error)
registry.close()
(Path(sys.argv[1]) / "filler").unlink()
registry = Registry(path)
assert [each.revision for each in registry.all()] == list(range(1, stored + 1)), stored
assert registry.append({}, author="ada", comment="")[0] == stored + 1
print(stored)
"""
    mount = f"mount -t tmpfs -o size=2m none {tmp_path} && head -c 1m /dev/zero > {tmp_path}/filler"
    argv = ["unshare", "-m", "sh", "-c", f'{mount} && exec "$@"', "sh", sys.executable, "-c", script, str(tmp_path)]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)

    if "mount" in ended.stderr:
        missing(ended.stderr)
    assert ended.returncode == 0, ended.stderr
    assert "full; nothing was stored" in ended.stdout
    assert 0 < int(ended.stdout.split()[-1]) < 1000


class Wall:
    """A clock that can be set."""

    def __init__(self, at_ns: int = 10 * HOUR_NS) -> None:
        self.at_ns, self.steady_ns = at_ns, 0

    def passes(self, ns: int) -> None:
        self.at_ns += ns
        self.steady_ns += ns

    def clock(self) -> Clock:
        return Clock(lambda: self.at_ns, lambda: self.steady_ns)


def test_a_clock_that_is_set_back_goes_on_from_where_it_was() -> None:
    wall = Wall()
    clock = wall.clock()
    wall.passes(5)
    assert clock.now_ns() == 10 * HOUR_NS + 5
    wall.at_ns -= HOUR_NS
    assert clock.now_ns() == 10 * HOUR_NS + 5
    wall.passes(7)
    assert clock.now_ns() == 10 * HOUR_NS + 12
    wall.at_ns += 3 * HOUR_NS
    assert clock.now_ns() == 12 * HOUR_NS + 12


async def test_revisions_stay_in_the_order_of_their_times_when_the_clock_goes_back(
    tmp_path: Path, timeouts: Timeouts
) -> None:
    wall, path = Wall(), tmp_path / "registry.sqlite"
    for back_ns in (0, HOUR_NS):
        wall.at_ns -= back_ns  # between two lives, and within one
        with closing(Registry(path, wall.clock())) as registry:
            async with running(registry, timeouts) as control_plane:
                await control_plane.replica("ml-cluster-1", "a")
                await control_plane.follower("homepage-resolver")
                for _ in range(2):
                    await control_plane.publish(table_of(ON_1))
                    wall.passes(1000)
                    wall.at_ns -= HOUR_NS
    with closing(Registry(path)) as registry:
        revisions = registry.all()
    times = [event.at_ns for each in revisions for event in each.events if event.phase is not Phase.RETIRED]
    assert [each.revision for each in revisions] == [1, 2, 3, 4]
    assert times == sorted(times)
    assert all(ack.sent_ns <= ack.at_ns for each in revisions for ack in each.acknowledgements)
    assert registry.clock.now_ns() >= times[-1]
