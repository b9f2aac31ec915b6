"""The request context in its two forms: fields by name, as rules read them, and the message on the wire."""

from __future__ import annotations

from collections.abc import Mapping

from lab.plain_text import MAX_CHARACTERS, require_header_value, require_plain
from models.proto.serving.v1 import serving_pb2

OVERRIDE = "override"
TEXT_FIELDS = ("user_id", "device", "country", "segment", "surface", "caller", "tenant", OVERRIDE)
TRAFFIC_ORIGIN = "traffic_origin"
FIELDS = (*TEXT_FIELDS, TRAFFIC_ORIGIN)

_ORIGINS = {
    "real": serving_pb2.TRAFFIC_ORIGIN_REAL,
    "artificial": serving_pb2.TRAFFIC_ORIGIN_ARTIFICIAL,
    "": serving_pb2.TRAFFIC_ORIGIN_UNSPECIFIED,
}
_ORIGIN_NAMES = {number: name for name, number in _ORIGINS.items()}


def origin_name(message: serving_pb2.RequestContext | serving_pb2.AnsweredBy) -> str:
    """``real`` or ``artificial``; empty if the message sets no origin.

    Raises:
        ValueError: protobuf accepted an unknown value; the text lists the known ones.
    """
    name = _ORIGIN_NAMES.get(message.traffic_origin)
    if name is None:
        raise ValueError(f"{TRAFFIC_ORIGIN}: {message.traffic_origin} is not known; write 'real' or 'artificial'")
    return name


def read_context(message: serving_pb2.RequestContext) -> dict[str, str]:
    """The fields that are set.

    Raises:
        ValueError: as :func:`origin_name`, and if a text is not plain, see :mod:`lab.plain_text`.
    """
    context = {name: value for name in TEXT_FIELDS if (value := getattr(message, name))}
    if not (text := "".join(context.values())).isprintable() or len(text) > MAX_CHARACTERS:
        for name, value in context.items():
            require_plain(name, value)
    if origin := origin_name(message):
        context[TRAFFIC_ORIGIN] = origin
    return context


def read_envelope(envelope: serving_pb2.Envelope) -> dict[str, str]:
    """The fields of its context that are set, once all its texts have been checked.

    Raises:
        ValueError: a text is not plain, so that it could not go into a header, a log or a message; or the traffic
            origin is unknown.
    """
    require_header_value("request_id", envelope.request_id)
    require_plain("use_case", envelope.use_case)
    config = envelope.model_config
    require_plain("model_config", config.model + config.version)
    return read_context(envelope.context)


def write_context(message: serving_pb2.RequestContext, context: Mapping[str, str]) -> None:
    """Replaces the content of ``message`` by ``context``.

    Raises:
        ValueError: unknown field or traffic origin; the message lists the known ones.
    """
    message.Clear()
    for name, value in context.items():
        if name == TRAFFIC_ORIGIN:
            if value not in _ORIGINS:
                raise ValueError(f"{TRAFFIC_ORIGIN}: {value!r} is not known; write 'real' or 'artificial'")
            message.traffic_origin = _ORIGINS[value]
        elif name in TEXT_FIELDS:
            setattr(message, name, value)
        else:
            raise ValueError(f"request context: no field {name!r}; there are {', '.join(FIELDS)}")
