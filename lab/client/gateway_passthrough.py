"""Caller → gateway → model, with the payload's bytes passed on as they are: who asks for what travels in a header."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lab.client import headers
from lab.client.gateway import GatewayClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lab.client.attempts import Passage
    from lab.client.rpc_channel import Metadata
    from models.apis import InferenceRequest


class GatewayPassthroughClient(GatewayClient):
    """Takes the envelope out of the body and sends it as a header, so that the gateway need not read the body."""

    topology = "gateway-passthrough"

    def _fill(self, request: InferenceRequest, context: Mapping[str, str], passage: Passage) -> tuple[bytes, Metadata]:
        envelope = self._fill_envelope(request, context, passage).SerializeToString()
        request.ClearField("envelope")
        return request.SerializeToString(), ((headers.ENVELOPE, envelope),)
