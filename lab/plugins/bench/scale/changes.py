"""Continuous changes under traffic: replicas drain and return, models move, versions and rules change."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from lab.errors import PublishError

if TYPE_CHECKING:
    from lab.client.admin import AdminClient
    from lab.client.admin_values import PublishProgress
    from lab.plugins.bench.scale.scale_lab import ScaleLab

TICK_S = 0.25
PUBLISHED_A_TICK = {"move": 2, "version": 1, "rule": 2}
"""Changes in the one revision of a tick; all other changes are replicas that drain or return."""

_NS_PER_MS = 1e6
_WHOLE = 100


@dataclass(slots=True)
class Published:
    """The revisions of a lab, as their publisher knows them.

    Attributes:
        documents: revision → route table; they share equal parts.
        sidecars_ms: of each revision, from the call to publish to the last sidecar's acknowledgement.
        whole_ms: of each revision, from the call to publish to the last node's acknowledgement.
        failures: reasons of revisions that failed.
        left_behind: how often a revision converged without a sidecar that did not acknowledge in time. Requests through
            that sidecar are then misrouted, and count as such.
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
        """Publishes a revision with these entries replaced."""
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
        whole = [each.at_ns for each in seen.acknowledgements]
        sidecars = {each.node: each.at_ns for each in seen.acknowledgements if each.role == "sidecar"}
        if sidecars:  # a revision of rules alone does not concern sidecars
            self._known |= sidecars.keys()
            self.left_behind += len(self._known - sidecars.keys())
        for took_ms, at in ((self.whole_ms, whole), (self.sidecars_ms, sidecars.values())):
            took_ms.append((max(at, default=seen.step.at_ns) - seen.called_ns) / _NS_PER_MS)


def _sources(entries: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    return {name: ("change.json", json.dumps(entry)) for name, entry in entries.items()}


class Churn:
    """Random changes at a fixed rate, in threads of their own. The last tick was ``late_s`` seconds late."""

    def __init__(self, up: ScaleLab, published: Published, *, per_second: float, seed: int) -> None:
        self.done: dict[str, int] = dict.fromkeys(("endpoints", *PUBLISHED_A_TICK), 0)
        self.late_s = 0.0
        self._up, self._published = up, published
        self._a_tick = max(round(per_second * TICK_S), sum(PUBLISHED_A_TICK.values()))
        self._draw = Random(f"churn:{seed}")  # noqa: S311 (no secret)
        self._stop = Event()
        self._error: BaseException | None = None
        by_cluster: dict[str, list[str]] = {}
        for each in up.deployment.replicas:
            by_cluster.setdefault(each.cluster, []).append(each.replica)
        # One replica of each cluster that has several.
        self._spare = [names[-1] for names in by_cluster.values() if len(names) > 1]
        self._out: list[str] = []
        self._clusters = list(by_cluster)
        self._asked = [name for names in up.deployment.popularity.values() for name in names]
        # One thread for endpoints and one for revisions, so that neither waits for the other.
        self._threads = [
            Thread(target=self._run, args=(step,), daemon=True) for step in (self._endpoints(), self._revisions())
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stops the threads, and raises the error of one that failed."""
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
                # The replicas drained in the last tick return, and as many others drain.
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
        """Publishes one revision with several changes."""
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
        """Adds a rule in front of the others, or removes the one that was added before."""
        rules = [rule for rule in use_case.get("rules", ()) if rule["name"] != "churn"]
        if len(rules) == len(use_case.get("rules", ())):
            versions = list(dict.fromkeys((self._other(model, latest), use_case["default"])))
            share = self._draw.randrange(1, _WHOLE)
            weights = {versions[0]: share, versions[1]: _WHOLE - share} if len(versions) > 1 else {versions[0]: _WHOLE}
            # With a condition, so that the rules behind it stay reachable.
            when = {"country": [self._draw.choice(("US", "DE"))]}
            rules = [{"name": "churn", "when": when, "split": {"unit": "user_id", "weights": weights}}, *rules]
        return {**use_case, "rules": rules}


def moves(up: ScaleLab, published: Published, number: int, seed: int, *, within_s: float = math.inf) -> Sequence[float]:
    """Moves a model version that every caller uses, and returns the ms to each move's last sidecar acknowledgement.

    It begins no move after ``within_s``.
    """
    until = time.monotonic() + within_s
    draw = Random(f"moves:{seed}")  # noqa: S311 (no secret)
    clusters = list(published.latest["clusters"])
    of_all_callers = next(iter(published.latest["use_cases"].values()))
    model, _, version = of_all_callers["default"].partition("@")
    before = len(published.sidecars_ms)
    up.say(f"moving {of_all_callers['default']}, which every caller uses, {number} times")
    with up.admin() as admin:
        for _ in range(number):
            if time.monotonic() > until:
                break
            versions = published.latest["models"][model]["versions"]
            moved = {**versions[version], "cluster": draw.choice(clusters)}
            published.change(admin, {model: {"versions": {**versions, version: moved}}}, {}, "a move")
    took_ms = published.sidecars_ms[before:]
    del published.sidecars_ms[before:], published.whole_ms[before:]
    return took_ms
