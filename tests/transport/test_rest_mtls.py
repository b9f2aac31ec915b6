"""REST over TLS: who is admitted, with which identity, and that certificates can rotate."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from lab.identity.authority import Authority
from lab.transport import RestServer
from lab.transport.rest_server import HttpReply, HttpRequest
from lab.transport.security import Security
from lab.transport.tls import spiffe_id
from tests.transport.servers import secured


def as_client(security: Security, *, trusted: Security | None = None) -> ssl.SSLContext:
    """TLS context of an outside client, with the certificate in a folder."""
    context = ssl.create_default_context(cafile=Path((trusted or security).folder) / "current" / "ca.pem")
    folder = Path(security.folder) / "current"
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@asynccontextmanager
async def serving(security: Security) -> AsyncIterator[str]:
    async def answer(request: HttpRequest) -> HttpReply:
        return HttpReply(200, request.peer.encode())

    server = RestServer(answer)
    port = server.listen("127.0.0.1:0", security)
    try:
        yield f"https://127.0.0.1:{port}/"
    finally:
        await server.close()


async def ask(url: str, context: ssl.SSLContext) -> str:
    """The peer's identity, as the server sees it."""
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
        return await response.text()


def is_answered(url: str, context: ssl.SSLContext) -> bool:
    """Whether a request is answered: with TLS 1.3 a client learns of its rejection only after the handshake."""
    address = "127.0.0.1", port_of(url)
    with socket.create_connection(address, 10) as plain, context.wrap_socket(plain, server_hostname=address[0]) as tls:
        try:
            tls.sendall(b"GET / HTTP/1.1\r\nHost: m\r\n\r\n")
            return bool(tls.recv(1))
        except (ssl.SSLError, ConnectionError):
            return False


def port_of(url: str) -> int:
    return int(url.strip("/").rpartition(":")[2])


async def shown(url: str, context: ssl.SSLContext) -> str:
    """Serial number of the certificate that the server presents."""
    _, writer = await asyncio.open_connection("127.0.0.1", port_of(url), ssl=context)
    serial: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return serial


async def test_a_requests_peer_is_the_certificates_identity(authority: Authority) -> None:
    caller = as_client(secured(authority, "caller", "homepage"))
    async with serving(secured(authority, "model", "m")) as url:
        assert await ask(url, caller) == "spiffe://lab.internal/caller/homepage"


async def test_clients_without_the_labs_certificate_are_rejected(authority: Authority, tmp_path: Path) -> None:
    model = secured(authority, "model", "m")
    stranger = secured(Authority.create(tmp_path / "other", lifetime_s=3600), "caller", "homepage")
    nobody = ssl.create_default_context(cafile=Path(model.folder) / "current" / "ca.pem")
    async with serving(model) as url:
        for context in (nobody, as_client(stranger, trusted=model)):
            assert not await asyncio.to_thread(is_answered, url, context)
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(url.replace("https", "http"))
        good = as_client(secured(authority, "caller", "homepage"))
        assert await asyncio.to_thread(is_answered, url, good)
        assert await ask(url, good) == "spiffe://lab.internal/caller/homepage"


async def test_the_server_follows_rotation_and_keeps_the_last_readable_certificate(authority: Authority) -> None:
    model, caller = secured(authority, "model", "m"), as_client(secured(authority, "caller", "homepage"))
    async with serving(model) as url:
        first = await shown(url, caller)
        secured(authority, "model", "m")
        second = await shown(url, caller)
        assert first != second
        current = Path(model.folder) / "current"
        current.unlink()
        current.symlink_to("nowhere")
        assert await shown(url, caller) == second
        assert await ask(url, caller) == "spiffe://lab.internal/caller/homepage"


def test_an_expired_certificate_or_one_with_two_ids_has_no_identity() -> None:
    ends, names = "Jan  1 00:00:00 2020 GMT", (("DNS", "spiffe://lab.internal/caller/ads"), ("URI", "spiffe://one"))
    ahead = "Jan  1 00:00:00 2900 GMT"
    assert spiffe_id({"notAfter": ahead, "subjectAltName": names}) == "spiffe://one"
    assert spiffe_id({"notAfter": ends, "subjectAltName": names}) == ""
    assert spiffe_id({"notAfter": ahead, "subjectAltName": (*names, ("URI", "spiffe://two"))}) == ""
    assert spiffe_id(None) == ""
