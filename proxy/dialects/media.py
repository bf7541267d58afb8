"""Bytes inside of addresses: `data:image/png;base64,...`. Pure."""

import re

_inline = re.compile(r"data:([^;,\s]{0,200})(?:;[^;,\s]{1,100}){0,4};base64,", re.IGNORECASE).match


def inline(url: str) -> tuple[str, str] | None:
    """Media type and base64 of a data URL; None for any other address."""
    found = _inline(url)
    return (found[1].lower(), url[found.end() :]) if found else None


def as_url(media_type: str, data: str) -> str:
    return f"data:{media_type or 'application/octet-stream'};base64,{data}"
