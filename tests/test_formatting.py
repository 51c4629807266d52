from hypothesis import given
from hypothesis import strategies as st

from piapi_mcp.formatting import quote


@given(st.text())
def test_a_quote_stays_on_one_line_within_its_quotes_and_short(text: str) -> None:
    quoted = quote(text)
    assert quoted[0] == quoted[-1] == '"'
    assert '"' not in quoted[1:-1]
    assert quoted.isprintable()
    assert len(quoted) <= 82
