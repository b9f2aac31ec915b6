"""Tests of how runs of callers that change their topology are ended."""

from __future__ import annotations

from concurrent.futures import Future

import pytest

from lab.runs.mixture import Stretch
from lab.runtime.cancellation import CancelToken


@pytest.mark.parametrize("first", ["end", "cancel"])
def test_a_run_ends_once_however_many_reasons_there_are(first: str) -> None:
    """A second stop would drop its requests in flight, as when the load is cancelled twice."""
    token, stops = CancelToken(), 0
    stretch = Stretch("gateway", Future(), token)

    def stop() -> None:
        nonlocal stops
        stops += 1

    with token.notifying(stop):
        getattr(stretch, first)()
        stretch.end()
        if first == "end":
            stretch.cancel()
        assert stops == 1
        stretch.cancel()
    assert stops == 2
