from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from lab.errors import LabError
from services.controlplane.registry.records import Phase, StoredReplica
from services.controlplane.registry.revisions import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

DOCUMENT = {"use_cases": {}, "models": {}, "clusters": {"ml-cluster-1": {"replicas": 1}}}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    registry = Registry(tmp_path / "registry.sqlite")
    yield registry
    registry.close()


def test_revisions_count_up_from_one_and_keep_what_was_published(registry: Registry) -> None:
    assert registry.append(DOCUMENT, author="ada", comment="first")[0] == 1
    assert registry.append({**DOCUMENT, "clusters": {}}, author="bob", comment="second")[0] == 2

    first = registry.get(1)

    assert first is not None
    assert (registry.document(1), first.author, first.comment) == (DOCUMENT, "ada", "first")
    assert [each.revision for each in registry.all()] == [1, 2]
    assert registry.get(3) is None


def test_the_revision_in_force_is_the_latest_that_converged(registry: Registry) -> None:
    assert registry.in_force() == 0
    for phases in ((Phase.CONVERGED,), (Phase.LOADED, Phase.FAILED), ()):
        revision, _ = registry.append(DOCUMENT, author="ada", comment="")
        for phase in phases:
            registry.record(revision, phase)

    assert registry.in_force() == 1
    assert registry.unfinished() == [3]


@pytest.mark.parametrize("statement", ["UPDATE revisions SET author = 'eve'", "DELETE FROM events"])
def test_history_cannot_be_rewritten(registry: Registry, tmp_path: Path, statement: str) -> None:
    registry.append(DOCUMENT, author="ada", comment="")
    db = sqlite3.connect(tmp_path / "registry.sqlite")

    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(statement)
    db.close()


def test_remembered_replicas_are_those_saved_last(registry: Registry) -> None:
    a = StoredReplica("ml-cluster-1", "ml-cluster-1-a", "127.0.0.1:1", ("cw-ranker.v1", "cw-ranker.v2"))
    registry.save_replicas([a, StoredReplica("ml-cluster-1", "ml-cluster-1-b", "127.0.0.1:2", ())], ["ml-cluster-1"])
    registry.save_replicas([a], ["ml-cluster-1"])

    assert registry.replicas() == [a]


def test_a_file_that_is_no_registry_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    path.write_text("not a database, and long enough not to be taken for an empty one" * 20)
    before = path.read_bytes()

    with pytest.raises(LabError, match=r"registry.sqlite: cannot use .* move the file away"):
        Registry(path)

    assert path.read_bytes() == before


def _large(change: int) -> dict[str, object]:
    use_cases = {f"UseCase{number}": {"default": "cw-ranker@v1"} for number in range(100)}
    return {**DOCUMENT, "use_cases": {**use_cases, "UseCase7": {"default": f"cw-ranker@v{change}"}}}


def test_a_new_file_that_another_process_is_about_to_set_up_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        ends = threading.Timer(0.2, other.rollback)
        ends.start()
        with closing(Registry(path)) as registry:
            assert registry.latest() == 0
        ends.join()


def test_changes_are_stored_alone_until_they_outweigh_the_whole(registry: Registry, tmp_path: Path) -> None:
    documents = [_large(number) for number in range(200)]
    before = None
    for document in documents:
        revision, _ = registry.append(document, author="ada", comment="", replaces=before)
        before = (revision, document)

    assert [registry.document(number + 1) for number in range(200)] == documents
    db = sqlite3.connect(tmp_path / "registry.sqlite")
    counts = "SELECT count(*) FILTER (WHERE base IS NULL), sum(length(document)) FROM revisions"
    wholes, size = db.execute(counts).fetchone()
    db.close()
    assert 1 < wholes < 10
    assert size < 10 * wholes * len(str(documents[0]))


def test_what_rests_on_a_revision_of_another_process_is_stored_whole(registry: Registry, tmp_path: Path) -> None:
    first, _ = registry.append(_large(1), author="ada", comment="")
    again = Registry(tmp_path / "registry.sqlite")
    second, _ = again.append(_large(2), author="ada", comment="", replaces=(first, _large(1)))
    assert again.document(second) == _large(2)
    again.close()


_WRITER = """
import sys
from pathlib import Path
from services.controlplane.registry.revisions import Phase, Registry
registry = Registry(Path(sys.argv[1]))
before = None
while True:
    document = {"use_cases": {"A": {"n": before[0] if before else 0}, "B": {"pad": "x" * 2000}}}
    revision, _ = registry.append(document, author="writer", comment="", replaces=before)
    before = (revision, document)
    registry.record(revision, Phase.CONVERGED)
    print(revision, flush=True)
"""


def test_kill_9_at_any_moment_loses_no_acknowledged_revision(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    acknowledged = 0
    for kill_after in range(1, 9):
        writer = subprocess.Popen([sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(kill_after):
            acknowledged = int(writer.stdout.readline())
        os.kill(writer.pid, signal.SIGKILL)
        # What it said before it died counts as well.
        acknowledged = max([acknowledged, *(int(line) for line in writer.stdout.read().split())])
        writer.stdout.close()
        writer.wait()

        registry = Registry(path)
        revisions = [each.revision for each in registry.all()]
        assert registry.in_force() >= acknowledged
        assert all(registry.document(each)["use_cases"]["B"] == {"pad": "x" * 2000} for each in revisions)
        registry.close()
        assert revisions == list(range(1, len(revisions) + 1))
        assert len(revisions) - acknowledged in (0, 1)
