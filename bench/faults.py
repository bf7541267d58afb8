"""From an Ask and its Mode to a Plan: the good answer, then the one fault put into it. Pure."""

from dataclasses import replace

import orjson

from bench.modes import Mode
from bench.openai_wire import (
    CREATED,
    DONE,
    Ask,
    Events,
    completion_body,
    content_of,
    costs_of,
    error_body,
    event,
)
from bench.plan import LAST_CHUNK, Finale, Plan, chunk, head, json_plan

JSON = ("content-type", "application/json")
SSE = ("content-type", "text/event-stream; charset=utf-8")
REDIRECTED = "/redirected/v1/chat/completions"

_ERRORS = {
    400: (
        "Invalid value: the fake provider was asked to refuse this.",
        "invalid_request_error",
        "invalid_value",
    ),
    403: ("Your organization may not use this model.", "permission_error", "permission_denied"),
    404: (
        "The model does not exist or you do not have access to it.",
        "invalid_request_error",
        "model_not_found",
    ),
    429: (
        "Rate limit reached for requests. Please try again in 1s.",
        "requests",
        "rate_limit_exceeded",
    ),
    503: (
        "The engine is currently overloaded, please try again later.",
        "server_error",
        "overloaded",
    ),
}
_OTHER_ERROR = ("The server had an error while processing your request.", "server_error", None)
_QUOTA = "You exceeded your current quota, please check your plan and billing details."
_BROKEN_SSE = chunk(b'data: {"id": "chatcmpl-broken", "choi\n\nnonsense\n\ndata: \xff\xfe\xfa\n\n')
_BROKEN_JSON = b'<html><body>{"id": "chatcmpl-broken", "choi'


def plan_for(ask: Ask, mode: Mode, content: str | None = None) -> Plan:
    """How the request is answered; `content` replaces the mode's own text."""
    if mode.status != 200:
        return _refusal(mode)
    special = {
        "quota": _quota,
        "redirect": _redirect,
        "close": _silent,
        "reset": _silent,
        "hang": _silent,
    }
    if mode.behaviour in special and not mode.at:
        return special[mode.behaviour](mode)
    text = content_of(mode) if content is None else content
    return _stream(ask, mode, text) if ask.stream else _plain(ask, mode, text)


def wrong_key(key: str) -> Plan:
    """401 as OpenAI writes it, but with the whole key in it: who hands it on has leaked it."""
    message = (
        f"Incorrect API key provided: {key}. You can find your API key in your account settings."
    )
    return json_plan(401, error_body(message, "invalid_request_error", None, "invalid_api_key"))


def model_list(names: tuple[str, ...]) -> Plan:
    rows = [
        {"id": name, "object": "model", "created": CREATED, "owned_by": "mock"} for name in names
    ]
    return json_plan(200, {"object": "list", "data": rows})


def model_row(name: str) -> Plan:
    return json_plan(200, {"id": name, "object": "model", "created": CREATED, "owned_by": "mock"})


def _refusal(mode: Mode) -> Plan:
    message, kind, code = _ERRORS.get(mode.status, _OTHER_ERROR)
    wait = mode["retry_after"] or (1 if mode.status == 429 else 0)
    headers = (("retry-after", str(wait)),) if wait else ()
    body = error_body(message, kind, None, code)
    return json_plan(mode.status, body, *headers, latency_s=mode["latency_ms"] / 1000)


def _quota(mode: Mode) -> Plan:
    return json_plan(429, error_body(_QUOTA, "insufficient_quota", None, "insufficient_quota"))


def _redirect(mode: Mode) -> Plan:
    return Plan(head=head(307, ("location", REDIRECTED), length=0))


def _silent(mode: Mode) -> Plan:
    finale = {"close": Finale.CLOSE, "reset": Finale.RESET, "hang": Finale.HANG}[mode.behaviour]
    return Plan(finale=finale, latency_s=mode["latency_ms"] / 1000)


_FINALES = {
    "truncate": Finale.CLOSE,
    "close": Finale.CLOSE,
    "reset": Finale.RESET,
    "hang": Finale.HANG,
    "bomb": Finale.ENDLESS,
}


def _stream(ask: Ask, mode: Mode, content: str) -> Plan:
    costs = costs_of(ask, mode)
    events = Events(ask, mode, costs)
    pieces = events.pieces(content)
    good = Plan(
        head=head(200, SSE, ("cache-control", "no-cache")),
        opening=events.opening(),
        pieces=pieces,
        ending=events.ending() + (LAST_CHUNK if mode.behaviour == "nodone" else DONE + LAST_CHUNK),
        latency_s=mode["latency_ms"] / 1000,
        piece_s=mode["chunk_ms"] / 1000,
        costs=replace(costs, pieces=len(pieces)),
    )
    return _with_fault(good, mode, _broken_ending(mode))


def _broken_ending(mode: Mode) -> bytes:
    if mode.behaviour == "error-in-stream":
        message, kind, code = _OTHER_ERROR
        return event(error_body(message, kind, None, code)) + LAST_CHUNK
    return _BROKEN_SSE + DONE + LAST_CHUNK


def _with_fault(good: Plan, mode: Mode, broken_ending: bytes) -> Plan:
    """The same stream with its fault after `at` pieces, billed for those."""
    assert good.costs is not None
    cut = replace(good, pieces=good.pieces[: mode.at], costs=replace(good.costs, end="cut"))
    if mode.behaviour == "garbage":
        return replace(cut, opening=good.opening if mode.at else b"", ending=broken_ending)
    if mode.behaviour == "error-in-stream":
        return replace(cut, ending=broken_ending)
    if mode.behaviour == "bomb":
        return replace(good, ending=b"", finale=Finale.ENDLESS)
    if mode.behaviour in _FINALES:
        return replace(cut, ending=b"", finale=_FINALES[mode.behaviour])
    return good


def _plain(ask: Ask, mode: Mode, content: str) -> Plan:
    """A plain answer is one piece, its body; a fault after a piece: half of the body was sent."""
    costs = costs_of(ask, mode)
    body = orjson.dumps(completion_body(ask, mode, content, costs))
    latency_s = mode["latency_ms"] / 1000
    match mode.behaviour:
        case "garbage":
            return Plan(
                head(200, JSON, length=len(_BROKEN_JSON)), ending=_BROKEN_JSON, latency_s=latency_s
            )
        case "error-in-stream":
            message, kind, code = _OTHER_ERROR
            return json_plan(200, error_body(message, kind, None, code), latency_s=latency_s)
        case "bomb":
            opening, filler = chunk(b'{"id": "'), chunk(b"a" * 16_384)
            start = head(200, JSON)
            return Plan(start, opening, (filler,), b"", Finale.ENDLESS, latency_s, costs=costs)
        case name if name in _FINALES:
            start = head(200, JSON, length=len(body))
            half, cut = (body[: len(body) // 2],), replace(costs, end="cut")
            return Plan(start, b"", half, b"", _FINALES[name], latency_s, costs=cut)
    return Plan(head(200, JSON, length=len(body)), ending=body, latency_s=latency_s, costs=costs)
