"""REST by TLS: who gets in, as whom, and that a certificate can change under it."""

from __future__ import annotations

import asyncio
import socket
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from lab.identity import Identity
from lab.identity.authority import Authority, folder_of
from lab.transport import RestServer
from lab.transport.rest import HttpReply, HttpRequest
from lab.transport.security import MTLS, Security
from lab.transport.tls import spiffe_id

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def secured(authority: Authority, role: str, name: str) -> Security:
    authority.issue(name, Identity(role, name), {"127.0.0.1"})
    return Security(MTLS, str(folder_of(authority.folder, name)))


def as_client(security: Security, *, trusted: Security | None = None) -> ssl.SSLContext:
    """What a client that is not the lab's makes of the folder of a certificate."""
    context = ssl.create_default_context(cafile=Path((trusted or security).folder) / "current" / "ca.pem")
    folder = Path(security.folder) / "current"
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.create(tmp_path / "pki", lifetime_s=3600)


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
    """Who the server says has come."""
    async with aiohttp.ClientSession() as session, session.get(url, ssl=context) as response:
        return await response.text()


def is_answered(url: str, context: ssl.SSLContext) -> bool:
    """Whether a request gets an answer: by TLS 1.3 a client that is refused hears so only after its handshake."""
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
    """The serial number of the certificate that the server shows."""
    _, writer = await asyncio.open_connection("127.0.0.1", port_of(url), ssl=context)
    serial: str = writer.get_extra_info("peercert")["serialNumber"]
    writer.close()
    return serial


async def test_who_comes_is_who_the_certificate_says(authority: Authority) -> None:
    caller = as_client(secured(authority, "caller", "homepage"))
    async with serving(secured(authority, "model", "m")) as url:
        assert await ask(url, caller) == "spiffe://lab.internal/caller/homepage"


async def test_nobody_gets_in_without_a_certificate_or_with_another_authoritys(
    authority: Authority, tmp_path: Path
) -> None:
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


async def test_the_present_certificate_is_shown_and_one_that_cannot_be_read_leaves_that_before(
    authority: Authority,
) -> None:
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


def test_a_certificate_that_has_ended_or_names_two_is_nobodys() -> None:
    ends, names = "Jan  1 00:00:00 2020 GMT", (("DNS", "spiffe://lab.internal/caller/ads"), ("URI", "spiffe://one"))
    ahead = "Jan  1 00:00:00 2900 GMT"
    assert spiffe_id({"notAfter": ahead, "subjectAltName": names}) == "spiffe://one"
    assert spiffe_id({"notAfter": ends, "subjectAltName": names}) == ""
    assert spiffe_id({"notAfter": ahead, "subjectAltName": (*names, ("URI", "spiffe://two"))}) == ""
    assert spiffe_id(None) == ""
