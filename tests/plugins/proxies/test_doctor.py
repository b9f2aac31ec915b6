"""The doctor names every proxy that a renderer runs, from what its role says of its program."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from lab.ops.doctor import EXTRAS, examine
from services.renderer import child
from services.renderer.proxy import RENDERERS


@pytest.mark.parametrize("which", [shutil.which, lambda *_, **__: None], ids=["this machine", "a bare machine"])
def test_the_doctor_names_each_proxy_that_is_missing_with_its_remedy(
    which: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child, "shutil", SimpleNamespace(which=which))
    found = {each.name: each for each in examine(tmp_path).parts[EXTRAS] if each.name in RENDERERS}

    assert found.keys() == set(RENDERERS)
    for name, each in found.items():
        assert each.state == ("ok" if RENDERERS[name].installed else "hint")
        assert ("make proxies" in each.remedy) == (each.state == "hint")
    assert which is shutil.which or {each.state for each in found.values()} == {"hint"}
