"""`opscenter usage`: requests as they are booked."""

import json as jsonlib
import time
from collections import OrderedDict
from typing import Annotated

import typer

from control.cli.client import Answer, Api, api
from control.cli.lookup import organisation_id
from control.cli.output import Json, text_of

app = typer.Typer(no_args_is_help=True, help="Requests: what was called and what it cost.")

PATH = "/api/v1/usage"
PAUSE_S = 1.0
OVERLAP_S = 120  # a request is booked when it ends, so younger ones may come before it
SEEN_MAX = 50_000
PAGE = 500
LINE = "{at}  {model:<28} {cost:>16}  {duration:>8}  {kind:<9} {tokens}"

Organisation = Annotated[
    str | None, typer.Option("--org", help="Name or id; without it, your own.")
]


@app.command(
    epilog="Example: opscenter usage tail -f\n\nExample: opscenter usage tail -n 100 --json"
)
def tail(
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as requests are booked.")
    ] = False,
    lines: Annotated[int, typer.Option("-n", min=1, max=500, help="How many to begin with.")] = 20,
    organisation: Organisation = None,
    json: Json = False,
) -> None:
    """Show the last requests, oldest first; with -f also those that come. JSON: one a line."""
    here = api()
    within = organisation_id(here, organisation)
    tailing = _Tail(here, within, json)
    tailing.show(here.get(PATH, organisation=within, limit=lines)["data"])
    while follow:
        time.sleep(PAUSE_S)
        tailing.show(tailing.news())


class _Tail:
    def __init__(self, here: Api, organisation: str | None, as_json: bool) -> None:
        self._api = here
        self._organisation = organisation
        self._as_json = as_json
        self._since = time.time()
        self._seen: OrderedDict[tuple[str, str], None] = OrderedDict()

    def show(self, newest_first: list[Answer]) -> None:
        for one in reversed(newest_first):
            mark = (one["id"], one["kind"])
            if mark not in self._seen:
                self._seen[mark] = None
                print(jsonlib.dumps(one) if self._as_json else line(one), flush=True)
        while len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)

    def news(self) -> list[Answer]:
        """All that began within the overlap or since the start, whichever is later."""
        after = moment_id(max(self._since, time.time() - OVERLAP_S))
        rows: list[Answer] = []
        before = None
        while True:
            page = self._api.get(
                PATH, organisation=self._organisation, after=after, before=before, limit=PAGE
            )
            rows += page["data"]
            before = page["next"]
            if before is None or len(rows) >= SEEN_MAX:
                return rows


def moment_id(seconds: float) -> str:
    """The least request id of a moment: such ids begin with the time."""
    digits = f"{int(seconds * 1000):012x}" + "0" * 20
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def line(one: Answer) -> str:
    duration = one["duration_ms"]
    return LINE.format(
        at=text_of(one["at"]),
        model=text_of(one["model"]),
        cost=one["cost"],
        duration=f"{duration} ms" if duration is not None else "-",
        kind=one["kind"],
        tokens=text_of(one["tokens"]),
    )
