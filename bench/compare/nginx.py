"""nginx as a bare reverse proxy: one worker, kept connections both ways, no log, no buffering."""

import contextlib
import getpass
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from bench.compare.gateways import Gateway, answers, free_port, program
from bench.stack import Program, StackError

MISSING = (
    "nginx is not here. Install it (Debian: apt-get install --no-install-recommends nginx-light),"
    " or leave it out: --without nginx"
)

CONFIGURATION = """
daemon off;
worker_processes 1;
user {user};
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 8192; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  keepalive_requests 100000000;
  upstream provider {{
    server {provider};
    keepalive 1024;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://provider;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
    }}
  }}
}}
"""


def version() -> str:
    """Raises StackError where it is missing."""
    path = program("nginx")
    if path is None:
        raise StackError(MISSING)
    told = subprocess.run([path, "-v"], capture_output=True, text=True, timeout=10).stderr
    return told.strip().rpartition("/")[2]


@contextlib.contextmanager
def nginx(folder: Path, upstream_url: str) -> Iterator[Gateway]:
    about, port = f"{version()}, one worker", free_port()
    file = folder / "nginx.conf"
    text = CONFIGURATION.format(
        user=getpass.getuser(), folder=folder, port=port, provider=urlsplit(upstream_url).netloc
    )
    file.write_text(text)
    command = [str(program("nginx")), "-p", str(folder), "-e", "error.log", "-c", str(file)]
    with Program(folder / "nginx.log", command, {}) as process:
        url = f"http://127.0.0.1:{port}"
        process.wait_for("an answer", lambda: answers(url, ""))
        yield Gateway("nginx", url, "", process.pid, own_models=False, about=about)
