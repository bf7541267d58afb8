"""Is a revoked key dead everywhere when the call has returned? Thousands of revocations under load.

python -m bench.revocations --revocations 10000 --workers 4

Each key has callers of its own, over connections to all workers, who never stop asking. When each
of them was served the key is revoked; each then asks at least once more. The judge is the fake
provider's file: not one request that began after the call had returned may stand in it. A
request's id holds its moment, and callers know which id was theirs. Exit status 0 only then.
"""

import argparse
import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson
import uvloop

from bench import machine, stack
from bench.bills import Bill, read_bills
from bench.client import Answer, Client, Failure, Target, connect
from bench.soak import at_rest

MODEL, UPSTREAM_MODEL = "bench/revoked", "mock/ok?in=5&out=5&bytes=40"
PRICES = {"input": "0.15", "output": "0.6"}
CALLERS = 4  # of one key
TIMEOUT_S = 60.0
DEAD = 401
BODY = orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": "hello"}]})


@dataclass(slots=True)
class Crowd:
    """One key and those who ask with it."""

    request: bytes
    waits_for: int  # callers that were not served yet
    served: asyncio.Event = field(default_factory=asyncio.Event)
    returned_ms: int = 0  # when the call that revoked it had returned, since 1970

    def was_served(self) -> None:
        self.waits_for -= 1
        if self.waits_for == 0:
            self.served.set()


@dataclass(slots=True)
class Seen:
    """What callers were told."""

    ids: dict[str, Crowd] = field(default_factory=dict)  # of requests that were answered
    answers: Counter[str] = field(default_factory=Counter)
    refused_after: int = 0  # requests that were sent after the return
    late: int = 0  # of these, served
    took_ms: list[float] = field(default_factory=list)  # by the revoking calls

    def note(self, crowd: Crowd, answer: Answer, after: bool) -> None:
        self.answers[str(answer.status)] += 1
        self.ids[answer.headers["x-ops-request-id"]] = crowd  # one that was cut is billed as well
        if answer.status == 200:
            self.late += after
        elif answer.status == DEAD:
            self.refused_after += after


class Caller:
    """One connection, which asks with one key after the other."""

    def __init__(self, target: Target, seen: Seen) -> None:
        self._target, self._seen = target, seen
        self._client: Client | None = None

    async def ask_until_dead(self, crowd: Crowd) -> None:
        """Until a request that was sent after the return was answered."""
        known = False
        while True:
            after = crowd.returned_ms > 0
            answer = await self._ask(crowd.request)
            self._seen.note(crowd, answer, after)
            if answer.status == 200 and not known:
                known = True
                crowd.was_served()
            if after and answer.status in (200, DEAD):
                return

    async def _ask(self, request: bytes) -> Answer:
        while True:
            try:
                if self._client is None or not self._client.usable:
                    self._client = await connect(self._target)
                return await self._client.call(request, TIMEOUT_S)
            except Failure as failure:
                self._seen.answers[str(failure)] += 1


class Keys:
    """Made and revoked by the control API's own calls, over the socket of its administrator."""

    def __init__(self, http: httpx2.AsyncClient, person: str) -> None:
        self._http, self._path = http, f"/api/v1/admin/users/{person}/api-keys"

    async def make(self, nth: int) -> tuple[str, str]:
        made = await self._http.post(self._path, json={"name": f"revoked-{nth}"})
        assert made.status_code == 201, made.text
        return made.json()["id"], made.json()["key"]

    async def revoke(self, kid: str) -> None:
        gone = await self._http.delete(f"{self._path}/{kid}")
        assert gone.status_code == 200, gone.text  # 202 would be a promise for later


