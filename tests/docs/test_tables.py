"""Tables that pages derive from code are fresh."""

import pytest

from docs.site.blocks import marked, pages
from docs.site.tables import tables


@pytest.mark.parametrize("name", tables())
def test_every_table_is_on_a_page_as_the_code_has_it(name: str) -> None:
    shown = {page.name: found[name] for page in pages() if name in (found := marked(page, "table"))}

    assert shown, f"no page has the marks of {name}"
    assert [page for page, text in shown.items() if text != tables()[name]] == [], "`make pages` writes it"


def test_every_table_of_a_page_is_derived() -> None:
    assert {name for page in pages() for name in marked(page, "table")} <= tables().keys()
