"""What each dialect's body must hold for us to admit it: the fields on which a hold depends. Pure;
the provider judges the rest.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from proxy.costs import beyond
from proxy.errors import FieldInvalid, FieldMissing

MODEL_MAX = 256  # characters of a model's name
CHOICES_MAX = 128
PROMPTS_MAX = 2_048  # of one legacy completion
OUTPUT_MAX = 10_000_000  # tokens that a client may ask for
LEGACY_OUTPUT = 16  # tokens that a legacy completion has where none are named, by its definition
END_USER_MAX = 256  # characters that are kept of `user`
#: The maximum and the number of answers by names of other servers': a hold knows but ours.
ELSEWHERE = frozenset(
    {
        *("max_new_tokens", "max_gen_len", "max_length", "num_predict", "num_return_sequences"),
        *("generation_config", "generationConfig", "candidate_count", "candidateCount"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "best_of"),
    }
)
#: Other names for the number of images.
IMAGES = frozenset(
    {
        *("batch_size", "num_images", "num_outputs", "num_images_per_prompt", "num_samples"),
        *("num_return_sequences", "number_of_images", "sample_count", "sampleCount"),
    }
)
LATER = "deferred"  # an answer that is fetched when it is done
#: Of these 1 asks for nothing more.
COUNTS = IMAGES | {"best_of", "candidate_count", "candidateCount"}
#: Other names for the sound of a transcription, which would be read where it is not measured.
SOUNDS = ("url", "file_url", "file_id")
#: What is read here and by `proxy.costs.units`, in any dialect, and on which a hold depends.
READ = frozenset(
    {
        *("model", "messages", "n", "best_of", "stream", "stream_options", "user", "metadata"),
        *("max_tokens", "max_completion_tokens", "max_output_tokens", "max_cost", "max_tool_calls"),
        *("prompt", "input", "query", "documents", "quality", "size", "background"),
        *("stream_format", *ELSEWHERE, "file", *SOUNDS, *IMAGES, LATER, "width", "height"),
        *beyond.NAMES,
    }
)
Fields = Mapping[str, Any]


class Asked(NamedTuple):
    """What a body asks for, as far as it is read before it is admitted."""

    stream: bool = False
    usage_wanted: bool = False  # a stream whose client asked to see its usage
    output_max: int | None = None  # tokens, all choices together
    end_user: str | None = None
    choices: int = 1


Read = Callable[[Fields], Asked]


def check_spelling(fields: Fields) -> None:
    """Some providers read names whatever their case: they would find a second model or maximum."""
    names = "".join(fields)
    if names.isascii() and names.islower():
        return
    for name in fields:
        if name not in READ and (meant := name.casefold()) in READ:
            raise FieldInvalid(meant, name=name, why=f"write it as `{meant}`")


def model_of(fields: Fields) -> str:
    model = fields.get("model")
    if model is None:
        raise FieldMissing("model", name="model")
    if not isinstance(model, str) or not 0 < len(model) <= MODEL_MAX:
        raise FieldInvalid("model", name="model", why="it takes the name of a model")
    return model


# Conversations ------------------------------------------------------------------------


def chat(fields: Fields) -> Asked:
    _messages(fields)
    stream, choices = _stream(fields), choices_of(fields)
    newer = whole(fields, "max_completion_tokens", 1, OUTPUT_MAX)
    older = whole(fields, "max_tokens", 1, OUTPUT_MAX)
    # a provider that knows but one of the two obeys that one, so the larger is what may come
    limits = [limit for limit in (newer, older) if limit is not None]
    _by_no_other_name(fields, _OF_CHAT)
    return Asked(
        stream,
        stream and _usage_wanted(fields),
        max(limits) * choices if limits else None,
        _end_user(fields),
        choices,
    )


def messages(fields: Fields) -> Asked:
    """Anthropic's, which must name a maximum."""
    _messages(fields)
    if fields.get("max_tokens") is None:
        raise FieldMissing("max_tokens", name="max_tokens")
    most = whole(fields, "max_tokens", 1, OUTPUT_MAX)
    _by_no_other_name(fields, _OF_MESSAGES)
    metadata = fields.get("metadata")
    named = metadata.get("user_id") if isinstance(metadata, dict) else None
    return Asked(_stream(fields), True, most, _end_user({"user": named}))


def count_tokens(fields: Fields) -> Asked:
    _messages(fields)
    return Asked()


def responses(fields: Fields) -> Asked:
    if fields.get("background"):
        raise _later("background")
    if fields.get("input") is None and all(fields.get(name) is None for name in BEFORE):
        raise FieldMissing("input", name="input")
    most = whole(fields, "max_output_tokens", 1, OUTPUT_MAX)
    _by_no_other_name(fields, _OF_RESPONSES)
    return Asked(_stream(fields), True, most, _end_user(fields))


