"""Was each cached token cached, and each pick one that the policy allows with what it had seen?"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc

from lab.checkers import Checker, Claim, Outcome, Verdict, Violation
from lab.checkers.evidence import CLOCKS_NS, RECOVERY_NS
from lab.checkers.plain_chat import block_hashes, prompt_of, warm_up_prompt
from lab.errors import LabError
from lab.plugins.pickers.adapters import adapter_objections, misread, times_of
from lab.plugins.pickers.kv_events import strayed
from lab.plugins.pickers.readers import READERS, is_stale, without_stale
from lab.plugins.pickers.replicas import Entry, objections
from lab.plugins.pickers.reservations import Reserved
from lab.transport import open_blocking_channel
from models.proto.control.v1 import picks_pb2, picks_pb2_grpc
from models.tokens.settings import TokenSettings

if TYPE_CHECKING:
    from lab.checkers import Evidence
    from lab.history import Record
    from lab.runs import RunContext

NAME = "picks"
API = "generate.v1"

APART_NS = 500_000_000
"""Time between two picks of a conversation after which the first surely arrives first, also on a busy machine."""

_TIMEOUT_S = 10.0
_AS_IS = {"stale": "use"}  # runs of earlier releases
_GATEWAY = "gateway"
_FULL = "RESOURCE_EXHAUSTED"


def gather(context: RunContext) -> dict[str, Any] | None:
    """Returns the journals of replicas and gateways; None if no model of the lab generates tokens."""
    try:
        table = context.in_force().document or {}
    except LabError:
        return None
    if all(each["api"] != API for each in table.get("use_cases", {}).values()):
        return None
    gateways = [each for each in context.state.plan.units if each.role == _GATEWAY]
    return {
        "settings": asdict(TokenSettings.of(context.state.spec.stub.tokens)),
        "signal": context.state.spec.signal.model_dump(),
        "replicas": {each.name: _read(each.address, each.port.from_other_pods) for each in context.replicas()},
        "gateways": {each.name: _read(each.address, each.port.from_other_pods) for each in gateways},
    }


def _read(address: str, seen_as: str) -> dict[str, Any]:
    """Reads one journal: where others see the unit, entries, since when, how many were dropped, why there are none."""
    lines, found = b"", {"address": seen_as, "entries": [], "dropped": 0, "began_ns": 0, "error": ""}
    with open_blocking_channel(address) as channel:
        read = picks_pb2_grpc.PickJournalStub(channel).Read
        try:
            for part in read(picks_pb2.ReadPicksRequest(), timeout=_TIMEOUT_S):
                lines += part.lines
                found |= {"dropped": part.dropped, "began_ns": part.began_ns}
        except grpc.RpcError as error:
            return {**found, "error": error.details() or "gave no answer"}
    return {**found, "entries": [json.loads(line) for line in lines.splitlines()]}


class _Run:
    """The evidence, as the functions below look at it."""

    def __init__(self, evidence: Evidence, gathered: Mapping[str, Any]) -> None:
        self.evidence = evidence
        self.settings: Mapping[str, Any] = gathered["settings"]
        self.signal: Mapping[str, Any] = gathered.get("signal", _AS_IS)
        self.replicas: Mapping[str, Mapping[str, Any]] = gathered["replicas"]
        self.gateways: Mapping[str, Mapping[str, Any]] = gathered["gateways"]
        self.records: Mapping[str, Record] = {each.request_id: each for each in evidence.records}
        self.picks = [each for its in self.gateways.values() for each in its["entries"]]
        self.of_run = [each for each in self.picks if each["asked"]["request_id"] in self.records]
        self.name_of = {**self._gone(), **{each["address"]: name for name, each in self.replicas.items()}}
        self._prompts: dict[str, tuple[int, str, str, str] | None] = {}
        self._sent_ns = min((each.sent_ns for each in evidence.records if each.sent_ns), default=0)

    def covers(self, journal: Mapping[str, Any]) -> bool:
        """Whether a journal has all of the run."""
        return _whole(journal) and bool(journal["began_ns"] <= self._sent_ns)

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


class Found(NamedTuple):
    """What is wrong with a request, or with what was picked for it."""

    request_id: str
    message: str


def check(evidence: Evidence) -> Verdict | None:
    """Replays the journals of replicas, and the picks of gateways, each with separate code.

    *Hits*: a second cache, from the start of the replica on, finds as many tokens of each prompt as the replica says,
    in its journal and in the answer; its KV events say what that cache does.
    Tokens and hashes of a prompt are those of the plan, with the tenant of its request. *Queues*: first in first out,
    not more at once than there is room for, and nothing refused that had room; a refusal reaches its caller with its
    reason. *Adapters*: no more than there is room for, the one that was unused for longest goes first, and none is used
    before it is loaded; pickers saw those that were there. *Picks*: the policy's second reader allows each, with what
    the picker had seen; it had seen all replicas that were registered, after 2 s and unless something was broken, and
    none that was gone, and counted right what was in flight and reserved. Each attempt came to the replica that was
    picked for it, and a conversation's requests in their order.

    Returns:
        None if no model generates tokens. Unknown if nothing was asked of any, if a journal is not whole, or if a
        picker has no second reader.
    """
    gathered = evidence.gathered.get(NAME)
    if gathered is None:
        return None
    run = _Run(evidence, gathered)
    found = [
        each
        for part in (
            _replicas,
            _kv_events,
            _adapters,
            _prompts,
            _claims,
            _refusals,
            _policies,
            _sights,
            _served,
            _order,
        )
        for each in part(run)
    ]
    wrong = tuple(
        Violation(NAME, record.sequence if record is not None else 0, each.request_id, each.message)
        for each in found
        for record in [run.records.get(each.request_id)]
    )
    summary = _summary(run)
    if wrong:
        return Verdict(NAME, Outcome.INVALID, f"{len(wrong)} are wrong; {summary}", wrong)
    doubts = list(_doubts(run))
    if doubts:
        return Verdict(NAME, Outcome.UNKNOWN, f"{'; '.join(doubts)}; {summary}")
    return Verdict(NAME, Outcome.VALID, summary)


def _whole(journal: Mapping[str, Any]) -> bool:
    return not journal["error"] and not journal["dropped"]


def _replicas(run: _Run) -> Iterator[Found]:
    """Yields what the journals of replicas show of their blocks and queues."""
    for name, journal in run.replicas.items():
        if _whole(journal):
            for replay in (objections, adapter_objections):
                yield from (Found(*each) for each in replay(name, journal["entries"], run.settings))


def _kv_events(run: _Run) -> Iterator[Found]:
    """Yields the first pick for which KV events said something else than the cache of their replica did."""
    for address, replica in run.name_of.items():
        journal = run.replicas.get(replica)
        if journal is None or not run.covers(journal):
            continue
        for gateway in run.gateways.values():
            picks = [each for each in gateway["entries"] if each.get("kv_events")] if not gateway["dropped"] else []
            for request_id in strayed(picks, address, journal["entries"], run.settings["blocks"]):
                yield Found(request_id, f"{replica} published KV events that are not what its cache did")


def _adapters(run: _Run) -> Iterator[Found]:
    """Yields picks that had seen adapters at a replica which were not there, or not seen one that was."""
    times = {its["address"]: times_of(its["entries"]) for its in run.replicas.values() if run.covers(its)}
    for pick in run.of_run:
        for each in pick["seen"]:
            if each.get("max_loras") and each["address"] in times:
                read_ns = pick["at_ns"] - pick["took_ns"] - int(each["age_ms"] * 1_000_000)
                bounds = read_ns - CLOCKS_NS, pick["at_ns"] + CLOCKS_NS
                if wrong := misread(each["loras"], times[each["address"]], *bounds):
                    replica = run.name_of.get(each["address"], each["address"])
                    yield Found(pick["asked"]["request_id"], f"the picker saw {wrong}, at {replica}")


_OF_REPLICAS = (_replicas, _kv_events, _adapters)


def _prompts(run: _Run) -> Iterator[Found]:
    """Yields prompts that are not those of the plan, by their hashes, at replicas and at pickers."""
    seen: list[tuple[str, Entry, int]] = [
        (name, each, each["prompt"]) for name, its in run.replicas.items() for each in its["entries"] if each["began"]
    ]
    seen += [("the picker", each["asked"], each["asked"]["tokens"]) for each in run.of_run if each["policy"] in READERS]
    for who, entry, tokens in seen:
        record = run.records.get(entry["request_id"])
        wanted = run.asked(record) if record is not None else None
        if wanted is None or record is None:
            continue
        found = (tokens, entry["hashes"], entry["lora"], entry.get("session", wanted[3]))
        if found != wanted:
            names = ("number of tokens", "blocks", "adapter", "conversation")
            parts = ", ".join(name for name, its, right in zip(names, found, wanted, strict=True) if its != right)
            yield Found(record.request_id, f"{who} saw another {parts} than was asked, for tenant {record.tenant!r}")


def _claims(run: _Run) -> Iterator[Found]:
    """Yields answers that claim something else than their replica's journal has, or nothing."""
    journals: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for name, its in run.replicas.items():
        for each in its["entries"]:
            if each["began"]:
                queue_ms = (each["began_ns"] - each["arrived_ns"]) / 1_000_000
                journals[name, each["request_id"]].add(f"{each['prompt']} {each['cached']} {queue_ms:.3f}")
    for name, record in run.records.items():
        kept = journals.get((record.replica, name))
        if kept and record.usage not in kept and (record.usage or record.status == "OK"):
            claims = f"the answer claims {record.usage or 'nothing'!r} of tokens, cached tokens and ms in the queue"
            yield Found(name, f"{claims}, and the journal of {record.replica} has {' or '.join(sorted(kept))!r}")


