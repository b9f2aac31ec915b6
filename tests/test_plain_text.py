from __future__ import annotations

import pytest

from lab.plain_text import MAX_CHARACTERS, MAX_ID_CHARACTERS, is_plain, printable, require_header_value, require_plain

UNPRINTABLE = ["a\nb", "a\rb", "a\0b", "a\tb", "\x1b[2J", "a\x9b2Jb", "a\u2028b", "a\u202eb", "a\x7fb", "\ud800"]


@pytest.mark.parametrize("text", [*UNPRINTABLE, "a" * (MAX_CHARACTERS + 1)])
def test_text_that_could_forge_a_line_is_refused_by_a_plain_line(text: str) -> None:
    with pytest.raises(ValueError, match=r"^country: ") as refused:
        require_plain("country", text)

    assert is_plain(str(refused.value))
    assert is_plain(printable(text, 500))
    assert len(printable(text, 500)) <= 500


@pytest.mark.parametrize("text", ["", "CA", "Zoë", "東京", "a b", "\ud7a4", "👩‍🚀", "a" * MAX_CHARACTERS])
def test_text_of_any_language_is_plain(text: str) -> None:
    require_plain("country", text)

    assert printable(text, MAX_CHARACTERS) == text


@pytest.mark.parametrize("text", [*UNPRINTABLE, "é", " a", "a ", "a" * (MAX_ID_CHARACTERS + 1)])
def test_what_no_header_can_carry_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"^request_id: "):
        require_header_value("request_id", text)


def test_a_header_carries_visible_ascii() -> None:
    require_header_value("request_id", "")
    require_header_value("request_id", "".join(map(chr, range(0x21, 0x7F))))
