"""Every error that the lab raises on purpose.

::

    LabError                what was found, where, and what to do; the command line prints it as one line
    ├── InputError          a file or argument of the user is wrong; nothing was changed
    │   ├── RouteTableError     the route table
    │   ├── SpecError           the lab's spec
    │   ├── TraceError          a trace of arrivals
    │   └── RunError            a run's folder
    ├── LabNotRunningError  the command needs a lab that is up
    ├── UnitError           a unit did not start, or died
    ├── PublishError        a publish stopped; the revision before stays in force
    │   └── StaleRevisionError  somebody else has published since the publisher looked
    ├── RegistryError       the file of the revisions cannot be read or written; what is in it is as it was
    ├── NoDecisionError     the rules give this request no decision
    │   ├── UnknownUseCaseError     no such use case: NOT_FOUND
    │   ├── UnknownVersionError     an override names a model version that there is not: NOT_FOUND
    │   └── CallerNotAllowedError   this caller may not ask for it, or not so: PERMISSION_DENIED
    ├── CallError           an inference call failed; carries its gRPC status
    │   └── ResolverUnreachableError  nobody could say where to send it
    └── DeadlineError       a condition did not come true in time; carries the last state seen
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc


class LabError(Exception):
    """What was found, where, and what to do, in one line."""


class InputError(LabError):
    """A file or an argument of the user is wrong; nothing was changed."""


class RouteTableError(InputError):
    """The route table is not valid.

    Attributes:
        file: name of the file, ``-`` if there is none.
        line: 1-based line, 0 if unknown.
        field: dotted path of the field, empty if the file as a whole is meant.
        problem: what is wrong and what to write instead.
    """

    def __init__(self, problem: str, *, file: str = "-", line: int = 0, field: str = "") -> None:
        where = f"{file}:{line}" if line else file
        super().__init__(": ".join(part for part in (where, field, problem) if part))
        self.file, self.line, self.field, self.problem = file, line, field, problem


class SpecError(InputError):
    """The lab's spec is not valid."""


class TraceError(InputError):
    """A trace of arrivals cannot be read."""


class RunError(InputError):
    """A run's folder is missing something or cannot be read."""


class LabNotRunningError(LabError):
    """The command needs a lab that is up."""


class UnitError(LabError):
    """A unit did not start, or died."""


class PublishError(LabError):
    """A publish stopped; the revision before stays in force."""


class StaleRevisionError(PublishError):
    """Somebody else has published since the publisher looked."""


class RegistryError(LabError):
    """The file of the revisions cannot be read or written; what is in it is as it was."""


class NoDecisionError(LabError):
    """The rules give this request no decision."""


class UnknownUseCaseError(NoDecisionError):
    """The use case is not in the route table; ``NOT_FOUND`` on the wire."""


class UnknownVersionError(NoDecisionError):
    """An override names a model version that is not in the route table; ``NOT_FOUND`` on the wire."""


class CallerNotAllowedError(NoDecisionError):
    """The use case, or an override in it, is not for this caller; ``PERMISSION_DENIED`` on the wire."""


class CallError(LabError):
    """An inference call failed.

    Attributes:
        code: gRPC status; the same failure has the same status in every topology.
        message: names the use case or the routing key, and the reason.
        routing_key: of the decision that it was sent under; empty if there was none, or the client does not know it.
        revision: of that decision, 0 likewise.
        attempts: how often it was sent to a model.
        shadow: routing key of the shadow that a copy was asked for; empty if none.
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
    """The resolver cannot be reached, and no lease serves any longer: nobody can say where to send."""


class DeadlineError(LabError):
    """A condition did not come true in time."""
