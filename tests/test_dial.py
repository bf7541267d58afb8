"""How a provider is reached: every address of its name, through a proxy, with whose authorities."""

import asyncio
import contextlib
import socket
from base64 import b64encode
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.declared import SettingsError
from proxy.reach import dial
from proxy.reach.dial import AddressInfo
from proxy.reach.http1 import TooLate, Unreachable
from tests.http_stage import (
    OK,
    PATIENCE_S,
    Peer,
    Script,
    Server,
    becomes,
    certificate,
    client,
    fetch,
    post,
    saying,
    serving,
    silent,
    whole,
)

TCP = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
NAME = "provider.test"


def address(nth: int, family: socket.AddressFamily = socket.AF_INET) -> AddressInfo:
    return (family, *TCP, (f"10.0.0.{nth}", 443))


# Addresses ------------------------------------------------------------------------------


def test_addresses_of_both_families_take_turns() -> None:
    """One family that leads nowhere does not come first four times."""
    six = [address(nth, socket.AF_INET6) for nth in range(3)]
    four = [address(nth) for nth in range(3, 5)]
    turns = [six[0], four[0], six[1], four[1], six[2]]
    assert dial.alternating([*six, *four]) == turns
    assert dial.alternating(four) == four


class Net:
    """Plays what each address does, and knows whose sockets are open."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *plays: str) -> None:
        self.plays = dict(enumerate(plays))
        self.asked: list[int] = []
        self.sockets: dict[int, socket.socket] = {}
        monkeypatch.setattr(dial, "_connected", self.connected)
        monkeypatch.setattr(dial, "resolved", self.resolved)

    async def resolved(self, host: str, port: int) -> list[AddressInfo]:
        return [address(nth) for nth in self.plays]

    async def connected(self, at: AddressInfo) -> socket.socket:
        nth = int(at[4][0].rpartition(".")[2])
        self.asked.append(nth)
        if self.plays[nth] == "silent":
            await asyncio.Event().wait()
        if self.plays[nth] == "refuses":
            raise ConnectionRefusedError(111, "refused")
        if self.plays[nth] == "late":
            await asyncio.sleep(dial.STAGGER_S * 1.5)
        self.sockets[nth] = socket.socket()
        return self.sockets[nth]

    def open(self) -> list[int]:
        return [nth for nth, sock in self.sockets.items() if sock.fileno() >= 0]


@pytest.mark.parametrize(
    ("plays", "asked", "winner"),
    [
        (("answers",), [0], 0),
        (("answers", "answers"), [0], 0),
        (("refuses", "answers", "answers"), [0, 1], 1),
        (("refuses", "refuses", "answers"), [0, 1, 2], 2),
        (("silent", "answers"), [0, 1], 1),
        (("silent", "refuses", "answers"), [0, 1, 2], 2),
        (("late", "silent", "silent"), [0, 1], 0),
    ],
)
async def test_the_first_address_that_answers_is_taken(
    monkeypatch: pytest.MonkeyPatch, plays: tuple[str, ...], asked: list[int], winner: int
) -> None:
    """A refusal passes the turn at once; silence, after a moment."""
    net = Net(monkeypatch, *plays)
    monkeypatch.setattr(dial, "STAGGER_S", 0.05)
    found = await asyncio.wait_for(dial.connect(NAME, 443), PATIENCE_S)
    assert (net.asked, net.open(), found) == (asked, [winner], net.sockets[winner])
    found.close()


async def test_addresses_that_all_refuse_are_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(monkeypatch, "refuses", "refuses", "refuses")
    with pytest.raises(ConnectionRefusedError):
        await dial.connect(NAME, 443)
    assert net.asked == [0, 1, 2]


async def test_no_more_addresses_are_tried_than_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    net = Net(monkeypatch, *["refuses"] * (dial.ADDRESSES_MAX + 5))
    with pytest.raises(ConnectionRefusedError):
        await dial.connect(NAME, 443)
    assert len(net.asked) == dial.ADDRESSES_MAX


async def test_two_that_answer_in_one_moment_leave_one_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(dial, "STAGGER_S", 0.02)
    net = Net(monkeypatch, "gated", "gated")
    gate, connected = asyncio.Event(), net.connected

    async def gated(at: AddressInfo) -> socket.socket:
        if len(net.asked) == 1:
            asyncio.get_running_loop().call_later(0.05, gate.set)
        sock = await connected(at)
        await gate.wait()
        return sock

    monkeypatch.setattr(dial, "_connected", gated)
    found = await dial.connect(NAME, 443)
    assert len(net.sockets) == 2
    assert net.open() == [nth for nth, sock in net.sockets.items() if sock is found]
    found.close()


async def test_who_gives_up_leaves_no_attempt_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    net, before = Net(monkeypatch, "silent", "silent", "silent"), asyncio.all_tasks()
    monkeypatch.setattr(dial, "STAGGER_S", 0.01)
    async with client(connect_timeout_ms=80) as made:
        with pytest.raises(TooLate, match=r"^connect$"):
            await post(made, f"https://{NAME}/v1")
    assert net.asked == [0, 1, 2]
    await becomes(lambda: asyncio.all_tasks() == before)


async def test_a_name_with_a_dead_and_a_living_address_is_reached(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With real sockets: the first address refuses, the second serves."""
    async with serving(saying(OK)) as server, client() as made:
        port = int(server.url.split(":")[2].split("/")[0])

        async def both(host: str, _: int) -> list[AddressInfo]:
            return [(socket.AF_INET, *TCP, (ip, port)) for ip in ("127.0.0.2", "127.0.0.1")]

        monkeypatch.setattr(dial, "resolved", both)
        assert await fetch(made, f"http://{NAME}:{port}/v1") == (200, b"{}")


