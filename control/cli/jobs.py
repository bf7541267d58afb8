"""`opscenter job`: jobs whose requests share a ceiling of cost."""

from typing import Annotated

import typer

from control.cli.client import Answer, api, part
from control.cli.lookup import organisation_id
from control.cli.output import Json, show_json, show_page, show_rows

app = typer.Typer(no_args_is_help=True, help="Jobs: requests that share a ceiling of cost.")

PATH = "/api/v1/jobs"
COLUMNS = {
    "id": "id",
    "ceiling": "max_cost",
    "used": "used",
    "status": "status",
    "made by": "made_by",
    "created": "created_at",
    "closed": "closed_at",
}

Which = Annotated[str, typer.Argument(help="Its id, as requests name it in X-Job-Id.")]
Organisation = Annotated[
    str | None, typer.Option("--organisation", "--org", help="Name or id; without it, your own.")
]


@app.command(epilog="Example: opscenter job create run-7 --max-cost 250")
def create(
    job: Which,
    max_cost: Annotated[str, typer.Option(help="Credits that all its requests may cost.")],
    organisation: Organisation = None,
    json: Json = False,
) -> None:
    """Make a job with a ceiling of cost, which is never changed."""
    here = api()
    wanted = {"id": job, "max_cost": max_cost}
    if organisation is not None:
        wanted["organisation"] = str(organisation_id(here, organisation))
    _show(here.post(PATH, wanted), json)


@app.command("list", epilog="Example: opscenter job list --org Acme")
def list_(
    organisation: Organisation = None,
    cursor: Annotated[str | None, typer.Option(help="Where the last page ended.")] = None,
    json: Json = False,
) -> None:
    """List the jobs that have a ceiling, also those that requests have made."""
    here = api()
    page = here.get(PATH, organisation=organisation_id(here, organisation), cursor=cursor)
    show_page(page, json, COLUMNS, "There is no job; make one with `opscenter job create`.")


@app.command(epilog="Example: opscenter job show run-7")
def show(job: Which, organisation: Organisation = None, json: Json = False) -> None:
    """Show a job: its ceiling, and what is used of it."""
    here = api()
    within = organisation_id(here, organisation)
    _show(here.get(f"{PATH}/{part(job)}", organisation=within), json)


@app.command(epilog="Example: opscenter job close run-7")
def close(job: Which, organisation: Organisation = None, json: Json = False) -> None:
    """Take no further request of a job; those that run go on."""
    here = api()
    query = {"organisation": organisation_id(here, organisation)}
    _show(here.call("POST", f"{PATH}/{part(job)}/close", query=query), json)


def _show(found: Answer, as_json: bool) -> None:
    show_json(found) if as_json else show_rows(found, COLUMNS)
