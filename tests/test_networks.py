"""Where a provider may lie, judged by the address that is connected to: names lead anywhere."""

import ipaddress
import socket
from collections.abc import Sequence

import pytest

from proxy.reach import dial
from proxy.reach.dial import AddressInfo
from proxy.reach.networks import Forbidden, is_possible, is_public
from tests.http_stage import OK, Peer, client, fetch, saying, serving

INSIDE = [
    *("127.0.0.1", "127.8.9.1", "10.0.0.5", "172.16.0.1", "192.168.1.1", "100.64.0.1", "::1"),
    *("fc00::1", "fd12:3456::1", "198.18.0.1", "::ffff:10.0.0.5", "::ffff:127.0.0.1"),
]
NOWHERE = [
    *("169.254.169.254", "169.254.1.1", "0.0.0.0", "224.0.0.1", "255.255.255.255", "240.0.0.1"),
    *("fe80::1", "fe80::1%1", "::", "ff02::1", "::ffff:169.254.169.254", "fd00:ec2::254"),
]
DISGUISED = [
    *("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::", "2001::1"),
    *("::7f00:1", "fec0::1", "::ffff:0:7f00:1", "192.0.0.8", "0.1.2.3"),
]
OUTSIDE = ["8.8.8.8", "1.1.1.1", "104.18.7.192", "2606:4700::6812:7c0", "::ffff:8.8.8.8"]


@pytest.mark.parametrize("text", INSIDE + NOWHERE + DISGUISED)
def test_what_tenants_name_lies_on_the_internet(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", OUTSIDE)
def test_the_internet_is_open_to_all(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))
    assert is_possible(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", INSIDE)
def test_administrators_have_providers_in_their_own_networks(text: str) -> None:
    assert is_possible(ipaddress.ip_address(text))


@pytest.mark.parametrize("text", NOWHERE)
def test_where_no_provider_lies_nobody_goes(text: str) -> None:
    """Nor where a cloud answers with the machine's credentials."""
    assert not is_possible(ipaddress.ip_address(text))


def leading_to(monkeypatch: pytest.MonkeyPatch, *answers: Sequence[str], port: int = 0) -> None:
    """A name server that says something else each time, and the last thing for ever."""
    left = list(answers)

    async def resolved(host: str, asked: int) -> list[AddressInfo]:
        said = left.pop(0) if len(left) > 1 else left[0]
        return [(_family(one), socket.SOCK_STREAM, 6, "", (one, port or asked)) for one in said]

    monkeypatch.setattr(dial, "resolved", resolved)


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


@pytest.mark.parametrize(
    "said", [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["8.8.8.8", "127.0.0.1"], ["::1"]]
)
async def test_a_tenants_name_that_leads_inside_is_not_connected_to(
    monkeypatch: pytest.MonkeyPatch, said: list[str]
) -> None:
    """Also when it has a public address beside: the next connection could take the other."""

    async def connected(at: AddressInfo) -> socket.socket:
        raise AssertionError(f"connects to {at}")

    monkeypatch.setattr(dial, "_connected", connected)
    leading_to(monkeypatch, said)
    async with client() as made:
        with pytest.raises(Forbidden, match=r"leads to .*may not lie"):
            await made.post("https://evil.test/v1", (), b"{}", public=True)


async def test_a_name_that_changes_its_mind_is_judged_at_each_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """DNS rebinding: public when it was entered, inside when it is called. What was judged is
    connected to; nothing is looked up between."""
    went: list[str] = []

    async def connected(at: AddressInfo) -> socket.socket:
        went.append(at[4][0])
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(dial, "_connected", connected)
    leading_to(monkeypatch, ["8.8.8.8"], ["127.0.0.1"])
    async with client() as made:
        for why in ("refused", "may not lie", "may not lie"):
            with pytest.raises(Exception, match=why):
                await made.post("https://evil.test/v1", (), b"{}", public=True)
    assert went == ["8.8.8.8"]


async def test_a_house_provider_may_lie_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(saying(OK)) as server, client() as made:
        port = int(server.url.rpartition(":")[2].partition("/")[0])
        leading_to(monkeypatch, ["127.0.0.1"], port=port)
        assert await fetch(made, f"http://vllm.test:{port}/v1") == (200, b"{}")
        with pytest.raises(Forbidden):
            await made.post(f"http://vllm.test:{port}/v1", (), b"{}", public=True)
        assert server.connections == 1


async def test_no_name_of_anybody_leads_to_a_clouds_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    leading_to(monkeypatch, ["169.254.169.254"])
    async with client() as made:
        with pytest.raises(Forbidden):
            await made.post("http://metadata.test/latest", (), b"{}")


async def test_a_proxy_on_the_way_is_told_the_address_that_was_judged(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would look a name up once more, and find what it is told then."""
    lines: list[bytes] = []

    async def refusing(peer: Peer) -> None:
        lines.append((await peer.begin()).partition(b"\r\n")[0])
        await peer.send(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")

    async with serving(refusing) as server:
        at = server.url.removesuffix("/v1/chat")
        port = int(at.rpartition(":")[2])

        async def resolved(host: str, asked: int) -> list[AddressInfo]:
            to = ("127.0.0.1", port) if host == "127.0.0.1" else ("8.8.8.8", asked)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", to)]

        monkeypatch.setattr(dial, "resolved", resolved)
        async with client({"HTTPS_PROXY": at}) as made:
            for public in (True, False):
                with pytest.raises(Exception, match="403"):
                    await made.post("https://api.test/v1", (), b"{}", public=public)
            leading_to(monkeypatch, ["10.0.0.1"])
            with pytest.raises(Forbidden):
                await made.post("https://api.test/v1", (), b"{}", public=True)
    assert lines == [b"CONNECT 8.8.8.8:443 HTTP/1.1", b"CONNECT api.test:443 HTTP/1.1"]
