"""Gateway API: GRPCRoutes at a Gateway, for any implementation of it."""

from __future__ import annotations

from lab.plugins.render._grpc_routes import API, AUTHORITY, Manifest, backend_tls, routes_of
from lab.plugins.render._target import Rendering, Source, Target, yaml_of
from lab.plugins.render._unexpressed import GATEWAY_API, unexpressed_settings

GATEWAY = "models"
"""Name of the Gateway that callers connect to."""


def gateway(source: Source, gateway_class: str) -> Manifest:
    """The Gateway; with mutual TLS it asks callers for certificates and has one of its own towards models."""
    listener: Manifest = {"name": "grpc", "port": 80, "protocol": "HTTP"}
    tls: Manifest = {}
    if source.mtls:
        secret = {"kind": "Secret", "name": GATEWAY}
        listener = {
            "name": "grpc",
            "port": 443,
            "protocol": "HTTPS",
            "tls": {"mode": "Terminate", "certificateRefs": [secret]},
        }
        authorities = [{"group": "", "kind": "ConfigMap", "name": AUTHORITY}]
        tls = {
            "tls": {
                "frontend": {"default": {"validation": {"caCertificateRefs": authorities}}},
                "backend": {"clientCertificateRef": secret},
            }
        }
    return {
        "apiVersion": API,
        "kind": "Gateway",
        "metadata": {"name": GATEWAY},
        "spec": {"gatewayClassName": gateway_class, "listeners": [listener], **tls},
    }


def _render(source: Source) -> Rendering:
    routes = routes_of(source, {"name": GATEWAY}, has_timeouts=False)
    files = {
        "gateway.yaml": yaml_of(
            [gateway(source, "inference")],
            "Write the GatewayClass of your implementation. Model clusters are Services of their names, port 9000.",
        ),
        "routes.yaml": yaml_of(routes.routes),
    }
    if source.mtls:
        files["backend-tls.yaml"] = yaml_of(
            backend_tls(source.table.clusters), f"ca.crt of ConfigMap {AUTHORITY}: the authority of the models."
        )
    settings = unexpressed_settings(source.table.document, GATEWAY_API)
    return Rendering(files, (*routes.unexpressed, *settings))


TARGET = Target("gateway-api", "GRPCRoute, Gateway and BackendTLSPolicy, for any implementation", _render)
