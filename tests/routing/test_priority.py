"""A use case's priority, by which requests wait for a replica."""

from __future__ import annotations

import re

import pytest

from lab.errors import RouteTableError
from lab.routing.compiled import Router
from tests.routing.test_slo import read


@pytest.mark.parametrize(("line", "right"), [("priority: 10", 10), ("priority: -100", -100), ("", 0)])
def test_a_use_case_has_its_priority(line: str, right: int) -> None:
    assert Router.of_document(read(line).document).use_cases["Chat"].priority == right


@pytest.mark.parametrize("value", ["101", "-101", "1.5", "true"])
def test_another_priority_is_refused(value: str) -> None:
    message = f"{value} is not a priority; write a whole number from -100 to 100"
    with pytest.raises(RouteTableError, match=re.escape(message)) as refused:
        read(f"priority: {value}")
    assert refused.value.field == "use_cases.Chat.priority"
