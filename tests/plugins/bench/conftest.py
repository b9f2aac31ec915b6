"""The lab that the runs of benches share, as in ``lab bench``."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from lab.plugins.bench.harness.environment import Environment, open_environment


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Environment]:
    """An environment that is open; labs that a bench brings up beside it have the same home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAB_HOME", str(tmp_path_factory.mktemp("benches")))
        with open_environment(lambda _: None) as environment:
            yield replace(environment, missing=[])
