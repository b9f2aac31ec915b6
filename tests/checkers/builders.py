"""Records, route tables and evidence for checkers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any
from zlib import crc32

from lab.checkers import Evidence, Registration, Registrations, RevisionInForce
from lab.checkers.plain import decide, shadow_of
from lab.checkers.plain_models import TITLES, answer_digest, config_digest, context_digest, payload_digest
from lab.checkers.plain_schedule import PlannedRequest, PlannedRun
from lab.client import Answer
from lab.client.outcome import StreamedItems
from lab.history import UNSENT, Record
from lab.history.arrivals import Arrival
from models.apis import APIS
from models.proto.ranking.v1 import ranking_pb2
from models.proto.serving.v1 import serving_pb2
from models.scoring import scores

START_NS = 1_700_000_000_000_000_000
STEP_NS = 1_000_000
RECEIPT_KEY = "5ec7e7"
LATENCY_NS = 400_000
VIA = "2 sidecar (homepage-sidecar)"
REMAINING_MS = 200
HEADERS = "via x-request-id x-routing-key"

_OF_REQUESTS = ("caller", "user_id", "device", "country", "segment", "surface", "tenant", "override")
_OF_RECEIPTS = (*_OF_REQUESTS, "traffic_origin", "request_id", "use_case", "model", "version", "payload_bytes")

_GOOD: dict[str, Any] = {
    "topology": "mesh",
    "caller": "homepage",
    "use_case": "Rows",
    "device": "phone",
    "country": "DE",
    "segment": "",
    "surface": "",
    "tenant": "",
    "traffic_origin": "real",
    "payload_bytes": 402,
    "status": "OK",
    "message": "",
    "source": "model",
    "routing_key": "rows.v1",
    "revision": 1,
    "model": "rows",
    "version": "v1",
    "cluster": "a",
    "replica": "a-0",
    "served_revision": 1,
    "attempts": 1,
    "item_id": "t01",
    "score": 0.0,
    "seen_origin": "real",
}
_OF_ANSWERS = ("source", "routing_key", "model", "version", "cluster", "replica", "item_id", "seen_origin", "received")
_UNANSWERED = {**dict.fromkeys((*_OF_ANSWERS, "seen_tenant"), ""), "score": 0.0}


def two_versions() -> dict[str, Any]:
    """Phones get v1 on cluster a, televisions v2 on cluster b; only homepage may ask."""
    return {
        "use_cases": {
            "Rows": {
                "callers": ["homepage"],
                "api": "ranking.v1",
                "timeout": "250ms",
                "default": "rows@v1",
                "rules": [{"name": "tv", "when": {"device": ["tv"]}, "use": "rows@v2"}],
            }
        },
        "models": {"rows": {"versions": {"v1": {"cluster": "a"}, "v2": {"cluster": "b"}}}},
        "clusters": {"a": {"replicas": 1}, "b": {"replicas": 1}},
    }


def make_record(sequence: int = 0, **changes: Any) -> Record:
    """A good record of the plan's n-th request; its score is that of the version that answered."""
    intended = START_NS + sequence * STEP_NS
    # Constructed once: tests make 700,000 records, and `replace` takes as long as all else here.
    fields: dict[str, Any] = {
        **_GOOD,
        "sequence": sequence,
        "request_id": f"r{sequence}",
        "user_id": f"u{sequence}",
        "intended_ns": intended,
        "sent_ns": intended + 10_000,
        "done_ns": intended + LATENCY_NS,
        "seen_tenant": changes.get("tenant", ""),
        **changes,
    }
    if fields["status"] == UNSENT:
        fields |= {"sent_ns": 0, "done_ns": 0}
    if fields["status"] != "OK":
        return Record(**fields | _UNANSWERED)
    if "received" not in changes:
        fields["received"] = _receipt(fields)
    if "score" not in changes:
        [fields["score"]] = scores(fields["model"], fields["version"], fields["user_id"], [fields["item_id"]])
    return Record(**fields)


def receipt_of(record: Record, **config: Any) -> str:
    """The receipt of a model that received the request as sent, with this config for the version that answered."""
    return _receipt({name: getattr(record, name) for name in _OF_RECEIPTS}, **config)


def _receipt(fields: Mapping[str, Any], **config: Any) -> str:
    model, version = fields["model"], fields["version"]
    return (
        context_digest(RECEIPT_KEY, fields["request_id"], fields["use_case"], fields)
        + (config_digest(RECEIPT_KEY, model, version, config) if config else _without_config(model, version))
        + payload_digest(RECEIPT_KEY, "ranking.v1", fields["payload_bytes"])
    )


@cache
def _without_config(model: str, version: str) -> str:
    return config_digest(RECEIPT_KEY, model, version, {})


def best_first(record: Record) -> list[tuple[str, float]]:
    """The items that the version of a record must give its user."""
    scored = zip(scores(record.model, record.version, record.user_id, TITLES), TITLES, strict=True)
    return [(title, score) for score, title in sorted(scored, reverse=True)]


