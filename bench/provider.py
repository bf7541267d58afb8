"""Decides for the fake provider: a request in, a Plan out. Knows no socket."""

from collections import Counter, deque
from dataclasses import replace
from typing import Any, TypeVar
from urllib.parse import unquote

import orjson

from bench.ask import Ask, BadRequest, Error
from bench.bills import BillFile
from bench.faults import model_list, model_row, plan_for, wrong_key
from bench.kept import Kept
from bench.modes import BEHAVIOURS, PREFIX, BadParameter, Mode, UnknownModel, parse
from bench.other_doors import other_plan
from bench.plan import Plan, json_plan
from bench.seen import Seen as Seen
from bench.wires import WIRES, wire_of

PLANS_MAX = 512
PLAN_BYTES_MAX = 8 * 1024 * 1024  # a larger one is made anew each time
TIMED_NAMES_MAX = 10_000
Table = TypeVar("Table", bound=dict[Any, Any])
MODELS_PATH = "/v1/models"


class Provider:
    """What all connections of one process share."""

    def __init__(self, bills: BillFile, seen: deque[Seen] | None) -> None:
        self._bills = bills
        self._seen = seen
        self._plans: dict[Ask, Plan] = {}
        self._modes: dict[str, Mode] = {}
        self._faults_given: Counter[str] = Counter()
        self._kept = Kept()

    def plan(self, request: Seen) -> Plan:
        """The answer to one request; a bad one is refused as the real provider would."""
        if self._seen is not None:
            self._seen.append(request)
        wire = wire_of(request.path)
        try:
            if wire:
                return self._chat(request, wire)
            return other_plan(request) or self._kept.plan(request) or _elsewhere(request)
        except UnknownModel as error:
            message = f"The model `{error}` does not exist or you do not have access to it."
            return _refuse(404, message, "model", "model_not_found", wire)
        except BadParameter as error:
            return _refuse(400, str(error), "model", "invalid_value", wire)
        except BadRequest as error:
            return _refuse(400, str(error), error.param, None, wire)

    def bill_end(self, plan: Plan, request_id: str, produced: int) -> None:
        """The answer is over, well or cut; a cut one that produced nothing is not billed."""
        if plan.costs is not None and (produced or plan.costs.end == "finished"):
            self._bills.append(plan.costs.line(request_id, plan.costs.end, produced))

    def bill_abort(self, plan: Plan, request_id: str, produced: int) -> None:
        """The client went away."""
        if plan.costs is not None and produced:
            self._bills.append(plan.costs.line(request_id, "aborted", produced))

    def _chat(self, request: Seen, wire: str) -> Plan:
        if request.method != "POST":
            said = f"Not allowed to {request.method} on {request.path}."
            return _refuse(405, said, None, "method_not_supported", wire)
        ask = WIRES[wire].read(request)
        mode = self._mode(ask.model)
        if mode["times"] and not self._fault_is_due(ask.model, mode["times"]):
            return plan_for(ask, replace(mode, behaviour="ok", status=200, at=0))
        if mode.status == 401:
            return wrong_key(ask, request.key)
        if mode.behaviour == "echo":
            return plan_for(ask, mode, content=_echo(request))
        return self._cached(ask, mode)

    def _cached(self, ask: Ask, mode: Mode) -> Plan:
        plan = self._plans.get(ask)
        if plan is None:
            plan = plan_for(ask, mode)
            if mode["bytes"] + mode["chunks"] * 400 <= PLAN_BYTES_MAX:
                _bounded(self._plans, PLANS_MAX)[ask] = plan
        return plan

    def _mode(self, model: str) -> Mode:
        mode = self._modes.get(model)
        if mode is None:
            mode = _bounded(self._modes, PLANS_MAX)[model] = parse(model)
        return mode

    def _fault_is_due(self, model: str, times: int) -> bool:
        given = _bounded(self._faults_given, TIMED_NAMES_MAX)
        given[model] += 1
        return given[model] <= times


def _elsewhere(request: Seen) -> Plan:
    if request.method == "GET" and request.path == MODELS_PATH:
        return model_list(tuple(f"{PREFIX}{name}" for name in BEHAVIOURS))
    if request.method == "GET" and request.path.startswith(f"{MODELS_PATH}/"):
        name = unquote(request.path.removeprefix(f"{MODELS_PATH}/"))
        parse(name)
        return model_row(name)
    return _refuse(404, f"Invalid URL ({request.method} {request.path})", None, None)


def _echo(request: Seen) -> str:
    told = {
        "method": request.method,
        "path": request.path,
        "headers": request.header_rows,
        "body": request.body.decode(errors="replace"),
    }
    return orjson.dumps(told).decode()


def _refuse(
    status: int, message: str, param: str | None, code: str | None, wire: str = "openai"
) -> Plan:
    error = Error(status, message, "invalid_request_error", param, code)
    return json_plan(status, WIRES[wire or "openai"].error(error))


def _bounded(table: Table, maximum: int) -> Table:
    """The table with room for one more: a full one is emptied, what it holds can be made again."""
    if len(table) >= maximum:
        table.clear()
    return table
