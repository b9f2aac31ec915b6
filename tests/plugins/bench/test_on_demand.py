"""The bench of sidecars that fetch clusters on demand."""

from unittest.mock import MagicMock

import pytest

from lab.errors import InputError
from lab.plugins.bench.suites import on_demand


def test_one_size_alone_is_refused() -> None:
    with pytest.raises(InputError, match=r"--clusters: 10 alone shows no growth; write two numbers, e\.g\. 10,1000"):
        on_demand.run(MagicMock(), 3, clusters=["10"])
