"""A pytest fixture that brings a lab up, for suites outside this project; needs a Docker engine.

::

    pytest_plugins = ["lab.testing"]                                              # conftest.py

    def test_a_phone_is_ranked_by_v1(routing_lab):                                # test_ranking.py
        assert routing_lab.call("ContinueWatchingRanking", topology="mesh", caller="homepage").version == "v1"

Override the fixture ``routing_lab_options`` to bring up a lab other than the default.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from testcontainers.compose import DockerCompose

from lab.lab import Lab
from lab.ops.reaper import Reaper
from lab.runtime.compose import COMPOSE_FILE


class LabContainers(DockerCompose):
    """A context manager that brings a lab of containers up and down, as testcontainers does with Compose projects.

    Methods of ``DockerCompose`` take units as services: ``get_container("homepage-sidecar")``, ``exec_in_container``,
    ``get_logs``. The body starts once one verified call per topology has passed.

    Args:
        options: of :meth:`lab.lab.Lab.up`, e.g. ``spec`` or ``topologies``.

    Attributes:
        lab: the lab itself.

    Raises:
        LabError: the lab did not come up; nothing of it is left behind.
    """

    def __init__(self, **options: Any) -> None:
        self._home = TemporaryDirectory(prefix="routing-lab-")
        self._options = options
        self._reaper: Reaper | None = None
        self.lab = Lab(f"test-{secrets.token_hex(3)}", home=Path(self._home.name))
        super().__init__(self.lab.folder, compose_file_name=COMPOSE_FILE, profiles=["all"])

    def start(self) -> None:
        """Brings the lab up; if this process is killed, a reaper takes the lab down."""
        self._reaper = self._reaper or Reaper(self.lab.name, Path(self._home.name))
        try:
            self.lab.up(runtime="compose", **self._options)
        except BaseException:
            self._dismiss_reaper()
            raise

    def stop(self, down: bool = True) -> None:  # noqa: FBT001, FBT002 (testcontainers' signature)
        """Takes the lab down; if ``down`` is false, its containers only stop."""
        if not down:
            super().stop(down)
            return
        self.lab.down()
        self._dismiss_reaper()
        self._home.cleanup()

    def _dismiss_reaper(self) -> None:
        if self._reaper:
            self._reaper.dismiss()
        self._reaper = None


@pytest.fixture(scope="session")
def routing_lab_options() -> Mapping[str, Any]:
    """Options of :meth:`lab.lab.Lab.up`; override this fixture to change them."""
    return {}


@pytest.fixture(scope="session")
def routing_lab(routing_lab_options: Mapping[str, Any]) -> Iterator[Lab]:
    """A lab of containers that is up: one per session, or per worker of pytest-xdist."""
    with LabContainers(**routing_lab_options) as containers:
        yield containers.lab
