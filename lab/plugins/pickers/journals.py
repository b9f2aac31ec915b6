"""The journals of replicas and gateways: read from a lab, and as the checks look at them."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import grpc

from lab.checkers.plain_chat import block_hashes, prompt_of, warm_up_prompt
from lab.errors import LabError
from lab.plugins.endpoint_picker.units import CLOSED, OPEN, PICKER, WITH_BODIES
from lab.plugins.mesh_picker.units import SIGNALS
from lab.transport import open_blocking_channel
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc
from models.tokens.settings import TokenSettings

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.history import Record
    from lab.runs import RunContext

API = "generate.v1"

_TIMEOUT_S = 10.0
_TOKEN_BYTES, _MOST_HELD, _ENVELOPE_BYTES = 4, 1 << 20, 4_096
_AS_IS = {"stale": "use"}  # runs of earlier releases
_PICK = ("gateway", PICKER, SIGNALS)
"""Roles of units that pick a replica for each request."""


def gather(context: RunContext) -> dict[str, Any] | None:
    """Returns the journals of replicas and gateways; None if no model of the lab generates tokens."""
    try:
        table = context.in_force().document or {}
    except LabError:
        return None
    if all(each["api"] != API for each in table.get("use_cases", {}).values()):
        return None
    gateways = [each for each in context.state.plan.units if each.role in _PICK]
    return {
        "settings": asdict(TokenSettings.of(context.state.spec.stub.tokens)),
        "signal": context.state.spec.signal.model_dump(),
        "picker": context.state.spec.picker,
        "has_links": context.state.spec.links is not None,
        "replicas": {each.name: _read(each.address, each.port.from_other_pods) for each in context.replicas()},
        "gateways": {
            each.name: {**_read(each.address, each.port.from_other_pods), "by_client": each.role == SIGNALS}
            for each in gateways
        },
    }


def _read(address: str, seen_as: str) -> dict[str, Any]:
    """Reads one journal: where others see the unit, entries, since when, how many were dropped, why there are none.

    A gateway's ``waits`` are of requests that waited for a replica with room; ``unpicked``, why a caller that picks by
    itself sent a request without a pick, by request.
    """
    lines, found = b"", {"address": seen_as, "entries": [], "waits": [], "dropped": 0, "began_ns": 0, "error": ""}
    found["unpicked"] = {}
    with open_blocking_channel(address) as channel:
        read = picks_pb2_grpc.PickJournalStub(channel).Read
        try:
            for part in read(picks_pb2.ReadPicksRequest(), timeout=_TIMEOUT_S):
                lines += part.lines
                found |= {"dropped": part.dropped, "began_ns": part.began_ns}
        except grpc.RpcError as error:
            return {**found, "error": error.details() or "gave no answer"}
    entries = [json.loads(line) for line in lines.splitlines()]
    unpicked = {each["unpicked"]: each["why"] for each in entries if "unpicked" in each}
    waits = [each for each in entries if "outcome" in each]
    picks = [each for each in entries if "outcome" not in each and "unpicked" not in each]
    return {**found, "entries": picks, "waits": waits, "unpicked": unpicked}


def is_whole(journal: Mapping[str, Any]) -> bool:
    """Whether a journal could be read, from its beginning on."""
    return not journal["error"] and not journal["dropped"]


class Run:
    """A run's evidence, as the checks look at it.

    Args:
        evidence: of the run.
        gathered: what :func:`gather` returned.
    """

    def __init__(self, evidence: Evidence, gathered: Mapping[str, Any]) -> None:
        self.evidence = evidence
        self.settings: Mapping[str, Any] = gathered["settings"]
        self.signal: Mapping[str, Any] = gathered.get("signal", _AS_IS)
        self.picker: str = gathered.get("picker", "")
        self.has_links: bool = gathered.get("has_links", False)
        self.replicas: Mapping[str, Mapping[str, Any]] = gathered["replicas"]
        self.gateways: Mapping[str, Mapping[str, Any]] = gathered["gateways"]
        self.records: Mapping[str, Record] = {each.request_id: each for each in evidence.records}
        self.picks = [each for its in self.gateways.values() for each in its["entries"]]
        self.of_run = [each for each in self.picks if each["asked"]["request_id"] in self.records]
        waits = (each for its in self.gateways.values() for each in its.get("waits", ()))
        self.unpicked: dict[str, str] = {
            name: why for its in self.gateways.values() for name, why in its.get("unpicked", {}).items()
        }
        self.waits_of_run = [each for each in waits if each["asked"]["request_id"] in self.records]
        self.name_of = {**self._gone(), **{each["address"]: name for name, each in self.replicas.items()}}
        self.work_at: dict[str, defaultdict[str, list[Mapping[str, Any]]]] = {}
        for its in self.replicas.values():
            by_id = self.work_at[its["address"]] = defaultdict(list)
            for each in its["entries"]:
                by_id[each["request_id"]].append(each)
        self._prompts: dict[str, tuple[int, str, str, str] | None] = {}
        self._sent_ns = min((each.sent_ns for each in evidence.records if each.sent_ns), default=0)

    @property
    def sheds(self) -> list[Mapping[str, Any]]:
        """The requests that a gateway shed, each as a pick at that time: of the first replica that was seen."""
        shed = [each for each in self.waits_of_run if each["outcome"] not in {"", "left"} and each["saw"]]
        return [
            {**each, "at_ns": each["ended_ns"], "seen": each["saw"], "picked": each["saw"][0]["address"], "tried": []}
            for each in shed
        ]

    def tables_for(self, record: Record) -> list[Mapping[str, Any]]:
        """Route tables that were in force for a request's caller while it was in flight, and have its use case."""
        tables = (each.revision.document for each in self.evidence.timeline.during(record))
        return [each for each in tables if record.use_case in each["use_cases"]]

    def covers(self, journal: Mapping[str, Any]) -> bool:
        """Whether a journal has all of the run."""
        return is_whole(journal) and bool(journal["began_ns"] <= self._sent_ns)

    def _gone(self) -> dict[str, str]:
        """Returns the names of replicas that are gone, by address: those at which most picks of it arrived."""
        known = {each["address"] for each in self.replicas.values()}
        found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for pick in self.of_run:
            if pick["picked"] not in known:
                came = {each.replica for each in self.evidence.attempts.get(pick["asked"]["request_id"], ())}
                found[pick["picked"]].update(came - self.replicas.keys())
        return {address: names.most_common(1)[0][0] for address, names in found.items() if names}

    def asked(self, record: Record) -> tuple[int, str, str, str] | None:
        """Returns tokens, hashes, adapter and conversation of a request by the plan; None if it does not say."""
        if record.request_id not in self._prompts:
            self._prompts[record.request_id] = self._asked(record)
        return self._prompts[record.request_id]

    def picks_without(self, tokens: int) -> bool:
        """Whether a picker on the run's path may not have seen a prompt of this length."""
        between = {*self.evidence.abilities.between}
        by_headers, by_bodies = between & {OPEN, CLOSED}, WITH_BODIES in between
        return bool(by_headers) or (by_bodies and _TOKEN_BYTES * tokens > _MOST_HELD - _ENVELOPE_BYTES)

    def _asked(self, record: Record) -> tuple[int, str, str, str] | None:
        plan = self.evidence.plan_document
        prompt, session, lora = b"", "", ""
        if planned := prompt_of(plan, record.sequence):
            prompt, session, lora = planned.prompt, planned.session, planned.lora
        elif plan["engine"]["as_drawn"] and plan["arrivals"]["kind"] != "trace":
            prompt = warm_up_prompt(plan["payload_bytes"])
        if not prompt:
            return None
        return len(prompt) // 4, "".join(block_hashes(prompt, record.tenant, lora)), lora, session
