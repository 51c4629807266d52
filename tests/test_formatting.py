from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from piapi_mcp.formatting import dollars, quote


@given(st.text())
def test_a_quoted_text_is_short_and_stays_on_one_line_within_its_quotes(text: str) -> None:
    quoted = quote(text)
    assert quoted[0] == quoted[-1] == '"'
    assert '"' not in quoted[1:-1]
    assert quoted.isprintable()
    assert len(quoted) <= 82


@pytest.mark.parametrize(
    ("amount_usd", "text"),
    [
        (Decimal("0.0180"), "$0.018"),
        (Decimal("1E+2"), "$100"),
        (Decimal("1E-7"), "$0.0000001"),
        (None, "an unknown amount"),
    ],
)
def test_an_amount_is_written_without_exponent_or_trailing_zeros(amount_usd: Decimal | None, text: str) -> None:
    assert dollars(amount_usd) == text
