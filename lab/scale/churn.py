"""Changes without end: replicas come and go, models move, versions and rules change, while traffic flows."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from random import Random
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from lab.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from lab.admin import AdminClient, PublishProgress
    from lab.scale.standing import ScaleLab

TICK_S = 0.25
PUBLISHED_A_TICK = {"move": 2, "version": 1, "rule": 2}
"""What one revision of a tick changes; the other changes are replicas that leave or come back."""

_NS_PER_MS = 1e6
_WHOLE = 100


@dataclass(slots=True)
class Published:
    """The revisions of a lab, as whoever publishes them knows them.

    Attributes:
        documents: revision → route table; they share what they have in common.
        sidecars_ms: of each revision, from the call to publish to the last sidecar's acknowledgement.
        whole_ms: to that of the last node.
        failures: why revisions failed.
        left_behind: how often a revision converged without a sidecar, which did not answer in time. Requests through it
            are then misrouted, and rightly called so.
    """

    documents: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    sidecars_ms: list[float] = field(default_factory=list)
    whole_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    left_behind: int = 0
    _known: set[str] = field(default_factory=set)

    @property
    def latest(self) -> Mapping[str, Any]:
        """The route table in force."""
        return self.documents[max(self.documents)]

    def change(self, admin: AdminClient, models: Mapping[str, Any], use_cases: Mapping[str, Any], comment: str) -> None:
        """Publishes these entries anew."""
        document = {
            **self.latest,
            "models": {**self.latest["models"], **models},
            "use_cases": {**self.latest["use_cases"], **use_cases},
        }
        try:
            revision = admin.publish_change(
                _sources(use_cases), models=_sources(models), author="scale", comment=comment, progress=self._take
            )
        except PublishError as error:
            self.failures.append(str(error))
            return
        self.documents[revision] = document

    def _take(self, seen: PublishProgress) -> None:
        if seen.step.phase != "converged" or seen.waiting is not None:
            return
        at = [each.at_ns for each in seen.acknowledgements]
        there = {each.node: each.at_ns for each in seen.acknowledgements if each.role == "sidecar"}
        if there:  # else it is about rules alone, which no sidecar hears of
            self._known |= there.keys()
            self.left_behind += len(self._known - there.keys())
        sidecars = there.values()
        self.whole_ms.append((max(at, default=seen.step.at_ns) - seen.called_ns) / _NS_PER_MS)
        self.sidecars_ms.append((max(sidecars, default=seen.step.at_ns) - seen.called_ns) / _NS_PER_MS)


def _sources(entries: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {name: ("change.json", json.dumps(entry)) for name, entry in entries.items()}


class Churn:
    """So many changes a second, drawn from a seed, in a thread of its own.

    Args:
        up: the lab.
        published: its revisions so far; grows.
        per_second: how many changes.
        seed: of the draws.

    Attributes:
        done: how many of each kind there were.
        late_s: by how much the last tick was late.
    """

    def __init__(self, up: ScaleLab, published: Published, *, per_second: float, seed: int) -> None:
        self.done: dict[str, int] = dict.fromkeys(("endpoints", *PUBLISHED_A_TICK), 0)
        self.late_s = 0.0
        self._up, self._published = up, published
        self._a_tick = max(round(per_second * TICK_S), sum(PUBLISHED_A_TICK.values()))
        self._draw = Random(f"churn:{seed}")  # noqa: S311 (no secret)
        self._stop = Event()
        self._error: BaseException | None = None
        self._threads: list[Thread] = []
        by_cluster: dict[str, list[str]] = {}
        for each in up.topology.replicas:
            by_cluster.setdefault(each.cluster, []).append(each.replica)
        # One of each cluster that can spare it.
        self._spare = [names[-1] for names in by_cluster.values() if len(names) > 1]
        self._out: list[str] = []
        self._clusters = list(by_cluster)
        self._asked = [name for names in up.topology.popularity.values() for name in names]

    def start(self) -> None:
        """Begins: endpoints by one thread, revisions by another, so that neither waits for the other."""
        self._threads = [
            Thread(target=self._run, args=(step,), daemon=True) for step in (self._endpoints(), self._revisions())
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends, and raises what went wrong."""
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._error is not None:
            raise self._error

    def _run(self, steps: Any) -> None:
        due = time.monotonic()
        try:
            for _ in steps:
                due += TICK_S
                self.late_s = max(0.0, time.monotonic() - due)
                if self._stop.wait(max(0.0, due - time.monotonic())):
                    break
        except BaseException as error:  # noqa: BLE001 (raised where the churn is stopped)
            self._error = error
        finally:
            steps.close()

    def _endpoints(self) -> Any:
        with self._up.host() as drain:
            while True:
                # What left at the last tick comes back, and as many others leave.
                back, number = self._out, (self._a_tick - sum(PUBLISHED_A_TICK.values())) // 2
                rest = [name for name in self._spare if name not in set(back)]
                self._out = self._draw.sample(rest, min(number, len(rest)))
                drain(self._out, back)
                self.done["endpoints"] += len(self._out) + len(back)
                yield

    def _revisions(self) -> Any:
        with self._up.admin() as admin:
            while True:
                self.revise(admin)
                yield

    def revise(self, admin: AdminClient) -> None:
        """Publishes one revision of several changes."""
        models: dict[str, Any] = {}
        use_cases: dict[str, Any] = {}
        latest = self._published.latest
        for kind, number in PUBLISHED_A_TICK.items():
            for _ in range(number):
                name = self._draw.choice(self._asked)
                use_case = use_cases.get(name, latest["use_cases"][name])
                model = use_case["default"].partition("@")[0]
                if kind == "move":
                    models[model] = self._moved(models.get(model, latest["models"][model]))
                elif kind == "version":
                    use_cases[name] = {**use_case, "default": self._other(model, latest)}
                else:
                    use_cases[name] = self._ruled(use_case, model, latest)
                self.done[kind] += 1
        self._published.change(admin, models, use_cases, "churn")

    def _moved(self, model: Mapping[str, Any]) -> dict[str, Any]:
        version = self._draw.choice(list(model["versions"]))
        elsewhere = {**model["versions"][version], "cluster": self._draw.choice(self._clusters)}
        return {"versions": {**model["versions"], version: elsewhere}}

    def _other(self, model: str, latest: Mapping[str, Any]) -> str:
        return f"{model}@{self._draw.choice(list(latest['models'][model]['versions']))}"

    def _ruled(self, use_case: Mapping[str, Any], model: str, latest: Mapping[str, Any]) -> dict[str, Any]:
        """Another rule in front, which half of its kind draws for; or the one from before is gone again."""
        rules = [rule for rule in use_case.get("rules", ()) if rule["name"] != "churn"]
        if len(rules) == len(use_case.get("rules", ())):
            versions = list(dict.fromkeys((self._other(model, latest), use_case["default"])))
            share = self._draw.randrange(1, _WHOLE)
            weights = {versions[0]: share, versions[1]: _WHOLE - share} if len(versions) > 1 else {versions[0]: _WHOLE}
            # With a condition, so that no rule behind it is out of reach.
            when = {"country": [self._draw.choice(("US", "DE"))]}
            rules = [{"name": "churn", "when": when, "split": {"unit": "user_id", "weights": weights}}, *rules]
        return {**use_case, "rules": rules}


def moves(up: ScaleLab, published: Published, number: int, seed: int, say: Callable[[str], None]) -> Sequence[float]:
    """Moves one model after the other, all of them asked for by everybody; returns ms to the last sidecar's word."""
    draw = Random(f"moves:{seed}")  # noqa: S311 (no secret)
    clusters = list(published.latest["clusters"])
    everybody = next(iter(published.latest["use_cases"].values()))
    model = everybody["default"].partition("@")[0]
    before = len(published.sidecars_ms)
    say(f"moving {everybody['default']}, which everybody asks for, {number} times")
    with up.admin() as admin:
        for _ in range(number):
            version = everybody["default"].partition("@")[2]
            versions = published.latest["models"][model]["versions"]
            moved = {**versions[version], "cluster": draw.choice(clusters)}
            published.change(admin, {model: {"versions": {**versions, version: moved}}}, {}, "a move")
    taken = published.sidecars_ms[before:]
    del published.sidecars_ms[before:], published.whole_ms[before:]
    return taken
