"""What a bench of pages asks for, and which answers void a trial."""

from __future__ import annotations

import tomllib

import pytest

from lab.errors import UnitError
from lab.page_call_tree import callers_in, calls_of
from lab.plugins.bench.harness.page_client import _leaves, _require_right
from lab.plugins.bench.suites import pages
from lab.spec import LabSpec
from models.proto.caller.v1 import caller_pb2
from models.proto.serving.v1 import serving_pb2


def test_each_cell_asks_a_caller_whose_page_has_its_calls_and_depth() -> None:
    spec = LabSpec.model_validate({"topologies": ["mesh"], **tomllib.loads(pages._callers())})

    for cell in pages._cells(["mesh", "gateway"]):
        calls = calls_of(spec.pages, cell.caller)
        assert len(calls) == cell.calls, cell
        assert len(callers_in(spec.pages, cell.caller)) == cell.depth, cell


def test_an_answer_by_another_version_or_none_voids_the_trial() -> None:
    right = caller_pb2.CallResult(answered_by=serving_pb2.AnsweredBy(model="up-next", version="v1"))
    failed = caller_pb2.CallResult(use_case="UpNext", error="UNAVAILABLE: gone")

    _require_right(right, "up-next")
    _require_right(failed, "up-next", fails=True)
    with pytest.raises(UnitError, match="UpNext: UNAVAILABLE: gone"):
        _require_right(failed, "up-next")
    with pytest.raises(UnitError, match="answered by up-next@v1"):
        _require_right(right, "flaky", fails=True)


def test_a_page_is_counted_down_to_its_innermost_calls() -> None:
    inner = caller_pb2.Page(sections=[caller_pb2.CallResult(use_case="a"), caller_pb2.CallResult(use_case="b")])
    page = caller_pb2.Page(sections=[caller_pb2.CallResult(use_case="c"), caller_pb2.CallResult(page=inner)])

    assert [each.use_case for each in _leaves(page)] == ["c", "a", "b"]
