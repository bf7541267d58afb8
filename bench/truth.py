"""Compares what the fake provider billed with what Ops-Center charged, request by request.

Computes every cost anew from tokens and prices, by the documented formula, not by the product.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from bench.bills import Bill, read_bills
from bench.stack import Stack

BOOKED_S = 60.0
LOOK_S = 0.2
SHOWN_MAX = 10

#: A token class of a usage row -> the price that it has when there is none of its own.
_PRICED_AS = {"cache_read": "input", "cache_write": "input", "reasoning": "output"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was compared, and every kind of difference with an example."""

    billed: int
    charged: int
    problems: tuple[str, ...]


def compare(stack: Stack, prices: Mapping[str, Mapping[str, str]]) -> Verdict:
    """Waits until all that was billed is booked, then compares; `prices` are by model."""
    bills = [bill for bill in read_bills(stack.bills) if bill.request_id]
    rows = _when_booked(stack, len(bills))
    problems = [*differences(bills, rows, prices), *_ledger(stack)]
    return Verdict(len(bills), len(rows), tuple(problems[:SHOWN_MAX]))


def _when_booked(stack: Stack, wanted: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + BOOKED_S
    while True:
        rows = [row for row in stack.api.usage() if row["provider"] == "mock"]
        if len(rows) >= wanted or time.monotonic() > deadline:
            return rows
        time.sleep(LOOK_S)


def differences(
    bills: Sequence[Bill],
    rows: Sequence[dict[str, Any]],
    prices: Mapping[str, Mapping[str, str]],
) -> list[str]:
    """A sentence for each request that was not charged exactly once and exactly as billed."""
    problems = [
        f"request {rid} was {what} {times} times"
        for what, ids in (
            ("billed", Counter(bill.request_id for bill in bills)),
            ("charged", Counter(row["id"] for row in rows)),
        )
        for rid, times in ids.items()
        if times > 1
    ]
    charged = {row["id"]: row for row in rows}
    for bill in bills:
        row = charged.pop(bill.request_id, None)
        if row is None:
            problems.append(f"request {bill.request_id} was billed and not charged")
        else:
            problems += _of_one(bill, row, prices)
    return problems + [f"request {rid} was charged and not billed" for rid in charged]


def _of_one(
    bill: Bill, row: Mapping[str, Any], prices: Mapping[str, Mapping[str, str]]
) -> list[str]:
    tokens = {name: count for name, count in row["tokens"].items() if count}
    wanted = {name: count for name, count in _tokens(bill).items() if count}
    if tokens != wanted:
        return [f"request {bill.request_id} was billed {wanted} and charged as {tokens}"]
    cost = _cost(wanted, prices[row["model"]])
    if Decimal(row["cost"]) != cost:
        return [f"request {bill.request_id} cost {row['cost']} credits instead of {cost}"]
    return []


def _tokens(bill: Bill) -> dict[str, int]:
    """OpenAI counts the cache's tokens within the prompt and reasoning within the completion."""
    return {
        "input": bill.prompt_tokens - bill.cached_tokens - bill.cache_write_tokens,
        "cache_read": bill.cached_tokens,
        "cache_write": bill.cache_write_tokens,
        "output": bill.completion_tokens - bill.reasoning_tokens,
        "reasoning": bill.reasoning_tokens,
    }


def _cost(tokens: Mapping[str, int], dollars: Mapping[str, str]) -> Decimal:
    """In credits, a thousand to the dollar; prices are per million tokens; rounded up once."""
    total = Decimal(0)
    for name, count in tokens.items():
        total += count * Decimal(dollars.get(name) or dollars[_PRICED_AS[name]])
    return (total / 1000).quantize(Decimal("0.000001"), ROUND_CEILING)


def _ledger(stack: Stack) -> list[str]:
    """The product's own proof must hold as well."""
    report = stack.api.get("/api/v1/admin/ledger/verify")
    return [] if report.get("ok") else [f"ledger verify: {report}"]
