"""Who may come in: people with passwords and programs with keys, as two settings hold them; only hashes are kept."""

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from enum import IntEnum


class Role(IntEnum):
    """What somebody may do; each may all that the one below it may."""

    READER = 1
    OPERATOR = 2
    ADMIN = 3


@dataclass(frozen=True, slots=True)
class Credential:
    """One person or program. `hash` never leaves the process."""

    name: str
    role: Role
    hash: str = field(repr=False)


MAX_PASSWORD = 1000
"""Characters: nobody has the server hash a novel."""
# As werkzeug writes them: method, N, r and p, salt, 64 bytes.
PASSWORD_HASH = re.compile(r"scrypt:32768:8:1\$[A-Za-z0-9]{8,64}\$[0-9a-f]{128}")
KEY_HASH = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[\w.@-]{1,50}")
_NOBODY = f"scrypt:32768:8:1${'0' * 16}${'0' * 128}"


def hash_password(password: str, salt: str | None = None) -> str:
    """`password` as a setting keeps it. Takes some 50 ms and 32 MB, so that guessing is dear."""
    salt = salt or secrets.token_hex(8)
    derived = hashlib.scrypt(
        password.encode("utf-8", "surrogatepass"), salt=salt.encode(), n=32768, r=8, p=1, maxmem=2**26
    )
    return f"scrypt:32768:8:1${salt}${derived.hex()}"


def password_fits(password: str, who: Credential | None) -> bool:
    """Whether it is theirs; takes as long for nobody as for somebody."""
    kept = who.hash if who else _NOBODY
    return (
        secrets.compare_digest(hash_password(password[:MAX_PASSWORD], kept.split("$")[1]), kept)
        and who is not None
        and len(password) <= MAX_PASSWORD
    )


def hash_key(key: str) -> str:
    """A key as a setting keeps it. It is random and long, so a quick hash does."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def owner_of(key: str, keys: list[Credential]) -> Credential | None:
    """Whose key it is; None: nobody's. Takes as long whichever it is."""
    found = hash_key(key)
    return next(iter([each for each in keys if secrets.compare_digest(each.hash, found)]), None)


def read_credentials(text: str, hashes: re.Pattern[str]) -> tuple[list[Credential], list[str]]:
    """The entries `name:role:hash` of `text`, apart by commas or line ends, and its faults, which show no hash."""
    found: dict[str, Credential] = {}
    faults = []
    for number, entry in enumerate(filter(None, re.split(r"[,\s]+", text)), 1):
        name, _, rest = entry.partition(":")
        role, _, kept = rest.partition(":")
        if not _NAME.fullmatch(name) or not hashes.fullmatch(kept):
            faults.append(f"entry {number} must be a line that the command made: name:role:hash")
        elif role.upper() not in Role.__members__:
            faults.append(f"entry {number} ({name}) needs a role: reader, operator or admin")
        elif name in found:
            faults.append(f"{name} is there twice")
        else:
            found[name] = Credential(name, Role[role.upper()], kept)
    return list(found.values()), faults
