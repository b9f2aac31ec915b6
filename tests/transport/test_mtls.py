"""mTLS: who is admitted, who is rejected, and that certificates rotate without failing a call."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from operator import is_not
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from lab.errors import SpecError, UnitError
from lab.identity import OPERATOR
from lab.identity.authority import Authority, folder_of
from lab.transport import listen, new_server, open_channel, peer_identity
from lab.transport.authorization import MAX_HEADER_BYTES
from lab.transport.channels import beside
from lab.transport.security import ENVIRONMENT_VARIABLE, IDENTITY_VARIABLE, MTLS, PLAINTEXT, Security
from tests.negative.wire import Answer, Wire, tls_context
from tests.raw_calls import unary
from tests.transport.servers import WHO, answering, secured
from tests.waiting import eventually


@asynccontextmanager
async def serving(security: Security, *admitted: str) -> AsyncIterator[str]:
    def who(context: Any) -> bytes:
        identity = peer_identity(context)
        return identity.uri.encode() if identity else b"nobody"

    server, _ = new_server(handlers=[answering(who)], admits={"test.Echo": admitted}, security=security)
    port = listen(server, "127.0.0.1:0", security)
    await server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await server.stop(0)


async def status_of(address: str, security: Security, peer: str = "") -> tuple[grpc.StatusCode, str]:
    async with open_channel(address, security=security, peer=peer) as channel:
        try:
            answer = await unary(channel, WHO)(b"", timeout=5)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, answer.decode()


async def test_a_server_reads_the_peers_identity_from_its_certificate(authority: Authority) -> None:
    async with serving(secured(authority, "model", "ml-cluster-1"), "gateway") as address:
        assert await status_of(address, secured(authority, "gateway", "gateway-1"), "model/ml-cluster-1") == (
            grpc.StatusCode.OK,
            "spiffe://lab.internal/gateway/gateway-1",
        )


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1:9002", Security()),
        ("unix:/run/sidecar", Security()),
        ("198.18.0.3:9002", Security(MTLS, "/identity")),
        ("homepage:9002", Security(MTLS, "/identity")),
    ],
)
def test_a_sidecar_of_another_pod_is_asked_with_a_certificate(
    monkeypatch: pytest.MonkeyPatch, address: str, expected: Security
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, MTLS)
    monkeypatch.setenv(IDENTITY_VARIABLE, "/identity")

    assert beside(address) == expected


async def test_a_certificate_may_be_valid_for_ten_years(authority: Authority) -> None:
    long_lived = secured(authority, "model", "ml-cluster-1", lifetime_s=10 * 365 * 86_400)
    async with serving(long_lived, "gateway") as address:
        code, _ = await status_of(address, secured(authority, "gateway", "gateway-1"), "model/ml-cluster-1")
    assert code is grpc.StatusCode.OK


async def test_a_role_that_may_not_call_is_refused_with_the_reason(authority: Authority) -> None:
    async with serving(secured(authority, "model", "ml-cluster-1"), "gateway", "sidecar") as address:
        code, reason = await status_of(address, secured(authority, "resolver", "r"))

    assert code == grpc.StatusCode.PERMISSION_DENIED
    assert reason == "test.Echo: not for spiffe://lab.internal/resolver/r; for gateway and sidecar only"


async def test_the_operator_may_call_what_no_other_role_may(authority: Authority) -> None:
    async with serving(secured(authority, "control-plane", "control-plane")) as address:
        assert (await status_of(address, secured(authority, OPERATOR, "cli")))[0] is grpc.StatusCode.OK
        code, reason = await status_of(address, secured(authority, "caller", "homepage"))
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert reason.endswith("for the operator only")


@pytest.mark.parametrize("peer", ["gateway", "model/ml-cluster-2", "control-plane"])
async def test_a_client_rejects_a_server_with_another_identity(authority: Authority, peer: str) -> None:
    async with serving(secured(authority, "model", "ml-cluster-1"), "gateway") as address:
        code, reason = await status_of(address, secured(authority, "gateway", "gateway-1"), peer)

    assert code is grpc.StatusCode.UNAVAILABLE
    assert "is not verified" in reason.lower() or "hostname" in reason.lower() or "handshake" in reason.lower()


async def test_a_client_without_a_certificate_of_the_lab_is_rejected(authority: Authority, tmp_path: Path) -> None:
    stranger = Authority.create(tmp_path / "elsewhere", lifetime_s=3600)
    server = secured(authority, "model", "ml-cluster-1")
    impostor = secured(stranger, "gateway", "gateway-1")
    expired = secured(authority, "gateway", "gateway-2", lifetime_s=-1)
    async with serving(server, "gateway") as address:
        for kind in (Security(), impostor, expired):
            assert (await status_of(address, kind))[0] is grpc.StatusCode.UNAVAILABLE, kind
        ours = (tmp_path / "pki" / "ca.pem").read_bytes()
        options = [("grpc.ssl_target_name_override", "lab.internal")]
        without = grpc.ssl_channel_credentials(ours)
        async with grpc.aio.secure_channel(address, without, options=options) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await unary(channel, WHO)(b"", timeout=5)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert (await status_of(address, secured(authority, "gateway", "gateway-3")))[0] is grpc.StatusCode.OK


async def test_a_server_with_an_expired_certificate_is_rejected(authority: Authority) -> None:
    async with serving(secured(authority, "model", "m", lifetime_s=3), "gateway") as address:
        client = secured(authority, "gateway", "g")
        assert (await status_of(address, client))[0] is grpc.StatusCode.OK
        async with asyncio.timeout(20):
            while (await status_of(address, client))[0] is grpc.StatusCode.OK:
                await asyncio.sleep(0.1)


async def test_certificates_rotate_under_load_and_no_call_fails(authority: Authority) -> None:
    server, client = secured(authority, "model", "m"), secured(authority, "gateway", "g")
    async with serving(server, "gateway") as address, open_channel(address, security=client, peer="model") as channel:
        who = unary(channel, WHO)
        rotating: Any = channel  # as with mTLS each is
        first = rotating.current

        async def call_until(done: asyncio.Event) -> int:
            answered = 0
            while not done.is_set():
                await who(b"", timeout=10)
                answered += 1
            return answered

        done = asyncio.Event()
        callers = [asyncio.create_task(call_until(done)) for _ in range(8)]
        for _ in range(3):
            before = rotating.current
            secured(authority, "model", "m")
            secured(authority, "gateway", "g")
            await eventually("the channel has rotated", lambda: rotating.current, until=partial(is_not, before))
        done.set()
        assert all(await asyncio.gather(*callers))
        assert first is not rotating.current
        assert grpc.ChannelConnectivity.SHUTDOWN is first.channel.get_state()


async def test_an_unreadable_certificate_leaves_the_previous_one_in_use(authority: Authority) -> None:
    server, client = secured(authority, "model", "m"), secured(authority, "gateway", "g")
    async with serving(server, "gateway") as address:
        current = folder_of(authority.folder, "m") / "current"
        current.unlink()
        current.symlink_to("nowhere")
        assert (await status_of(address, client))[0] is grpc.StatusCode.OK


@pytest.mark.parametrize("mode", [PLAINTEXT, MTLS])
async def test_headers_are_bounded_also_over_several_frames(authority: Authority, mode: str) -> None:
    server, client = (
        (secured(authority, "model", "m"), secured(authority, "gateway", "g"))
        if mode == MTLS
        else (Security(), Security())
    )

    def ask(address: str, size: int) -> Answer:
        with Wire(address, tls_context(client) if mode == MTLS else None) as wire:
            return wire.ask((b"x-padding", b"x" * size), path=WHO)

    async with serving(server, "gateway") as address:
        refused = await asyncio.to_thread(ask, address, MAX_HEADER_BYTES)
        assert refused.status == "RESOURCE_EXHAUSTED"
        assert refused.reason.startswith("test.Echo: 16")
        assert refused.reason.endswith("bytes of headers; send 16384 at most")
        assert (await asyncio.to_thread(ask, address, 1_000)).status == "OK"


def test_a_certificate_suits_tls_1_3_and_names_the_unit(authority: Authority) -> None:
    folder = secured(authority, "model", "ml-cluster-1").folder
    found = ssl._ssl._test_decode_cert(f"{folder}/current/cert.pem")  # type: ignore[attr-defined]

    assert tuple(each for each in found["subjectAltName"] if each[0] == "URI") == (
        ("URI", "spiffe://lab.internal/model/ml-cluster-1"),
    )
    assert ("DNS", "ml-cluster-1.model.lab.internal") in found["subjectAltName"]


@pytest.mark.parametrize(("mode", "folder", "remedy"), [("tls", "", "write 'plaintext' or 'mtls'"), (MTLS, "", "set ")])
def test_bad_settings_say_what_to_write(mode: str, folder: str, remedy: str) -> None:
    with pytest.raises(SpecError, match=remedy):
        Security(mode, folder)


def test_in_plaintext_no_certificate_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAB_SECURITY", "plaintext")
    monkeypatch.setenv("LAB_IDENTITY", "/somewhere")

    assert Security() == Security.of_this_process()


async def test_a_taken_port_is_reported_with_tls_too(authority: Authority) -> None:
    mine = secured(authority, "model", "m")
    async with serving(mine) as address:
        server, _ = new_server(security=mine)
        with pytest.raises(UnitError, match="is the port taken"):
            listen(server, address, mine)
