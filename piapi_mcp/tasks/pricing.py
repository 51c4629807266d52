"""Prices before buying, and what a task may cost: the caller's limit, the operator's, and the day's budget."""

from dataclasses import dataclass
from decimal import Decimal

from piapi_mcp.formatting import dollars
from piapi_mcp.media.image import ImageFacts
from piapi_mcp.media.video import VideoFacts
from piapi_mcp.piapi.catalog import (
    IMAGE_LIMITS,
    IMAGE_USD_PER_MEGAPIXEL,
    VIDEO_LIMITS,
    VIDEO_SCALE,
    VIDEO_USD_PER_FRAME,
    ImageScale,
)

# [? 2026-11] image upscale page: whether the megapixels of the input or of the output are charged is not documented
_UPPER_BOUND_NOTE = (
    "PiAPI does not say whether it charges for the pixels of the input or of the output: the quote is the higher of "
    "the two."
)


@dataclass(frozen=True)
class Quote:
    """What a request costs before it is submitted, and what it should result in."""

    usd: Decimal | None = None
    """PiAPI's list price in US dollars; None where it is not known."""
    is_upper_bound: bool = False
    """Whether the task may cost less than `usd`; otherwise the price is exact."""
    unknown_because: str = "PiAPI publishes no price for it"
    """Why the price is not known, where it is not."""
    expected_px: tuple[int, int] | None = None
    """Width and height of the result, where they are known."""
    notes: tuple[str, ...] = ()
    """What the caller should know about the price or the source, such as what could not be checked."""


def quote_video(facts: VideoFacts, *, notes: tuple[str, ...] = ()) -> Quote:
    """Return the quote for upscaling a video that is within PiAPI's limits."""
    return Quote(
        usd=VIDEO_USD_PER_FRAME * facts.stored_frames,
        expected_px=(VIDEO_SCALE * facts.width_px, VIDEO_SCALE * facts.height_px),
        notes=notes,
    )


def quote_image(facts: ImageFacts, scale: ImageScale) -> Quote:
    """Return the quote for upscaling an image that is within PiAPI's limits: the list price of its output."""
    pixels = facts.width_px * facts.height_px * scale * scale
    return Quote(
        usd=IMAGE_USD_PER_MEGAPIXEL * pixels / 1_000_000,
        is_upper_bound=True,
        expected_px=(scale * facts.width_px, scale * facts.height_px),
        notes=(_UPPER_BOUND_NOTE,),
    )


def quote_unseen_video(reason: str) -> Quote:
    """Return the quote for a video that could not be probed: the most that PiAPI's limits allow it to cost."""
    note = f"The video at the URL was not checked here ({reason}): PiAPI checks it, and its frames are the price."
    return Quote(usd=VIDEO_USD_PER_FRAME * VIDEO_LIMITS.max_frames, is_upper_bound=True, notes=(note,))


def quote_unseen_image(reason: str, scale: ImageScale) -> Quote:
    """Return the quote for an image that could not be probed: the most that PiAPI's limits allow it to cost."""
    note = f"The image at the URL was not checked here ({reason}): PiAPI checks it, and its size is the price."
    pixels = (IMAGE_LIMITS.max_side_px * scale) ** 2
    return Quote(usd=IMAGE_USD_PER_MEGAPIXEL * pixels / 1_000_000, is_upper_bound=True, notes=(note,))


def quote_midjourney(assumed_usd: Decimal | None) -> Quote:
    """Return the quote for a Midjourney upscale: the operator's assumption, if there is one."""
    if assumed_usd is None:
        return Quote()
    return Quote(usd=assumed_usd, notes=("PiAPI publishes no price for it: the quote is what the operator assumes.",))


@dataclass(frozen=True)
class SpendingLimits:
    """What one call may spend. None means no limit."""

    max_cost_usd: Decimal | None = None
    """The caller's limit for this task."""
    operator_max_cost_usd: Decimal | None = None
    """The operator's limit for each task."""
    daily_budget_usd: Decimal | None = None
    """The operator's limit for all tasks of a UTC day together."""
    allow_unknown_price: bool = False
    """Whether the caller's limit does not apply to a task whose price is not known. The operator's always does."""

    def refusal(self, quote: Quote, spent_today_usd: Decimal) -> str | None:
        """Return why a task with this quote may not be submitted, or None if it may."""
        if quote.usd is None:
            return self._unknown_price_refusal(quote)
        for name, limit_usd in self._limits().items():
            if quote.usd > limit_usd:
                return (
                    f"This task costs {_price(quote)}, more than {name} of {dollars(limit_usd)}. Nothing was "
                    "submitted. Choose a smaller input, or ask the user for a higher limit."
                )
        return self._budget_refusal(quote, spent_today_usd)

    def warning(self, quote: Quote, frozen_usd: Decimal | None) -> str | None:
        """Return what to tell about the price that PiAPI froze, if it is higher than the quote or than a limit."""
        if frozen_usd is None:
            return None
        exceeded = [f"{name} of {dollars(limit)}" for name, limit in self._limits().items() if frozen_usd > limit]
        if quote.usd is not None and frozen_usd > quote.usd:
            exceeded.insert(0, f"the quote of {dollars(quote.usd)}")
        if not exceeded:
            return None
        return (
            f"PiAPI froze {dollars(frozen_usd)} for this task, more than {' and '.join(exceeded)}. Tell the user; "
            "cancel_task cancels it while it is still pending."
        )

    def _limits(self) -> dict[str, Decimal]:
        limits = {
            "max_cost_usd": self.max_cost_usd,
            "the operator's limit PIAPI_MAX_COST_USD": self.operator_max_cost_usd,
            "the operator's PIAPI_DAILY_BUDGET_USD": self.daily_budget_usd,
        }
        return {name: limit_usd for name, limit_usd in limits.items() if limit_usd is not None}

    def _unknown_price_refusal(self, quote: Quote) -> str | None:
        limits = self._limits()
        if self.operator_max_cost_usd is not None or self.daily_budget_usd is not None:
            limits.pop("max_cost_usd", None)
            next_step = "Ask the operator to state a price with PIAPI_MIDJOURNEY_PRICE_USD, or to lift the limit."
        elif self.max_cost_usd is not None and not self.allow_unknown_price:
            next_step = "Ask the user; call again with allow_unknown_price true if they agree."
        else:
            return None
        name, limit_usd = next(iter(limits.items()))
        return (
            f"The price of this task is not known ({quote.unknown_because}), so {name} of {dollars(limit_usd)} cannot "
            f"be kept. Nothing was submitted. {next_step}"
        )

    def _budget_refusal(self, quote: Quote, spent_today_usd: Decimal) -> str | None:
        if self.daily_budget_usd is None or spent_today_usd + (quote.usd or Decimal(0)) <= self.daily_budget_usd:
            return None
        return (
            f"This task costs {_price(quote)}, and {dollars(spent_today_usd)} of today's budget of "
            f"{dollars(self.daily_budget_usd)} is already spent or committed. Nothing was submitted. The budget renews "
            "at midnight UTC; the operator can raise PIAPI_DAILY_BUDGET_USD."
        )


def _price(quote: Quote) -> str:
    if quote.usd is None:
        return "an unknown amount"
    return f"at most {dollars(quote.usd)}" if quote.is_upper_bound else dollars(quote.usd)
