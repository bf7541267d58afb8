"""`opscenter doctor`: is everything as it should be, and what helps where it is not."""

import typer

from control.cli.client import settings
from control.cli.output import Json, show_json

MARKS = {"ok": ("ok  ", "green"), "warn": ("warn", "yellow"), "fail": ("fail", "red")}


def register(app: typer.Typer) -> None:
    app.command(epilog="Example: opscenter doctor --json")(doctor)


def doctor(json: Json = False) -> None:
    """Examine this machine, the servers and the processes; exit code 1 where something fails."""
    import asyncio
    from dataclasses import asdict

    from control.machine import checks

    findings = asyncio.run(checks.examine(settings()))
    if json:
        show_json({"findings": [asdict(one) for one in findings]})
    else:
        from rich.console import Console
        from rich.text import Text

        console = Console(highlight=False, soft_wrap=True)
        for one in findings:
            mark, colour = MARKS[one.level]
            console.print(Text(mark, style=colour), Text(f"{one.name}: {one.says}"))
            if one.cure:
                console.print(Text(f"     {one.cure}"))
    if any(one.level == "fail" for one in findings):
        raise typer.Exit(1)
