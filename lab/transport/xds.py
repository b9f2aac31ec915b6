"""Channels whose gRPC library asks the control plane where to send, by xDS, and routes by itself.

Who a process is to the control plane, gRPC takes from its environment, and may keep for longer than the channel that
made it look there is open. So a process has one identity by that, for good, as a service has. A process that plays
several callers, or meets several labs, such as a bench's or a test's, gets the others by a channel argument that gRPC
has for such use alone.
"""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING

import grpc
import grpc.aio

from lab.errors import SpecError
from lab.identity import folder as identity
from lab.transport.channels import DATA_KEEPALIVE, OPTIONS, any_of, who_is_there

if TYPE_CHECKING:
    from lab.transport.channels import Option
    from lab.transport.security import Security

LISTENER = "models"
"""What such channels ask for: ``xds:///models``."""

ROLE = "proxyless"

CERTIFICATES = "lab"
"""Name of the certificates that such channels have, for clusters to refer to."""

_VARIABLE, _FILE_VARIABLE = "GRPC_XDS_BOOTSTRAP_CONFIG", "GRPC_XDS_BOOTSTRAP"
_ARGUMENT = "grpc.TEST_ONLY_DO_NOT_USE_IN_PROD.xds_bootstrap_config"

# Caller, control plane and certificate's folder; one at most.
_introduced_as: list[tuple[str, str, str]] = []


def open_xds_channel(control_plane: str, caller: str, security: Security | None = None) -> grpc.aio.Channel:
    """An asyncio channel to all models, by routing key.

    Args:
        control_plane: ``host:port`` of its xDS API; of several that serve the same all, with commas between.
        caller: in whose name; each process of a caller is a node of its own there.
        security: credentials; this process's own by default.

    Raises:
        SpecError: somebody else has told gRPC who this process is.
    """
    security, _ = who_is_there(control_plane.split(",", 1)[0], security, "")
    options = _introduce(control_plane, caller, security.folder)
    target = f"xds:///{LISTENER}"
    if not security.is_mtls:
        return grpc.aio.insecure_channel(target, options=options)
    # Without a fallback of its own: a cluster that brings no TLS gets no connection, rather than one in plaintext.
    return grpc.aio.secure_channel(target, grpc.xds_channel_credentials(), options=options)


def bootstrap(control_plane: str, caller: str, folder: str = "") -> dict[str, object]:
    """What gRPC is to know, see gRFCs A27, A29 and A65.

    A caller's service and a load driver beside it are different nodes, so they have different ids. The id lives as long
    as the process: whoever comes back to a control plane that was away is the same node as before.

    Args:
        control_plane: as for :func:`open_xds_channel`. To gRPC they are one server at several addresses: of what it
            calls a fallback server (gRFC A71) it asks only what it has not got yet, and would not hear of changes.
        caller: in whose name.
        folder: of this process's certificate; empty for plaintext.
    """
    node = {
        "id": f"{caller}-{ROLE}-{secrets.token_hex(3)}",
        "cluster": caller,
        "metadata": {"role": ROLE},
    }
    server = {"server_uri": any_of(control_plane), "server_features": ["xds_v3"]}
    if not folder:
        return {"xds_servers": [{**server, "channel_creds": [{"type": "insecure"}]}], "node": node}
    present = f"{folder}/{identity.CURRENT}"
    files = {
        "certificate_file": f"{present}/{identity.CERTIFICATE}",
        "private_key_file": f"{present}/{identity.KEY}",
        "ca_certificate_file": f"{present}/{identity.AUTHORITIES}",
        "refresh_interval": "1s",
    }
    return {
        "xds_servers": [{**server, "channel_creds": [{"type": "tls", "config": files}]}],
        "certificate_providers": {CERTIFICATES: {"plugin_name": "file_watcher", "config": files}},
        "node": node,
    }


def _introduce(control_plane: str, caller: str, folder: str = "") -> tuple[Option, ...]:
    """Lets gRPC know who this process is; returns options for a channel."""
    if _FILE_VARIABLE in os.environ:
        raise SpecError(f"{_FILE_VARIABLE} is set, and gRPC would go by it: unset it")
    if not _introduced_as:
        # What is there already is the parent process's.
        os.environ[_VARIABLE] = json.dumps(bootstrap(control_plane, caller, folder))
        _introduced_as.append((caller, control_plane, folder))
    if (caller, control_plane, folder) in _introduced_as:
        return (*OPTIONS, *DATA_KEEPALIVE)
    return (*OPTIONS, *DATA_KEEPALIVE, (_ARGUMENT, json.dumps(bootstrap(control_plane, caller, folder))))
