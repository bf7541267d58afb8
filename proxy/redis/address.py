"""A Redis URL taken apart: redis://, rediss:// or unix://, also with several hosts. Pure."""

from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

SEEDS_MAX = 32


class RedisUrlError(ValueError):
    """OPSCENTER_REDIS_URL cannot be used; the sentence says what one looks like."""


@dataclass(frozen=True, slots=True)
class Address:
    """A Redis URL taken apart."""

    host: str
    port: int
    socket: str
    user: str
    password: str = field(repr=False)
    db: int
    tls: bool

    @classmethod
    def parse(cls, url: str) -> "Address":
        """Reads what redis-py reads, in the same way; no error repeats a piece of the URL."""
        try:
            parts = urlsplit(url)
            port = parts.port or 6379
        except ValueError:
            raise RedisUrlError("the host or the port of a Redis URL cannot be read") from None
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        if parts.scheme == "unix" and parts.path:
            socket, path = unquote(parts.path), ""
        elif parts.scheme in ("redis", "rediss") and parts.hostname:
            socket, path = "", parts.path.strip("/")
        else:
            raise RedisUrlError(
                "a Redis URL starts with redis://HOST, rediss://HOST or unix:///PATH; several"
                " hosts are written as redis://HOST:PORT,HOST:PORT"
            )
        db = query.get("db") or path or "0"
        if not (db.isascii() and db.isdigit() and len(db) < 10):
            raise RedisUrlError(
                "the database of a Redis URL is a number; % and / in a password are"
                " written as %25 and %2F"
            )
        return cls(
            host=parts.hostname or "",
            port=port,
            socket=socket,
            user=unquote(parts.username or "") or query.get("username", ""),
            password=unquote(parts.password or "") or query.get("password", ""),
            db=int(db),
            tls=parts.scheme == "rediss",
        )


def seeds(url: str) -> tuple[str, ...]:
    """One URL per host of `scheme://user:password@host:port,host:port/0`, in their order. The
    first that answers is used; in a cluster it tells of all the others.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in ("redis", "rediss"):
        return (url,)
    end = min((at for sign in "/?#" if (at := rest.find(sign)) >= 0), default=len(rest))
    login, at_sign, hosts = rest[:end].rpartition("@")
    names = hosts.split(",")
    if len(names) > SEEDS_MAX or (len(names) > 1 and not all(names)):
        raise RedisUrlError(
            f"a Redis URL names one host, or up to {SEEDS_MAX} with a comma between each two"
        )
    return tuple(f"{scheme}://{login}{at_sign}{name}{rest[end:]}" for name in names)
