"""Keys never leave by an error: what looks like anybody's key is masked, whoever wrote it."""

import pytest

from proxy.masks import MASK, mask, mask_bytes

KEYS = [
    "sk-proj-" + "a1B2" * 10,
    "sk-" + "a1B2" * 12,
    "sk-svcacct-" + "x_Y-" * 10,
    "sk-ant-api03-" + "a1B2" * 10,
    "sk-or-v1-" + "0f" * 32,
    "sk_ops_00" + "a1B2" * 10,
    "AIza" + "a1B2-" * 7,
    "AQ.Ab8" + "a1B2_" * 7,
    "gsk_" + "a1B2" * 13,
    "hf_" + "aBcD" * 8,
    "xai-" + "a1B2" * 20,
    "tgp_v1_" + "a1B2_" * 8,
    "co_" + "a1B2" * 10,
]


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("around", ["{}", "Incorrect API key provided: {}.", '"{}"', "key={}&x=1"])
def test_keys_of_every_provider_are_masked_wherever_they_stand(key: str, around: str) -> None:
    masked = mask(around.format(key))
    assert key not in masked
    assert key[-8:] not in masked
    assert MASK in masked


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer 0123456789abcdef0123456789abcdef",
        "invalid api_key: '0123456789abcdef0123456789abcdef'",
        "API key 0123456789abcdef0123456789abcdef is not active",
    ],
)
def test_a_key_without_a_beginning_of_its_own_is_known_by_what_names_it(text: str) -> None:
    assert "0123456789" not in mask(text)


def test_the_key_that_was_sent_is_masked_whatever_it_looks_like() -> None:
    assert mask("you sent hunter2, which is wrong", "hunter2") == "you sent ***, which is wrong"
    assert mask_bytes(b'{"error":"hunter2 \xff"}', "hunter2") == b'{"error":"*** \xff"}'


@pytest.mark.parametrize(
    "text",
    [
        "The model `gpt-4o-mini` does not exist",
        "This token is too long: 128000 tokens were asked for, 8192 are there",
        "disk-space, task-force and co_author are words",
        "maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "req_0123456789abcdef failed; visit https://platform.openai.com/account/api-keys.",
        "",
    ],
)
def test_what_is_no_key_stays_as_it_is(text: str) -> None:
    assert mask(text, "") == text
