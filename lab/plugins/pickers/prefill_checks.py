"""Prefill and decode apart: was each request prefilled where its picker said, by the journals of both replicas?

If it was not, the answer is right all the same, and only later: the replica that decodes has computed the prompt
itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from string import ascii_lowercase
from typing import TYPE_CHECKING

from lab.plugins.pickers.pick_checks import is_broken
from lab.plugins.pickers.replicas import Entry, Objection

if TYPE_CHECKING:
    from lab.plugins.pickers.journals import Run

_PREFILL = "prefill"


def _claimed(run: Run) -> Iterator[Objection]:
    """Yields answered requests that were to be prefilled by a replica whose journal does not have them as such."""
    for pick in run.of_run:
        name, at = pick["asked"]["request_id"], pick.get("prefiller")
        if not at or pick["status"] != "OK" or not _is_known(run, at):
            continue
        entries = [each for each in _entries(run, at).get(name, ()) if each["work"] == _PREFILL]
        fell_back = any(each["fell_back"] for each in _entries(run, pick["picked"]).get(name, ()))
        excused = is_broken(run) or any(each["shed"] for each in entries)
        if any(each["began"] for each in entries) or (fell_back and excused):
            continue
        prefills = run.name_of.get(at, at)
        yield Objection(name, f"{prefills} was to prefill it, and its journal has no such request: it decoded only")


def _handed_on(run: Run) -> Iterator[Objection]:
    """Yields requests that came to a replica with another prefiller than was picked, or were prefilled unasked."""
    wanted: defaultdict[str, set[str]] = defaultdict(set)
    at: defaultdict[str, set[str]] = defaultdict(set)
    for pick in run.of_run:
        wanted[pick["asked"]["request_id"]].add(pick.get("prefiller", ""))
        at[pick["asked"]["request_id"]].add(pick["picked"])
    for name, its in run.replicas.items():
        for each in its["entries"]:
            request_id = each["request_id"]
            if request_id not in wanted:
                continue
            if each.get("work") == _PREFILL:
                if its["address"] not in wanted[request_id]:
                    yield Objection(request_id, f"{name} prefilled it, and no pick names it")
            elif its["address"] in at[request_id] and each.get("prefiller", "") not in wanted[request_id]:
                named, picked = (
                    " or ".join(run.name_of.get(its, its) or "itself" for its in sorted(addresses))
                    for addresses in ({each.get("prefiller", "")}, wanted[request_id])
                )
                yield Objection(request_id, f"{name} was to have {named} prefill it, and {picked} was picked")


def _fallbacks(run: Run) -> Iterator[Objection]:
    """Yields requests that a replica prefilled itself as the other one failed, though nothing was broken or full."""
    for name, its in run.replicas.items():
        for each in its["entries"]:
            if not (reason := each.get("fell_back")) or each["request_id"] not in run.records or is_broken(run):
                continue
            shed = any(other["shed"] for other in _entries(run, each["prefiller"]).get(each["request_id"], ()))
            if not shed and _is_known(run, each["prefiller"]):
                yield Objection(each["request_id"], f"{name} prefilled it itself, as the replica that was to: {reason}")


def _roles(run: Run) -> Iterator[Objection]:
    """Yields picks that saw a replica in another role than its place in the cluster gives it."""
    if run.signal.get("source", "scraped") != "scraped":
        return
    number = run.settings.get("prefill_replicas", 0)
    right = {its["address"]: _place(name) < number for name, its in run.replicas.items()}
    for pick in run.of_run:
        for each in pick["seen"]:
            prefills = right.get(each["address"])
            if each["age_ms"] < 0 or prefills is None or each.get("prefills", prefills) == prefills:
                continue
            name, role = run.name_of.get(each["address"]), "decodes" if prefills else "only prefills"
            yield Objection(pick["asked"]["request_id"], f"the picker saw {name} in another role: it {role}")


def prefill_words(run: Run) -> str:
    """Returns how many requests of the run were prefilled apart, in words; empty in a lab without such replicas."""
    if not run.settings.get("prefill_replicas"):
        return ""
    mine = [each for its in run.replicas.values() for each in its["entries"] if each["request_id"] in run.records]
    apart = sum(each["work"] == _PREFILL and bool(each["began"]) for each in mine)
    back = sum(bool(each["fell_back"]) for each in mine)
    return f"; {apart} prefilled by another replica" + (f", {back} fell back" if back else "")


def _place(replica: str) -> int:
    """Returns a replica's place in its cluster, from 0: ``-a``, ``-b`` … ``-z``, ``-aa`` …."""
    place = 0
    for letter in replica.rpartition("-")[2]:
        place = 26 * place + ascii_lowercase.index(letter) + 1
    return place - 1


def _is_known(run: Run, address: str) -> bool:
    """Whether the journal of the replica at an address has all of the run."""
    journal = run.replicas.get(run.name_of.get(address, ""))
    return bool(journal is not None and run.covers(journal))


def _entries(run: Run, address: str) -> Mapping[str, list[Entry]]:
    """Returns what the replica at an address has done, by request."""
    return run.work_at.get(address, {})


PREFILL_CHECKS = (_claimed, _handed_on, _fallbacks, _roles)
"""Each yields the requests of a run to which it objects."""
