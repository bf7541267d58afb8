"""A body sent on as it came, but for a few fields: the model's name, a maximum, the wish for usage.

Bytes are only touched where both sides are sure to read the same; whatever leaves a doubt (a name
that may stand twice, an escaped name) is written anew from what was read here.
"""

import re
from collections.abc import Mapping
from typing import Any

import orjson

#: Names on which a hold depends: a provider must not find a second one, and read that.
NAMES = tuple(
    b'"%s"' % name
    for name in (
        b"model",
        b"messages",
        b"n",
        b"stream",
        b"stream_options",
        b"max_tokens",
        b"max_completion_tokens",
    )
)
_model = re.compile(rb'("model"\s*:\s*)"[^"\\]*"')


def patched(body: bytes, read: Mapping[str, Any], changes: Mapping[str, Any]) -> bytes:
    """`body`, of which `read` was read, with other values for some fields."""
    if not _is_certain(body, read):
        return orjson.dumps({**read, **changes})
    added = {}
    for name, value in changes.items():
        if name not in read:
            added[name] = value
        elif name != "model" and read[name] != value:
            return orjson.dumps({**read, **changes})
    if changes.get("model", read["model"]) != read["model"]:
        model = orjson.dumps(changes["model"])
        body, count = _model.subn(lambda found: found[1] + model, body, count=1)
        if not count:  # it is written in some other way
            return orjson.dumps({**read, **changes})
    if added:
        inside = body.index(b"{") + 1
        body = b"".join((body[:inside], orjson.dumps(added)[1:-1], b",", body[inside:]))
    return body


def _is_certain(body: bytes, read: Mapping[str, Any]) -> bool:
    """Whether whoever reads these bytes finds what was read here, whichever of two equal names
    he prefers.
    """
    # an escape of this kind can spell a name
    if b"\\u00" in body:
        return False
    count = body.count
    for name in NAMES:
        if count(name) > 1:
            return False
    said, parts = 0, list[Any]()
    for message in read["messages"]:
        if "content" in message:
            said += 1
            if isinstance(message["content"], list):
                parts += message["content"]
    if count(b'"content"') != said:
        return False
    typed = sum(isinstance(part, dict) and "type" in part for part in parts)
    return not parts or count(b'"type"') == typed
