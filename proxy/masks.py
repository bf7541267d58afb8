"""What looks like a provider's key, in a text that somebody else has written. Pure.

Providers repeat the key that they were given, whole or in part, and sometimes a key of their own.
"""

import re

MASK = "***"
#: How keys of each provider begin; `tests/test_masks.py` compares them with the table of providers.
BEGINNINGS = (
    *("sk-", "sk_", "gsk_", "hf_", "xai-", "AIza", "AQ.", "tgp_v1_", "co_", "pk-", "rk_"),
    *("ya29.", "eyJ", "AKIA", "ASIA", "ABSK", "r8_", "pplx-", "fw_", "nvapi-", "ghp_"),
)
LETTERS = r"[A-Za-z0-9_\-.*=/+]"
LETTERS_MIN = 12  # after the beginning: a word that happens to begin so is no key

_beginning = "|".join(map(re.escape, BEGINNINGS))
_KEY = re.compile(rf"(?<![A-Za-z0-9])(?:{_beginning}){LETTERS}{{{LETTERS_MIN},}}")
#: Keys without a beginning of their own are named beside them.
_names = r"\b(?:bearer|api[ _-]?key|authorization|token)\b"
_NAMED = re.compile(
    rf"({_names}[\"'`]?\s*(?:[:=]|provided:?|is)?\s*[\"'`]?)({LETTERS}{{24,}})", re.IGNORECASE
)


def mask(text: str, secret: str = "") -> str:
    """Without this secret, and without whatever looks like one of any provider's."""
    if secret:
        text = text.replace(secret, MASK)
    return _NAMED.sub(rf"\1{MASK}", _KEY.sub(MASK, text))


def mask_bytes(text: bytes, secret: str = "") -> bytes:
    """The same in what goes through as it came; what is no UTF-8 stays as it is."""
    return mask(text.decode("utf-8", "surrogateescape"), secret).encode("utf-8", "surrogateescape")
