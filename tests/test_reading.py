"""Files are read within bounds; everything else raises what pathlib and json raise."""

import os
from pathlib import Path

import pytest

from lab import reading
from lab.bounds import SECONDS, USERS, Range, require_number, require_whole
from lab.errors import InputError
from tests.hostile_files import FILES, put

NEVER_READ = ("device", "pipe", "folder", "link to itself", "sparse", "memory")


@pytest.mark.parametrize("kind", NEVER_READ)
def test_what_is_no_regular_file_of_bounded_size_is_refused(kind: str, tmp_path: Path) -> None:
    path = put(kind, tmp_path / "file")

    for read in (reading.read_bytes, reading.read_text, reading.read_json):
        with pytest.raises(OSError, match=r"."):
            read(path)


@pytest.mark.parametrize("kind", sorted(set(FILES) - set(NEVER_READ) - {"null", "list", "mapping", "text"}))
def test_what_is_no_bounded_json_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"."):
        reading.read_json(put(kind, tmp_path / "file"))


def test_a_file_is_read_up_to_its_bound_and_a_growing_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 1_000)

    assert reading.read_bytes(path, 1_000) == b"x" * 1_000
    with pytest.raises(OSError, match="is larger than 0 KB"):
        reading.read_bytes(path, 999)
    # The kernel makes these on reading; their size is 0.
    assert reading.read_text(Path("/proc/self/status")).startswith("Name:")


def test_an_error_has_its_line_where_it_is_known(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, line in (
        (b"1\n2\n\xff", f"{path}:3"),
        (b"{\n]", f"{path}:2"),
        (b"[" * 1_000 + b"]" * 1_000, str(path)),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r".") as caught:
            reading.read_json(path)
        assert reading.where(path, caught.value) == line


def test_json_is_bounded_in_depth_values_and_digits() -> None:
    deepest = "[" * reading.MAX_DEPTH + "]" * reading.MAX_DEPTH
    assert reading.parse_json(f"[{2**64 - 1}, {-(2**63)}]") == [2**64 - 1, -(2**63)]
    assert isinstance(reading.parse_json(deepest), list)
    for text in (f"[{deepest}]", str(2**64), str(-(2**63) - 1), "[" + "0," * reading.MAX_VALUES + "0]"):
        with pytest.raises(ValueError, match=r"is nested|64 bits|values"):
            reading.parse_json(text)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**21, 10**5_000, "1", None, True], ids=type)
def test_numbers_out_of_range_are_refused_in_one_short_line(value: object) -> None:
    for require, within in ((require_whole, USERS), (require_number, SECONDS)):
        with pytest.raises(InputError, match=r"^users: .* is out of range: use [0-9.,]+ to [0-9,]+") as refused:
            require("users", value, within)
        assert len(str(refused.value)) < 120
    assert str(Range(1, 65_535)) == "1 to 65,535"


def test_a_pipe_that_takes_the_place_of_a_file_does_not_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe")
    monkeypatch.setattr(reading, "require_regular", lambda _: None)

    assert reading.read_bytes(tmp_path / "pipe") == b""
