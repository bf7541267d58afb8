"""Proofs that a provider wants to see again, in places from which every client sends them back.

A tool call's goes into its id, since clients keep ids as they are and drop fields that they do not
know; a thought's goes into the one opaque text that the Responses dialect has for it.
"""

import base64
import binascii

import orjson

from proxy.dialects.conversation import Thinking

_MARK = "__signed__"  # ids are letters, digits, _ and - everywhere
_OURS = "ops1."


def sealed_id(id: str, signature: str) -> str:
    """The id of a call as a client is told it."""
    if not signature:
        return id
    packed = base64.urlsafe_b64encode(signature.encode()).decode().rstrip("=")
    return f"{id}{_MARK}{packed}"


def opened_id(told: str) -> tuple[str, str]:
    """The provider's id and the signature; of ids of another making just themselves."""
    id, mark, packed = told.partition(_MARK)
    signature = _unpacked(packed) if mark else None
    return (told, "") if signature is None else (id, signature.decode())


def sealed_thought(thought: Thinking, *, with_text: bool) -> str:
    """One text for a thought, with its words in it where the client is not shown them."""
    text = thought.text if with_text else None
    packed = orjson.dumps([thought.signature, thought.redacted, text])
    return _OURS + base64.urlsafe_b64encode(packed).decode().rstrip("=")


def opened_thought(told: str, shown: str) -> Thinking:
    """`shown`: the words that came back beside it."""
    packed = _unpacked(told.removeprefix(_OURS)) if told.startswith(_OURS) else None
    try:
        signature, redacted, text = orjson.loads(packed or b"")
    except ValueError:
        return Thinking(shown, signature=told)  # not ours: whoever made it knows it
    return Thinking(shown if text is None else text, signature, redacted)


def _unpacked(packed: str) -> bytes | None:
    try:
        plain = base64.urlsafe_b64decode(packed + "=" * (-len(packed) % 4))
        plain.decode()
    except (binascii.Error, ValueError):
        return None
    return plain