def _refusals(run: _Run) -> Iterator[Found]:
    """Yields refusals by a full queue that come to their caller without the reason, or have none."""
    shed = {
        (name, each["request_id"]): each["shed"]
        for name, its in run.replicas.items()
        for each in its["entries"]
        if each["shed"]
    }
    for name, record in run.records.items():
        if record.status != _FULL:
            continue
        last = max(run.evidence.attempts.get(name, ()), key=lambda each: each.arrived_ns, default=None)
        if last is None or last.status != record.status or last.replica not in run.replicas:
            continue
        reason = shed.get((last.replica, name), "")
        if not reason and run.covers(run.replicas[last.replica]):
            yield Found(name, f"{last.replica} refused it, and its journal does not say that its queue was full")
        elif reason and reason not in record.message:
            yield Found(name, f"{last.replica} refused it as it {reason}, and its caller does not learn that")


def explains(evidence: Evidence) -> set[str]:
    """Returns the requests that a replica refused last, whose queue was full by the replay of its whole journal."""
    if not (gathered := evidence.gathered.get(NAME)):
        return set()
    run, found = _Run(evidence, gathered), set()
    full = {
        name: {each["request_id"] for each in its["entries"] if each["shed"]}
        - {each.request_id for each in objections(name, its["entries"], run.settings)}
        for name, its in run.replicas.items()
        if _whole(its)
    }
    for name, record in run.records.items():
        last = max(evidence.attempts.get(name, ()), key=lambda each: each.arrived_ns, default=None)
        if last is not None and last.status == record.status == _FULL and name in full.get(last.replica, ()):
            found.add(name)
    return found


