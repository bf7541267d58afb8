"""The first minutes of a new operator, as the README tells them: one command, one call, one bill.

The product runs in processes of its own, in an empty home, and is called over its real ports with
what it printed itself.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from openai import OpenAI

ROOT = Path(__file__).parent.parent
SECONDS = 60.0  # the longest wait for any one step
PROMISED_SECONDS = 120.0  # to the first paid answer
LOOK_SECONDS = 0.05
README_CALLS = 2
GRANTED = Decimal(10_000)  # credits of the first organisation
README_DOOR = "http://127.0.0.1:8084/v1"
SAID = "Hello, Ops-Center! What does a word cost?"
KEY = re.compile(r"sk_ops_[0-9A-Za-z]{50}")
CURL = re.compile(r"^  curl (?:.*\\\n)+.*", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Machine:
    """A fresh machine on which the one command was given."""

    process: "subprocess.Popen[str]"
    environ: dict[str, str]
    home: Path
    printed: str
    begun: float

    @property
    def key(self) -> str:
        found = KEY.search(self.printed)
        assert found, self.printed
        return found[0]

    @property
    def door(self) -> str:
        found = re.search(r"Door +(http://\S+/v1)", self.printed)
        assert found, self.printed
        return found[1]

    @property
    def log(self) -> str:
        return (self.home / "up.log").read_text()

    def run(self, *arguments: str) -> str:
        """What the command line answers with --json."""
        done = subprocess.run(
            [sys.executable, "-m", "control", *arguments, "--json"],
            env=self.environ,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    def booked(self, count: int) -> dict[str, Decimal]:
        """Id -> cost of all that is in the ledger, as soon as so many requests are."""
        deadline = time.monotonic() + SECONDS
        while True:
            rows = map(json.loads, self.run("usage", "tail").splitlines())
            found = {row["id"]: Decimal(str(row["cost"])) for row in rows}
            if len(found) >= count:
                return found
            assert time.monotonic() < deadline, found
            time.sleep(LOOK_SECONDS)


@pytest.fixture
def machine() -> Iterator[Machine]:
    home = Path(tempfile.mkdtemp(prefix="ocq-", dir="/tmp"))
    environ = {k: v for k, v in os.environ.items() if not k.startswith("OPSCENTER_")}
    environ |= {
        "OPSCENTER_HOME": str(home),
        "OPSCENTER_DOOR_PORT": "0",
        "OPSCENTER_CONTROL_PORT": "0",
        "OPSCENTER_HEALTH_PORT": "0",
        "OPSCENTER_WORKERS": "1",
    }
    begun = time.monotonic()
    command = [sys.executable, "-m", "control", "up"]
    with (home / "up.log").open("w") as log:
        process = subprocess.Popen(
            command, env=environ, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True
        )
    assert process.stdout
    with process.stdout:
        try:
            yield Machine(process, environ, home, _printed(process, home), begun)
        finally:
            _end(process)
    shutil.rmtree(home, ignore_errors=True)


def _printed(process: "subprocess.Popen[str]", home: Path) -> str:
    """All up to the end of the call that it proposes; reading ends when the process does."""
    assert process.stdout
    lines = []
    for line in process.stdout:
        lines.append(line)
        if line.lstrip().startswith("-d "):
            return "".join(lines)
    raise AssertionError((home / "up.log").read_text())


def _end(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def test_p33_quickstart(machine: Machine) -> None:
    """From one command to an answer that was keyed, metered and charged, with no provider's key;
    then the unchanged SDK, the bill to the micro-credit, and an end that leaves nothing behind."""
    first = call_as_printed(machine)
    assert time.monotonic() - machine.begun < PROMISED_SECONDS

    plain, streamed = call_with_the_sdk(machine)
    follow_the_readme(machine)
    booked = machine.booked(3 + README_CALLS)

    assert {first, plain, streamed} <= set(booked)
    assert booked[plain] == booked[streamed] > 0, "a stream costs what the plain answer costs"
    balance = json.loads(machine.run("credits", "balance"))
    assert Decimal(str(balance["remaining"])) == GRANTED - sum(booked.values())
    assert json.loads(machine.run("ledger", "verify"))["ok"] is True

    family = _family(machine.process.pid)
    assert len(family) >= 5, family  # two servers, control, drain, proxies
    _end(machine.process)
    assert machine.process.returncode == 0, machine.log
    assert [pid for pid in family if Path(f"/proc/{pid}").exists()] == []
    logs = [*(machine.home / "logs").iterdir(), machine.home / "up.log"]
    assert [log.name for log in logs if machine.key in log.read_text(errors="replace")] == []


def call_as_printed(machine: Machine) -> str:
    """The printed curl line, to the letter; two options more show the head of the answer."""
    found = CURL.search(machine.printed)
    assert found, machine.printed
    done = subprocess.run(
        ["bash", "-c", f"{found[0].strip()} --silent --show-error --include"],
        env={"PATH": os.environ["PATH"], "NO_PROXY": "*"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=True,
    )
    head, _, body = done.stdout.partition("\n\n")
    assert head.startswith("HTTP/1.1 200"), done.stdout
    answer = json.loads(body)
    assert answer["choices"][0]["message"]["content"] == "Hello"
    assert answer["usage"]["total_tokens"] == 2
    assert re.search(r"^x-ops-cost: 0\.00[1-9]\d*$", head, re.MULTILINE), head
    request = re.search(r"^x-ops-request-id: (\S+)$", head, re.MULTILINE)
    assert request, head
    return request[1]


def call_with_the_sdk(machine: Machine) -> tuple[str, str]:
    """Plainly and as a stream; the ids of both requests."""
    client = OpenAI(base_url=machine.door, api_key=machine.key, max_retries=0, timeout=SECONDS)
    messages: Any = [{"role": "user", "content": SAID}]
    with client:
        raw = client.chat.completions.with_raw_response.create(model="ops/echo", messages=messages)
        assert raw.parse().choices[0].message.content == SAID

        with client.chat.completions.with_streaming_response.create(
            model="ops/echo", messages=messages, stream=True
        ) as streaming:
            parts = list(streaming.parse())
    assert "".join(part.choices[0].delta.content or "" for part in parts) == SAID
    assert len(parts) > 5, "it came in pieces"
    return raw.headers["x-ops-request-id"], streaming.headers["x-ops-request-id"]


def follow_the_readme(machine: Machine) -> None:
    """Its blocks as they stand there, but for the port and the key of this machine."""
    text = (ROOT / "README.md").read_text().replace(README_DOOR, machine.door)
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    [curl] = [code for _, code in blocks if code.startswith("curl ")]
    environ = {"PATH": os.environ["PATH"], "NO_PROXY": "*", "KEY": machine.key}
    done = subprocess.run(
        ["bash", "-c", curl], env=environ, capture_output=True, timeout=SECONDS, check=True
    )
    assert json.loads(done.stdout)["choices"][0]["message"]["content"] == "Hello"

    [sdk] = [code for language, code in blocks if language == "python"]
    names: dict[str, Any] = {}
    exec(sdk.replace("sk_ops_...", machine.key), names)
    with names["client"]:
        assert names["answer"].choices[0].message.content == "Hello"

    [commands] = [code for _, code in blocks if code.startswith("./opscenter ")]
    for line in commands.splitlines():
        machine.run(*line.partition("#")[0].split()[1:])


def _family(pid: int) -> list[int]:
    """Every process beneath this one."""
    found: list[int] = []
    ask = [pid]
    while ask:
        one = ask.pop()
        for task in Path(f"/proc/{one}/task").iterdir():
            children = [int(child) for child in (task / "children").read_text().split()]
            found += children
            ask += children
    return found
