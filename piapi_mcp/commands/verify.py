"""`piapi-mcp verify`: compares the beliefs of docs/piapi-facts.md with the real service, and prints what it found."""

import json
import sys
import time
from collections.abc import Callable
from decimal import Decimal
from typing import TYPE_CHECKING

import piapi_mcp
from piapi_mcp.commands.launch import KEY_PAGE
from piapi_mcp.commands.verify_beliefs import BELIEFS, Finding, Findings
from piapi_mcp.errors import SettingsError
from piapi_mcp.formatting import dollars
from piapi_mcp.settings import Settings

if TYPE_CHECKING:
    from piapi_mcp.commands.verify_purchases import Purchases
    from piapi_mcp.commands.verify_service import Service

_PUBLIC_BASE_URL = "https://api.piapi.ai"
_EXIT_INTERRUPTED = 130


def verify(
    settings: Settings, *, spend_usd: Decimal, as_json: bool, sleep: Callable[[float], None] = time.sleep
) -> int:
    """Check what can be checked, print a line for each belief, and return the exit status.

    The status is 0 if nothing was contradicted, and 1 if something was or the answer to a purchase was lost.

    Args:
        settings: The key, the base URL and the operator's limits.
        spend_usd: The most that all purchases together may cost; nothing is bought below `MIN_SPEND_USD`.
        as_json: Print one JSON object.
        sleep: Waits between two polls.

    Raises:
        SettingsError: No key is set.
        PiAPIError: The service cannot be reached, or does not accept the key.
    """
    if settings.api_key is None:
        raise SettingsError(f"PIAPI_API_KEY is not set. Get a key at {KEY_PAGE}, or use --sandbox.")
    # Imported here: --help and the other commands need no HTTP client.
    from piapi_mcp.commands.verify_purchases import Purchases
    from piapi_mcp.commands.verify_service import Service

    key = settings.api_key.get_secret_value()
    findings = Findings(secrets=[key])
    with Service(settings.base_url, key, findings, sleep) as service:
        purchases = Purchases(service, findings, limit_each_usd=settings.max_cost_usd, announce=_announce)
        limit_usd = spend_usd if settings.daily_budget_usd is None else min(spend_usd, settings.daily_budget_usd)
        status = _run(service, findings, purchases, limit_usd)
    found = findings.all()
    (_print_json if as_json else _print_text)(_name_service(settings), found, findings.notes, purchases.spent_usd)
    return status or int(any(finding.status == "contradicted" for finding in found))


def _run(service: "Service", findings: Findings, purchases: "Purchases", limit_usd: Decimal) -> int:
    """Run the free checks, then those that fit the limit; return the exit status if the run ended early, else 0."""
    from piapi_mcp.commands.verify_free import FreeChecks
    from piapi_mcp.commands.verify_paid import PaidChecks
    from piapi_mcp.commands.verify_purchases import MIN_SPEND_USD, LostAnswerError

    try:
        free = FreeChecks(service, findings)
        free.run()
        purchases.limit_usd, purchases.other_usd = limit_usd, free.spent_usd
        if limit_usd >= MIN_SPEND_USD and free.is_cost_known:
            PaidChecks(service, findings, purchases).run()
        elif limit_usd:
            reason = f"less than {dollars(MIN_SPEND_USD)} may be spent" if free.is_cost_known else "see above"
            findings.note(f"Nothing else was bought: {reason}.")
    except LostAnswerError as error:
        findings.note(f"The run ended early, because a purchase got no usable answer: {error}.")
        _note_in_flight(findings, purchases)
        return 1
    except KeyboardInterrupt:
        findings.note("The run was interrupted.")
        _note_in_flight(findings, purchases)
        return _EXIT_INTERRUPTED
    except Exception:
        _announce(f"The run broke off; spent until then: at most {dollars(purchases.spent_usd)}.")
        raise
    return 0


def _note_in_flight(findings: Findings, purchases: "Purchases") -> None:
    """Name the purchase whose answer was lost, if there is one."""
    lost = purchases.in_flight
    if lost is not None:
        at_most = dollars(lost.at_most_usd)
        findings.note(f"May have been bought: {lost.name}, at most {at_most}. Check the task history.")


def _announce(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _name_service(settings: Settings) -> str:
    """Return what the output calls the service; an address of the operator's own is private."""
    is_public = settings.base_url.rstrip("/") == _PUBLIC_BASE_URL
    return _PUBLIC_BASE_URL if is_public else "another address than PiAPI's"


def _count(found: list[Finding]) -> dict[str, int]:
    statuses = [finding.status for finding in found]
    return {status: statuses.count(status) for status in ("seen", "contradicted", "untested")}


def _print_text(service: str, found: list[Finding], notes: list[str], spent_usd: Decimal) -> None:
    print(f"piapi-mcp {piapi_mcp.__version__} verify, {time.strftime('%Y-%m-%d', time.gmtime())}, at {service}")
    for group in BELIEFS:
        print(f"\n{group}")
        for finding in found:
            if finding.group == group:
                print(f"  {finding.status:<12} {finding.belief:<27} {finding.detail}")
    print()
    for note in notes:
        print(note)
    counts = ", ".join(f"{number} {status}" for status, number in _count(found).items())
    print(f"{counts}; spent: at most {dollars(spent_usd)}")


def _print_json(service: str, found: list[Finding], notes: list[str], spent_usd: Decimal) -> None:
    beliefs = [
        {"id": finding.belief, "group": finding.group, "status": finding.status, "detail": finding.detail}
        for finding in found
    ]
    report = {
        "version": piapi_mcp.__version__,
        "service": service,
        "counts": _count(found),
        "spent_usd": f"{spent_usd.normalize():f}",
        "notes": notes,
        "beliefs": beliefs,
    }
    print(json.dumps(report, indent=2))