def _policies(run: _Run) -> Iterator[Found]:
    """Yields picks that the policy does not allow by its second reader."""
    for journal in run.gateways.values():
        groups: defaultdict[int, list[Entry]] = defaultdict(list)
        for each in journal["entries"]:
            groups[each["group"]].append(each)
        for picks in groups.values():
            if picks[0]["policy"] in READERS and not journal["dropped"]:
                yield from _follow(picks, run.signal)


def _follow(picks: Sequence[Entry], signal: Mapping[str, Any]) -> Iterator[Found]:
    reader, in_flight, reserved = READERS[picks[0]["policy"]].make(), Counter[str](), Reserved(signal)
    events = [(each["number"], True, each) for each in picks]
    events += [(each["ended"], False, each) for each in picks if each["ended"]]
    for _, begins, pick in sorted(events, key=lambda each: each[0]):
        asked, picked, name = pick["asked"], pick["picked"], pick["asked"]["request_id"]
        if not begins:
            in_flight[picked] -= 1
            reader.over(asked, picked)
            reserved.over(pick)
            continue
        if wrong := reserved.objection(pick):
            yield Found(name, f"the picker {wrong}")
        for each in pick["seen"]:
            if each["in_flight"] != in_flight[each["address"]]:
                counted = f"{each['in_flight']} in flight to {each['address']}, and {in_flight[each['address']]} were"
                yield Found(name, f"the picker counted {counted}")
        if pick.get("kv_events"):
            reader.heard(pick["kv_events"])
        allowed = reader.allowed(asked, without_stale(pick["seen"], signal))
        if picked not in allowed:
            might = " or ".join(sorted(allowed))
            yield Found(name, f"{pick['policy']} picked {picked}, and with what it had seen must pick {might}")
        in_flight[picked] += 1
        reader.took(asked, picked)
        reserved.took(pick)


