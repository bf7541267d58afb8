"""The control API as the bench needs it: over the unix socket, whose owner is administrator."""

import http.client
import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

TIMEOUT_S = 30.0
PAGE_ROWS = 500
PAGES_MAX = 10_000


class ApiError(RuntimeError):
    """The control API refused; the message says what it said."""


class ControlApi:
    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, path: str) -> Any:
        return self._call("GET", path, None)

    def post(self, path: str, body: Mapping[str, object]) -> Any:
        return self._call("POST", path, body)

    def usage(self) -> list[dict[str, Any]]:
        """Every usage row of the platform's own organisation, newest first."""
        rows: list[dict[str, Any]] = []
        after = ""
        for _ in range(PAGES_MAX):
            page = self.get(f"/api/v1/usage?limit={PAGE_ROWS}{after}")
            rows += page["data"]
            if page["next"] is None:
                return rows
            after = f"&before={page['next']}"
        raise ApiError(f"usage has more than {PAGES_MAX} pages")

    def _call(self, method: str, path: str, body: Mapping[str, object] | None) -> Any:
        connection = _UnixConnection(self._path)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, path, text, {"content-type": "application/json"})
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"no answer of the control API at {self._path}: {error!r}") from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise ApiError(f"{method} {path} was answered {answer.status}: {data[:500].decode()}")
        return json.loads(data)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
