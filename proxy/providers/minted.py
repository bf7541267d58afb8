"""Ids of tool calls for clients, where a provider has none: they are never sent back to it."""

from proxy.ids import request_id

BEGINNING = "call_ops_"


def minted() -> str:
    return BEGINNING + request_id().replace("-", "")


def is_minted(id: str) -> bool:
    return id.startswith(BEGINNING)
