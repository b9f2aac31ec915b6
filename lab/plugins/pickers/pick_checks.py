"""What gateways picked: against the policy's second reader, the replicas that were there, and where requests came."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lab.checkers.evidence import CLOCKS_NS, RECOVERY_NS
from lab.checkers.plain_policy import seconds_of
from lab.plugins.pickers.readers import READERS, without_stale
from lab.plugins.pickers.replicas import Entry, Objection
from lab.plugins.pickers.reservations import Reserved

if TYPE_CHECKING:
    from lab.plugins.pickers.journals import Run
    from lab.plugins.pickers.readers import Reader

APART_NS = 500_000_000
"""Time between two picks of a conversation after which the first surely arrives first, also on a busy machine."""


def follow(run: Run) -> Iterator[Objection]:
    """Yields picks and waits that the policy does not allow by its second reader."""
    for journal in run.gateways.values():
        groups: defaultdict[int, list[Entry]] = defaultdict(list)
        for each in (*journal["entries"], *journal.get("waits", ())):
            groups[each["group"]].append(each)
        for entries in groups.values():
            if entries[0]["policy"] in READERS and not journal["dropped"]:
                yield from _follow(entries, run.signal)


def _follow(entries: Sequence[Entry], signal: Mapping[str, Any]) -> Iterator[Objection]:
    reader, in_flight, reserved = READERS[entries[0]["policy"]].make(), Counter[str](), Reserved(signal)
    events = [(each["number"], True, each) for each in entries]
    events += [(each["ended"], False, each) for each in entries if each["ended"] and each.get("outcome") != "picked"]
    for _, begins, entry in sorted(events, key=lambda each: each[0]):
        asked, picked, name = entry["asked"], entry.get("picked", ""), entry["asked"]["request_id"]
        sight = entry["seen"] if begins else entry.get("saw", ())
        for each in sight:
            if each["in_flight"] != in_flight[each["address"]]:
                counted = f"{each['in_flight']} in flight to {each['address']}, and {in_flight[each['address']]} were"
                yield Objection(name, f"the picker counted {counted}")
        if not picked:
            messages = (reader.waits if begins else reader.ends)(entry, without_stale(sight, signal))
            yield from (Objection(name, f"{entry['policy']}: {each}") for each in messages)
            continue
        if not begins:
            in_flight[picked] -= 1
            reader.over(asked, picked)
            reserved.over(entry)
            continue
        if wrong := reserved.objection(entry):
            yield Objection(name, f"the picker {wrong}")
        if entry.get("kv_events"):
            reader.heard(entry["kv_events"])
        yield from (Objection(name, each) for each in _wrong(reader, entry, without_stale(sight, signal)))
        in_flight[picked] += 1
        if prefiller := entry.get("prefiller"):
            reader.prefills(asked, prefiller)
        reader.took(asked, picked)
        reserved.took(entry)


def _wrong(reader: Reader, pick: Entry, offered: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yields what the policy does not allow of a pick, of these replicas, and of where it prefills."""
    policy, asked, picked, prefiller = pick["policy"], pick["asked"], pick["picked"], pick.get("prefiller", "")
    yield from (f"{policy}: {each}" for each in reader.sends(pick, offered))
    allowed, prefillers = reader.allowed(asked, offered), reader.prefillers(asked, offered, picked)
    if picked not in allowed:
        yield f"{policy} picked {picked}, and with what it had seen must pick {' or '.join(sorted(allowed))}"
    if prefiller not in prefillers:
        might = " or ".join(each or picked for each in sorted(prefillers))
        yield f"{policy} had {prefiller or picked} prefill it, and must have {might} do so"


def _objectives(run: Run) -> Iterator[Objection]:
    """Yields picks by another SLO than the use case had in a revision that was in force for the caller."""
    for pick in run.of_run:
        asked = pick["asked"]
        if not asked["hashes"]:
            continue
        record = run.records[asked["request_id"]]
        name = record.use_case
        right = {_slo(each["use_cases"][name].get("slo", {})) for each in run.tables_for(record)}
        used = asked.get("slo_first_ms", 0.0), asked.get("slo_next_ms", 0.0)
        if used not in right:
            yield Objection(record.request_id, f"the picker went by an SLO of {used} ms, which {name} did not have")


def _slo(slo: Mapping[str, str]) -> tuple[float, float]:
    first_ms, next_ms = (1_000 * seconds_of(slo.get(each, "0s")) for each in ("first_token", "next_token"))
    return first_ms, next_ms


