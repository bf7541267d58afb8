"""The program that runs real clients: its table agrees with its programs, its page tells all."""

import re

from bench.clients.installed import PROGRAMS, Installed
from bench.clients.page import page
from bench.clients.table import CASES, CLIENTS
from tests.house import ROOT


def test_every_program_is_in_the_table_and_every_case_in_the_page() -> None:
    programs = {path.name for path in PROGRAMS.iterdir() if path.suffix in (".py", ".mjs")}
    assert {client.program for client in CLIENTS} == {
        name for name in programs if not name.startswith("cases.")
    }
    named = {
        case
        for path in PROGRAMS.glob("*.py")
        for case in re.findall(r'^ +"([a-z ]+)": [a-z_]+,$', path.read_text(), re.MULTILINE)
    }
    assert named <= set(CASES)


def test_the_page_tells_what_works_and_what_does_not() -> None:
    one, two = CLIENTS[:2]
    told = page({one: {"chat": "", "errors": ""}, two: {"chat": "it broke"}}, Installed(ROOT))
    rows = [line.split(" | ") for line in told.splitlines() if line.startswith("| [")]
    assert [row[3] for row in rows] == ["yes", "no (1)"]
    assert f"1. {two.name}, {two.dialect}, chat: it broke" in told
