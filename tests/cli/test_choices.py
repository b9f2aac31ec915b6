import pytest

from lab.cli.load import choices_of
from lab.errors import InputError
from lab.runs.drive import DEFAULT_CONTEXTS


def test_choices_are_weighed_by_standing_there_several_times() -> None:
    assert choices_of(["tenant=ads*3,kids", "device=tv"]) == {
        "tenant": ("ads", "ads", "ads", "kids"),
        "device": ("tv",),
    }
    assert choices_of(None) == dict(DEFAULT_CONTEXTS)


@pytest.mark.parametrize("pair", ["tenant=ads*", "tenant=*3", "tenant=ads*0", "tenant=ads*1001", "tenant=ads*x"])
def test_an_invalid_weight_is_refused(pair: str) -> None:
    with pytest.raises(InputError, match=r"--context: .* has no valid weight; write e.g. tv\*3"):
        choices_of([pair])
