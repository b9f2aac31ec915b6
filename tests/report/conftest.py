import pytest

from lab.checkers import coverage


@pytest.fixture(autouse=True)
def _few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each report judges its runs again; how many draws that takes is a matter of tests/checkers/test_coverage.py."""
    monkeypatch.setattr(coverage, "DRAWN", 400)
