"""What INFO of the masters means for credits: versions with holes, memory, durability. Pure."""

from collections.abc import Mapping, Sequence

from control.machine.finding import Finding, fail, ok, warn

Info = Mapping[str, str]

# Below these a script can leave its sandbox (CVE-2025-49844).
SAFE_VALKEY = {7: (7, 2, 11), 8: (8, 1, 4), 9: (9, 0, 0)}
SAFE_REDIS = {6: (6, 2, 20), 7: (7, 4, 6), 8: (8, 2, 2)}
MEMORY_WARN_PERCENT = 80


def judge(infos: Sequence[Info], told: str) -> list[Finding]:
    """Of all masters; `told`: what the whole is."""
    findings = [version(infos, told), *memory(infos)]
    if any(info.get("aof_enabled") != "1" for info in infos):
        says = "there is no append-only file: what is not booked is lost by a restart"
        findings.append(warn("redis durability", says, "Set `appendonly yes`."))
    return findings


def version(infos: Sequence[Info], told: str) -> Finding:
    """Of all masters; the first with known holes is named."""
    for info in infos:
        valkey = info.get("valkey_version")
        text = str(valkey or info.get("redis_version") or "0")
        numbers = tuple(int(part) for part in text.split(".")[:3] if part.isdigit())
        floors = SAFE_VALKEY if valkey else SAFE_REDIS
        major = numbers[0] if numbers else 0
        floor = floors.get(major)
        if major < min(floors) or (floor is not None and numbers < floor):
            says = f"{'Valkey' if valkey else 'Redis'} {text} has known holes"
            best = ".".join(map(str, floor or floors[max(floors)]))
            return warn("redis", says, f"Upgrade to {best} or newer.")
    return ok("redis", told)


def memory(infos: Sequence[Info]) -> list[Finding]:
    """The worst of the masters: what may be evicted, and how near to its maximum it is."""
    for info in infos:
        if (policy := info.get("maxmemory_policy")) != "noeviction":
            says = f"maxmemory-policy is {policy}: credits could be evicted"
            return [fail("redis memory", says, "Set `maxmemory-policy noeviction`.")]
    bounded = [i for i in infos if int(i.get("maxmemory", 0))]
    shares = [int(i["used_memory"]) * 100 // int(i["maxmemory"]) for i in bounded]
    if not shares or max(shares) < MEMORY_WARN_PERCENT:
        return []
    says = f"{max(shares)} % of maxmemory is in use; at 100 % nothing is admitted"
    level = fail if max(shares) >= 100 else warn
    return [level("redis memory", says, "Raise `maxmemory`, and see whether the drain runs.")]
