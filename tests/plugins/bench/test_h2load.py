import struct

import pytest

from lab.errors import UnitError
from lab.plugins.bench.harness.h2load import data_bytes, p50_of, script
from lab.plugins.bench.harness.prebuilt_request import METHOD, check_answer, frame, request
from lab.plugins.bench.harness.variant import USE_CASE


def test_the_median_leaves_out_the_first_requests_by_their_start() -> None:
    # In order of their ends; the first three to start were slow.
    lines = ["40\t200\t500", "50\t200\t700", "10\t200\t9000", "20\t200\t9000", "30\t200\t9000", "60\t200\t600"]

    assert p50_of(lines, 3) == 0.6


def test_another_status_is_no_measurement() -> None:
    with pytest.raises(UnitError, match="1 of 2 requests ended with HTTP status 503"):
        p50_of(["10\t200\t500", "20\t503\t20"], 0)


def test_a_log_that_is_too_short_is_no_measurement() -> None:
    with pytest.raises(UnitError, match="too few"):
        p50_of(["10\t200\t500"], 3)


def test_requests_are_spaced_evenly_and_not_sent_in_bursts() -> None:
    assert script("http://a/b", 500.0, 3) == "0.000\thttp://a/b\n2.000\thttp://a/b\n4.000\thttp://a/b\n"


def test_bodies_are_counted_from_what_h2load_says() -> None:
    said = (
        "status codes: 3 2xx\ntraffic: 1.50KB (1536) total, 90B (90) headers (space savings 9%), 1.31KB (1344) data\n"
    )

    assert data_bytes(said) == 1344
    assert data_bytes("h2load: nothing") == 0


def test_a_frame_is_that_of_grpc_and_its_request_names_use_case_and_model() -> None:
    message = request(400)

    framed = frame(message)

    assert struct.unpack(">BI", framed[:5]) == (0, len(message))
    envelope = METHOD.request_class.FromString(framed[5:]).envelope
    assert (envelope.use_case, envelope.model_config.model) == (USE_CASE, "up-next")


def test_an_answer_of_another_model_is_refused() -> None:
    answer = METHOD.response_class()
    answer.answered_by.model, answer.answered_by.version = "up-next", "v2"

    with pytest.raises(UnitError, match=r"answered by up-next@v2, not by up-next@v1"):
        check_answer("127.0.0.1:1", answer.SerializeToString())
