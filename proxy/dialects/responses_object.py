"""The objects that a Responses answer is made of: items, usage, the response itself. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

from proxy.dialects.parts import Part
from proxy.dialects.sums import sums
from proxy.errors import OpsError
from proxy.types import Usage

Object = dict[str, Any]
#: What a response repeats of its request, and what it says where the request is silent.
ECHOED: Mapping[str, Any] = {
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "parallel_tool_calls": True,
    "prompt_cache_key": None,
    "safety_identifier": None,
    "temperature": None,
    "text": {"format": {"type": "text"}},
    "tool_choice": "auto",
    "tools": [],
    "top_p": None,
    "truncation": "disabled",
    "user": None,
}
PREFIXES = {"text": "msg", "refusal": "msg", "thinking": "rs", "tool": "fc"}


def content(part: Part, text: str) -> Object:
    """What a message's one content is."""
    if part.kind == "refusal":
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def summary(text: str) -> Object:
    return {"type": "summary_text", "text": text}


def item(rid: str, part: Part, inner: Sequence[Object], text: str, status: str) -> Object:
    """`inner`: contents of a message, or summaries of a thought; `text`: arguments of a call."""
    id = item_id(rid, part)
    if part.kind == "thinking":
        return {"id": id, "type": "reasoning", "summary": [*inner]}
    if part.kind == "tool":
        call = {"call_id": part.id, "name": part.name, "arguments": text}
        return {"id": id, "type": "function_call", "status": status, **call}
    message = {"role": "assistant", "content": [*inner]}
    return {"id": id, "type": "message", "status": status, **message}


def item_id(rid: str, part: Part) -> str:
    return f"{PREFIXES[part.kind]}_{rid}_{part.nth}"


def response(rid: str, model: str, created: int, fields: Mapping[str, Any]) -> Object:
    """As it begins. Nothing is kept, whatever was asked for: `store` says so."""
    reasoning = fields.get("reasoning") or {}
    found = {name: fields.get(name) for name in ECHOED}
    return {
        "id": f"resp_{rid}",
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": model,
        "output": [],
        "previous_response_id": None,
        "reasoning": {name: reasoning.get(name) for name in ("effort", "summary")},
        "store": False,
        "usage": None,
        **{name: ECHOED[name] if value is None else value for name, value in found.items()},
    }


def last_words(reason: str, refused: bool) -> Object:
    """How a response says that it has ended."""
    if reason == "length":
        return {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    if reason == "content_filter" and not refused:
        return {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}
    return {"status": "completed"}


def failure(problem: OpsError) -> Object:
    """In the few words that the specification has for it."""
    code = "rate_limit_exceeded" if problem.status == 429 else "server_error"
    return {"code": code, "message": problem.sentence}


def usage_object(usage: Usage) -> Object | None:
    if usage.source == "none":
        return None
    found = sums(usage)
    return {
        "input_tokens": found.all_in,
        "input_tokens_details": {
            "cached_tokens": found.cached,
            "cache_write_tokens": found.written,
        },
        "output_tokens": found.all_out,
        "output_tokens_details": {"reasoning_tokens": found.thought},
        "total_tokens": found.all_in + found.all_out,
    }
