"""Runs inside the container: who we are, what can be written, and a paid call through the door."""

import json
import os
import urllib.request
from pathlib import Path

DOOR = "http://127.0.0.1:8084/v1/chat/completions"
ANY_ADDRESS = "00000000"
LISTENS = "0A"


def main() -> None:
    assert os.getuid() == 10001, "the image must not run as root"
    assert not writable(Path("/opt/opscenter")), "the program must not be able to change itself"
    assert listeners()[8084] == ANY_ADDRESS, "the image opens the door"
    for port in (8085, 8086):
        assert listeners()[port] != ANY_ADDRESS, f"{port} stays on loopback until asked for"
    answer = call()
    assert answer["choices"][0]["message"]["content"], answer
    assert answer["usage"]["total_tokens"] > 0, answer
    print("a paid call was answered:", answer["usage"])


def writable(folder: Path) -> bool:
    try:
        (folder / "probe").write_text("")
    except OSError:
        return False
    return True


def listeners() -> dict[int, str]:
    """Port -> address, as the kernel writes it."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    pairs = [row[1].split(":") for row in rows if row[3] == LISTENS]
    return {int(port, 16): address for address, port in pairs}


def call() -> dict:
    body = {"model": "ops/echo", "messages": [{"role": "user", "content": "Hello"}]}
    headers = {
        "authorization": f"Bearer {os.environ['KEY']}",
        "content-type": "application/json",
    }
    request = urllib.request.Request(DOOR, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=10) as reply:  # noqa: S310 - our own door
        assert float(reply.headers["x-ops-cost"]) > 0, "the call has a price"
        return json.load(reply)


main()
