"""Requests as plain values, which either encoding can carry; among them the talk's example, with its true sizes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import orjson
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from lab.plugins.bench.harness.variant import API, CALLER, MODEL, USE_CASE, VERSION
from models.apis import APIS
from models.json_mapping import from_document
from models.proto.ranking.v1 import ranking_pb2

# Rajat Shah, "Routing ML Inference Traffic at Internet Scale", InternetDaySF 2026: "68 bytes" of JSON, "~18 bytes" of
# protobuf. The true sizes are computed here, from the message and the values on the slide.
EXAMPLE: dict[str, Any] = {"user_id": "u_abc123", "surface": "home_page", "title_ids": ["t01", "t02"]}
JSON_BYTES_CLAIMED, PROTOBUF_BYTES_CLAIMED = 68, 18


@dataclass(frozen=True, slots=True)
class Payload:
    """One request, as plain values: an envelope in JSON's form, and the id and float32 features of each title."""

    name: str
    envelope: Mapping[str, Any]
    titles: Sequence[tuple[str, np.ndarray[Any, np.dtype[np.float32]]]]

    def message(self) -> Callable[[], ranking_pb2.RankRequest]:
        """Returns a function that builds the protobuf message from lists, ten times as fast as from arrays."""
        envelope = from_document(ranking_pb2.RankRequest, {"envelope": self.envelope}).envelope
        titles = [(name, features.tolist()) for name, features in self.titles]

        def build() -> ranking_pb2.RankRequest:
            return ranking_pb2.RankRequest(
                envelope=envelope, titles=[ranking_pb2.Title(id=name, features=features) for name, features in titles]
            )

        return build

    def document(self) -> dict[str, Any]:
        """Returns the document that orjson writes."""
        titles = [{"id": name, "features": each} if each.size else {"id": name} for name, each in self.titles]
        return {"envelope": self.envelope, "titles": titles}


def talk_payload() -> Payload:
    """Returns the talk's example in the lab's API."""
    context = {"userId": EXAMPLE["user_id"], "surface": EXAMPLE["surface"]}
    nothing = np.empty(0, dtype=np.float32)
    return Payload("the talk's example", {"context": context}, [(title, nothing) for title in EXAMPLE["title_ids"]])


def sized_payload(name: str, size: int) -> Payload:
    """Returns a request of about ``size`` bytes of protobuf; its features are random, as real ones have all digits."""
    draw = np.random.default_rng(size)
    envelope = {
        "useCase": USE_CASE,
        "context": {"userId": "u1", "caller": CALLER},
        "modelConfig": {"model": MODEL, "version": VERSION},
    }
    titles = [
        (title.id, draw.standard_normal(len(title.features), dtype=np.float32))
        for title in APIS[API].build_request(size).titles
    ]
    return Payload(name, envelope, titles)


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
