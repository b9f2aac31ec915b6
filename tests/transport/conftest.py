from pathlib import Path

import pytest

from lab.identity.authority import Authority


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki", lifetime_s=3600)
