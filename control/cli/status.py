"""`opscenter status` and `opscenter version`."""

import typer

from control.cli.client import Answer, api
from control.cli.output import Json, say, show_json, show_table, text_of


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: opscenter status --json")(status)
    app.command(epilog="Example: opscenter version")(version)


def status(json: Json = False) -> None:
    """Show how the whole stands; exit code 1 where a part is missing."""
    found = api().get("/api/v1/system/status")
    if json:
        show_json(found)
    else:
        _show(found)
    if found["missing"]:
        raise typer.Exit(1)


def _show(found: Answer) -> None:
    say(f"Ops-Center {found['version']}, up for {found['uptime_s']} s")
    parts = [{"part": name, **found[name]} for name in ("postgres", "redis", "proxies")]
    columns = {"part": "part", "answers": "ok", "version": "version", "says": "says"}
    show_table(parts, columns, "")
    say(f"schema {text_of(found['schema_version'])}, snapshot {text_of(found['snapshot_version'])}")
    if found["drain"]:
        say(
            "{records} records wait for Redis ({lag_s:.0f} s), {dead_letters} not booked".format(
                **found["drain"]
            )
        )
    for name, reason in found["missing"].items():
        say(f"missing: {name}: {reason}")


def version(json: Json = False) -> None:
    """Show the version of this program."""
    import platform
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as installed

    try:
        own = installed("opscenter")
    except PackageNotFoundError:
        own = "unknown"
    if json:
        show_json({"opscenter": own, "python": platform.python_version()})
    else:
        say(f"opscenter {own} (Python {platform.python_version()})")


def version_option(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit
