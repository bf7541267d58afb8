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
    changes = {name: value for name, value in changes.items() if read.get(name) != value}
    added = {name: value for name, value in changes.items() if name not in read}
    if changes.keys() - added.keys() - {"model"} or not _is_certain(body, read):
        return orjson.dumps({**read, **changes})
    if "model" in changes:
        name = orjson.dumps(changes["model"])
        body, count = _model.subn(lambda found: found[1] + name, body, count=1)
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
    if b"\\u00" in body or any(body.count(name) > 1 for name in NAMES):
        return False
    contents = [message["content"] for message in read["messages"] if "content" in message]
    if body.count(b'"content"') != len(contents):
        return False
    lists = [content for content in contents if isinstance(content, list)]
    if not lists:
        return True
    parts = [part for content in lists for part in content]
    typed = sum(isinstance(part, dict) and "type" in part for part in parts)
    return body.count(b'"type"') == typed
