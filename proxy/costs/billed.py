"""What an answer that passed untouched is billed by, whole or streamed: tokens as its provider
counts them, or images, seconds, characters, searches where the model is sold by these. Pure.

No number of a provider's gets into the ledger but through `count`; what we count ourselves is never
more than what is held.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

import orjson

from proxy.costs.estimates import BYTES_PER_TOKEN, estimate, so_far
from proxy.costs.price import Price
from proxy.costs.pricing import NOTHING
from proxy.costs.sound import seconds_of
from proxy.costs.units import search_of, units_max
from proxy.errors import UpstreamBroken
from proxy.providers import hosted
from proxy.providers.fields import Object, count, inner
from proxy.types import Call, Delivered, Usage
from proxy.upstream import Reply

ERROR = b'"error"'
COUNTED = ("chat", "completions", "embeddings")  # sold by the token alone


def usage(reply: Reply, call: Call, price: Price, body: bytes) -> Usage:
    """Raises where the answer is an error in spite of its status, or no answer."""
    counted = reply.adapter.usage(body)
    if counted is not None and call.kind in COUNTED:
        return _searched(call, counted)
    answer = _answer(reply, call, body)
    if counted is None and ERROR in body and answer.get("error"):
        raise reply.problem(body)
    return _OF_KIND[call.kind](call, price, counted, answer, len(body))


def streamed(
    call: Call, price: Price, counted: Usage | None, progress: Delivered, answer: Object = NOTHING
) -> Usage:
    """However it ended. `answer`: what a whole one would have said of images and seconds."""
    if call.kind in COUNTED:
        return _searched(call, counted or so_far(call, progress))
    return _OF_KIND[call.kind](call, price, counted, answer, progress.content_bytes)


def _searched(call: Call, used: Usage) -> Usage:
    """A chat completion that was asked to search has done it once, and counts it nowhere."""
    asked = call.fields.get("web_search_options") is not None and call.dialect == "chat"
    if not asked or "web_searches" in used.tokens:
        return used
    return replace(used, tokens={**used.tokens, search_of(call.fields): 1})


def _answer(reply: Reply, call: Call, body: bytes) -> Object:
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


def _unseen(call: Call, read: int, made: str) -> Usage:
    """Tokens of sound and images cannot be told from their bytes: what is held for them."""
    tokens = {"input": min(-(-read // BYTES_PER_TOKEN), call.input_most), made: call.output_most}
    return Usage(tokens, "estimated")


# Kinds of calls -----------------------------------------------------------------------


def _tokens(call: Call, price: Price, counted: Usage | None, answer: Object, size: int) -> Usage:
    if call.dialect == "count_tokens":
        return Usage({})
    return counted or _searched(call, estimate(call, size, hosted.run(answer)))


def _images(call: Call, price: Price, counted: Usage | None, answer: Object, size: int) -> Usage:
    """By the image where it is sold so: as many as came, of those that were asked for."""
    found = answer.get("data")
    made = len(found) if isinstance(found, list) else None
    if not any(name.split("/")[0] == "images" for name in price.rates):
        nothing = estimate(call, 0, NOTHING)
        return counted or (nothing if made == 0 else _unseen(call, len(call.body), "image_out"))
    most = units_max(call, price)
    if made is None:
        return Usage(most, "estimated")
    return Usage(
        {name: min(made, n) if name.startswith("images") else n for name, n in most.items()}
    )


def _speech(call: Call, price: Price, counted: Usage | None, answer: Object, size: int) -> Usage:
    """Sound tells nothing, but what it was made from is known."""
    if "characters" in price.rates:
        return Usage(units_max(call, price))
    text = str(call.fields.get("input", ""))
    return counted or _unseen(call, len(text.encode()), "audio_out")


def _transcription(
    call: Call, price: Price, counted: Usage | None, answer: Object, size: int
) -> Usage:
    """A provider that tells neither the length of a sound nor tokens leaves it to the sound."""
    if "seconds" not in price.rates:
        return counted or estimate(call, size, NOTHING)
    told = count(inner(answer, "usage"), "seconds")
    seconds = count(answer, "duration") if told is None else told
    if seconds is not None:
        return Usage({"seconds": seconds})
    if counted is not None and ("seconds" in counted.tokens or "output" in price.rates):
        return counted
    return Usage({"seconds": min(_length(call), units_max(call, price)["seconds"])}, "estimated")


def _length(call: Call) -> int:
    """Seconds of the sound that was sent."""
    files = (part.value for part in call.parts if part.filename is not None)
    sound = max(files, key=len, default=b"")
    return seconds_of(sound)


def _rerank(call: Call, price: Price, counted: Usage | None, answer: Object, size: int) -> Usage:
    searches = count(inner(inner(answer, "meta"), "billed_units"), "search_units")
    if searches is not None and "searches" in price.rates:
        return Usage({"searches": searches})
    if counted is not None and "input" in price.rates:
        return counted
    if "searches" in price.rates:
        return Usage(units_max(call, price), "estimated")
    return Usage({"requests": 1}) if "requests" in price.rates else estimate(call, 0, NOTHING)


def _moderation(
    call: Call, price: Price, counted: Usage | None, answer: Object, size: int
) -> Usage:
    """No provider tells what a moderation used."""
    if "requests" in price.rates:
        return Usage({"requests": 1})
    return counted or estimate(call, 0, NOTHING)


_OF_KIND: Mapping[str, Callable[[Call, Price, Usage | None, Object, int], Usage]] = {
    "chat": _tokens,
    "completions": _tokens,
    "embeddings": _tokens,
    "images": _images,
    "speech": _speech,
    "transcription": _transcription,
    "rerank": _rerank,
    "moderation": _moderation,
}