async def test_a_name_that_nobody_knows_is_told_in_the_systems_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def unknown(host: str, port: int) -> list[AddressInfo]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(dial, "resolved", unknown)
    async with client() as made:
        with pytest.raises(Unreachable, match="name or service not known"):
            await post(made, f"https://{NAME}/v1")


# Through an HTTP proxy -----------------------------------------------------------------


def joining(seen: list[bytes], target: str) -> Script:
    """A proxy that connects whoever asks with one server, and notes what it was asked."""
    host, port = target.split("/")[2].split(":")

    async def script(peer: Peer) -> None:
        seen.append((await peer.request())[0])
        reader, writer = await asyncio.open_connection(host, int(port))
        await peer.send(b"HTTP/1.1 200 Connection established\r\nvia: x\r\n\r\n")
        back = asyncio.create_task(pump(reader, peer._writer))
        try:
            await pump(peer._reader, writer)
        finally:
            back.cancel()
            writer.close()

    return script


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(2**16):
            writer.write(data)
            await writer.drain()


def through(server: Server, login: str = "") -> dict[str, str]:
    at = f"http://{login}{server.url.split('/')[2]}"
    return {"HTTPS_PROXY": at, "HTTP_PROXY": at}


async def test_tls_reaches_the_provider_through_a_tunnel(tmp_path: Path) -> None:
    """The proxy sees a name and a port, never a header of ours; the certificate is the provider's.

    The connection is kept like any other.
    """
    tls, seen = certificate(tmp_path, NAME), list[bytes]()
    ours = str(tmp_path / "cert.pem")
    async with serving(saying(OK), tls=tls) as server, serving(joining(seen, server.url)) as hop:
        async with client(through(hop, "me:p%40ss@"), upstream_ca_file=ours) as made:
            for _ in range(3):
                assert await fetch(made, f"https://{NAME}/v1/chat") == (200, b"{}")
        assert server.connections == hop.connections == 1
    login = b64encode(b"me:p@ss")
    head = b"CONNECT provider.test:443 HTTP/1.1\r\nhost: provider.test:443\r\n"
    assert seen == [head + b"proxy-authorization: Basic " + login + b"\r\n\r\n"]


async def test_a_tunnel_to_another_server_is_not_trusted(tmp_path: Path) -> None:
    tls = certificate(tmp_path, "other.test")
    ours = str(tmp_path / "cert.pem")
    async with (
        serving(saying(OK), tls=tls) as server,
        serving(joining([], server.url)) as hop,
        client(through(hop), upstream_ca_file=ours) as made,
    ):
        with pytest.raises(Unreachable, match="certificate is not trusted"):
            await post(made, f"https://{NAME}/v1")


