"""A fake of Kubernetes, without containers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kubernetes_api import ASSETS
from tests.kubernetes_server import FakeServer, fake_cluster
from tests.runtime.conftest import engine, image_name

__all__ = ["engine", "image_name"]  # fixtures

collect_ignore = [] if os.environ.get(ASSETS) else ["test_api_server.py"]


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    """A fake without containers, which KUBECONFIG names."""
    with fake_cluster() as server:
        monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(tmp_path)))
        yield server