def items_of(record: Record, items: list[tuple[str, float]], **of_the_last: Any) -> Record:
    """The record of a stream with these items, as the driver makes it; the last may say something else of its model."""
    stream = StreamedItems(APIS["ranking.v1"], 0)
    for number, (title, score) in enumerate(items, 1):
        response = ranking_pb2.RankStreamResponse(title=ranking_pb2.RankedTitle(id=title, score=score))
        by = response.answered_by
        by.model, by.version, by.cluster, by.replica = record.model, record.version, record.cluster, record.replica
        by.revision, by.tenant = record.served_revision, record.seen_tenant
        by.traffic_origin = serving_pb2.TRAFFIC_ORIGIN_REAL
        by.received = bytes.fromhex(record.received)
        for name, value in of_the_last.items() if number == len(items) else ():
            setattr(by, name, value)
        stream.add(Answer(response, record.source, record.routing_key, record.revision, 1, record.request_id))
    kept = stream.with_items(stream.answered())
    return replace(record, streamed=1, items=kept.items, items_digest=kept.items_digest)


def make_table(weights: Mapping[str, int] | None = None, **entry: Any) -> dict[str, Any]:
    """A table of one use case with a split by user, in which televisions take no part, in clusters of equal names."""
    shares = {"rows@v1": 90, "rows@v2": 10} if weights is None else weights
    rules: list[dict[str, Any]] = [
        {"name": "tv", "when": {"device": ["tv"]}, "use": "rows@v3"},
        {"name": "canary", "split": {"unit": "user_id", "weights": dict(shares)}},
    ]
    versions = {version: {"cluster": version} for version in ("v1", "v2", "v3", "v4")}
    use_case = {"callers": ["homepage"], "api": "ranking.v1", "timeout": "1s", "default": "rows@v1", "rules": rules}
    return {
        "use_cases": {"Rows": {**use_case, **entry}},
        "models": {"rows": {"versions": versions}},
        "clusters": {version: {"replicas": 1} for version in versions},
    }


def obey(document: Mapping[str, Any], sequence: int, **changes: Any) -> Record:
    """A record of the plan's n-th request, answered as a table wants unless ``changes`` say otherwise."""
    usual = {**_GOOD, "user_id": f"u{sequence}", "override": ""}
    context = {field: changes.get(field, usual[field]) for field in _OF_REQUESTS}
    context["traffic_origin"] = usual["traffic_origin"]
    want = decide(document, usual["use_case"], context)
    shadow = shadow_of(document, usual["use_case"], context, f"r{sequence}")
    answered: dict[str, Any] = {"status": want.status, "shadow": shadow}
    if want.status == "OK":
        key = f"{want.model}.{want.version}"
        answered |= {"model": want.model, "version": want.version, "cluster": want.cluster, "routing_key": key}
    return make_record(sequence, **{**answered, **changes})


def planned_of(records: Sequence[Record]) -> PlannedRun:
    """The plan that asks exactly what these records have, in their order."""
    names = PlannedRequest._fields[1:]
    requests = [
        PlannedRequest(number * STEP_NS, **{name: getattr(record, name) for name in names})
        for number, record in enumerate(records)
    ]
    return PlannedRun(requests, "constant", 1e9 / STEP_NS, len(records) * STEP_NS)


def values_of(*values: str) -> str:
    """The digests that a model keeps of the values of headers."""
    return "".join(f"{crc32(value.encode()):08x}" for value in values)


def arrivals_of(records: Sequence[Record], via: str = VIA) -> list[Arrival]:
    """What models received, if every answer is as it says: one attempt each, ended when its caller had the answer."""
    is_copy = False
    return [
        Arrival(
            each.request_id,
            each.replica,
            f"{each.model}.{each.version}",
            is_copy,
            each.tenant,
            each.received,
            each.sent_ns,
            each.done_ns,
            "OK",
            via,
            REMAINING_MS,
            HEADERS,
            values_of(via, each.request_id, f"{each.model}.{each.version}"),
        )
        for each in records
        if each.status == "OK" and each.source != "default"
    ]


def copy_arrivals_of(records: Sequence[Record], key: str) -> list[Arrival]:
    """What models received of their copies for this routing key, each answered as its version must."""
    model, _, version = key.partition(".")
    answers = [answer_digest("ranking.v1", model, version, each.user_id) for each in records]
    copies = [replace(each, model=model, version=version, replica=f"{version}-0") for each in records]
    return [
        arrival._replace(is_copy=True, answer=answer)
        for arrival, answer in zip(arrivals_of(copies), answers, strict=True)
    ]


def copies_of(
    by_key: Mapping[str, Iterable[str]] | None, records: Sequence[Record] = ()
) -> dict[str, list[tuple[str, str]]] | None:
    """Copies of requests with these ids by routing key; those of ``records`` have arrived whole."""
    if by_key is None:
        return None
    receipts = {record.request_id: receipt_of(record) for record in records}
    return {key: [(each, receipts.get(each, "")) for each in ids] for key, ids in by_key.items()}


def make_evidence(records: Sequence[Record], *, table: dict[str, Any] | None = None, **changes: Any) -> Evidence:
    """Evidence in which revision 1 was in force all the time; its table is :func:`two_versions` unless given."""
    answered = [(record.cluster, record.replica) for record in records]
    evidence = Evidence(
        records=records,
        revisions=[RevisionInForce(1, two_versions() if table is None else table, from_ns=0)],
        planned=len(records),
        offered_rate=1e9 / STEP_NS,
        receipt_keys={"": RECEIPT_KEY},
        registrations=Registrations([Registration(*each, 0, None) for each in dict.fromkeys(answered)]),
        arrivals=[] if "arrivals" in changes else arrivals_of(records),
    )
    return replace(evidence, **changes)