def _sights(run: _Run) -> Iterator[Found]:
    """Yields picks among too few replicas, or of one that was gone."""
    registrations = run.evidence.registrations
    if registrations is None or registrations.gap_ns is not None:
        return
    lacking_since_ns: dict[str, int] = {}
    broken = bool(run.evidence.fault_windows or run.evidence.faults_elsewhere)
    for pick in sorted(run.of_run, key=lambda each: each["at_ns"]):
        name, at_ns = pick["asked"]["request_id"], pick["at_ns"]
        addresses = {each["address"] for each in pick["seen"]}
        replica = run.name_of.get(pick["picked"], pick["picked"])
        own = [each for each in registrations.replicas if each.replica == replica]
        if own and all(each.until_ns is not None and each.until_ns + RECOVERY_NS < at_ns for each in own):
            yield Found(name, f"{pick['policy']} picked {replica}, which was no longer registered")
        if broken or pick["tried"] or not own:
            continue
        there = run.evidence.settled(own[0].cluster, at_ns, at_ns)
        missing = {each for each in there if run.replicas.get(each, {}).get("address", pick["picked"]) not in addresses}
        lacking_since_ns = {each: lacking_since_ns.get(each, at_ns) for each in missing}
        # A connection that breaks is there again by then.
        if gone := sorted(each for each, since_ns in lacking_since_ns.items() if at_ns - since_ns >= RECOVERY_NS):
            yield Found(name, f"{pick['policy']} did not see {', '.join(gone)}")


def _served(run: _Run) -> Iterator[Found]:
    """Yields attempts that did not come to the replica that was picked for them."""
    policies = {each["policy"] for each in run.of_run}
    if not policies:
        return
    whole = all(map(run.covers, run.gateways.values()))
    picked: defaultdict[str, Counter[str]] = defaultdict(Counter)
    answered: defaultdict[str, set[str]] = defaultdict(set)
    for pick in run.of_run:
        name, replica = pick["asked"]["request_id"], run.name_of.get(pick["picked"], pick["picked"])
        picked[name][replica] += 1
        if pick["status"] == "OK":
            answered[name].add(replica)
    for name, record in run.records.items():
        came = Counter(each.replica for each in run.evidence.attempts.get(name, ()))
        if unpicked := came - picked[name]:
            if picked[name] or whole:
                served, wanted = ", ".join(unpicked), ", ".join(picked[name]) or "nothing"
                yield Found(name, f"{served} served it, and {wanted} was picked")
        elif missing := answered[name] - came.keys():
            hidden = any(each.replica in missing and each.hides(record) for each in run.evidence.arrival_gaps)
            if not hidden and run.evidence.arrivals is not None:
                yield Found(
                    name, f"{', '.join(missing)} was picked and is said to have answered, and never received it"
                )


