"""Requests, the attempts that models received for them, and the verdict of *policy*, for the tests of this checker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.checkers import Abilities, Verdict
from lab.checkers.kinds import policy
from lab.history.arrivals import Arrival
from tests.checkers.builders import START_NS, STEP_NS, make_evidence, make_record, make_table

if TYPE_CHECKING:
    from lab.history import Record

MS = 1_000_000
CAN = Abilities(reports=("attempts",), budgets_retries=True, budgets_hedges=True)
RETRIES = {"attempts": 3, "on": ["internal"], "at_least": 9}


def arrival(record: Record, after_ms: float = 1, **changes: Any) -> Arrival:
    """An attempt that a replica of the chosen version received and answered in a tenth of a millisecond."""
    at_ns = record.sent_ns + round(after_ms * MS)
    is_copy = False
    plain = Arrival(record.request_id, "v1-a", "rows.v1", is_copy, record.tenant, "", at_ns, at_ns + MS // 10, "OK")
    return plain._replace(**changes)


def asked(number: int = 0, **changes: Any) -> Record:
    """A request that takes half a second, answered by version 1."""
    sent_ns = START_NS + number * STEP_NS
    version = changes.pop("version", "v1")
    by = {"version": version, "cluster": version, "replica": f"{version}-a", "routing_key": f"rows.{version}"}
    return make_record(number, **{"sent_ns": sent_ns, "done_ns": sent_ns + 500 * MS, **by, **changes})


def judge(
    records: Sequence[Record],
    arrivals: Sequence[Arrival] | None,
    use_case: Mapping[str, Any] | None = None,
    **changes: Any,
) -> Verdict:
    table = make_table({"rows@v1": 100}, **(use_case or {}))
    changes = {"abilities": CAN, "arrivals": arrivals, **changes}
    return policy.check(make_evidence(records, table=table, **changes))