async def drive(running: stack.Stack, revocations: int, together: int, home: Path) -> Seen:
    seen, target, left = Seen(), Target.of(running.door_url), iter(range(revocations))
    transport = httpx2.AsyncHTTPTransport(uds=str(home / "run" / "control.sock"))
    limits = {"base_url": "http://localhost", "timeout": TIMEOUT_S}
    async with httpx2.AsyncClient(transport=transport, **limits) as http:  # type: ignore[arg-type]
        me = (await http.get("/api/v1/auth/me")).json()
        keys = Keys(http, me["person"])
        async with asyncio.TaskGroup() as group:
            for _ in range(together):
                callers = [Caller(target, seen) for _ in range(CALLERS)]
                group.create_task(_revoke_all(left, keys, callers, target, seen))
    return seen


async def _revoke_all(
    left: Iterable[int], keys: Keys, callers: Sequence[Caller], target: Target, seen: Seen
) -> None:
    for nth in left:
        kid, key = await keys.make(nth)
        crowd = Crowd(target.request(key, BODY), len(callers))
        async with asyncio.TaskGroup() as group:
            for caller in callers:
                group.create_task(caller.ask_until_dead(crowd))
            await crowd.served.wait()
            begun = time.perf_counter()
            await keys.revoke(kid)
            crowd.returned_ms = time.time_ns() // 1_000_000
            seen.took_ms.append((time.perf_counter() - begun) * 1000)


# The judge --------------------------------------------------------------------------


def judge(bills: Sequence[Bill], seen: Seen, revocations: int) -> list[str]:
    """What the provider billed, against when the keys were revoked."""
    problems = []
    if seen.late:
        problems.append(f"{seen.late} requests were served although sent after the call returned")
    begun_late = [bill for bill in bills if _began_after(bill, seen)]
    if begun_late:
        problems.append(f"{len(begun_late)} requests in the file began after the call returned")
    strange = sum(bill.request_id not in seen.ids for bill in bills)
    if strange > seen.answers.total() - len(seen.ids):  # those without an answer
        problems.append(f"{strange} requests in the file are nobody's")
    if len(bills) < seen.answers["200"]:
        problems.append(f"{seen.answers['200']} were served and {len(bills)} are in the file")
    if seen.refused_after + seen.late < revocations * CALLERS:
        problems.append("not every caller asked once more")
    return problems


def _began_after(bill: Bill, seen: Seen) -> bool:
    crowd = seen.ids.get(bill.request_id)
    return crowd is not None and moment_ms(bill.request_id) > crowd.returned_ms


def moment_ms(request_id: str) -> int:
    """When the worker had read it, as its id tells."""
    return int(request_id.replace("-", "")[:12], 16)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    where = machine.describe()
    with stack.started(options.workers, 1) as running:
        stack.serve_provider(running)
        stack.serve_model(running, MODEL, UPSTREAM_MODEL, PRICES)
        began = time.monotonic()
        home = running.bills.parent
        seen = uvloop.run(drive(running, options.revocations, options.together, home))
        seconds = time.monotonic() - began
        problems = judge(read_bills(running.bills), seen, options.revocations) + at_rest(running)
    report = _report(options, seen, seconds) | {"problems": problems}
    if options.out:
        text = json.dumps({"machine": asdict(where), **report}, indent=2)
        options.out.write_text(text + "\n")
    print(json.dumps(report, indent=2))
    return 1 if problems else 0


def _report(options: argparse.Namespace, seen: Seen, seconds: float) -> dict[str, Any]:
    took = sorted(seen.took_ms)
    return {
        "revocations": len(took),
        "workers": options.workers,
        "connections": options.together * CALLERS,
        "seconds": round(seconds, 1),
        "requests_per_second": round(seen.answers.total() / seconds),
        "answers": dict(seen.answers),
        "refused_after_the_return": seen.refused_after,
        "served_after_the_return": seen.late,
        "revoking_call_ms": {
            f"p{share}": round(took[len(took) * share // 100], 1) for share in (50, 99)
        },
    }


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.revocations", description="Is a revoked key dead at once?"
    )
    parser.add_argument("--revocations", type=int, default=10_000)
    parser.add_argument("--workers", type=int, default=4, help="proxy workers")
    parser.add_argument("--together", type=int, default=8, help="keys at one time")
    parser.add_argument("--out", type=Path, help="a JSON file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
