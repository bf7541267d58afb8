"""The package genai-prices as rows: every exact name of a model, what it costs and from which day.

`python -m control.catalogue.package` prints them, so that the process that serves need not keep 40
MB in memory for what is read once. Nothing is guessed: a price that this product has no class for,
or that no integer says, leaves its model unpriced, with the reason.
"""

import sys
from collections.abc import Iterator, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import orjson

from control.catalogue import ours
from control.catalogue.families import family_of
from control.catalogue.fields import is_name
from control.catalogue.rates import Inexact, merged, rate

TOKENS, THOUSAND, HOUR = 1_000_000, 1_000, 1
#: A price of the package -> our class, and how many of it the price is for.
CLASSES: Mapping[str, tuple[str, int]] = {
    "input_mtok": ("input", TOKENS),
    "output_mtok": ("output", TOKENS),
    "cache_read_mtok": ("cache_read", TOKENS),
    "cache_write_mtok": ("cache_write", TOKENS),
    "cache_write_5m_mtok": ("cache_write", TOKENS),
    "cache_write_1h_mtok": ("cache_write_1h", TOKENS),
    "input_audio_mtok": ("audio_in", TOKENS),
    "cache_audio_read_mtok": ("cache_audio_in", TOKENS),
    "input_image_mtok": ("image_in", TOKENS),
    "cache_image_read_mtok": ("cache_image_in", TOKENS),
    "input_video_mtok": ("video_in", TOKENS),
    "output_audio_mtok": ("audio_out", TOKENS),
    "output_image_mtok": ("image_out", TOKENS),
    "output_video_mtok": ("video_out", TOKENS),
    "output_reasoning_mtok": ("reasoning", TOKENS),
    "output_citation_mtok": ("citation", TOKENS),
    "input_mchars": ("characters", TOKENS),
    "audio_hours": ("seconds", HOUR),
    "input_audio_hours": ("seconds", HOUR),
    "input_document_kpages": ("pages", THOUSAND),
    "input_annotated_document_kpages": ("pages/annotated", THOUSAND),
    "rerank_searches_kcount": ("searches", THOUSAND),
    "web_searches_kcount": ("web_searches", THOUSAND),
    "social_searches_kcount": ("web_searches/social", THOUSAND),
    "storage_searches_kcount": ("file_searches", THOUSAND),
    "code_executions_kcount": ("code_runs", THOUSAND),
    "requests_kcount": ("requests", THOUSAND),
}
Row = dict[str, Any]


def rows() -> list[Row]:
    """Each once; a name that two entries bear keeps the one whose own name it is."""
    from genai_prices.data_snapshot import get_snapshot  # 0.2 s and 40 MB, only here

    found: dict[tuple[str, str], Row] = {}
    for provider in get_snapshot().providers:
        entries = [(model, _names(model)) for model in provider.models]
        owns = {model.id for model, _ in entries}
        for model, names in entries:
            facts = _facts(model)
            for name in names:
                if name == model.id or name not in owns:
                    row = _row(provider.id, name, facts)
                    found.setdefault((row["provider"], row["upstream_model"]), row)
    for id, dollars in ours.ADDED.items():
        _add(found, id, dollars)
    for row in (*_ours(), *_dated(found)):
        found.setdefault((row["provider"], row["upstream_model"]), row)
    return [_heard(row) for row in found.values() if is_name(row["upstream_model"])]


def _heard(row: Row) -> Row:
    """Sound costs many times what text does: a model for it whose price has none for sound would
    be sold far too cheaply, so it is not."""
    sound = {"audio_in", "seconds"}
    if "audio" not in row["upstream_model"] or any(sound & set(p["rates"]) for p in row["prices"]):
        return row
    return {
        **row,
        "prices": [],
        "why_unpriced": row["why_unpriced"] or "no price of it is for sound",
    }


def _names(model: Any) -> list[str]:
    """Its own and those that are exactly named beside it; patterns name none."""
    every = dict.fromkeys([model.id, *_equals(model.match)])
    lowered = {name.lower() for name in every if name != name.lower()}
    return [name for name in every if name not in lowered and not name.endswith("-")]


def _equals(clause: Any) -> Iterator[str]:
    if (name := getattr(clause, "equals", None)) is not None:
        yield name
    for part in getattr(clause, "or_", ()):
        yield from _equals(part)


def _facts(model: Any) -> Row:
    """What is the same for all names of an entry. Not: a price by the time of day."""
    prices, why = list[Row](), ""
    versions = model.prices if isinstance(model.prices, list) else [None]
    for version in versions:
        constraint = version and version.constraint
        begins = getattr(constraint, "start_date", None)
        if constraint is not None and begins is None:
            prices, why = [], "its price depends on the time of day"
            break
        rates, tiers, notes = _price(version.prices if version else model.prices)
        why = why or ("" if rates else notes)
        since = begins.isoformat() if begins else None
        prices.append({"from": since, "rates": rates, "tiers": tiers, "note": notes})
    return {
        "name": model.name or "",
        "context_max": model.context_window,
        "retired": bool(model.deprecated),
        "prices": prices,
        "why_unpriced": why,
    }


