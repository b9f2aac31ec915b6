"""What an Envoy needs to ask a picker: filters, the picker's cluster, and where a request's host is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lab.plugins.endpoint_picker.contract import DESTINATION, NAMESPACE, SERVED, SUBSET_NAMESPACE
from lab.routing.headers import FORGEABLE

MESSAGE_TIMEOUT_S = 0.5
"""How long a request waits for the picker; then it is refused or, with FailOpen, the Envoy's own policy sends it."""
CLUSTER = "picker"
_TYPES = "type.googleapis.com/envoy.extensions"
_NO_LIMIT = 1_000_000

HOST_METADATA = {"host_from": f"{NAMESPACE} {DESTINATION}", "host_to": f"{NAMESPACE} {SERVED}"}
"""Of the Envoy's node, see ``services.controlplane.xds.picked_hosts``."""


def filters(*, fails_open: bool, with_bodies: bool = False) -> list[dict[str, Any]]:
    """The filters: one removes what a client may have forged, then the picker is asked.

    Args:
        fails_open: whether a request is sent without a pick if there is none.
        with_bodies: whether bodies of requests and answers pass through the picker; it sees headers alone otherwise.
            Envoy then has no time limit for the picker, and cannot send what the picker has taken in.
    """
    bodies = "FULL_DUPLEX_STREAMED" if with_bodies else "NONE"
    trailers = "SEND" if with_bodies else "SKIP"  # full duplex needs them
    return [
        {
            "name": "forged",
            "typed_config": {
                "@type": f"{_TYPES}.filters.http.header_mutation.v3.HeaderMutation",
                "mutations": {"request_mutations": [{"remove": name} for name in FORGEABLE]},
            },
        },
        {
            "name": "picker",
            "typed_config": {
                "@type": f"{_TYPES}.filters.http.ext_proc.v3.ExternalProcessor",
                "grpc_service": {"envoy_grpc": {"cluster_name": CLUSTER}},
                "failure_mode_allow": fails_open,
                "message_timeout": f"{MESSAGE_TIMEOUT_S}s",
                "stat_prefix": "picker",
                # Envoy's own is 500, which gRPC clients see as UNKNOWN.
                "status_on_error": {"code": "ServiceUnavailable"},
                "processing_mode": {
                    "request_header_mode": "SEND",
                    "response_header_mode": "SEND",
                    "request_body_mode": bodies,
                    "response_body_mode": bodies,
                    "request_trailer_mode": trailers,
                    "response_trailer_mode": trailers,
                },
                "metadata_options": {
                    "forwarding_namespaces": {"untyped": [NAMESPACE, SUBSET_NAMESPACE]},
                    "receiving_namespaces": {"untyped": [NAMESPACE]},
                },
            },
        },
    ]


REPLIES = [
    {
        "filter": {
            "extension_filter": {
                "name": "without_an_answer",
                "typed_config": {
                    "@type": f"{_TYPES}.access_loggers.filters.cel.v3.ExpressionFilter",
                    "expression": "response.code_details.startsWith('ext_proc_error')",
                },
            }
        },
        "body_format_override": {
            "text_format_source": {
                "inline_string": "routing key '%REQ(X-ROUTING-KEY):96%': "
                "no answer from the picker: %RESPONSE_CODE_DETAILS%"
            }
        },
    }
]
"""Names the reason if the picker has not answered, for which Envoy itself gives none."""


def cluster(address: Mapping[str, Any], discovery: str, socket: Mapping[str, Any] | None) -> dict[str, Any]:
    """The picker's cluster.

    Args:
        address: as Envoy's configuration has it.
        discovery: of its host, ``STATIC`` or ``STRICT_DNS``.
        socket: transport socket; None for plaintext.
    """
    http2 = {"connection_keepalive": {"interval": "2s", "timeout": "2s"}}
    limits = {"max_connections": _NO_LIMIT, "max_pending_requests": _NO_LIMIT, "max_requests": _NO_LIMIT}
    return {
        "name": CLUSTER,
        "type": discovery,
        "dns_lookup_family": "V4_ONLY",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [limits]},
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{_TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": http2},
            }
        },
        **({"transport_socket": socket} if socket else {}),
        "load_assignment": {
            "cluster_name": CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }
