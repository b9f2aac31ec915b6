"""What only a store in a file can do: be no registry, be set up by another process, and store changes alone."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from lab.errors import LabError
from services.controlplane.registry.revisions import Registry

DOCUMENT = {"use_cases": {}, "models": {}, "clusters": {"ml-cluster-1": {"replicas": 1}}}


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with closing(Registry(tmp_path / "registry.sqlite")) as registry:
        yield registry


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
    counts = "SELECT count(*) FILTER (WHERE base IS NULL), sum(length(document)) FROM revisions"
    with closing(sqlite3.connect(tmp_path / "registry.sqlite")) as db:
        wholes, size = db.execute(counts).fetchone()
    assert 1 < wholes < 10
    assert size < 10 * wholes * len(str(documents[0]))


def test_what_rests_on_a_revision_of_another_process_is_stored_whole(registry: Registry, tmp_path: Path) -> None:
    first, _ = registry.append(_large(1), author="ada", comment="")
    with closing(Registry(tmp_path / "registry.sqlite")) as again:
        second, _ = again.append(_large(2), author="ada", comment="", replaces=(first, _large(1)))
        assert again.document(second) == _large(2)