async def test_without_tls_the_proxy_is_given_the_whole_url() -> None:
    seen = []

    async def script(peer: Peer) -> None:
        while True:
            seen.append((await peer.request())[0])
            await peer.send(OK)

    async with serving(script) as hop, client(through(hop, "me:hush@")) as made:
        for _ in range(2):
            assert await fetch(made, f"http://{NAME}:8000/v1?a=b") == (200, b"{}")
        assert hop.connections == 1
    first = b"POST http://provider.test:8000/v1?a=b HTTP/1.1\r\nhost: provider.test:8000\r\n"
    assert seen[0] == seen[1]
    assert seen[0].startswith(first + b"proxy-authorization: Basic ")


async def test_loopback_goes_straight_whatever_the_environment_says() -> None:
    async with serving(saying(OK)) as server, serving(silent) as hop:
        async with client(through(hop)) as made:
            assert await fetch(made, server.url) == (200, b"{}")
        assert hop.connections == 0


REFUSALS: list[tuple[Any, str]] = [
    (saying(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"), "user and password"),
    (saying(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nnope"), "sent no answer|403"),
    (saying(b"HTTP/1.1 502 Bad Gateway\r\n\r\n"), "502"),
    (saying(b"HTTP/1.1 200 OK\r\n\r\nmore"), "no answer that can be read"),
    (saying(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), "no answer that can be read"),
    (saying(b"\r\n\r\n"), "no answer that can be read"),
    (saying(b"HTTP/1.1 200 OK\r\n", b"x" * dial.TUNNEL_HEAD_MAX), "no answer that can be read"),
    (saying(b"HTTP/1.1 200", then=Peer.hang_up), "no answer that can be read"),
]


@pytest.mark.parametrize(("script", "why"), REFUSALS)
async def test_a_proxy_that_does_not_connect_us_is_told_apart(
    script: Callable[[Peer], Awaitable[None]], why: str
) -> None:
    """The provider was never asked, so it is not the provider's fault; and nothing stays open."""
    settings: dict[str, Any] = {"upstream_connections": 1, "upstream_waiters_max": 0}
    async with serving(script) as hop, client(through(hop), **settings) as made:
        for _ in range(2):
            with pytest.raises(Unreachable, match=f"HTTP proxy.*({why})"):
                await post(made, f"https://{NAME}/v1")
        assert await hop.has_ended() == 0


async def test_a_proxy_that_says_nothing_is_waited_for_as_long_as_for_a_connection() -> None:
    async with serving(silent) as hop, client(through(hop), connect_timeout_ms=80) as made:
        with pytest.raises(TooLate, match=r"^connect$"):
            await post(made, f"https://{NAME}/v1")
        assert await hop.has_ended() == 0


async def test_a_proxy_that_is_away_is_told_as_the_proxy() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        environ = {"HTTPS_PROXY": "http://{}:{}".format(*bound.getsockname())}
        async with client(environ) as made:
            with pytest.raises(Unreachable, match=r"^the HTTP proxy .*: connection refused$"):
                await post(made, f"https://{NAME}/v1")


# Whose certificates --------------------------------------------------------------------


async def test_authorities_of_ones_own_come_beside_the_systems(tmp_path: Path) -> None:
    tls = certificate(tmp_path, "127.0.0.1")
    ours = str(tmp_path / "cert.pem")
    async with serving(saying(OK), tls=tls) as server, client(upstream_ca_file=ours) as made:
        assert await fetch(made, server.url) == (200, b"{}")
        with pytest.raises(Unreachable, match="not trusted"):
            await whole(await post(made, server.url.replace("127.0.0.1", "localhost")))
    usual = len(dial.trust("").get_ca_certs())
    assert len(dial.trust(ours).get_ca_certs()) == usual + 1


@pytest.mark.parametrize("content", [None, b"", b"no certificate"])
def test_a_file_without_certificates_stops_the_start(tmp_path: Path, content: bytes | None) -> None:
    """Rather than the first request."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match="OPSCENTER_UPSTREAM_CA_FILE cannot be used: "):
        dial.trust(str(path))
