"""What a request is charged, by who has served it: calls with a key of one's own cost nothing here.
Pure.
"""

from collections.abc import Mapping
from dataclasses import replace

from proxy.costs.price import Price
from proxy.costs.pricing import cost_ucr
from proxy.types import Outcome, Ticket

BYOK = "byok"  # how the ledger tells it
FREE = Price(0, {"input": 0, "output": 0}, 0)


def free(price: Price | None) -> Price:
    """The same price at the fee of a call with a key of one's own: nothing, whatever it uses."""
    return FREE if price is None else replace(price, factor_ppm=0)


def is_own(outcome: Outcome) -> bool:
    return outcome.deployment is not None and outcome.deployment.own is not None


def charged_ucr(tokens: Mapping[str, int], ticket: Ticket, outcome: Outcome) -> int:
    return 0 if is_own(outcome) else cost_ucr(tokens, ticket.price)


def total_ucr(ticket: Ticket, outcome: Outcome) -> int:
    """Of all that was used; what an answer's head tells is what is settled, so it is reckoned once
    for each usage."""
    usage = outcome.usage
    if outcome.reckoned is not usage:
        outcome.cost_ucr = charged_ucr(usage.tokens, ticket, outcome)
        outcome.reckoned = usage
    return outcome.cost_ucr
