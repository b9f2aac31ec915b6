from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.errors import RunError
from lab.history import Record, SpoolTail, SpoolWriter, read_parquet, read_spool, values_of, write_parquet
from lab.history.record import DEFAULTS, FIELD_TYPES, FIELDS, record_of

RECORD = Record(
    sequence=0,
    request_id="r-0",
    topology="mesh",
    caller="homepage",
    use_case="ContinueWatchingRanking",
    user_id="u1",
    device="tv",
    country="US",
    segment="",
    surface="home",
    tenant="",
    traffic_origin="artificial",
    payload_bytes=400,
    intended_ns=1_700_000_000_000_000_001,
    sent_ns=1_700_000_000_000_000_002,
    done_ns=1_700_000_000_000_900_003,
    status="OK",
    message="",
    source="model",
    routing_key="cw-ranker.v2",
    revision=7,
    model="cw-ranker",
    version="v2",
    cluster="ml-cluster-7",
    replica="ml-cluster-7-0",
    served_revision=7,
    attempts=1,
    item_id="t00",
    score=0.25,
)

_OF_TYPE = {
    str: st.text(),
    int: st.integers(0, 2**63 - 1),
    float: st.floats(allow_nan=False, allow_infinity=False),
}
records = st.tuples(*(_OF_TYPE[kind] for kind in FIELD_TYPES)).map(record_of)


def spool(path: Path, *written: Record) -> Path:
    with SpoolWriter(path) as writer:
        for record in written:
            writer.append(values_of(record))
    return path


