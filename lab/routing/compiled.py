"""Rules compiled for the hot path: ``router.resolve(use_case, context)`` takes microseconds.

A router is immutable. An update makes a new one that shares all unchanged parts, so a service swaps one reference and
requests in flight keep the router they started with. Every resolver and gateway loads this module: it imports only the
standard library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lab.errors import RouteTableError, UnknownUseCaseError, UnknownVersionError
from lab.routing.bulk_allocation import gc_disabled
from lab.routing.keys import routing_key
from lab.routing.rules import OVERRIDE, OVERRIDE_RULE, Shadow, UseCase, shown
from lab.routing.shards import Shards
from lab.routing.slo import NO_SLO, Slo

if TYPE_CHECKING:
    from lab.routing.resilience import Policy

__all__ = ["Choice", "Router", "Shadow", "Version"]


@dataclass(frozen=True, slots=True)
class Version:
    """A model version that rules may choose.

    Attributes:
        parameters: sent to the model in the body.
        shards: what divides requests among its shards; None if it has none.
        shard: which of them this is; 0 if it is the whole version.
    """

    model: str
    version: str
    parameters: Mapping[str, Any]
    shards: Shards | None = None
    shard: int = 0

    @property
    def routing_key(self) -> str:
        """``cw-ranker.v2``, or ``cw-ranker.v2.s1``."""
        return routing_key(self.model, self.version, self.shard)


@dataclass(frozen=True, slots=True)
class Choice:
    """The decision for a use case and a context.

    Attributes:
        parameters: sent to the model in the body: the version's own, overridden by those of the rule and of the
            experiment's cell; read-only.
        rule: the rule that matched, ``default`` if none did, ``override`` if the request is pinned.
        bucket: the request's bucket, 0 to 9,999, if a split or an experiment decided.
        share: the model version or cell whose share contains the bucket, empty without a bucket. Two cells may use the
            same version with different parameters.
        reads: context fields that this use case's rules read, including units of splits, ``override`` and what chooses
            shards: requests that agree in them get the same choice. The caller, who decides whether there is a choice
            at all, is included only if a rule reads it.
        timeout_s: deadline of the inference call, seconds.
        api: inference API, ``ranking.v1``.
        revision: of the route table.
        alternatives: in the order of attempts, without the chosen version. They have their own parameters; a rule's
            apply only to the version that the rule chose.
        shadow: the version that gets copies, and their percentage; None if there is none.
        falls_back: whether the use case has a fallback chain, even if no alternative is left in it.
        policy: resilience settings; None if there are none, or if the request is pinned.
        slo: of the use case.
        priority: of the use case, where requests wait for a replica.
    """

    model: str
    version: str
    routing_key: str
    parameters: Mapping[str, Any]
    rule: str
    bucket: int | None
    share: str
    reads: tuple[str, ...]
    timeout_s: float
    api: str
    revision: int
    alternatives: tuple[Version, ...] = ()
    shadow: Shadow | None = None
    falls_back: bool = False
    policy: Policy | None = None
    slo: Slo = NO_SLO
    priority: int = 0


class Router:
    """All use cases of one revision. Immutable.

    Attributes:
        revision: of the route table.
        use_cases: by name.
        versions: by routing key without shard.
    """

    __slots__ = ("_reads", "_sharded", "revision", "use_cases", "versions")

    def __init__(
        self,
        revision: int,
        use_cases: Mapping[str, UseCase],
        versions: Mapping[str, Version],
        sharded: Mapping[str, Mapping[int, Version]],
    ) -> None:
        self.revision, self.use_cases, self.versions = revision, use_cases, versions
        self._sharded = sharded  # routing key without shard → shard → version
        self._reads: dict[str, tuple[str, ...]] = {}

    @classmethod
    def empty(cls) -> Router:
        """A router without use cases, at revision 0."""
        return cls(0, {}, {}, {})

    @classmethod
    def of_document(cls, document: Mapping[str, Any], revision: int = 0) -> Router:
        """The router of a whole route table.

        Raises:
            RouteTableError: the document cannot be compiled; a validated one always can.
        """
        versions = (
            Version(model, version, runs.get("config", {}), Shards.of(runs["cluster"]))
            for model, entry in document["models"].items()
            for version, runs in entry["versions"].items()
        )
        return cls.empty().updated(
            revision=revision,
            full=True,
            use_cases=document["use_cases"],
            versions={version.routing_key: version for version in versions},
        )

    def updated(
        self,
        *,
        revision: int,
        full: bool = False,
        use_cases: Mapping[str, Mapping[str, Any]] | None = None,
        removed_use_cases: Iterable[str] = (),
        versions: Mapping[str, Version] | None = None,
        removed_versions: Iterable[str] = (),
    ) -> Router:
        """A new router with these changes. Only the given use cases are compiled.

        Args:
            revision: of the route table after this update.
            full: drops everything that is not given here.
            use_cases: new or changed ones, as in the route table.
            removed_use_cases: names; unknown ones are ignored.
            versions: new or changed ones by routing key.
            removed_versions: routing keys; unknown ones are ignored.

        Raises:
            RouteTableError: a use case cannot be compiled, or refers to a missing version.
        """
        next_use_cases = {} if full else dict(self.use_cases)
        next_versions = {} if full else dict(self.versions)
        for name in removed_use_cases:
            next_use_cases.pop(name, None)
        removed_versions = tuple(removed_versions)
        for key in removed_versions:
            next_versions.pop(key, None)
        changed = {*removed_versions, *(versions or {})}
        sharded = {} if full else {key: each for key, each in self._sharded.items() if key not in changed}
        for key, version in (versions or {}).items():
            if version.shards is not None:
                sharded[key] = {number: replace(version, shard=number) for number in range(1, version.shards.count + 1)}
        with gc_disabled(stays=True):
            compiled = {name: UseCase.of(name, document) for name, document in (use_cases or {}).items()}
        next_use_cases.update(compiled)
        next_versions.update(versions or {})
        # Unchanged use cases had all their versions, and lack one only if it was removed.
        gone = {key for key in removed_versions if key not in next_versions}
        concerned = {name: one for name, one in next_use_cases.items() if not gone.isdisjoint(one.keys)} if gone else {}
        for name, use_case in (concerned | compiled).items():
            if missing := use_case.keys - next_versions.keys():
                raise RouteTableError(
                    f"refers to {', '.join(sorted(missing))}, which no model version has", field=f"use_cases.{name}"
                )
        return Router(revision, next_use_cases, next_versions, sharded)

    def use_case(self, name: str) -> UseCase:
        """The use case, or raises :class:`UnknownUseCaseError`."""
        use_case = self.use_cases.get(name)
        if use_case is None:
            raise UnknownUseCaseError(f"use case {shown(name)} is not in the route table (revision {self.revision})")
        return use_case

    def resolve(self, use_case: str, context: Mapping[str, str]) -> Choice:
        """Selects the model version for a request.

        Args:
            use_case: its name.
            context: the request's fields; an empty value counts as absent.

        Raises:
            UnknownUseCaseError: no such use case.
            CallerNotAllowedError: ``context["caller"]`` may not use it, or may not pin requests.
            UnknownVersionError: the request is pinned to a model version that is not in the route table.
        """
        found = self.use_case(use_case)
        found.admit(context)
        if pinned := context.get(OVERRIDE):
            return self._pinned(found, context, pinned)
        target, rule, bucket = found.select(context)
        key = target.key
        version = self._version(key, context)
        return Choice(
            version.model,
            version.version,
            version.routing_key if version.shard else key,
            {**version.parameters, **target.config} if target.config else version.parameters,
            rule,
            bucket,
            target.share,
            self._fields_read(found),
            found.timeout_s,
            found.api,
            self.revision,
            tuple([self._version(each, context) for each in found.fallback if each != key]) if found.fallback else (),
            self._shadow(found.shadow, context),
            bool(found.fallback),
            found.policy,
            found.slo,
            found.priority,
        )

    def _version(self, key: str, context: Mapping[str, str]) -> Version:
        """The version, or the shard of it that serves the request."""
        version = self.versions[key]
        return version if version.shards is None else self._sharded[key][version.shards.choose(context)]

    def _shadow(self, shadow: Shadow | None, context: Mapping[str, str]) -> Shadow | None:
        if shadow is None or shadow.routing_key not in self._sharded:
            return shadow
        return Shadow(self._version(shadow.routing_key, context).routing_key, shadow.percent)

    def _fields_read(self, use_case: UseCase) -> tuple[str, ...]:
        """What its rules read, and what chooses the shards of the versions that it may use: all, with pins."""
        if not self._sharded:
            return use_case.reads
        fields = self._reads.get(use_case.name)
        if fields is None:
            keys = self._sharded if use_case.override else self._sharded.keys() & use_case.keys
            chosen_by = {shards.reads for key in keys if (shards := self.versions[key].shards)}
            fields = self._reads[use_case.name] = tuple(sorted(chosen_by.union(use_case.reads)))
        return fields

    def _pinned(self, found: UseCase, context: Mapping[str, str], pinned: str) -> Choice:
        """The pinned version without alternatives: an experimenter wants this one or none."""
        found.admit_override(context)
        model, _, name = pinned.partition("@")
        key = routing_key(model, name)
        if key not in self.versions:
            raise UnknownVersionError(
                f"use case {found.name!r}: override {shown(pinned)} is not a model version of the route table "
                f"(revision {self.revision}); write it like cw-ranker@v2"
            )
        version = self._version(key, context)
        return Choice(
            version.model,
            version.version,
            version.routing_key,
            version.parameters,
            OVERRIDE_RULE,
            None,
            "",
            self._fields_read(found),
            found.timeout_s,
            found.api,
            self.revision,
            slo=found.slo,
            priority=found.priority,
        )