def _row(provider: str, name: str, facts: Row) -> Row:
    """A backend of HuggingFace's router is a part of the model's name there."""
    if provider.startswith("huggingface_"):
        backend = provider.removeprefix("huggingface_")
        provider, name = "huggingface", f"{name}:{backend}"
    prices, why = _in_force(facts["prices"]), facts["why_unpriced"]
    if not prices and name.endswith(":free") and not why:
        free = {"input": 0, "output": 0}
        prices = [{"from": None, "rates": free, "tiers": [], "note": "free by its name"}]
    family = family_of(name)
    return {
        **facts,
        "provider": provider,
        "upstream_model": name,
        "output_max": family.output_max,
        "thinks": family.thinks,
        "kind": family.kind,
        "takes": family.takes,
        "gives": family.gives,
        "prices": prices,
        "why_unpriced": "" if prices else why or "the package has no price for it",
    }


def _in_force(prices: list[Row]) -> list[Row]:
    """What holds today and what will; what held before nobody is charged by."""
    today = date.today().isoformat()
    begun = [one for one in prices if (one["from"] or "") <= today]
    coming = [one for one in prices if (one["from"] or "") > today]
    return [one for one in (*begun[-1:], *coming) if one["rates"]]


# Prices -------------------------------------------------------------------------------


def _price(price: Any) -> tuple[dict[str, int], list[Row], str]:
    """Rates, tiers and a note; without rates the note says why."""
    said = {key: value for key, value in vars(price).items() if value is not None and key[0] != "_"}
    if unknown := sorted(set(said) - set(CLASSES)):
        return {}, [], f"there is no class for {', '.join(unknown)}"
    edges = sorted({tier.start for value in said.values() for tier in getattr(value, "tiers", ())})
    notes: list[str] = []
    try:
        base = _rates({key: _at(value, 0) for key, value in said.items()}, notes)
        tiers = [
            {"above": edge, "rates": _rates({k: _at(v, edge + 1) for k, v in said.items()}, notes)}
            for edge in edges
        ]
    except Inexact as problem:
        return {}, [], str(problem)
    return base, tiers, "; ".join(dict.fromkeys(notes))


def _rates(said: Mapping[str, Decimal], notes: list[str]) -> dict[str, int]:
    return merged(
        (name, rate(dollars, per, name, notes))
        for key, dollars in said.items()
        for name, per in [CLASSES[key]]
    )


def _at(value: Any, tokens: int) -> Decimal:
    """Of a price with tiers the one for so many tokens in."""
    if isinstance(value, Decimal):
        return value
    crossed = [tier.price for tier in value.tiers if tokens > tier.start]
    found: Decimal = crossed[-1] if crossed else value.base
    return found


# Ours ---------------------------------------------------------------------------------


def _ours() -> Iterator[Row]:
    for id, dollars in ours.PRICES.items():
        provider, _, name = id.partition("/")
        rates = {
            one: rate(Decimal(price), TOKENS if one == "input" else 1, one, [])
            for one, price in dollars.items()
        }
        note = f"the maker's public list, read on {ours.READ_ON}"
        price: Row = {"from": None, "rates": rates, "tiers": [], "note": note}
        facts = {"name": "", "context_max": None, "retired": False, "why_unpriced": ""}
        yield _row(provider, name, {**facts, "prices": [price]})


def _add(found: dict[tuple[str, str], Row], id: str, dollars: Mapping[str, str]) -> None:
    provider, _, name = id.partition("/")
    if (row := found.get((provider, name))) is None:
        return
    rates = {one: rate(Decimal(price), TOKENS, one, []) for one, price in dollars.items()}
    note = f"{', '.join(rates)}: the maker's public list, read on {ours.READ_ON}"
    prices = [
        {
            **one,
            "rates": {**rates, **one["rates"]},
            "note": "; ".join(filter(None, (one["note"], note))),
        }
        for one in row["prices"]
    ]
    found[provider, name] = {**row, "prices": prices}


def _dated(found: Mapping[tuple[str, str], Row]) -> Iterator[Row]:
    for id, same in ours.DATED.items():
        provider, _, name = id.partition("/")
        if (row := found.get((provider, same))) is not None:
            yield {**row, "upstream_model": name, "name": row["name"]}


if __name__ == "__main__":
    sys.stdout.buffer.write(orjson.dumps(rows()))