def completions(fields: Fields) -> Asked:
    """The legacy form: several prompts have answers of their own."""
    prompt, stream = _present(fields, "prompt"), _stream(fields)
    best = whole(fields, "best_of", 1, CHOICES_MAX) or 1
    choices = max(choices_of(fields), best) * _prompts(prompt)
    most = whole(fields, "max_tokens", 0, OUTPUT_MAX)
    _by_no_other_name(fields, _OF_COMPLETIONS)
    each = LEGACY_OUTPUT if most is None else max(most, 1)
    return Asked(
        stream, stream and _usage_wanted(fields), each * choices, _end_user(fields), choices
    )


def _later(name: str) -> FieldInvalid:
    """Refused is what would go on, and be charged to us, after its answer."""
    why = "an answer that is fetched later cannot be charged here; leave it out"
    return FieldInvalid(name, name=name, why=why)


#: What Responses may go on from, without a word of the client's.
BEFORE = ("prompt", "previous_response_id", "conversation")
_OF_CHAT = (ELSEWHERE - {"max_tokens", "max_completion_tokens"}) | {LATER}
_OF_MESSAGES = ELSEWHERE - {"max_tokens"}
_OF_RESPONSES = ELSEWHERE - {"max_output_tokens"}
_OF_COMPLETIONS = ELSEWHERE - {"max_tokens", "best_of"}


def _by_no_other_name(fields: Fields, names: frozenset[str]) -> None:
    if names.isdisjoint(fields):
        return
    for name in names.intersection(fields):
        value = fields[name]
        if name == LATER:
            if value:
                raise _later(name)
        elif value is not None and not (name in COUNTS and type(value) is int and value == 1):
            why = "a setting of this dialect does the same; name that one"
            raise FieldInvalid(name, name=name, why=why)


def _messages(fields: Fields) -> None:
    found = fields.get("messages")
    if found is None:
        raise FieldMissing("messages", name="messages")
    if not isinstance(found, list) or not found:
        raise FieldInvalid(
            "messages", name="messages", why="it takes a list of at least one message"
        )
    for message in found:
        if not isinstance(message, dict):
            raise FieldInvalid("messages", name="messages", why="each of them is an object")


def _prompts(prompt: Any) -> int:
    """A list of numbers is one prompt."""
    if not isinstance(prompt, list) or not isinstance(prompt[0], str | list):
        return 1
    if len(prompt) > PROMPTS_MAX:
        raise FieldInvalid("prompt", name="prompt", why=f"it takes {PROMPTS_MAX} prompts at most")
    return len(prompt)


# The rest -----------------------------------------------------------------------------


def embeddings(fields: Fields) -> Asked:
    _present(fields, "input")
    return Asked(end_user=_end_user(fields))


def speech(fields: Fields) -> Asked:
    text = _present(fields, "input")
    if not isinstance(text, str):
        raise FieldInvalid("input", name="input", why="it takes a text")
    return Asked(stream=fields.get("stream_format") == "sse")


def images(fields: Fields) -> Asked:
    _present(fields, "prompt")
    _by_no_other_name(fields, IMAGES)
    return Asked(_stream(fields), True, None, _end_user(fields), choices_of(fields))


def rerank(fields: Fields) -> Asked:
    _present(fields, "query")
    if not isinstance(_present(fields, "documents"), list):
        raise FieldInvalid("documents", name="documents", why="it takes a list")
    return Asked()


def transcription(fields: Fields) -> Asked:
    """Of a form, whose values are texts."""
    _present(fields, "file")
    for name in SOUNDS:
        if name in fields:
            raise FieldInvalid(name, name=name, why="send the sound itself, as `file`")
    return Asked(fields.get("stream") in ("true", "True", "1"), True)


def kept(fields: Fields) -> Asked:
    """Of files and batches, which are read by `proxy/kept/wish.py`: no tokens."""
    return Asked()


# Values -------------------------------------------------------------------------------


def choices_of(fields: Fields) -> int:
    return whole(fields, "n", 1, CHOICES_MAX) or 1


def whole(fields: Fields, name: str, low: int, high: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    # to Python a bool is an int
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise FieldInvalid(name, name=name, why=f"it takes a whole number from {low} to {high}")
    return value


def _present(fields: Fields, name: str) -> Any:
    value = fields.get(name)
    if value is None:
        raise FieldMissing(name, name=name)
    if value in ("", []):
        raise FieldInvalid(name, name=name, why="it is empty")
    return value


def _stream(fields: Fields) -> bool:
    stream = fields.get("stream")
    if stream is None:
        return False
    if not isinstance(stream, bool):
        raise FieldInvalid("stream", name="stream", why="it takes true or false")
    return stream


def _usage_wanted(fields: Fields) -> bool:
    options = fields.get("stream_options")
    if options is None:
        return False
    if not isinstance(options, dict):
        raise FieldInvalid("stream_options", name="stream_options", why="it takes an object")
    return options.get("include_usage") is True


def _end_user(fields: Fields) -> str | None:
    user = fields.get("user")
    if user is None:
        return None
    if not isinstance(user, str):
        raise FieldInvalid("user", name="user", why="it takes a text")
    return bookable(user)


def bookable(user: str) -> str | None:
    """No database takes this character in a text, and the ledger must be able to book the name."""
    return user.replace("\0", "")[:END_USER_MAX] or None
