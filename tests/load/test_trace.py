import json
import random
from pathlib import Path
from typing import Any

import pytest

from lab.errors import TraceError
from lab.load.trace import TraceRow, read_trace
from scenarios.framework.traces import REQUESTS, made_trace, production_trace

HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\r\n"


def _line(**changes: Any) -> str:
    return json.dumps({"timestamp": 3, "output_length": 1, "hash_ids": [1]} | changes)


@pytest.fixture(name="trace")
def fixture_trace(tmp_path: Path) -> Path:
    return tmp_path / "trace.csv"


def test_times_are_exact_and_tokens_become_four_bytes_each(trace: Path) -> None:
    trace.write_text(
        HEADER
        + "2023-11-16 18:17:03.9799600,4808,10\r\n"
        + "2023-11-16 18:17:03.9799601,0,27\r\n"
        + "2023-11-16 18:17:04,3180,8\r\n"
        + "2023-11-16T20:17:04.123456789+02:00,1,1\r\n",
    )

    second = 1_700_158_623_000_000_000
    assert list(read_trace(trace)) == [
        TraceRow(second + 979_960_000, 19_232, 10),
        TraceRow(second + 979_960_100, 0, 27),
        TraceRow(second + 1_000_000_000, 12_720, 8),
        TraceRow(second + 1_123_456_789, 4, 1),
    ]


def test_lines_of_json_are_read_with_lengths_and_blocks(trace: Path) -> None:
    trace.write_text(
        '{"timestamp": 0, "input_length": 1000, "output_length": 52, "hash_ids": [46, 47]}\n\n'
        '{"timestamp": 2.5, "input_length": 512, "output_length": 0, "hash_ids": [46], "more": null}'
    )

    first, second = read_trace(trace)

    assert first == TraceRow(0, 4_000, 52, (46, 47))
    assert second == TraceRow(2_500_000, 2_048, 0, (46,))
    assert (first.prompt_tokens, second.prompt_tokens) == (1_000, 512)


@pytest.mark.parametrize(
    "text",
    [
        "ContextTokens,TIMESTAMP\n7,2024-05-10 00:00:00.009930+00:00",  # other order, no last newline
        "\ufeffTIMESTAMP, ContextTokens\n2024-05-10T00:00:00.00993Z, 7\n\n",  # byte order mark, spaces, empty line
        '"TIMESTAMP","ContextTokens","Note"\n"2024-05-10 00:00:00.00993","7","a, b"\n',
    ],
)
def test_files_of_the_same_shape_are_read(trace: Path, text: str) -> None:
    trace.write_text(text, encoding="utf-8")

    assert list(read_trace(trace)) == [TraceRow(1_715_299_200_009_930_000, 28)]


def test_what_comes_after_the_limit_is_not_looked_at(trace: Path) -> None:
    trace.write_text(HEADER + "2023-11-16 18:17:03,1,1\n" * 2 + "noise\n")

    assert len(list(read_trace(trace, limit=2))) == 2


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("", None, "is empty"),
        ("\n\n", None, "is empty"),
        (HEADER, None, "no requests"),
        ("TIMESTAMP,GeneratedTokens\n", 1, "ContextTokens: no such column"),
        ("2023-11-16 18:17:03.9799600,4808,10\n", 1, "TIMESTAMP: no such column"),
        (HEADER + "2023-11-16 18:17:03,1\n", 2, "2 cells under 3 columns"),
        (HEADER + "yesterday,1,1\n", 2, "TIMESTAMP: 'yesterday' is not a time; write 2023-"),
        (HEADER + "2023-02-30 18:17:03,1,1\n", 2, "TIMESTAMP: '2023-02-30 18:17:03' is in no calendar"),
        (HEADER + "2023-11-16 18:17:03.0123456789,1,1\n", 2, "TIMESTAMP"),
        (HEADER + "2023-11-16 18:17:03,1,1\n\n2023-11-16 18:17:03,-4,1\n", 4, "ContextTokens: -4 is negative"),
        (HEADER + "2023-11-16 18:17:03,many,1\n", 2, "ContextTokens: 'many' is not a whole number"),
        (HEADER + "2023-11-16 18:17:03,1e3,1\n", 2, "ContextTokens"),
        (HEADER + "2023-11-16 18:17:03,999999999999,1\n", 2, "ContextTokens: 999999999999 is too large"),
        (HEADER + "2023-11-16 18:17:03,1,1\n2023-11-16 18:17:02.9999999,1,1\n", 3, "before that of the line above"),
        (HEADER + "2023-11-16 18:17:03," + "9" * 200_000 + ",1\n", 2, "is not CSV"),
        (HEADER + "2023-11-16 18:17:03,1,some\n", 2, "GeneratedTokens: 'some' is not a whole number"),
        (_line(), 1, "input_length: 'None' is not a whole number"),
        (_line(input_length=-1), 1, "input_length: -1 is negative"),
        (_line(input_length=True), 1, "input_length: 'True' is not a whole number"),
        (_line(input_length=1) + "\n[]", 2, "is not an object"),
        (_line(input_length=1) + "\n{", 2, "is not JSON"),
        (_line(input_length=1) + "\n" + _line(input_length=1, timestamp=2), 2, "before that of the line above"),
        (_line(input_length=1, timestamp="now"), 1, "timestamp: 'now' is not a time"),
        (_line(input_length=1, timestamp=1e300), 1, "timestamp: '1e+300' is not a time"),
        (_line(input_length=513), 1, "hash_ids: has 1 numbers, and 513 tokens have 2 blocks of 512"),
        (_line(input_length=1, hash_ids=[1.5]), 1, "hash_ids: is not a list of whole numbers"),
        (_line(input_length=1, hash_ids=7), 1, "hash_ids: is not a list of whole numbers"),
        ('{"a": ' + "[" * 5_000, 1, "is not JSON"),
    ],
)
def test_a_bad_file_is_one_line_with_place_field_and_remedy(
    trace: Path, text: str, line: int | None, says: str
) -> None:
    trace.write_text(text, newline="")

    with pytest.raises(TraceError) as caught:
        list(read_trace(trace))

    assert str(caught.value).startswith(f"{trace}: " if line is None else f"{trace}:{line}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("start", [b"", HEADER.encode(), b"{"])
def test_noise_is_refused_in_one_short_line(trace: Path, seed: int, start: bytes) -> None:
    draw = random.Random(seed)  # noqa: S311 (no secret)
    trace.write_bytes(start + b"".join(draw.randbytes(draw.randrange(1, 200)) + b"\n" for _ in range(10_000)))

    with pytest.raises(TraceError) as caught:
        list(read_trace(trace))

    assert str(caught.value).startswith(f"{trace}:")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < len(str(trace)) + 200


def test_a_file_that_cannot_be_read_is_a_trace_error(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.csv"):
        with pytest.raises(TraceError, match="cannot be read"):
            list(read_trace(path))


@pytest.mark.parametrize("made", [False, True], ids=["real if it is here", "made"])
def test_a_production_trace_is_read_whole(tmp_path: Path, trace: Path, *, made: bool) -> None:
    trace.write_text(made_trace())

    rows = list(read_trace(trace if made else production_trace(tmp_path)))

    assert len(rows) == REQUESTS
    assert 3_400 < (rows[-1].time_ns - rows[0].time_ns) / 1e9 < 3_600
    assert (rows[0].time_ns, rows[0].prompt_tokens) == (1_700_158_623_979_960_000, 4_808)
