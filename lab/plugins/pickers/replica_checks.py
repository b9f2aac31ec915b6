"""What replicas claim to have done, against a replay of their journals: hits, queues, adapters, KV events, answers."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING

from lab.checkers.evidence import CLOCKS_NS
from lab.plugins.pickers.adapters import adapter_objections, misread, times_of
from lab.plugins.pickers.journals import is_whole
from lab.plugins.pickers.kv_events import strayed
from lab.plugins.pickers.readers import READERS
from lab.plugins.pickers.replicas import Entry, Objection, objections

if TYPE_CHECKING:
    from lab.plugins.pickers.journals import Run

_FULL = "RESOURCE_EXHAUSTED"


def _replicas(run: Run) -> Iterator[Objection]:
    """Yields what the journals of replicas show of their blocks and queues."""
    for name, journal in run.replicas.items():
        if is_whole(journal):
            for replay in (objections, adapter_objections):
                yield from replay(name, journal["entries"], run.settings)


def _kv_events(run: Run) -> Iterator[Objection]:
    """Yields the first pick for which KV events said something else than the cache of their replica did."""
    for address, replica in run.name_of.items():
        journal = run.replicas.get(replica)
        if journal is None or not run.covers(journal):
            continue
        for gateway in run.gateways.values():
            picks = [each for each in gateway["entries"] if each.get("kv_events")] if not gateway["dropped"] else []
            for request_id in strayed(picks, address, journal["entries"], run.settings["blocks"]):
                yield Objection(request_id, f"{replica} published KV events that are not what its cache did")


def _adapters(run: Run) -> Iterator[Objection]:
    """Yields picks that had seen adapters at a replica which were not there, or not seen one that was."""
    times = {its["address"]: times_of(its["entries"]) for its in run.replicas.values() if run.covers(its)}
    for pick in run.of_run:
        for each in pick["seen"]:
            if each.get("max_loras") and each["address"] in times:
                read_ns = pick["at_ns"] - pick["took_ns"] - int(each["age_ms"] * 1_000_000)
                bounds = read_ns - CLOCKS_NS, pick["at_ns"] + CLOCKS_NS
                if wrong := misread(each["loras"], times[each["address"]], *bounds):
                    replica = run.name_of.get(each["address"], each["address"])
                    yield Objection(pick["asked"]["request_id"], f"the picker saw {wrong}, at {replica}")


def _speeds(run: Run) -> Iterator[Objection]:
    """Yields picks that had seen a replica report other times or slots than its model has."""
    its, scale = run.settings, run.settings["time_scale"]
    times = tuple(scale * its[each] for each in ("overhead_ms", "prefill_ms", "itl_ms"))
    right = (*times, its["load_factor"], its["max_num_seqs"])
    for pick in run.of_run:
        for each in pick["seen"]:
            speed = each.get("speed", ())
            if any(speed[-1:]) and not all(map(math.isclose, speed, right)):
                message = f"the picker saw {each['address']} report a speed of {speed}, and it has {[*right]}"
                yield Objection(pick["asked"]["request_id"], message)


def _prompts(run: Run) -> Iterator[Objection]:
    """Yields prompts that are not those of the plan, by their hashes, at replicas and at pickers."""
    seen: list[tuple[str, Entry, int]] = [
        (name, each, each["prompt"]) for name, its in run.replicas.items() for each in its["entries"] if each["began"]
    ]
    seen += [("the picker", each["asked"], each["asked"]["tokens"]) for each in run.of_run if _knows_prompt(each)]
    for who, entry, tokens in seen:
        record = run.records.get(entry["request_id"])
        wanted = run.asked(record) if record is not None else None
        if wanted is None or record is None or (not tokens and run.picks_without(wanted[0])):
            continue
        found = (tokens, entry["hashes"], entry["lora"], entry.get("session", wanted[3]))
        if found != wanted:
            names = ("number of tokens", "blocks", "adapter", "conversation")
            parts = ", ".join(name for name, its, right in zip(names, found, wanted, strict=True) if its != right)
            yield Objection(
                record.request_id, f"{who} saw another {parts} than was asked, for tenant {record.tenant!r}"
            )


def _knows_prompt(pick: Entry) -> bool:
    """Whether the picker must have seen the prompt, or says that it has."""
    policy, tokens = pick["policy"], pick["asked"]["tokens"]
    return policy in READERS and bool(tokens or READERS[policy].reads_prompt)


def _claims(run: Run) -> Iterator[Objection]:
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
            yield Objection(name, f"{claims}, and the journal of {record.replica} has {' or '.join(sorted(kept))!r}")


def _refusals(run: Run) -> Iterator[Objection]:
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
            yield Objection(name, f"{last.replica} refused it, and its journal does not say that its queue was full")
        elif reason and reason not in record.message:
            yield Objection(name, f"{last.replica} refused it as it {reason}, and its caller does not learn that")


def refused_by_full_queues(run: Run) -> set[str]:
    """Returns the requests that a replica refused last, whose queue was full by the replay of its whole journal."""
    found = set()
    full = {
        name: {each["request_id"] for each in its["entries"] if each["shed"]}
        - {each.request_id for each in objections(name, its["entries"], run.settings)}
        for name, its in run.replicas.items()
        if is_whole(its)
    }
    for name, record in run.records.items():
        last = max(run.evidence.attempts.get(name, ()), key=lambda each: each.arrived_ns, default=None)
        if last is not None and last.status == record.status == _FULL and name in full.get(last.replica, ()):
            found.add(name)
    return found


REPLICA_CHECKS = (_replicas, _kv_events, _adapters, _speeds, _prompts, _claims, _refusals)
"""Each yields the requests of a run to which it objects."""
