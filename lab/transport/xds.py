"""Channels whose gRPC library routes by itself, configured by the control plane over xDS (proxyless).

gRPC reads the xDS bootstrap, which names the process's node, from the environment once, and keeps it. So the first
identity of a process goes into the environment. A process with several identities, such as a bench that acts as
several callers, passes the others by a channel argument that gRPC has for tests.
"""

from __future__ import annotations

import json
import os
import re
import secrets
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio

from lab.errors import SpecError
from lab.identity import folder as identity
from lab.transport.call_tracking import without_cycles
from lab.transport.channels import DATA_KEEPALIVE, OPTIONS, Option, any_of, resolve_peer
from lab.transport.rpc_metrics import counted
from lab.transport.tracing import traced

if TYPE_CHECKING:
    from lab.transport.security import Security

LISTENER = "models"
"""Name of the listener that such channels request: ``xds:///models``."""

ROLE = "proxyless"

CERTIFICATES = "lab"
"""Name of the certificate provider in the bootstrap, for clusters to refer to."""

_SUFFIX_BYTES = 3
_VARIABLE, _FILE_VARIABLE = "GRPC_XDS_BOOTSTRAP_CONFIG", "GRPC_XDS_BOOTSTRAP"
_ARGUMENT = "grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config"

# Caller, control plane and certificate's folder of the identity in the environment; one at most.
_in_environment: list[tuple[str, str, str]] = []


def open_xds_channel(control_plane: str, caller: str, security: Security | None = None) -> grpc.aio.Channel:
    """An asyncio channel to all models, by routing key.

    Args:
        control_plane: ``host:port`` of its xDS API; several with commas, if they serve the same resources.
        caller: that the process acts as; each process of a caller is its own node.
        security: credentials; this process's own by default.

    Raises:
        SpecError: the environment has an xDS bootstrap that the lab did not write.
    """
    security, _ = resolve_peer(control_plane.split(",", 1)[0], security, "")
    options = _bootstrap_options(control_plane, caller, security.folder)
    target = f"xds:///{LISTENER}"
    if not security.is_mtls:
        return traced(counted(without_cycles(grpc.aio.insecure_channel(target, options=options))), target)
    # No fallback credentials: a cluster without TLS settings gets no connection, rather than one in plaintext.
    credentials = grpc.xds_channel_credentials()
    return traced(counted(without_cycles(grpc.aio.secure_channel(target, credentials, options=options))), target)


def bootstrap(control_plane: str, caller: str, folder: str = "") -> dict[str, Any]:
    """The xDS bootstrap, see gRFCs A27, A29 and A65.

    A caller's service and a load driver beside it are different nodes, with different ids. A node keeps its id as long
    as its process runs, also when it reconnects to the control plane.

    Args:
        control_plane: as for :func:`open_xds_channel`. gRPC gets them as one server at several addresses: from a
            fallback server (gRFC A71) it requests missing resources only, and would miss changes.
        caller: that the process acts as.
        folder: of this process's certificate; empty for plaintext.
    """
    node = {
        "id": f"{caller}-{ROLE}-{secrets.token_hex(_SUFFIX_BYTES)}",
        "cluster": caller,
        "metadata": {"role": ROLE},
        "locality": {},  # grpc-js-xds refuses a node without one
    }
    server = {"server_uri": any_of(control_plane), "server_features": ["xds_v3"]}
    if not folder:
        return {"xds_servers": [{**server, "channel_creds": [{"type": "insecure"}]}], "node": node}
    current = f"{folder}/{identity.CURRENT}"
    files = {
        "certificate_file": f"{current}/{identity.CERTIFICATE}",
        "private_key_file": f"{current}/{identity.KEY}",
        "ca_certificate_file": f"{current}/{identity.AUTHORITIES}",
        "refresh_interval": "1s",
    }
    return {
        "xds_servers": [{**server, "channel_creds": [{"type": "tls", "config": files}]}],
        "certificate_providers": {CERTIFICATES: {"plugin_name": "file_watcher", "config": files}},
        "node": node,
    }


def is_node_of(caller: str, node: str) -> bool:
    """Whether a node's name is one that :func:`bootstrap` gives a process of this caller."""
    return re.fullmatch(rf"{re.escape(caller)}-{ROLE}-[0-9a-f]{{{2 * _SUFFIX_BYTES}}}", node) is not None


def _bootstrap_options(control_plane: str, caller: str, folder: str = "") -> tuple[Option, ...]:
    """Options for a channel of this identity; writes the process's first one into the environment."""
    if _FILE_VARIABLE in os.environ:
        raise SpecError(f"{_FILE_VARIABLE} is set, and gRPC would use its bootstrap: unset it")
    if not _in_environment:
        # Replaces the parent process's.
        os.environ[_VARIABLE] = json.dumps(bootstrap(control_plane, caller, folder))
        _in_environment.append((caller, control_plane, folder))
    if (caller, control_plane, folder) in _in_environment:
        return (*OPTIONS, *DATA_KEEPALIVE)
    return (*OPTIONS, *DATA_KEEPALIVE, (_ARGUMENT, json.dumps(bootstrap(control_plane, caller, folder))))
