"""The fake provider's legacy completions, speech and transcriptions: answered well. Pure."""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from bench.ask import BadRequest, Fields, model_of, object_of
from bench.modes import Mode, parse
from bench.openai_wire import CREATED
from bench.plan import LAST_CHUNK, Plan, chunk, head, json_plan
from bench.seen import Seen

SOUND = b"ID3" + bytes(range(256)) * 8
_part = re.compile(
    rb'name="([a-z_]+)"(?:; filename="[^"]*")?\r\n(?:[^\r\n]+\r\n)*\r\n(.*?)\r\n--', re.DOTALL
)


def other_plan(request: Seen) -> Plan | None:
    """None where nothing is served at this path."""
    answer = _ANSWERS.get(request.path)
    if answer is None or request.method != "POST":
        return None
    fields = _form(request.body) if "/audio/trans" in request.path else object_of(request.body)
    return answer(fields, parse(model_of(fields)))


def _form(body: bytes) -> Fields:
    return {m[1].decode(): m[2].decode("latin-1") for m in _part.finditer(body)}


def _completions(fields: Fields, mode: Mode) -> Plan:
    base = {"id": "cmpl-mock", "object": "text_completion", "created": CREATED, "model": "m"}
    usage = {"prompt_tokens": mode["in"], "completion_tokens": mode["out"]}
    usage["total_tokens"] = mode["in"] + mode["out"]
    choice = {"index": 0, "text": "one two", "logprobs": None, "finish_reason": "stop"}
    if not fields.get("stream"):
        return json_plan(200, {**base, "choices": [choice], "usage": usage})
    rows: list[Fields] = [
        {**base, "choices": [{**choice, "text": text, "finish_reason": end}], "usage": None}
        for text, end in (("one", None), (" two", "stop"))
    ]
    if (fields.get("stream_options") or {}).get("include_usage"):
        rows.append({**base, "choices": [], "usage": usage})
    return _stream([b"data: " + orjson.dumps(row) + b"\n\n" for row in rows], b"data: [DONE]\n\n")


def _speech(fields: Fields, mode: Mode) -> Plan:
    if fields.get("stream_format") == "sse":
        sound = {"type": "speech.audio.delta", "audio": base64.b64encode(SOUND).decode()}
        done = {"type": "speech.audio.done"}
        usage = {"input_tokens": mode["in"], "output_tokens": mode["out"]}
        rows = (sound, {**done, "usage": {**usage, "total_tokens": mode["in"] + mode["out"]}})
        return _stream([b"data: " + orjson.dumps(row) + b"\n\n" for row in rows])
    pieces = tuple(chunk(SOUND[at : at + 512]) for at in range(0, len(SOUND), 512))
    return Plan(head(200, ("content-type", "audio/mpeg")), b"", pieces, LAST_CHUNK)


def _transcriptions(fields: Fields, mode: Mode) -> Plan:
    if "file" not in fields:
        raise BadRequest("Missing required parameter: 'file'.", "file")
    form = fields.get("response_format", "json")
    if form in ("text", "srt", "vtt"):
        text = b"one two\n"
        return Plan(head(200, ("content-type", "text/plain"), length=len(text)), ending=text)
    usage: dict[str, Any] = {"type": "duration", "seconds": mode["in"]}
    if mode.behaviour == "usage-early":  # as newer models tell it
        usage = {"type": "tokens", "input_tokens": mode["in"], "output_tokens": mode["out"]}
        usage["total_tokens"] = mode["in"] + mode["out"]
    if fields.get("stream") == "true":
        rows: list[Fields] = [{"type": "transcript.text.delta", "delta": "one two"}]
        rows.append({"type": "transcript.text.done", "text": "one two", "usage": usage})
        return _stream([b"data: " + orjson.dumps(row) + b"\n\n" for row in rows])
    return json_plan(200, {"text": "one two", "usage": usage})


def _stream(events: list[bytes], last: bytes = b"") -> Plan:
    start = head(200, ("content-type", "text/event-stream"))
    ending = (chunk(last) if last else b"") + LAST_CHUNK
    return Plan(start, b"", tuple(map(chunk, events)), ending)


_ANSWERS: Mapping[str, Callable[[Fields, Mode], Plan]] = {
    "/v1/completions": _completions,
    "/v1/audio/speech": _speech,
    "/v1/audio/transcriptions": _transcriptions,
    "/v1/audio/translations": _transcriptions,
}
