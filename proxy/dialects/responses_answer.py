"""An answer in OpenAI's Responses dialect: a stream of named, numbered events, or one response.

Each part is an item of its own: a message with one content, a thought, a call. What a stream has
told in pieces it tells again whole, at the part's end and at its own.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from proxy.dialects.conversation import Thinking
from proxy.dialects.events import Event
from proxy.dialects.frames import frame
from proxy.dialects.parts import Part, PartsWriter
from proxy.dialects.responses_object import (
    Object,
    content,
    failure,
    item,
    item_id,
    last_words,
    response,
    summary,
    usage_object,
)
from proxy.dialects.responses_request import INCLUDED
from proxy.dialects.signed import sealed_thought
from proxy.errors import OpsError
from proxy.types import Usage

#: Of what comes in pieces: how its events begin, and where its words stand in the last of them.
_TOLD = {
    "text": ("response.output_text", "text"),
    "refusal": ("response.refusal", "refusal"),
    "thinking": ("response.reasoning_summary_text", "text"),
    "tool": ("response.function_call_arguments", "arguments"),
}


class ResponsesWriter(PartsWriter):
    """One answer."""

    def __init__(self, rid: str, model: str, fields: Mapping[str, Any]) -> None:
        super().__init__(model)
        self._rid = rid
        self._response = response(rid, model, int(time.time()), fields)
        self._items: list[Object] = []  # that have ended
        self._ending = "completed"  # how a part ends
        self._number = 0  # of the next event
        self._is_over = False
        reasoning = fields.get("reasoning") or {}
        self._tells_thoughts = bool(reasoning.get("summary") or reasoning.get("generate_summary"))
        self._seals_thoughts = INCLUDED in (fields.get("include") or ())

    def end(self, usage: Usage) -> bytes:
        return self._last(self.reason, usage)

    def cut(self, usage: Usage) -> bytes:
        return self._last("length", usage)

    def fail(self, problem: OpsError, usage: Usage) -> bytes:
        out: list[bytes] = []
        # not where somebody else has told the stream until now, or it was cut
        begun = self.is_begun and not self._is_over
        if begun:
            self._ending = "incomplete"
            self.close(usage, out)
        shape = problem.shape(self._rid)
        told = {name: shape[name] for name in ("code", "message", "param")}
        # beside each other in the specification; SDKs look for them below `error`
        self._say("error", {**told, "error": shape, "usage": usage_object(usage)}, out)
        if not begun:
            return out[0]
        failed = self._ended({"status": "failed", "error": failure(problem)})
        self._say("response.failed", {"response": failed}, out)
        return b"".join(out)

    def whole(self, events: Sequence[Event], usage: Usage) -> bytes:
        self.feed(events)
        return orjson.dumps(self._conclude(self.reason, usage, []))

    def _last(self, reason: str, usage: Usage) -> bytes:
        out: list[bytes] = []
        ended = self._conclude(reason, usage, out)
        self._is_over = True
        self._say(f"response.{ended['status']}", {"response": ended}, out)
        return b"".join(out)

    def _conclude(self, reason: str, usage: Usage, out: list[bytes]) -> Object:
        words = last_words(reason, self.refused)
        self._ending = words["status"]
        self.close(usage, out)
        return self._ended(words)

    def _ended(self, words: Object) -> Object:
        at = int(time.time()) if words["status"] == "completed" else None
        usage = usage_object(self.usage)
        kept = {"output": self._items, "usage": usage, "completed_at": at}
        return {**self._response, **kept, **words}

    # What the parts become -----------------------------------------------------------

    def start(self, out: list[bytes]) -> None:
        self._say("response.created", {"response": self._response}, out)
        self._say("response.in_progress", {"response": self._response}, out)

    def begin(self, part: Part, out: list[bytes]) -> None:
        begun = item(self._rid, part, (), "", "in_progress")
        self._say("response.output_item.added", {"output_index": part.nth, "item": begun}, out)
        if part.kind in ("text", "refusal"):
            self._say_part("content_part.added", part, content(part, ""), out)

    def more(self, part: Part, text: str, out: list[bytes]) -> None:
        is_first = not part.pieces
        part.pieces.append(text)
        if part.kind == "thinking":
            if not self._tells_thoughts:
                return
            if is_first:
                self._say_part("reasoning_summary_part.added", part, summary(""), out)
        self._say_words(part, "delta", "delta", text, out)

    def end_part(self, part: Part, out: list[bytes]) -> None:
        if part.kind == "tool" and not part.pieces:
            self.more(part, "{}", out)  # of a call without arguments some say nothing
        text = part.text
        inner: list[Object] = []
        if part.kind in ("text", "refusal"):
            inner.append(content(part, text))
        elif part.kind == "thinking" and self._tells_thoughts and text:
            inner.append(summary(text))
        if inner or part.kind == "tool":
            self._end_text(part, text, inner, out)
        ended = item(self._rid, part, inner, text, self._ending)
        if part.kind == "thinking":
            ended.update(self._sealed(part, text))
        self._items.append(ended)
        self._say("response.output_item.done", {"output_index": part.nth, "item": ended}, out)

    def _end_text(self, part: Part, text: str, inner: Sequence[Object], out: list[bytes]) -> None:
        self._say_words(part, "done", _TOLD[part.kind][1], text, out)
        if inner:
            whole = "reasoning_summary_part" if part.kind == "thinking" else "content_part"
            self._say_part(f"{whole}.done", part, inner[0], out)

    def _sealed(self, part: Part, text: str) -> Object:
        """What proves a thought comes whenever there is something, since nothing is stored; its
        words where they are asked for and not told."""
        hidden = bool(text) and not self._tells_thoughts
        if not (part.signature or part.redacted or (hidden and self._seals_thoughts)):
            return {}
        thought = Thinking(text, part.signature, part.redacted)
        return {"encrypted_content": sealed_thought(thought, with_text=hidden)}

    # Events ----------------------------------------------------------------------------

    def _say(self, name: str, told: Object, out: list[bytes]) -> None:
        out.append(frame(name, {"type": name, "sequence_number": self._number, **told}))
        self._number += 1

    def _say_words(self, part: Part, step: str, field: str, text: str, out: list[bytes]) -> None:
        told = {**self._place(part), field: text}
        if part.kind == "text":
            told["logprobs"] = []
        elif part.kind == "tool" and step == "done":
            told["name"] = part.name
        self._say(f"{_TOLD[part.kind][0]}.{step}", told, out)

    def _say_part(self, name: str, part: Part, told: Object, out: list[bytes]) -> None:
        self._say(f"response.{name}", {**self._place(part), "part": told}, out)

    def _place(self, part: Part) -> Object:
        place: Object = {"item_id": item_id(self._rid, part), "output_index": part.nth}
        if part.kind == "thinking":
            return {**place, "summary_index": 0}
        return place if part.kind == "tool" else {**place, "content_index": 0}
