"""Another user of the machine, without a certificate, who tries what the lab's own user may."""

from __future__ import annotations

from collections.abc import Callable

from lab.roles import ACCESS_LOG, UNIX
from lab.runtime.process import sockets
from lab.runtime.state import STATE_FILE, LabState
from tests.negative.scene import Case, Scene
from tests.negative.wire import Answer
from tests.other_user import as_another_user

_ENVOYS = (("mesh", "homepage-sidecar"), ("gateway-header", "central-envoy"))
_DENIED = "Permission denied"
# The last one, if it is let through, ends the Envoy.
_NOT_SHOWN = (("GET", "/certs"), ("POST", "/stats"), ("POST", "/logging?level=off"), ("POST", "/quitquitquit"))


def _acts_as_the_caller(scene: Scene) -> Answer:
    return _answer(as_another_user("connect", scene.units["homepage-sidecar"].removeprefix(UNIX)))


def _opens_its_page(unit: str) -> Callable[[Scene], Answer]:
    return lambda scene: _answer(as_another_user("POST", _page(scene, unit), "/quitquitquit"))


def _asks_its_view(unit: str, method: str, path: str) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        admin = LabState.of(scene.lab.folder).plan.unit(unit).admin
        assert admin is not None
        return _answer(as_another_user(method, admin.outside, path))

    return attempt


def _reads(path: str) -> Callable[[Scene], Answer]:
    def attempt(scene: Scene) -> Answer:
        file = scene.lab.folder / path
        assert file.exists()
        return _answer(as_another_user("read", str(file)))

    return attempt


def _page(scene: Scene, unit: str) -> str:
    return str(sockets.folder_of(scene.lab.folder) / f"{unit}.admin")


def _answer(how: str) -> Answer:
    if how in {"connected", "read"}:
        return Answer("OK", how)
    return Answer(how, "") if how.startswith("HTTP ") else Answer("REFUSED", how)


def _cases() -> list[Case]:
    by = "another local user"
    cases = [Case(f"{by} acts as the caller", "mesh", "homepage-sidecar", "REFUSED", _DENIED, _acts_as_the_caller)]
    for way, unit in _ENVOYS:
        cases.append(Case(f"{by} opens the admin page", way, unit, "REFUSED", _DENIED, _opens_its_page(unit)))
        for method, path in _NOT_SHOWN:
            attempt = _asks_its_view(unit, method, path)
            cases.append(Case(f"{by} sends {method} {path}", way, unit, "HTTP 404", "", attempt))
        cases.append(
            Case(f"{by} reads the access log", way, unit, "REFUSED", _DENIED, _reads(f"units/{unit}/{ACCESS_LOG}"))
        )
    cases += [
        Case(
            f"{by} reads the access log",
            "gateway",
            "gateway-1",
            "REFUSED",
            _DENIED,
            _reads(f"units/gateway-1/{ACCESS_LOG}"),
        ),
        Case(f"{by} reads the lab's state", "gateway", "gateway-1", "REFUSED", _DENIED, _reads(STATE_FILE)),
    ]
    return cases


LOCAL_USERS = tuple(_cases())