@settings(deadline=None)
@given(written=st.lists(records, max_size=5))
def test_both_forms_give_back_what_was_written(written: list[Record], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("history")

    write_parquet(written, folder / "history.parquet")

    assert read_spool(spool(folder / "spool", *written)) == written
    assert read_parquet(folder / "history.parquet") == written


def test_a_record_reaches_the_file_with_the_flush_not_only_at_the_end(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "spool") as writer:
        writer.append(values_of(RECORD))
        writer.flush()

        assert read_spool(tmp_path / "spool") == [RECORD]


def test_many_records_reach_the_file_without_a_flush(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "spool") as writer:
        for sequence in range(200):
            writer.append(values_of(replace(RECORD, sequence=sequence)))

        assert len(read_spool(tmp_path / "spool")) > 100


def test_a_tail_reads_each_record_once_also_after_the_file_was_removed(tmp_path: Path) -> None:
    records = [replace(RECORD, sequence=sequence) for sequence in range(3)]
    with SpoolWriter(tmp_path / "spool") as writer:
        tail = SpoolTail(tmp_path / "spool")
        found = [tail.read()]
        for record in records:
            writer.append(values_of(record))
            writer.flush()
            if record is not records[-1]:
                found.append(tail.read())
        (tmp_path / "spool").unlink()
        found.append(tail.read())
    tail.close()

    assert found == [[], *([each] for each in records)]


def test_a_tail_leaves_a_line_that_is_half_written_for_later(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "whole") as writer:
        writer.append(values_of(RECORD))
    line = (tmp_path / "whole").read_bytes()
    (tmp_path / "spool").write_bytes(line[:100])
    tail = SpoolTail(tmp_path / "spool")
    before = tail.read()
    with (tmp_path / "spool").open("ab") as file:
        file.write(line[100:])

    assert (before, tail.read()) == ([], [RECORD])
    tail.close()


def test_a_tail_refuses_a_record_that_breaks_the_chain(tmp_path: Path) -> None:
    with SpoolWriter(tmp_path / "spool") as writer:
        for sequence in range(2):
            writer.append(values_of(replace(RECORD, sequence=sequence)))
    first, second = (tmp_path / "spool").read_bytes().splitlines(keepends=True)
    (tmp_path / "spool").write_bytes(first.replace(b"homepage", b"hamepage") + second)
    tail = SpoolTail(tmp_path / "spool")

    with pytest.raises(RunError, match="spool:1: the chain of digests is broken"):
        tail.read()
    tail.close()


@pytest.mark.parametrize("torn_bytes", [1, 2, 40, 150])
def test_a_torn_last_line_costs_that_record_alone(tmp_path: Path, torn_bytes: int) -> None:
    path = spool(tmp_path / "spool", RECORD, replace(RECORD, sequence=1, message="ö" * 200))
    whole = path.read_bytes()

    path.write_bytes(whole[: -1 - torn_bytes])

    assert read_spool(path) == [RECORD]


def test_a_last_line_that_only_lacks_its_newline_counts(tmp_path: Path) -> None:
    path = spool(tmp_path / "spool", RECORD)

    path.write_bytes(path.read_bytes().removesuffix(b"\n"))

    assert read_spool(path) == [RECORD]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"[1,2", "no JSON"),
        (b"", "no JSON"),
        (b"\xff\xfe\x00", "no JSON"),
        (b'{"sequence":1}', "dict"),
        (b"[1,2,3]", "array of 3"),
        (b"[" + b",".join([b"true"] * len(FIELDS)) + b"]", "sequence: True is not of type int"),
    ],
)
def test_any_other_bad_line_is_named(tmp_path: Path, line: bytes, says: str) -> None:
    path = spool(tmp_path / "spool", RECORD)
    path.write_bytes(path.read_bytes() + line + b"\n" + path.read_bytes())

    with pytest.raises(RunError) as caught:
        read_spool(path)

    assert str(caught.value).startswith(f"{path}:2: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_spool_is_not_written_over(tmp_path: Path) -> None:
    path = spool(tmp_path / "spool", RECORD)

    with pytest.raises(RunError, match="does not exist"):
        SpoolWriter(path)

    assert read_spool(path) == [RECORD]


def test_a_spool_is_joined_only_where_there_is_one(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be written"):
        SpoolWriter(tmp_path / "absent", new=False)

    path = spool(tmp_path / "spool", RECORD)
    with SpoolWriter(path, new=False) as joined:
        joined.append(values_of(replace(RECORD, sequence=1)))

    assert read_spool(path) == [RECORD, replace(RECORD, sequence=1)]


_APPENDING = """
import sys
from dataclasses import replace
from pathlib import Path
from lab.history import SpoolWriter, read_spool, values_of
spool, first = Path(sys.argv[1]), int(sys.argv[2])
like = read_spool(spool)[0]
with SpoolWriter(spool, new=False) as writer:
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(20_000):
        writer.append(values_of(replace(like, sequence=first + number, message="x" * (number % 300))))
"""


def test_records_of_several_processes_do_not_mix(tmp_path: Path) -> None:
    path = spool(tmp_path / "spool", replace(RECORD, sequence=60_000))
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _APPENDING, str(path), str(first)],
            cwd=Path(__file__).parents[1],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for first in (0, 20_000, 40_000)
    ]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"

    for writer in writers:
        assert writer.stdin is not None
        writer.stdin.write("go\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate(timeout=60)

    sequences = [record.sequence for record in read_spool(path)]
    assert [writer.returncode for writer in writers] == [0, 0, 0]
    assert sorted(sequences) == list(range(60_001))
    turns = sum(one // 20_000 != next_one // 20_000 for one, next_one in pairwise(sequences))
    assert turns > len(writers), "they did not write at once, which proves nothing"


@pytest.mark.parametrize(("torn_bytes", "kept"), [(0, [0, 1, 2]), (1, [0, 2]), (40, [0, 2]), (150, [0, 2])])
def test_a_record_torn_where_another_process_went_on_costs_that_record_alone(
    tmp_path: Path, torn_bytes: int, kept: list[int]
) -> None:
    torn = spool(tmp_path / "torn", replace(RECORD, sequence=1, message="[ö" * 100)).read_bytes().rstrip(b"\n")
    path = spool(tmp_path / "spool", RECORD)
    after = spool(tmp_path / "after", replace(RECORD, sequence=2, message="[1]")).read_bytes()

    path.write_bytes(path.read_bytes() + torn[: len(torn) - torn_bytes] + after)

    assert [record.sequence for record in read_spool(path)] == kept


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: [lines[0], lines[1].replace(b'"OK"', b'"UNAVAILABLE"'), *lines[2:]],
        lambda lines: [lines[0], *lines[2:]],
        lambda lines: [lines[1], lines[0], *lines[2:]],
        lambda lines: [lines[0], lines[0], *lines[1:]],
        lambda lines: [lines[0], lines[1].rpartition(b',"')[0] + b"]\n", *lines[2:]],
    ],
    ids=["changed", "removed", "exchanged", "repeated", "without its digest"],
)
def test_a_record_that_is_tampered_with_breaks_the_chain(
    tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]
) -> None:
    path = spool(tmp_path / "spool", *(replace(RECORD, sequence=number) for number in range(4)))
    lines = path.read_bytes().splitlines(keepends=True)

    path.write_bytes(b"".join(change(lines)))

    with pytest.raises(RunError, match="the chain of digests is broken"):
        read_spool(path)


