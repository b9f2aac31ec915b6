"""Selects the loaded model version that answers a request, or refuses it: pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

import grpc

from lab.routing.keys import HEADER, routing_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from models.proto.serving.v1 import serving_pb2


@dataclass(frozen=True, slots=True)
class LoadedVersion:
    """A model version that is loaded and runnable.

    Attributes:
        routing_key: its routing key, ``cw-ranker.v2``.
        answered_by: part of every answer of this version, built once per assignment. The request context that the model
            saw is added per answer.
    """

    routing_key: str
    model: str
    version: str
    answered_by: serving_pb2.AnsweredBy


class Refused(Exception):  # noqa: N818 (control flow, not an error of the stub)
    """A refused request: its gRPC status, and a message with the remedy."""

    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code, self.message = code, message


class Torn(Refused):
    """Header and body name different model versions."""


def select(
    model: str, version: str, keys: Sequence[str], loaded: Mapping[str, LoadedVersion], replica: str
) -> LoadedVersion:
    """The model version that answers.

    Args:
        model: of the body's model config; empty if the body has none.
        version: likewise.
        keys: all values of the request's routing key header.
        loaded: the replica's model versions by routing key.
        replica: its name, for messages.

    Raises:
        Refused: FAILED_PRECONDITION or INVALID_ARGUMENT.
    """
    if len(keys) > 1 and len(set(keys)) > 1:
        raise Refused(
            grpc.StatusCode.INVALID_ARGUMENT, f"{HEADER} is given as {' and as '.join(keys)}; send exactly one value"
        )
    if model and version:
        wanted = routing_key(model, version)
        if keys and keys[0] != wanted:
            raise Torn(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"tear: {HEADER} says {keys[0]!r}, the body says {wanted!r} ({model}@{version}); "
                f"send both from one decision (replica {replica})",
            )
    elif model or version:
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"envelope.model_config: model is {model!r}, version is {version!r}; set both or neither",
        )
    elif keys:
        wanted = keys[0]
    elif len(loaded) == 1:
        return next(iter(loaded.values()))
    else:
        _refuse_to_guess(loaded, replica)
    found = loaded.get(wanted)
    if found is None:
        raise Refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            f"{_as_model_version(wanted)} is not loaded at replica {replica}; it holds {_listed(loaded)}",
        )
    return found


def _refuse_to_guess(loaded: Mapping[str, LoadedVersion], replica: str) -> NoReturn:
    raise Refused(
        grpc.StatusCode.FAILED_PRECONDITION,
        f"the request names no model version and replica {replica} holds {_listed(loaded)}; "
        f"set the header {HEADER}, or envelope.model_config in the body",
    )


def _listed(loaded: Mapping[str, LoadedVersion]) -> str:
    return ", ".join(sorted(loaded)) or "none"


def _as_model_version(key: str) -> str:
    model, dot, version = key.partition(".")
    return f"{model}@{version} ({HEADER} {key})" if dot else f"{HEADER} {key!r}"
