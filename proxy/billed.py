"""What a whole answer that passed untouched is billed by: tokens as its provider counts them, or
images, seconds, characters, searches where the model is sold by these. Pure.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from proxy.errors import UpstreamBroken
from proxy.estimates import BYTES_PER_TOKEN, estimate
from proxy.price import Price
from proxy.pricing import NOTHING
from proxy.types import Call, Usage
from proxy.units import units_max
from proxy.upstream import Reply

ERROR = b'"error"'
COUNTED = ("chat", "completions", "embeddings")  # sold by the token alone
SOUND_BYTES_PER_SECOND = 16_000  # where nothing tells how long it is: 128 kbit/s
WAVE_HEAD = 44  # bytes; it tells how many bytes a second has


def usage(reply: Reply, call: Call, price: Price, body: bytes) -> Usage:
    """Raises where the answer is an error in spite of its status, or no answer."""
    counted = reply.adapter.usage(body)
    if counted is not None and call.kind in COUNTED:
        return counted
    answer = _answer(reply, call, body)
    if counted is None and ERROR in body and answer.get("error"):
        raise reply.problem(body)
    return _OF_KIND.get(call.kind, _tokens)(call, price, counted, answer, body)


def spoken(call: Call, price: Price) -> Usage:
    """Of speech, whose answer is sound and tells nothing: what it was made from is known."""
    if "characters" in price.rates:
        return Usage(units_max(call, price))
    text = str(call.fields.get("input", ""))
    return Usage({"input": -(-len(text.encode()) // BYTES_PER_TOKEN)}, "estimated")


def _answer(reply: Reply, call: Call, body: bytes) -> Mapping[str, Any]:
    """Of JSON, the object; of other texts nothing that could be read."""
    if b"json" not in reply.content_type and call.kind in ("transcription", "speech"):
        return NOTHING
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict) and not (call.kind == "embeddings" and answer):
        raise UpstreamBroken(model=call.model, why="the answer is not JSON")
    return answer if isinstance(answer, dict) else NOTHING


def _tokens(
    call: Call, price: Price, counted: Usage | None, answer: Mapping[str, Any], body: bytes
) -> Usage:
    if call.dialect == "count_tokens":
        return Usage({})
    return counted or estimate(call, len(body), NOTHING)


def _images(
    call: Call, price: Price, counted: Usage | None, answer: Mapping[str, Any], body: bytes
) -> Usage:
    """By the image where it is sold so: as many as came."""
    if not any(name.split("/")[0] == "images" for name in price.rates):
        return counted or estimate(call, 0, NOTHING)
    found, most = answer.get("data"), units_max(call, price)
    if not isinstance(found, list):
        return Usage(most, "estimated")
    made = {name: len(found) if name.startswith("images") else n for name, n in most.items()}
    return Usage(made)


def _speech(
    call: Call, price: Price, counted: Usage | None, answer: Mapping[str, Any], body: bytes
) -> Usage:
    return counted or spoken(call, price)


def _transcription(
    call: Call, price: Price, counted: Usage | None, answer: Mapping[str, Any], body: bytes
) -> Usage:
    if counted is not None and "seconds" not in price.rates:
        return counted
    told = answer.get("usage")
    seconds = told.get("seconds") if isinstance(told, dict) else None
    if seconds is None:
        seconds = answer.get("duration")
    if isinstance(seconds, int | float) and not isinstance(seconds, bool) and seconds >= 0:
        return Usage({"seconds": -int(-seconds // 1)})
    if counted is not None:
        return counted
    if "seconds" in price.rates:
        return Usage({"seconds": _length(call)}, "estimated")
    return estimate(call, len(body), NOTHING)


def _length(call: Call) -> int:
    """Seconds of the sound that was sent."""
    sound = max((part.value for part in call.parts if part.filename is not None), key=len)
    rate = 0
    if sound[:4] == b"RIFF" and len(sound) >= WAVE_HEAD:
        rate = int.from_bytes(sound[28:32], "little")
    return -(-len(sound) // (rate or SOUND_BYTES_PER_SECOND))


def _rerank(
    call: Call, price: Price, counted: Usage | None, answer: Mapping[str, Any], body: bytes
) -> Usage:
    meta = answer.get("meta")
    units = meta.get("billed_units") if isinstance(meta, dict) else None
    searches = units.get("search_units") if isinstance(units, dict) else None
    if isinstance(searches, int | float) and "searches" in price.rates:
        return Usage({"searches": -int(-searches // 1)})
    if counted is not None and "input" in price.rates:
        return counted
    if "searches" in price.rates:
        return Usage(units_max(call, price), "estimated")
    return Usage({"requests": 1}) if "requests" in price.rates else estimate(call, 0, NOTHING)


def _moderation(
    call: Call, price: Price, counted: Usage | None, answer: Mapping[str, Any], body: bytes
) -> Usage:
    """No provider tells what a moderation used."""
    if "requests" in price.rates:
        return Usage({"requests": 1})
    return counted or estimate(call, 0, NOTHING)


_OF_KIND = {
    "images": _images,
    "speech": _speech,
    "transcription": _transcription,
    "rerank": _rerank,
    "moderation": _moderation,
}