def _sights(run: Run) -> Iterator[Objection]:
    """Yields picks among too few replicas, or of one that was gone."""
    registrations = run.evidence.registrations
    if registrations is None or registrations.gap_ns is not None:
        return
    lacking_since_ns: dict[str, int] = {}
    broken = is_broken(run)
    for pick in sorted((*run.of_run, *run.sheds), key=lambda each: each["at_ns"]):
        name, at_ns = pick["asked"]["request_id"], pick["at_ns"]
        addresses = {each["address"] for each in pick["seen"]}
        replica = run.name_of.get(pick["picked"], pick["picked"])
        own = [each for each in registrations.replicas if each.replica == replica]
        if own and all(each.until_ns is not None and each.until_ns + RECOVERY_NS < at_ns for each in own):
            yield Objection(name, f"{pick['policy']} picked {replica}, which was no longer registered")
        if broken or pick["tried"] or not own:
            continue
        there = run.evidence.settled(own[0].cluster, at_ns, at_ns)
        missing = {each for each in there if run.replicas.get(each, {}).get("address", pick["picked"]) not in addresses}
        lacking_since_ns = {each: lacking_since_ns.get(each, at_ns) for each in missing}
        # A connection that breaks is there again by then.
        if gone := sorted(each for each, since_ns in lacking_since_ns.items() if at_ns - since_ns >= RECOVERY_NS):
            yield Objection(name, f"{pick['policy']} did not see {', '.join(gone)}")


def _served(run: Run) -> Iterator[Objection]:
    """Yields attempts that did not come to the replica that was picked for them."""
    if not run.of_run:
        return
    whole = all(map(run.covers, run.gateways.values()))
    picked: defaultdict[str, Counter[str]] = defaultdict(Counter)
    answered: defaultdict[str, set[str]] = defaultdict(set)
    for pick in run.of_run:
        name, replica = pick["asked"]["request_id"], run.name_of.get(pick["picked"], pick["picked"])
        # A proxy walks down its list from a replica that it cannot reach.
        served = pick.get("served", "") if is_broken(run) else ""
        picked[name].update({replica, run.name_of.get(served, served)} - {""})
        if pick["status"] == "OK":
            answered[name].add(run.name_of.get(served, served) or replica)
    for name, record in run.records.items():
        came = Counter(each.replica for each in run.evidence.attempts.get(name, ()))
        if name in run.unpicked:
            continue  # see _unpicked
        if unpicked := came - picked[name]:
            if picked[name] or whole:
                served, wanted = ", ".join(unpicked), ", ".join(picked[name]) or "nothing"
                yield Objection(name, f"{served} served it, and {wanted} was picked")
        elif missing := answered[name] - came.keys():
            hidden = any(each.replica in missing and each.hides(record) for each in run.evidence.arrival_gaps)
            if not hidden and run.evidence.arrivals is not None:
                yield Objection(
                    name, f"{', '.join(missing)} was picked and is said to have answered, and never received it"
                )


def _unpicked(run: Run) -> Iterator[Objection]:
    """Yields requests that a caller which picks by itself sent without a pick, though nothing was broken."""
    for name in () if is_broken(run) else run.unpicked.keys() & run.records.keys():
        yield Objection(name, f"its caller sent it without a pick: {run.unpicked[name]}")


def _reported(run: Run) -> Iterator[Objection]:
    """Yields requests that were answered, and whose caller, which had picked the replica, did not hear who served."""
    for journal in run.gateways.values():
        for pick in journal["entries"] if journal.get("by_client") else ():
            name = pick["asked"]["request_id"]
            if name in run.records and pick["status"] == "OK" and not pick["served"]:
                yield Objection(name, "its sidecar did not report which replica served it")


def _told(run: Run) -> Iterator[Objection]:
    """Yields picks of an endpoint picker that told its proxy to try another replica first, by its other log."""
    first: defaultdict[str, set[str]] = defaultdict(set)
    for request_id, _, _, picked, _ in (run.evidence.gathered.get("served") or {}).get("picks", ()):
        first[request_id] |= {picked.partition(",")[0]} - {""}
    for pick in run.of_run:
        name = pick["asked"]["request_id"]
        if first[name] and pick["picked"] not in first[name]:
            told = ", ".join(run.name_of.get(each, each) for each in sorted(first[name]))
            yield Objection(
                name, f"the picker picked {run.name_of.get(pick['picked'], pick['picked'])}, and told its proxy {told}"
            )


def _ends(run: Run) -> Iterator[Objection]:
    """Yields picks that count as in flight, long after their request was answered."""
    latest_ns = max((each["at_ns"] for each in run.of_run), default=0)
    for pick in run.of_run:
        record = run.records[pick["asked"]["request_id"]]
        if not pick["ended"] and record.status == "OK" and record.done_ns + RECOVERY_NS < latest_ns:
            yield Objection(record.request_id, "the picker counts it as in flight, and it was answered")


def is_broken(run: Run) -> bool:
    """Returns whether something was broken on purpose."""
    return bool(run.evidence.fault_windows or run.evidence.faults_elsewhere)


def _order(run: Run) -> Iterator[Objection]:
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
            yield Objection(name, f"{run.name_of.get(key[1])} received it before an earlier one of its conversation")


PICK_CHECKS = (follow, _objectives, _sights, _served, _unpicked, _reported, _told, _ends, _order)
"""Each yields the requests of a run to which it objects."""
