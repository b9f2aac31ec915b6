"""Requests come to models with the headers of their own path, and with their own values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from lab.checkers import Abilities
from lab.checkers.kinds import headers
from lab.history.arrivals import NOT_RECORDED
from tests.checkers.builders import HEADERS, arrivals_of, make_evidence, make_record, values_of

if TYPE_CHECKING:
    from lab.checkers import Verdict

CAN = Abilities(headers=(*HEADERS.split(), "x-tenant", "x-shadow"))
RECORD = make_record(0, tenant="kids")


def judge(names: str, *values: str, is_copy: bool = False, **changes: Any) -> Verdict | None:
    """The verdict on one request whose headers have these names, in their order, and values."""
    [arrival] = arrivals_of([RECORD])
    arrived = arrival._replace(headers=names, values=values_of(*values), is_copy=is_copy)
    return headers.check(make_evidence([RECORD], **{"arrivals": [arrived], "abilities": CAN, **changes}))


def said(verdict: Verdict | None) -> tuple[str, list[str]]:
    return (verdict.outcome, [each.message for each in verdict.violations]) if verdict else ("nothing", [])


def test_its_own_headers_are_right() -> None:
    own = judge("via x-request-id x-routing-key x-tenant", "2 sidecar", "r0", "rows.v1", "kids")
    assert said(own) == ("valid", [])
    assert said(judge("x-request-id x-shadow", "r0", "copy", is_copy=True)) == ("valid", [])


@pytest.mark.parametrize(
    ("names", "values", "message"),
    [
        ("x-request-id x-user", ("r0", "u7"), "with a header 'x-user', which nothing on its path adds"),
        ("x-request-id", ("r1",), "with another 'x-request-id' than its own 'r0'"),
        ("x-tenant", ("%",), "with another 'x-tenant' than its own 'kids'"),
        ("x-routing-key x-routing-key", ("rows.v1", "rows.v1"), "with 2 headers 'x-routing-key'"),
    ],
)
def test_what_came_of_another_request_is_a_violation(names: str, values: tuple[str, ...], message: str) -> None:
    found = (f"request #0 (r0) came to a-0 {message}", f"a copy of request #0 (r0) came to a-0 {message}")
    assert said(judge(names, *values)) == ("invalid", [found[0]])
    assert said(judge(names, *values, is_copy=True)) == ("invalid", [found[1]])


def test_requests_of_others_are_not_judged() -> None:
    [arrival] = arrivals_of([RECORD])
    other = arrival._replace(request_id="of another run", headers="x-user", values=values_of("u7"))
    assert said(judge("", arrivals=[arrival, other]))[0] == "valid"


def test_what_is_not_recorded_is_no_pass() -> None:
    assert judge(NOT_RECORDED) is None
    assert judge("x-user", "u7", abilities=Abilities()) is None
    assert said(judge("", arrivals=None))[0] == "unknown"
    [arrival] = arrivals_of([RECORD])
    assert said(judge("", arrivals=[arrival, arrival._replace(headers=NOT_RECORDED)]))[0] == "unknown"