def test_a_missing_spool_is_a_run_error(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        read_spool(tmp_path / "absent")


def test_text_that_is_no_valid_unicode_does_not_cost_the_record(tmp_path: Path) -> None:
    path = spool(tmp_path / "spool", replace(RECORD, message="bad \udcff peer"))

    assert read_spool(path) == [replace(RECORD, message="bad ? peer")]


def test_a_score_that_is_no_number_stays_none(tmp_path: Path) -> None:
    (record,) = read_spool(spool(tmp_path / "spool", replace(RECORD, score=math.nan)))

    assert math.isnan(record.score)


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    write_parquet([RECORD], path)
    pq.write_table(pq.read_table(path).drop_columns(["status", "score"]), path)

    with pytest.raises(RunError, match=r"no column status, score; write "):
        read_parquet(path)


def test_the_younger_fields_are_the_last() -> None:
    younger = ["override", "shadow", "seen_origin", "seen_tenant", "received"]
    younger += ["streamed", "items", "items_digest", "first_item_ns", "usage"]
    assert list(DEFAULTS) == younger
    assert list(FIELDS[-len(DEFAULTS) :]) == younger


@pytest.mark.parametrize("younger", [1, 2])
def test_histories_from_before_the_younger_fields_are_readable(tmp_path: Path, younger: int) -> None:
    write_parquet([RECORD, replace(RECORD, sequence=1)], tmp_path / "history.parquet")
    older = pq.read_table(tmp_path / "history.parquet").drop_columns(list(FIELDS[-younger:]))
    pq.write_table(older, tmp_path / "older.parquet")
    path = spool(tmp_path / "spool", RECORD)
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes())[: len(FIELDS) - younger]) + b"\n")

    assert read_parquet(tmp_path / "older.parquet") == [RECORD, replace(RECORD, sequence=1)]
    assert read_spool(path) == [RECORD]


def test_a_younger_column_of_another_type_is_named_too(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    write_parquet([RECORD], path)
    table = pq.read_table(path)
    place = table.schema.get_field_index("override")
    pq.write_table(table.set_column(place, "override", pa.array([7])), path)

    with pytest.raises(RunError, match="override: column of int64 where string belongs"):
        read_parquet(path)


def test_a_column_of_another_type_is_named(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    write_parquet([RECORD], path)
    table = pq.read_table(path)
    place = table.schema.get_field_index("done_ns")
    pq.write_table(table.set_column(place, "done_ns", pa.array(["noon"])), path)

    with pytest.raises(RunError, match="done_ns: column of string where int64 belongs"):
        read_parquet(path)


def test_empty_cells_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    write_parquet([RECORD], path)
    table = pq.read_table(path)
    place = table.schema.get_field_index("status")
    pq.write_table(table.set_column(place, "status", pa.array([None], type=pa.string())), path)

    with pytest.raises(RunError, match="status: 1 empty cells"):
        read_parquet(path)


def test_columns_that_someone_added_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "history.parquet"
    write_parquet([RECORD], path)
    pq.write_table(pq.read_table(path).append_column("note", pa.array(["mine"])), path)

    assert read_parquet(path) == [RECORD]


@pytest.mark.parametrize("content", [None, b"", b"TIMESTAMP,ContextTokens\n", b"PAR1 and then noise PAR1"])
def test_what_is_no_parquet_is_a_run_error(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "history.parquet"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(RunError) as caught:
        read_parquet(path)

    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_spooling_loads_no_pyarrow() -> None:
    code = "import sys, lab.history; sys.exit('pyarrow' in sys.modules or 'numpy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=Path(__file__).parents[1]).returncode == 0
