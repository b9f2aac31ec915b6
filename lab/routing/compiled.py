"""Rules made ready for the hot path: ``router.resolve(use_case, context)`` in microseconds.

A router is a value. An update makes a new one that shares whatever did not change, so a service swaps one reference
and requests in flight keep the router that they began with. Loaded by every resolver and gateway: the standard library
is all it may import.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lab.errors import RouteTableError, UnknownUseCaseError
from lab.routing.keys import routing_key
from lab.routing.rules import UseCase, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Version:
    """A model version that rules may choose.

    Attributes:
        parameters: what travels to the model in the body.
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
    """What a request's use case and context lead to.

    Attributes:
        parameters: what travels to the model in the body; to be read only.
        rule: the rule that matched, ``default`` if none did.
        bucket: the request's bucket, 0 to 9,999, if a split or an experiment decided.
        reads: context fields that this use case's rules read, units of splits included: requests that agree in these
            get the same choice. The caller, of whom it depends whether there is one, is in it only if a rule reads it.
        timeout_s: deadline of the inference call, seconds.
        api: inference API, ``ranking.v1``.
        revision: of the route table.
    """

    model: str
    version: str
    routing_key: str
    parameters: Mapping[str, Any]
    rule: str
    bucket: int | None
    reads: tuple[str, ...]
    timeout_s: float
    api: str
    revision: int


class Router:
    """All use cases of one revision. Immutable."""

    __slots__ = ("_revision", "_use_cases", "_versions")

    def __init__(self, revision: int, use_cases: dict[str, UseCase], versions: dict[str, Version]) -> None:
        self._revision = revision
        self._use_cases = use_cases
        self._versions = versions

    @classmethod
    def empty(cls) -> Router:
        """A router that knows no use case, at revision 0."""
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

    @property
    def revision(self) -> int:
        """Of the route table."""
        return self._revision

    @property
    def use_cases(self) -> Mapping[str, UseCase]:
        """By name."""
        return self._use_cases

    @property
    def versions(self) -> Mapping[str, Version]:
        """By routing key."""
        return self._versions

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
        """A router with these changes; this one stays as it is. Only the use cases given are compiled.

        Args:
            revision: of the route table that this update completes.
            full: whatever is not given here is gone.
            use_cases: new or changed ones, as they stand in the route table.
            removed_use_cases: names; unknown ones are of no effect.
            versions: new or changed ones by routing key.
            removed_versions: routing keys; unknown ones are of no effect.

        Raises:
            RouteTableError: a use case cannot be compiled, or refers to a version that is not there.
        """
        next_use_cases = {} if full else dict(self._use_cases)
        next_versions = {} if full else dict(self._versions)
        for name in removed_use_cases:
            next_use_cases.pop(name, None)
        for key in removed_versions:
            next_versions.pop(key, None)
        next_use_cases.update((name, UseCase.of(name, document)) for name, document in (use_cases or {}).items())
        next_versions.update(versions or {})
        there = next_versions.keys()
        for name, use_case in next_use_cases.items():
            if missing := use_case.keys - there:
                raise RouteTableError(
                    f"refers to {', '.join(sorted(missing))}, which no model version has", field=f"use_cases.{name}"
                )
        return Router(revision, next_use_cases, next_versions)

    def use_case(self, name: str) -> UseCase:
        """The use case, or :class:`UnknownUseCaseError`."""
        use_case = self._use_cases.get(name)
        if use_case is None:
            raise UnknownUseCaseError(f"use case {shown(name)} is not in the route table (revision {self._revision})")
        return use_case

    def resolve(self, use_case: str, context: Mapping[str, str]) -> Choice:
        """Which model version is to answer.

        Args:
            use_case: its name.
            context: the request's fields; an empty value counts as absent.

        Raises:
            UnknownUseCaseError: no such use case.
            CallerNotAllowedError: ``context["caller"]`` may not ask for it.
        """
        found = self.use_case(use_case)
        found.admit(context)
        key, rule, bucket = found.select(context)
        version = self._versions[key]
        return Choice(
            version.model,
            version.version,
            key,
            version.parameters,
            rule,
            bucket,
            found.reads,
            found.timeout_s,
            found.api,
            self._revision,
        )
