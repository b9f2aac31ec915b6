"""The example request whose size the talk gives in both encodings.

Rajat Shah, "Routing ML Inference Traffic at Internet Scale", InternetDaySF 2026: "68 bytes" of JSON, "~18 bytes" of
protobuf. The true sizes are computed here, from the message and the values on the slide.
"""

from __future__ import annotations

from typing import Any

import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

EXAMPLE: dict[str, Any] = {"user_id": "u_abc123", "surface": "home_page", "title_ids": ["t01", "t02"]}
JSON_BYTES_CLAIMED, PROTOBUF_BYTES_CLAIMED = 68, 18


def json_bytes() -> int:
    """Returns the length of the example as compact JSON."""
    return len(orjson.dumps(EXAMPLE))


def protobuf_bytes() -> int:
    """Returns the length of the example as the message on the slide."""
    file = descriptor_pb2.FileDescriptorProto(name="talk.proto", package="talk", syntax="proto3")
    message = file.message_type.add(name="RankRequest")
    kind = descriptor_pb2.FieldDescriptorProto
    for number, name in enumerate(EXAMPLE, start=1):
        label = kind.LABEL_REPEATED if name == "title_ids" else kind.LABEL_OPTIONAL
        message.field.add(name=name, number=number, type=kind.TYPE_STRING, label=label)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    request_class = message_factory.GetMessageClass(pool.FindMessageTypeByName("talk.RankRequest"))
    return len(request_class(**EXAMPLE).SerializeToString())
