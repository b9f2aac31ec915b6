"""The errors that the lab raises on purpose; each message is one line.

::

    LabError                says what was found, where, and what to do
    ├── InputError          a file or argument of the user is wrong; nothing was changed
    │   ├── RouteTableError     the route table
    │   ├── SpecError           the lab's spec
    │   ├── TraceError          a trace of arrivals
    │   └── RunError            a run's folder
    ├── NotOwnedError       an owner would change what others own; nothing was published
    ├── LabNotRunningError  the lab is down
    ├── UnitError           a unit did not start, or died
    ├── PublishError        a publish failed; the previous revision stays in force
    │   └── StaleRevisionError  another revision was published in the meantime
    ├── RegistryError       the file of revisions cannot be read or written; its content is unchanged
    ├── NoDecisionError     the rules give this request no decision
    │   ├── UnknownUseCaseError     no such use case: NOT_FOUND
    │   ├── UnknownVersionError     an override names an unknown model version: NOT_FOUND
    │   └── CallerNotAllowedError   the caller may not call this use case, or not with this override: PERMISSION_DENIED
    ├── CallError           an inference call failed; carries its gRPC status
    │   └── ResolverUnreachableError  no resolver answered, and no lease was left
    └── DeadlineError       a condition did not come true in time; names the last state seen
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


class LabError(Exception):
    """Says what was found, where, and what to do, in one line."""

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows, as commands do: the line alone."""
        return [str(self)]


class InputError(LabError):
    """A file or an argument of the user is wrong; nothing was changed."""


class RouteTableError(InputError):
    """The route table is not valid.

    Attributes:
        file: name of the file, ``-`` if there is none.
        line: 1-based line, 0 if unknown.
        field: dotted path of the field, empty if the problem concerns the whole file.
        problem: what is wrong and what to write instead.

    Its text has a line for itself and one for each further problem.
    """

    def __init__(
        self, problem: str, *, file: str = "-", line: int = 0, field: str = "", further: Sequence[str] = ()
    ) -> None:
        where = f"{file}:{line}" if line else file
        super().__init__("\n".join((": ".join(part for part in (where, field, problem) if part), *further)))
        self.file, self.line, self.field, self.problem = file, line, field, problem


class SpecError(InputError):
    """The lab's spec is not valid."""


class TraceError(InputError):
    """A trace of arrivals cannot be read."""


class RunError(InputError):
    """A run's folder is missing something or cannot be read."""


class NotOwnedError(LabError):
    """A publisher would change what it does not own; nothing was published."""


class LabNotRunningError(LabError):
    """The lab is down, or its control plane does not answer."""


class UnitError(LabError):
    """A unit did not start, or died."""


class PublishError(LabError):
    """A publish failed; the previous revision stays in force."""


class StaleRevisionError(PublishError):
    """Another revision was published since the publisher read the one it expects."""


class RegistryError(LabError):
    """The file of revisions cannot be read or written; its content is unchanged."""


class NoDecisionError(LabError):
    """The rules give this request no decision."""


class UnknownUseCaseError(NoDecisionError):
    """The use case is not in the route table; ``NOT_FOUND`` on the wire."""


class UnknownVersionError(NoDecisionError):
    """An override names a model version that is not in the route table; ``NOT_FOUND`` on the wire."""


class CallerNotAllowedError(NoDecisionError):
    """The caller may not call the use case, or not with this override; ``PERMISSION_DENIED`` on the wire."""


class CallError(LabError):
    """An inference call failed.

    Attributes:
        code: gRPC status; the same failure has the same status in every topology.
        message: names the use case or the routing key, and the reason.
        routing_key: of the routing decision; empty if there was none, or the client does not know it.
        revision: of that decision; 0 likewise.
        attempts: number of times that it was sent to a model.
        shadow: routing key of the shadow that was asked to receive a copy; empty if none.
    """

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str,
        *,
        routing_key: str = "",
        revision: int = 0,
        attempts: int = 0,
        shadow: str = "",
    ) -> None:
        super().__init__(f"{code.name}: {message}")
        self.code, self.message = code, message
        self.routing_key, self.revision, self.attempts, self.shadow = routing_key, revision, attempts, shadow


class ResolverUnreachableError(CallError):
    """The resolver cannot be reached, and the client has no lease left to route by."""


class DeadlineError(LabError):
    """A condition did not come true in time."""
