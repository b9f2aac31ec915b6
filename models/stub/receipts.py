"""Digests of what a model received, for its answer: evidence that nothing was lost or changed on the way.

The digests are keyed, and each sender's requests have a key of their own: a digest of the sender, keyed with a secret
that only the lab has. So a client, resolver or gateway cannot forge one, and a run's folder has the keys of its own
requests alone. ``lab.checkers.plain_models`` computes the expected digests with separate code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import TYPE_CHECKING, Any
from zlib import crc32

import grpc

from models.apis import APIS, InferenceRequest, Method
from models.context import TEXT_FIELDS, origin_name

if TYPE_CHECKING:
    from models.proto.serving.v1 import serving_pb2

DIGEST_BYTES = 8
_ENVELOPE = 1
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
_CONFIGS_KEPT = _KEYS_KEPT = 1_000
_KEY_BYTES = 16


class Receipts:
    """Computes receipts: the digests of context, model config and payload, one after the other.

    Args:
        key: the lab's secret; without one there are no receipts.
    """

    def __init__(self, key: str = "") -> None:
        self._key = key.encode()
        self._configs: dict[tuple[bytes, bytes], bytes] = {}
        self._keys: dict[str, bytes] = {}

    def of(self, request: InferenceRequest) -> bytes:
        """Returns the receipt of a request, 24 bytes; empty without a key."""
        if not self._key:
            return b""
        envelope = request.envelope
        key = self._key_of(envelope.request_id.partition("-")[0].partition(".")[0])
        return self._context(key, envelope) + self._config(key, envelope.model_config) + self._payload(key, request)

    def _key_of(self, sender: str) -> bytes:
        key = self._keys.get(sender)
        if key is None:
            if len(self._keys) >= _KEYS_KEPT:
                self._keys.clear()
            text = sender.encode("utf-8", "surrogatepass")
            key = blake2b(text, key=self._key, digest_size=_KEY_BYTES).hexdigest().encode()
            self._keys[sender] = key
        return key

    def _context(self, key: bytes, envelope: serving_pb2.Envelope) -> bytes:
        context = envelope.context
        values = [envelope.request_id, envelope.use_case, *[getattr(context, name) for name in TEXT_FIELDS]]
        return _digest(key, *values, origin_name(context))

    def _config(self, key: bytes, config: serving_pb2.ModelConfig) -> bytes:
        wire = config.SerializeToString(deterministic=True)
        digest = self._configs.get((key, wire))
        if digest is None:
            if len(self._configs) >= _CONFIGS_KEPT:
                self._configs.clear()
            parameters = json.dumps(_plain(config.parameters), sort_keys=True)
            digest = self._configs[key, wire] = _digest(key, config.model, config.version, parameters)
        return digest

    def _payload(self, key: bytes, request: InferenceRequest) -> bytes:
        return _digest(key, (request.envelope.payload_seen or payload_seen(_without_envelope(request))).hex())


def _digest(key: bytes, *values: str) -> bytes:
    """Returns the keyed digest of some texts, each preceded by its length so that none runs into the next."""
    text = "".join([f"{len(value)}:{value}" for value in values])
    return blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=DIGEST_BYTES).digest()


def payload_seen(wire: bytes) -> bytes:
    """Returns checksum and size of a serialised request without its envelope, which may be in several parts.

    A CRC costs a tenth of a cryptographic hash, which would add to latencies at 4 MB. The receipt holds a keyed digest
    of the result.

    Raises:
        ValueError: this is not a protobuf message.
    """
    checksum = size = start = at = 0
    view, end = memoryview(wire), len(wire)
    while at < end:
        tag_at = at
        tag, at = _varint(wire, at)
        kind = tag & 7
        if kind == _LENGTH:
            length, at = _varint(wire, at)
            at += length
        elif kind == _VARINT:
            _, at = _varint(wire, at)
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError(f"wire type {kind} at byte {tag_at}")
        if tag >> 3 == _ENVELOPE:
            checksum, size = crc32(view[start:tag_at], checksum), size + tag_at - start
            start = at
    checksum, size = crc32(view[start:end], checksum), size + end - start
    return checksum.to_bytes(4, "big") + size.to_bytes(4, "big")


def handlers_of(servicers: Mapping[str, Any]) -> tuple[grpc.GenericRpcHandler, ...]:
    """Returns the gRPC handlers of the inference APIs; they set ``payload_seen`` in each request's envelope.

    Args:
        servicers: by the name of their API.
    """
    return tuple(
        grpc.method_handlers_generic_handler(
            APIS[api].service, {_name(method): _handler(method, servicer) for method in APIS[api].methods}
        )
        for api, servicer in servicers.items()
    )


def _name(method: Method) -> str:
    return method.path.rpartition("/")[2]


def _handler(method: Method, servicer: Any) -> Any:
    make = grpc.unary_stream_rpc_method_handler if method.streaming else grpc.unary_unary_rpc_method_handler
    return make(
        getattr(servicer, _name(method)),
        request_deserializer=_parser(method.request_class),
        response_serializer=method.response_class.SerializeToString,
    )


def _parser(request_class: Any) -> Callable[[bytes], InferenceRequest]:
    def parse(wire: bytes) -> InferenceRequest:
        request: InferenceRequest = request_class.FromString(wire)
        request.envelope.payload_seen = payload_seen(wire)
        return request

    return parse


def _without_envelope(request: InferenceRequest) -> bytes:
    """Serialises a request that did not arrive as protobuf, but as JSON."""
    payload = type(request)()
    payload.MergeFrom(request)  # type: ignore[attr-defined]
    payload.ClearField("envelope")
    return payload.SerializeToString()


def _varint(wire: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = wire[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:  # noqa: PLR2004 (the last byte of a varint)
            return value, at
        shift += 7


def _plain(value: Any) -> Any:
    """Returns a Struct as a JSON object."""
    fields = getattr(value, "fields", None)
    if fields is not None:
        return {name: _plain(each) for name, each in fields.items()}
    kind = value.WhichOneof("kind")
    match kind:
        case "struct_value":
            return _plain(value.struct_value)
        case "list_value":
            return [_plain(each) for each in value.list_value.values]
        case "null_value" | None:
            return None
        case _:
            return getattr(value, kind)
