"""Which way out: HTTPS_PROXY, HTTP_PROXY and NO_PROXY mean what they mean to curl."""

from base64 import b64encode

import pytest

from proxy.declared import SettingsError
from proxy.reach.egress import Egress, Hop

BOTH = {"HTTPS_PROXY": "http://secure.test:3128", "HTTP_PROXY": "http://plain.test:8080"}


def way(environ: dict[str, str], host: str, port: int = 443, tls: bool = True) -> str | None:
    hop = Egress.of(environ).hop(host, port, tls)
    return f"{hop.host}:{hop.port}" if hop else None


def test_without_a_variable_the_way_is_straight() -> None:
    assert way({}, "api.example.com") is None
    assert way({"HTTPS_PROXY": " ", "ALL_PROXY": "http://x"}, "api.example.com") is None


def test_each_scheme_has_its_own_proxy() -> None:
    assert way(BOTH, "api.example.com") == "secure.test:3128"
    assert way(BOTH, "api.example.com", 80, tls=False) == "plain.test:8080"
    assert way({"HTTPS_PROXY": "http://x:1"}, "api.example.com", 80, tls=False) is None


def test_the_small_spelling_wins() -> None:
    assert way({**BOTH, "https_proxy": "http://small.test:1"}, "a.example") == "small.test:1"
    assert way({**BOTH, "NO_PROXY": "*", "no_proxy": "b.example"}, "a.example") is not None


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.8.9.1", "::1", "0.0.0.0"]
)
def test_loopback_is_never_sent_away(host: str) -> None:
    assert way(BOTH, host) is None
    assert way(BOTH, "::ffff:127.0.0.1") is None


@pytest.mark.parametrize(
    ("entry", "host", "port", "direct"),
    [
        ("*", "api.example.com", 443, True),
        ("a.test,*", "api.example.com", 443, True),
        ("example.com", "example.com", 443, True),
        ("example.com", "api.example.com", 443, True),
        ("example.com", "API.Example.COM.", 443, True),
        ("example.com", "badexample.com", 443, False),
        ("example.com", "example.com.evil.test", 443, False),
        (".example.com", "api.example.com", 443, True),
        (".example.com", "example.com", 443, True),
        ("*.example.com", "api.example.com", 443, True),
        ("a.test, example.com ,b.test", "api.example.com", 443, True),
        ("a.test example.com", "api.example.com", 443, True),
        ("example.com:8443", "example.com", 8443, True),
        ("example.com:8443", "example.com", 443, False),
        ("10.0.0.0/8", "10.1.2.3", 443, True),
        ("10.0.0.0/8", "11.1.2.3", 443, False),
        ("10.1.2.3/8", "10.200.0.1", 443, True),
        ("10.0.0.0/99", "10.1.2.3", 443, False),
        ("10.1.2.3", "10.1.2.3", 443, True),
        ("10.1.2.3:80", "10.1.2.3", 443, False),
        ("10.1.2.3:443", "10.1.2.3", 443, True),
        ("10.1.2.3", "::ffff:10.1.2.3", 443, True),
        ("fd00::/8", "fd00::1", 443, True),
        ("fd00::1", "fd00::1", 443, True),
        ("[fd00::1]:443", "fd00::1", 443, True),
        ("[fd00::1]:80", "fd00::1", 443, False),
        ("1.2.3", "10.1.2.3", 443, False),  # an address has no suffixes
        ("", "api.example.com", 443, False),
        (",,. ,:,:80", "api.example.com", 443, False),
    ],
)
def test_no_proxy_names_hosts_suffixes_networks_and_ports(
    entry: str, host: str, port: int, direct: bool
) -> None:
    assert (way({**BOTH, "NO_PROXY": entry}, host, port) is None) == direct


@pytest.mark.parametrize(
    ("url", "host", "port", "login"),
    [
        ("http://p.test:3128", "p.test", 3128, None),
        ("http://p.test:3128/", "p.test", 3128, None),
        ("p.test:3128", "p.test", 3128, None),
        ("http://p.test", "p.test", 80, None),
        ("http://[::1]:3128", "::1", 3128, None),
        ("http://me:p%40ss:w@p.test:1", "p.test", 1, b"me:p@ss:w"),
        ("http://me@p.test:1", "p.test", 1, b"me:"),
    ],
)
def test_a_proxy_is_an_address_perhaps_with_a_login(
    url: str, host: str, port: int, login: bytes | None
) -> None:
    hop = Hop.of(url, "HTTPS_PROXY")
    assert (hop.host, hop.port) == (host, port)
    assert hop.authorization == (b"Basic " + b64encode(login) if login else b"")


@pytest.mark.parametrize(
    "url",
    ["https://me:hush@p.test", "socks5://me:hush@p.test", "http://", "http://me:hush@p.test:x"],
)
def test_what_is_no_http_proxy_stops_the_start_and_never_shows_a_password(url: str) -> None:
    """Going straight where a proxy was wanted would be worse."""
    with pytest.raises(SettingsError, match="HTTPS_PROXY") as caught:
        Egress.of({"HTTPS_PROXY": url})
    assert "hush" not in str(caught.value)
    assert "hush" not in repr(Egress.of({"HTTPS_PROXY": "http://me:hush@p.test"}))
