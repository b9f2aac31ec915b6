"""A unit's certificates: the present one, and those that a slow reader may still be reading."""

from __future__ import annotations

import os
import time
from pathlib import Path

from lab.identity.folder import CertificateInfo, Material, read_info, version, write

HOUR_S = 3600


def replace(folder: Path, serial: str) -> None:
    write(
        folder, Material(b"cert", b"key", b"ca"), CertificateInfo("spiffe://lab/x", serial, 0, HOUR_S), key_mode=0o600
    )


def kept(folder: Path) -> set[str]:
    return {each.name for each in folder.iterdir() if not each.is_symlink()}


def test_certificates_stay_readable_for_a_minute_after_they_were_replaced(tmp_path: Path) -> None:
    for serial in "abcd":
        replace(tmp_path, serial)

    assert read_info(tmp_path).serial == "d"
    assert kept(tmp_path) == set("abcd")


def test_older_certificates_are_removed_once_nothing_can_be_reading_them(tmp_path: Path) -> None:
    for age_s, serial in ((HOUR_S, "a"), (61, "b"), (30, "c")):
        replace(tmp_path, serial)
        made = time.time() - age_s
        os.utime(tmp_path / serial, (made, made))
    replace(tmp_path, "d")

    assert Path(version(tmp_path)).name == "d"
    assert kept(tmp_path) == set("bcd")
