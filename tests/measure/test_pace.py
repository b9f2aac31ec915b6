from lab.measure.pace import RoundPace, pace_of


def a_round(*, achieved: float = 500.0, delay_ms: float = 0.2, late: bool = False, repeated: int = 0) -> RoundPace:
    return RoundPace(
        offered=500.0, achieved_rate=achieved, schedule_delay_p99_ms=delay_ms, late=late, repeated=repeated
    )


def test_a_driver_is_as_good_as_its_worst_round() -> None:
    pace = pace_of([a_round(), a_round(achieved=480.0, late=True), a_round(delay_ms=7.0, late=True, repeated=2)])

    assert (pace.achieved_rate, pace.schedule_delay_p99_ms, pace.late_rounds, pace.repeated) == (480.0, 7.0, 2, 2)
    assert not pace.kept_up
    assert "could not keep up in 2 rounds: of 500 rps it sent 480.0, 7.00 ms late (p99)" in pace.doubt


def test_rounds_that_were_made_again_in_time_leave_no_doubt() -> None:
    pace = pace_of([a_round(), a_round(repeated=1)])

    assert (pace.kept_up, pace.doubt, pace.repeated) == (True, "", 1)
