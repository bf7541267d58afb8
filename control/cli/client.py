"""Speaks to the control API: over the unix socket of this home, else to a URL with a token.

The standard library's HTTP only, so that a command starts at once.
"""

import http.client
import json
import os
import socket
import ssl
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode, urlsplit

from control.cli.output import Failed
from control.local import answers

if TYPE_CHECKING:
    from control.settings import ControlSettings

TIMEOUT_S = 60
ANSWER_MAX = 64 * 2**20  # bytes
PAGES_MAX = 200
TOKENS = "cli.json"  # in HOME/secrets: URL -> session

Answer = Any  # a JSON value of the API, read by field names


class NotAnswering(Failed):
    """Nobody is at the other end."""


class Refused(Failed):
    """The API said no; the sentence is its own."""

    def __init__(self, status: int, code: str, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.code = code


@dataclass(frozen=True, slots=True)
class Api:
    """One place to call; `socket` wins over `url`."""

    url: str
    token: str | None = None
    socket: Path | None = None

    def get(self, path: str, **query: object) -> Answer:
        return self.call("GET", path, query=query)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> Answer:
        return self.call("POST", path, body)

    def put(self, path: str, body: Mapping[str, object]) -> Answer:
        return self.call("PUT", path, body)

    def patch(self, path: str, body: Mapping[str, object]) -> Answer:
        return self.call("PATCH", path, body)

    def delete(self, path: str) -> Answer:
        return self.call("DELETE", path)

    def pages(self, path: str, **query: object) -> Iterator[Answer]:
        """Every row of a list, page by page."""
        cursor = None
        for _ in range(PAGES_MAX):
            page = self.get(path, cursor=cursor, limit=500, **query)
            yield from page["data"]
            cursor = page.get("next")
            if cursor is None:
                return

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, object] | None = None,
        query: Mapping[str, object] | None = None,
    ) -> Answer:
        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        payload = json.dumps(body).encode() if body is not None else None
        connection = self._connect()
        try:
            connection.request(method, target, payload, self._headers(method))
            response = connection.getresponse()
            answer = response.read(ANSWER_MAX)
        except (OSError, http.client.HTTPException) as problem:
            raise self._nobody(problem) from problem
        finally:
            connection.close()
        return _read(response.status, answer)

    def _headers(self, method: str) -> dict[str, str]:
        headers = {"accept": "application/json", "content-type": "application/json"}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        if method != "GET":
            headers["idempotency-key"] = str(uuid.uuid4())
        return headers

    def _connect(self) -> http.client.HTTPConnection:
        if self.socket is not None:
            return _UnixConnection(self.socket)
        parts = urlsplit(self.url)
        try:
            if parts.scheme == "https" and parts.hostname:
                context = ssl.create_default_context()
                return http.client.HTTPSConnection(
                    parts.hostname, parts.port, timeout=TIMEOUT_S, context=context
                )
            if parts.scheme == "http" and parts.hostname:
                return http.client.HTTPConnection(parts.hostname, parts.port, timeout=TIMEOUT_S)
        except ValueError:
            pass
        raise Failed(f"{self.url} is no address; write OPSCENTER_CONTROL_URL as https://host.")

    def _nobody(self, problem: Exception) -> NotAnswering:
        where = self.socket or self.url
        return NotAnswering(
            f"The control API does not answer at {where}: {problem}. "
            "Start it with `opscenter up`, or name another one with OPSCENTER_CONTROL_URL."
        )


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def _read(status: int, answer: bytes) -> Answer:
    try:
        value = json.loads(answer) if answer.strip() else {}
    except ValueError:
        raise Refused(status, "not_json", _foreign(status)) from None
    if status < 400:
        return value
    error = value.get("error") if isinstance(value, dict) else None
    if not isinstance(error, dict):
        raise Refused(status, "foreign", _foreign(status))
    raise Refused(status, str(error.get("code")), str(error.get("message")))


def _foreign(status: int) -> str:
    return (
        f"What answers there ({status}) is no Ops-Center control API. "
        "Check OPSCENTER_CONTROL_URL: it names the control API, not the door."
    )


# Where to call -------------------------------------------------------------------


def settings() -> "ControlSettings":
    from control.settings import load
    from proxy.declared import SettingsError

    try:
        return load(os.environ)
    except SettingsError as problem:
        raise Failed(str(problem)) from None


def api() -> Api:
    """A URL that was named wins; else this home's socket; else this home's port."""
    wanted = settings()
    named = os.environ.get("OPSCENTER_CONTROL_URL", "").rstrip("/")
    if not named and answers(wanted.socket):
        return Api(url_of(wanted), socket=wanted.socket)
    url = named or url_of(wanted)
    token = os.environ.get("OPSCENTER_TOKEN") or tokens(wanted.home).get(url)
    return Api(url, token=token)


def url_of(wanted: "ControlSettings") -> str:
    named = os.environ.get("OPSCENTER_CONTROL_URL", "").rstrip("/")
    return named or f"http://{wanted.control_host}:{wanted.control_port}"


def tokens(home: Path) -> dict[str, str]:
    """What `opscenter login` keeps: a session per URL."""
    try:
        found = json.loads((home / "secrets" / TOKENS).read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def keep_token(home: Path, url: str, token: str | None) -> None:
    """Stores it for its owner's eyes alone; None forgets it."""
    from control.roots import SecretError, write_private

    kept = {**tokens(home), url: token}
    content = json.dumps({name: one for name, one in kept.items() if one})
    try:
        write_private(home / "secrets" / TOKENS, content.encode())
    except SecretError as problem:
        raise Failed(str(problem)) from None


def part(text: str) -> str:
    """A piece of a path, so that nothing in it changes the path; a model's slash stays."""
    return quote(text, safe="/:@+.-_~")
