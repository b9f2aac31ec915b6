"""The lab as a fixture, for somebody else's pytest suite: three lines, given a Docker engine.

::

    pytest_plugins = ["lab.testing"]                                              # conftest.py

    def test_a_phone_is_ranked_by_v1(routing_lab):                                # test_ranking.py
        assert routing_lab.call("ContinueWatchingRanking", topology="mesh", caller="homepage").version == "v1"

To bring up another lab than the default, override the fixture ``routing_lab_options``.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
from testcontainers.compose import DockerCompose

from lab.lab import Lab
from lab.ops.reaper import Guard
from lab.runtime.compose import COMPOSE_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class LabContainers(DockerCompose):
    """A lab of containers, as testcontainers has compose projects: a context manager that brings it up and down.

    What testcontainers offers for those works on it, with units as services: ``get_container("homepage-sidecar")``,
    ``exec_in_container``, ``get_logs``. It begins once one verified call per topology has passed.

    Args:
        options: of :meth:`lab.lab.Lab.up`, e.g. ``spec`` or ``topologies``.

    Attributes:
        lab: the lab itself.

    Raises:
        LabError: it did not come up; nothing is left of it then.
    """

    def __init__(self, **options: Any) -> None:
        self._home = TemporaryDirectory(prefix="routing-lab-")
        self._options = options
        self._guard: Guard | None = None
        self.lab = Lab(f"test-{secrets.token_hex(3)}", home=Path(self._home.name))
        super().__init__(self.lab.folder, compose_file_name=COMPOSE_FILE, profiles=["all"])

    def start(self) -> None:
        """Brings the lab up; should this process be killed, the lab goes as well."""
        self._guard = self._guard or Guard(self.lab.name, Path(self._home.name))
        try:
            self.lab.up(runtime="compose", **self._options)
        except BaseException:
            self._dismiss_guard()
            raise

    def stop(self, down: bool = True) -> None:  # noqa: FBT001, FBT002 (testcontainers' signature)
        """Takes the lab down; with ``down`` false its containers only stop."""
        if not down:
            super().stop(down)
            return
        self.lab.down()
        self._dismiss_guard()
        self._home.cleanup()

    def _dismiss_guard(self) -> None:
        if self._guard:
            self._guard.dismiss()
        self._guard = None


@pytest.fixture(scope="session")
def routing_lab_options() -> Mapping[str, Any]:
    """Options of :meth:`lab.lab.Lab.up`; to be overridden."""
    return {}


@pytest.fixture(scope="session")
def routing_lab(routing_lab_options: Mapping[str, Any]) -> Iterator[Lab]:
    """A lab of containers that is up, one a session, or one a worker of pytest-xdist."""
    with LabContainers(**routing_lab_options) as containers:
        yield containers.lab
