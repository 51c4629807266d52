"""What a task may cost: the caller's limit and the operator's. The daily budget is the ledger's business."""

from piapi_mcp.errors import BudgetError
from piapi_mcp.formatting import dollars
from piapi_mcp.settings import Settings
from piapi_mcp.tasks.options import Options
from piapi_mcp.tasks.request import Order


def check_price(order: Order, options: Options, settings: Settings) -> None:
    """Let *order* pass, or refuse it.

    Raises:
        BudgetError: It costs more than is allowed, or may.
    """
    limits = {
        "max_cost_usd": options.max_cost_usd,
        "the operator's limit PIAPI_MAX_COST_USD": settings.max_cost_usd,
        "the operator's PIAPI_DAILY_BUDGET_USD": settings.daily_budget_usd,
    }
    quoted_usd = order.quoted_usd
    for name, limit_usd in limits.items():
        if limit_usd is None:
            continue
        if quoted_usd is None and not options.allow_unknown_price:
            raise BudgetError(
                f"The price of this task is not known ({order.unpriced}), so {name} of {dollars(limit_usd)} cannot be "
                "kept. Nothing was submitted. Ask the user; call again with allow_unknown_price true if they agree."
            )
        if quoted_usd is not None and quoted_usd > limit_usd:
            raise BudgetError(
                f"This task costs {dollars(quoted_usd)}, more than {name} of {dollars(limit_usd)}. Nothing was "
                "submitted. Choose a smaller input, or ask the user for a higher limit."
            )
