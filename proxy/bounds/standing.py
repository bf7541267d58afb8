"""A caller's meters, gathered once and not for every request."""

from dataclasses import replace
from hashlib import blake2b

from proxy.bounds import rates, windows
from proxy.bounds.meters import EACH_END_USER, Job, Meter, Payment, Standing
from proxy.redis import packed
from proxy.redis.scripts import SHARD_KEYS
from proxy.types import Caller, Issuer, KeyRecord, OrganisationRecord

JOB_LIFE_MS = 7 * 24 * 3600 * 1000  # a job that is not heard of for so long is forgotten
END_USER_LIFE_MS = 40 * 24 * 3600 * 1000  # longer than any window
POOL = "pool"


def caller_of(
    key: KeyRecord,
    organisation: OrganisationRecord,
    digest: bytes = b"",
    until_ms: int = 0,
    issuer: Issuer | None = None,
) -> Caller:
    return Caller(key, organisation, Gathered(key, organisation), digest, until_ms, issuer)


def job_owner(shard: int, organisation: str, job: Job) -> bytes:
    """Where a job's ceiling lies; a job belongs to one organisation."""
    return SHARD_KEYS[shard].prefix + f"w:j:{organisation}:{job.id}".encode()


class Gathered:
    """What one caller's requests count on; remembered until a window is over."""

    __slots__ = ("_each", "_kept", "_key", "_meters", "_models", "_organisation")

    def __init__(self, key: KeyRecord, organisation: OrganisationRecord) -> None:
        meters = _by_way(key, organisation)
        self._key, self._organisation = key, organisation
        self._each = tuple(meter for meter in meters if meter.owner == EACH_END_USER)
        self._meters = tuple(meter for meter in meters if meter.owner != EACH_END_USER)
        self._models = frozenset(meter.model for meter in meters if meter.model is not None)
        self._kept: dict[str | None, Standing] = {}  # by those models alone

    def of(
        self, model: str | None, now_ms: int, job: Job | None = None, end_user: str | None = None
    ) -> Standing:
        """For a request to this model; None: to any, with the meters of all."""
        if (job is not None and job.ceiling_ucr is not None) or (self._each and end_user):
            return self._with_named(model, now_ms, job, end_user)
        if model not in self._models and model is not None:
            model = ""
        standing = self._kept.get(model)
        if standing is None or now_ms not in standing.open_ms:
            standing = self._kept[model] = self._gathered(self._counting(model), now_ms)
        return standing

    def _counting(self, model: str | None) -> tuple[Meter, ...]:
        if model is None:
            return self._meters
        return tuple(m for m in self._meters if m.model is None or m.model == model)

    def _with_named(
        self, model: str | None, now_ms: int, job: Job | None, end_user: str | None
    ) -> Standing:
        """Owners that exist because a request names them: an end user, and last a job."""
        meters, lives = self._counting(model), list[int]()
        whose = SHARD_KEYS[self._key.shard].prefix + b"w:%s:" + self._organisation.id.encode()
        if self._each and end_user:
            name = blake2b(end_user.encode(), digest_size=16).hexdigest()
            owner = whose % b"e" + b":" + name.encode()
            each = [meter for meter in self._each if model is None or meter.model in (None, model)]
            meters += tuple(replace(meter, owner=owner) for meter in each)
            lives += [END_USER_LIFE_MS] if each else []
        if job is not None and job.ceiling_ucr is not None:
            owner = job_owner(self._key.shard, self._organisation.id, job)
            meters += (Meter(owner, b"bud", "ucr", "job", job.ceiling_ucr),)
            lives.append(JOB_LIFE_MS)
        return self._gathered(meters, now_ms, tuple(lives), whose % b"made" if lives else b"")

    def _gathered(
        self,
        meters: tuple[Meter, ...],
        now_ms: int,
        lives: tuple[int, ...] = (),
        made: bytes = b"",
    ) -> Standing:
        """The records come first, and last what is named with the list of such owners: the
        scripts find them by their place."""
        shard, versions = self._key.shard, (self._key.version, self._organisation.version)
        at = SHARD_KEYS[shard]
        records = [at.key(self._key.kid), at.organisation(self._organisation.id)]
        named = dict.fromkeys([*records, *(meter.owner for meter in meters)])
        if made:
            named[made] = None
        owners = tuple(named)
        texts = tuple(windows.text(meter.window, now_ms) for meter in meters)
        ways = dict.fromkeys(meter.way for meter in meters if meter.unit == POOL)
        return Standing(
            meters=meters,
            owners=owners,
            owners_text=b" ".join(owners).decode(),
            admit=packed.admit_words(shard, versions, owners, meters, texts, lives),
            places=tuple(owners.index(meter.owner) for meter in meters),
            windows=texts,
            payments={way: _payment(meters, texts, way) for way in ways},
            open_ms=windows.open_ms((meter.window for meter in meters), now_ms),
            counting=rates.counting(meters),
            lives=lives,
        )


def _by_way(key: KeyRecord, organisation: OrganisationRecord) -> tuple[Meter, ...]:
    """A key that names who pays needs no other pool. What counts on one way of payment alone
    stands beside its pool: the script looks at one way after the other.
    """
    of_all = organisation.meters
    if any(meter.unit == POOL for meter in key.meters):
        of_all = tuple(meter for meter in of_all if meter.unit != POOL)
    meters = of_all + key.meters
    tied = sorted((meter for meter in meters if meter.way), key=lambda meter: meter.way)
    return (*tied, *(meter for meter in meters if not meter.way))


def _payment(meters: tuple[Meter, ...], texts: tuple[bytes, ...], way: int) -> Payment:
    nth = next(n for n, meter in enumerate(meters) if meter.unit == POOL and meter.way == way)
    counting = zip(meters, texts, strict=True)
    names = (_name(meter, text) for meter, text in counting if meter.way in (0, way))
    return Payment(nth, _plain_name(meters[nth]), " ".join(filter(None, names)))


def _plain_name(meter: Meter) -> str:
    return (meter.owner + b":" + meter.name).decode()


def _name(meter: Meter, text: bytes) -> str:
    """As the scripts name what the ledger counts; rates and slots it does not."""
    if meter.unit in (POOL, "slot") or text.startswith(b"~"):
        return ""
    if meter.unit == "ucr" and not text:
        return _plain_name(meter)
    return f"{_plain_name(meter)}@{meter.unit}@{text.decode().partition(':')[0] or '0'}"
