"""TLS of an Envoy: secrets in files (file-based SDS), which Envoy reads again whenever the folder's link moves.

Here are the parts of an Envoy's bootstrap. The control plane refers to the same secrets in the clusters that it sends.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lab.identity.folder import AUTHORITIES, CERTIFICATE, CURRENT, KEY
from lab.identity.names import OPERATOR, TRUST_DOMAIN, Identity

IDENTITY, TRUSTED = "identity", "trusted"
"""Names of the two secrets, and of their files."""

_TYPES = "type.googleapis.com/envoy.extensions.transport_sockets"
_RAW: dict[str, Any] = {
    "name": "envoy.transport_sockets.raw_buffer",
    "typed_config": {"@type": f"{_TYPES}.raw_buffer.v3.RawBuffer"},
}
# As a client an Envoy stops at 1.2 by default.
_VERSIONS = {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"}


def sds_files(folder: str) -> dict[str, str]:
    """Name → content of the files that describe an Envoy's secrets: its certificate, and the authorities it trusts."""
    present, watched = f"{folder}/{CURRENT}", {"path": folder}
    return {
        f"{IDENTITY}.yaml": _secret(
            IDENTITY,
            tls_certificate={
                "certificate_chain": {"filename": f"{present}/{CERTIFICATE}"},
                "private_key": {"filename": f"{present}/{KEY}"},
                "watched_directory": watched,
            },
        ),
        f"{TRUSTED}.yaml": _secret(
            TRUSTED,
            validation_context={
                "trusted_ca": {"filename": f"{present}/{AUTHORITIES}"},
                "watched_directory": watched,
            },
        ),
    }


def sockets_of(folder: str, caller: str) -> Mapping[str, str]:
    """The bootstrap's transport sockets, as JSON, by their names in the template.

    A sidecar accepts plaintext from its pod's loopback, or at its Unix socket. Clients from elsewhere, and all clients
    of the central Envoy, must present a certificate.

    Args:
        folder: of its :func:`sds_files`; empty for plaintext.
        caller: the caller that a sidecar runs beside; empty for the Envoy that all callers share.
    """
    sockets = {"listener_match": {}, "listener_socket": _RAW, "outside_chain": None, "control_plane_socket": _RAW}
    if not folder:
        return {name: json.dumps(socket) for name, socket in sockets.items()}
    operator = {"prefix": f"spiffe://{TRUST_DOMAIN}/{OPERATOR}/"}
    callers = {"exact": Identity("caller", caller).uri} if caller else {"prefix": f"spiffe://{TRUST_DOMAIN}/caller/"}
    secured = _tls("DownstreamTlsContext", folder, callers, operator)
    secured["typed_config"]["require_client_certificate"] = True
    sockets["control_plane_socket"] = upstream_socket(folder, Identity("control-plane", "control-plane"))
    if not caller:
        return {name: json.dumps(socket) for name, socket in {**sockets, "listener_socket": secured}.items()}
    sockets["listener_match"] = {"source_type": "SAME_IP_OR_LOOPBACK"}
    # The filters are a YAML anchor of the template.
    outside = f'{{"transport_socket": {json.dumps(secured)}, "filters": *requests }}'
    return {**{name: json.dumps(socket) for name, socket in sockets.items()}, "outside_chain": outside}


def upstream_socket(folder: str, peer: Identity) -> dict[str, Any]:
    """The transport socket of a cluster whose hosts must prove to be ``peer``."""
    return _tls("UpstreamTlsContext", folder, {"exact": peer.uri})


def upstream_socket_to(host: str, authorities: str) -> dict[str, Any]:
    """The transport socket of a cluster outside the lab: its hosts must prove the name or IPv4 address ``host``.

    Args:
        host: name or address.
        authorities: certificates, PEM, of those who may have signed theirs.
    """
    is_address = host.replace(".", "").isdigit()
    subject = {"san_type": "IP_ADDRESS" if is_address else "DNS", "matcher": {"exact": host}}
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}.tls.v3.UpstreamTlsContext",
            **({} if is_address else {"sni": host}),
            "common_tls_context": {
                "tls_params": {"tls_maximum_protocol_version": "TLSv1_3"},
                "alpn_protocols": ["h2"],
                "validation_context": {
                    "trusted_ca": {"inline_string": authorities},
                    "match_typed_subject_alt_names": [subject],
                },
            },
        },
    }


def _tls(context: str, folder: str, *uris: Mapping[str, str]) -> dict[str, Any]:
    """A TLS socket that presents the certificate, and demands one with a SPIFFE id that matches one of ``uris``."""
    return {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{_TYPES}.tls.v3.{context}",
            "common_tls_context": {
                "tls_params": _VERSIONS,
                "alpn_protocols": ["h2"],
                "tls_certificate_sds_secret_configs": [_source(IDENTITY, folder)],
                "combined_validation_context": {
                    "default_validation_context": {
                        "match_typed_subject_alt_names": [{"san_type": "URI", "matcher": uri} for uri in uris]
                    },
                    "validation_context_sds_secret_config": _source(TRUSTED, folder),
                },
            },
        },
    }


def _source(name: str, folder: str) -> dict[str, Any]:
    path = {"path": f"{folder}/{name}.yaml"}
    return {"name": name, "sds_config": {"path_config_source": path, "resource_api_version": "V3"}}


def _secret(name: str, **content: Any) -> str:
    resource = {"@type": f"{_TYPES}.tls.v3.Secret", "name": name, **content}
    return json.dumps({"resources": [resource]}, indent=1)
