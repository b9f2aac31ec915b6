"""What only a store that is a server can do: be away, be wrongly addressed, and be given a password."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing, closing
from typing import Any

import psycopg
import pytest

from lab.errors import RegistryError
from services.controlplane.registry.records import Phase
from services.controlplane.registry.revisions import Registry
from tests.controlplane.nodes import failed_start
from tests.postgresql import Server

DOCUMENT: dict[str, Any] = {"use_cases": {}, "models": {}, "clusters": {}}
WITHIN_S = 20


@pytest.fixture
def address(postgresql: Server) -> str:
    return postgresql.new_database()


@pytest.fixture
def registry(address: str) -> Iterator[Registry]:
    with closing(Registry(address)) as registry:
        yield registry


def _publish(registry: Registry) -> int:
    revision, _ = registry.append(DOCUMENT, author="ada", comment="")
    registry.record(revision, Phase.CONVERGED)
    return revision


async def test_a_store_that_was_away_has_lost_nothing_and_followers_catch_up(
    registry: Registry, postgresql: Server, address: str
) -> None:
    async with asyncio.timeout(WITHIN_S):
        with closing(Registry(address)) as other:
            async with aclosing(other.follow("control-plane-2")) as events:
                _publish(registry)
                assert [(await anext(events)).revision for _ in range(2)] == [1, 1]
                postgresql.stop()
                try:
                    with pytest.raises(RegistryError, match=r"cannot use the registry.*check that the server runs"):
                        _publish(registry)
                finally:
                    postgresql.start()
                assert _publish(registry) == 2
                assert [(await anext(events)).revision for _ in range(2)] == [2, 2]


async def test_a_follower_whose_session_is_cut_misses_nothing(registry: Registry, address: str) -> None:
    cut = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'follower control-plane-2' AND datname = current_database()"
    )
    async with asyncio.timeout(WITHIN_S), aclosing(registry.follow("control-plane-2")) as events:
        for _ in range(5):
            _publish(registry)
            [(await anext(events)) for _ in range(2)]
            with psycopg.connect(address, autocommit=True) as session:
                assert session.execute(cut).fetchall() == [(True,)]
        revision = _publish(registry)  # while nobody listens
        found = [(await anext(events)).revision for _ in range(2)]

    assert found == [revision, revision]


async def test_a_notification_that_is_lost_loses_no_revision(registry: Registry, address: str) -> None:
    async with asyncio.timeout(WITHIN_S), aclosing(registry.follow("control-plane-2")) as events:
        _publish(registry)
        [(await anext(events)) for _ in range(2)]
        with psycopg.connect(address, autocommit=True) as session:  # which tells nobody
            session.execute("INSERT INTO events (revision, phase, at_ns, detail) VALUES (1, 'retired', 1, '')")
        assert (await anext(events)).event.phase is Phase.RETIRED


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("postgresql://ada:geheim@127.0.0.1:1/registry", "postgresql://ada@127.0.0.1:1/registry: cannot use"),
        ("postgresql://ada:geheim@127.0.0.1:1/registry?nonsense=1", "cannot be read: write postgresql://USER:"),
        ("postgresql://ada:geheim@[::1/registry", "cannot be read: write postgresql://USER:"),
    ],
)
def test_an_address_that_leads_nowhere_ends_the_start_with_one_line_without_its_password(
    address: str, why: str
) -> None:
    line = failed_start(address)

    assert why in line
    assert "geheim" not in line


def test_a_wrong_password_is_refused_and_not_shown(address: str, postgresql: Server) -> None:
    with pytest.raises(RegistryError, match="password authentication failed") as refused:
        Registry(address.replace(postgresql.password, "geheim"))

    assert "geheim" not in str(refused.value)


def test_a_store_in_postgresql_without_its_library_says_what_to_install(address: str) -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        f"from services.controlplane.registry.revisions import Registry; Registry({address!r})"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=30)

    assert "make .venv/with-postgres" in ended.stderr.splitlines()[-1]
