from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.identity.authority import Authority
from lab.transport import tracing
from tests.transport.recorder import Recorder


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki", lifetime_s=3600)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Recorder]:
    made = Recorder(getattr(request, "param", 1.0))
    monkeypatch.setattr(tracing, "_spans", made.spans)
    yield made
    made.spans.shutdown()
