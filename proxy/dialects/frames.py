"""Events of a stream that have a name, as both dialects with parts send them."""

from collections.abc import Mapping
from typing import Any

import orjson


def frame(name: str, payload: Mapping[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(payload))
