"""A client of REST that knows nothing but the standard library."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from lab.lab import Lab


def post(lab: Lab, url: str, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, Any]]:
    """As ``curl -d`` does it, with the operator's certificate; gives status and answer."""
    folder = Path(lab.endpoints().identity) / "current"
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    headers = {"content-type": "application/json", **{name.replace("_", "-"): text for name, text in headers.items()}}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)  # noqa: S310 (this machine's own)
    try:
        with urllib.request.urlopen(request, timeout=20, context=context) as answer:  # noqa: S310
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def asking(caller: str = "homepage", **context: str) -> dict[str, Any]:
    return {"envelope": {"context": {"userId": "u1", "caller": caller, **context}}, "titles": [{"id": "t1"}]}
