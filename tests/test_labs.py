"""A lab that several modules share stands until the last of them, and each leaves it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests import labs
from tests.labs import SharedLabs

CHAIN, SHADOW, ROLL = (f"tests/e2e/test_{name}.py::test_it" for name in ("chain", "shadow", "roll"))


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happened to labs, all of which are in the same condition."""
    monkeypatch.setattr(labs, "_condition", dict)
    return []


@pytest.fixture
def shared(said: list[str]) -> Iterator[SharedLabs]:
    shared = SharedLabs()
    yield shared
    list(shared.pytest_runtest_teardown(item(ROLL), None))
    assert said.count("begun") == said.count("ended")


def item(nodeid: str) -> Any:
    return SimpleNamespace(nodeid=nodeid)


def enter(shared: SharedLabs, said: list[str], **changes: str) -> None:
    @contextmanager
    def bring_up() -> Iterator[Any]:
        said.append("begun")
        yield {"units": "running"}
        said.append("ended")

    with shared.lab("the default lab", bring_up) as lab:
        cast("dict[str, str]", lab).update(changes)


def test_it_stands_as_long_as_the_next_test_shares_it(shared: SharedLabs, said: list[str]) -> None:
    enter(shared, said)
    list(shared.pytest_runtest_teardown(item(CHAIN), item(SHADOW)))
    enter(shared, said)
    assert said == ["begun"]

    list(shared.pytest_runtest_teardown(item(SHADOW), item(ROLL)))
    assert said == ["begun", "ended"]
    enter(shared, said)
    assert said == ["begun", "ended", "begun"]


def test_a_module_that_leaves_it_changed_fails(shared: SharedLabs, said: list[str]) -> None:
    with pytest.raises(AssertionError, match="the default lab is not as it was"):
        enter(shared, said, units="exited")
