"""`openai`, chat completions."""

import openai
from cases import (
    AS_JSON,
    AT_PROVIDER,
    EMBEDDER,
    HEARER,
    HELLO,
    IMAGE,
    KEY,
    MODEL,
    NO_MODEL,
    PAINTER,
    PARALLEL,
    PIXEL,
    SCHEMA,
    SPEAKER,
    URL,
    WEATHER,
    raises,
    run,
)
from pydantic import BaseModel

client = openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY, max_retries=0)
TOOL = {"type": "function", "function": {"name": "weather", "parameters": SCHEMA}}


class Weather(BaseModel):
    city: str
    degrees: int


def ask(content, **more):
    messages = [{"role": "user", "content": content}]
    return client.chat.completions.create(model=MODEL, messages=messages, **more)


def chat():
    answer = ask(HELLO)
    assert answer.choices[0].message.content == HELLO
    assert answer.usage.total_tokens > 0


def stream():
    options = {"include_usage": True}
    chunks = list(ask(HELLO, stream=True, stream_options=options))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == HELLO
    assert chunks[-1].usage.total_tokens > 0


def tools():
    answer = ask("the weather, please", tools=[TOOL])
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "weather"
    messages = [
        {"role": "user", "content": "the weather, please"},
        answer.choices[0].message,
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    last = client.chat.completions.create(model=MODEL, messages=messages, tools=[TOOL])
    assert last.choices[0].message.content == "rain"


def parallel():
    messages = [{"role": "user", "content": "the weather"}]
    with client.chat.completions.stream(model=PARALLEL, messages=messages, tools=[TOOL]) as events:
        message = events.get_final_completion().choices[0].message
    assert len(message.tool_calls) == 2


def structured():
    messages = [{"role": "user", "content": AS_JSON}]
    answer = client.chat.completions.parse(model=MODEL, messages=messages, response_format=Weather)
    assert answer.choices[0].message.parsed == Weather(**WEATHER)


def vision():
    image = {"type": "image_url", "image_url": {"url": IMAGE}}
    answer = ask([{"type": "text", "text": HELLO}, image])
    assert answer.choices[0].message.content == HELLO


def embeddings():
    found = client.embeddings.create(model=EMBEDDER, input=["a", "b"])
    assert len(found.data) == 2
    assert isinstance(found.data[0].embedding[0], float)


def images():
    made = client.images.generate(model=PAINTER, prompt="a pixel", response_format="b64_json")
    assert [image.b64_json for image in made.data] == [PIXEL]


def speech():
    speaking = client.audio.speech.with_streaming_response
    with speaking.create(model=SPEAKER, voice="alloy", input=HELLO) as answer:
        assert answer.read().startswith(b"ID3")


def transcription():
    heard = client.audio.transcriptions.create(model=HEARER, file=("hello.mp3", b"ID3"))
    assert heard.text == "one two"


def files():
    """Two of the same name are two."""
    content = b'{"custom_id": "1"}\n'
    made = [
        client.files.create(file=("in.jsonl", content), purpose="batch", extra_headers=AT_PROVIDER)
        for _ in range(2)
    ]
    listed = {file.id: file.filename for file in client.files.list(extra_headers=AT_PROVIDER)}
    for file in made:
        assert listed[file.id] == "in.jsonl"
        assert client.files.content(file.id).read() == content
        assert client.files.delete(file.id).deleted
    raises(openai.NotFoundError, lambda: client.files.retrieve(made[0].id))


def errors():
    def missing():
        client.chat.completions.create(model=NO_MODEL, messages=[{"role": "user", "content": "a"}])

    assert raises(openai.NotFoundError, missing).code == "model_not_found"
    stranger = openai.OpenAI(base_url=f"{URL}/v1", api_key="sk_ops_wrong", max_retries=0)
    raises(openai.AuthenticationError, stranger.models.list)


run(
    {
        "chat": chat,
        "stream": stream,
        "tools": tools,
        "parallel tools": parallel,
        "structured": structured,
        "vision": vision,
        "embeddings": embeddings,
        "images": images,
        "speech": speech,
        "transcription": transcription,
        "files": files,
        "errors": errors,
    }
)
