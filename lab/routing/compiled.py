"""Rules compiled for the hot path: ``router.resolve(use_case, context)`` takes microseconds.

A router is immutable. An update makes a new one that shares all unchanged parts, so a service swaps one reference and
requests in flight keep the router they started with. Every resolver and gateway loads this module: it imports only the
standard library.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import RouteTableError, UnknownUseCaseError, UnknownVersionError
from lab.routing.bulk_allocation import gc_disabled
from lab.routing.keys import routing_key
from lab.routing.rules import OVERRIDE, OVERRIDE_RULE, Shadow, UseCase, shown

if TYPE_CHECKING:
    from lab.routing.resilience import Policy

__all__ = ["Choice", "Router", "Shadow", "Version"]


@dataclass(frozen=True, slots=True)
class Version:
    """A model version that rules may choose.

    Attributes:
        parameters: sent to the model in the body.
    """

    model: str
    version: str
    parameters: Mapping[str, Any]

    @property
    def routing_key(self) -> str:
        """``cw-ranker.v2``."""
        return routing_key(self.model, self.version)


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
        reads: context fields that this use case's rules read, including units of splits and ``override``: requests that
            agree in them get the same choice. The caller, who decides whether there is a choice at all, is included
            only if a rule reads it.
        timeout_s: deadline of the inference call, seconds.
        api: inference API, ``ranking.v1``.
        revision: of the route table.
        alternatives: in the order of attempts, without the chosen version. They have their own parameters; a rule's
            apply only to the version that the rule chose.
        shadow: the version that gets copies, and their percentage; None if there is none.
        falls_back: whether the use case has a fallback chain, even if no alternative is left in it.
        policy: resilience settings; None if there are none, or if the request is pinned.
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


class Router:
    """All use cases of one revision. Immutable.

    Attributes:
        revision: of the route table.
        use_cases: by name.
        versions: by routing key.
    """

    __slots__ = ("revision", "use_cases", "versions")

    def __init__(self, revision: int, use_cases: Mapping[str, UseCase], versions: Mapping[str, Version]) -> None:
        self.revision, self.use_cases, self.versions = revision, use_cases, versions

    @classmethod
    def empty(cls) -> Router:
        """A router without use cases, at revision 0."""
        return cls(0, {}, {})

    @classmethod
    def of_document(cls, document: Mapping[str, Any], revision: int = 0) -> Router:
        """The router of a whole route table.

        Raises:
            RouteTableError: the document cannot be compiled; a validated one always can.
        """
        versions = (
            Version(model, version, runs.get("config", {}))
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
        return Router(revision, next_use_cases, next_versions)

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
        version = self.versions[key]
        return Choice(
            version.model,
            version.version,
            key,
            {**version.parameters, **target.config} if target.config else version.parameters,
            rule,
            bucket,
            target.share,
            found.reads,
            found.timeout_s,
            found.api,
            self.revision,
            tuple([self.versions[other] for other in found.fallback if other != key]) if found.fallback else (),
            found.shadow,
            bool(found.fallback),
            found.policy,
        )

    def _pinned(self, found: UseCase, context: Mapping[str, str], pinned: str) -> Choice:
        """The pinned version without alternatives: an experimenter wants this one or none."""
        found.admit_override(context)
        model, _, name = pinned.partition("@")
        key = routing_key(model, name)
        version = self.versions.get(key)
        if version is None:
            raise UnknownVersionError(
                f"use case {found.name!r}: override {shown(pinned)} is not a model version of the route table "
                f"(revision {self.revision}); write it like cw-ranker@v2"
            )
        return Choice(
            version.model,
            version.version,
            key,
            version.parameters,
            OVERRIDE_RULE,
            None,
            "",
            found.reads,
            found.timeout_s,
            found.api,
            self.revision,
        )