def _order(run: _Run) -> Iterator[Found]:
    """Yields requests of a conversation that overtook an earlier one on the way to their replica."""
    places = {
        (run.replicas[name]["address"], each["request_id"]): each["arrived"]
        for name in run.replicas
        for each in run.replicas[name]["entries"]
    }
    latest: dict[tuple[str, str], Entry] = {}
    for pick in sorted(run.of_run, key=lambda each: each["at_ns"]):
        if not pick["asked"]["session"]:
            continue
        key = pick["asked"]["session"], pick["picked"]
        before, latest[key] = latest.get(key), pick
        if before is None or pick["at_ns"] - before["at_ns"] < APART_NS + CLOCKS_NS:
            continue
        first, second = (places.get((key[1], each["asked"]["request_id"])) for each in (before, pick))
        if first is not None and second is not None and second < first:
            name = pick["asked"]["request_id"]
            yield Found(name, f"{run.name_of.get(key[1])} received it before an earlier one of its conversation")


def _doubts(run: _Run) -> Iterator[str]:
    """Yields why not all is known."""
    for name, journal in {**run.replicas, **run.gateways}.items():
        if journal["error"]:
            yield f"{name} could not be asked: {journal['error']}"
        elif journal["dropped"]:
            yield f"{name} has dropped the first {journal['dropped']} entries of its journal; start the lab again"
        elif not run.covers(journal) and (name in run.gateways or _was_there(run, name, journal["began_ns"])):
            yield f"{name} was started again during the run, and has lost its journal"
    if gone := sorted({*run.name_of.values()} - run.replicas.keys()):
        yield f"{', '.join(gone)} is gone, with its journal"
    if unread := sorted({each["policy"] for each in run.of_run} - READERS.keys()):
        yield f"picker {', '.join(unread)} has no second reader, so nobody can say which picks it allows"
    if not any(each["request_id"] in run.records for its in run.replicas.values() for each in its["entries"]):
        yield "no request of the run came to a model that generates tokens"


def _was_there(run: _Run, replica: str, before_ns: int) -> bool:
    registrations = run.evidence.registrations
    return registrations is None or any(
        each.replica == replica and each.from_ns < before_ns for each in registrations.replicas
    )


def _summary(run: _Run) -> str:
    mine = [
        each
        for its in run.replicas.values()
        for each in its["entries"]
        if each["request_id"] in run.records and each["began"]
    ]
    tokens, cached = sum(each["prompt"] for each in mine), sum(each["cached"] for each in mine)
    words = f"{len(mine)} prompts, {100 * cached / max(tokens, 1):.1f} % of their tokens cached"
    if run.of_run:
        policies = ", ".join(sorted({each["policy"] for each in run.of_run}))
        ages = [each["age_ms"] for pick in run.of_run for each in pick["seen"]]
        words += f"; {len(run.of_run)} picks by {policies}, with signals up to {max(ages):.0f} ms old"
        if stale := sum(any(is_stale(each, run.signal) for each in pick["seen"]) for pick in run.of_run):
            words += f", {stale} with a stale one"
        if further := sum(bool(each["tried"]) for each in run.of_run):
            words += f", {further} after another attempt"
    return words


def _absent(evidence: Evidence) -> bool:
    return evidence.gathered.get(NAME) is None


CHECKER = Checker(
    name=NAME,
    question="Was each cached token cached, and each pick one that the picker's policy allows with what it had seen?",
    subject="models that generate tokens",
    blind="whether what a signal says of load, but for adapters, was true when it was read",
    claim=Claim.CORRECTNESS,
    gather=gather,
    absent=_absent,
    explains=explains,
    check=check,
)
