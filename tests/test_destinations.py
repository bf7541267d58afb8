"""Where a provider may lie: what an administrator enters is checked before it is stored."""

import pytest

from control.destinations import checked
from control.errors import Invalid

NEVER = [
    "http://169.254.169.254/latest",
    "http://metadata.google.internal/v1",
    "http://[fe80::1]/v1",
    "http://0.0.0.0:8000/v1",
    "http://224.0.0.1/v1",
    "ftp://example.com/v1",
    "file:///etc/passwd",
    "https://user:pw@example.com/v1",
    "https://example.com/v1?x=1",
    "https://example.com/v1#x",
    "https://example.com:99999/v1",
    "https://example.com\\@evil.test/v1",
    "https://exa mple.com/v1",
    "https://ex\u0430mple.com/v1",
    "http://2130706433/v1",
    "http://0x7f000001/v1",
    "http://127.1/v1",
    "https://",
    "example.com",
    "http://example.com/v1",
    "https://example.com:22/v1",
    "http://8.8.8.8/v1",
]


@pytest.mark.parametrize("private", [True, False])
@pytest.mark.parametrize("url", NEVER)
def test_no_provider_lies_there(url: str, private: bool) -> None:
    with pytest.raises(Invalid):
        checked(url, private=private)


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/v1", "http://[::1]:8000", "http://vllm:8000/v1", "http://10.0.0.5/v1"],
)
def test_private_addresses_are_the_operators_choice(url: str) -> None:
    assert checked(url, private=True) == url
    with pytest.raises(Invalid, match="switched off"):
        checked(url, private=False)


def test_the_address_is_stored_without_a_last_slash() -> None:
    assert checked("https://api.example.com/v1/", private=False) == "https://api.example.com/v1"
