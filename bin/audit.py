"""What the locks bring: every file by its hash, nothing withdrawn, nothing that does not fit, no licence that forbids us.

Needs the package index and nothing else. Known vulnerabilities are asked for where pip-audit is installed and its
database can be reached; where not, that is said.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = "requirements.txt"
LOCKS = (LOCK, "requirements-dev.txt", "requirements-release.txt")
ALLOWED = {
    "0BSD", "Apache-2.0", "BSD", "BSD-2-Clause", "BSD-3-Clause", "ISC", "MIT", "MPL-2.0", "PSF-2.0", "Unlicense",
    "LGPL",  # of packages that are imported as they are, and can be replaced
}  # fmt: skip
_WORDS = {
    "apache software license": "Apache-2.0",
    "bsd license": "BSD",
    "mit license": "MIT",
    "mit style": "MIT",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "python software foundation license": "PSF-2.0",
}
_UNSAID = {"peewee": "MIT"}
"""Name -> the licence in the files of packages whose metadata name none."""
_YANKED = re.compile(
    r"is a yanked version: '([^']+)' candidate \(version (\S+)[^\n]*(?:\n\s*Reason for being yanked: ([^\n]*))?"
)


def licences(found: Distribution) -> set[str]:
    """The licences of an installed package, by their SPDX names; of a choice (`A OR B`) all are named."""
    about: Any = found.metadata
    classifiers = [
        one.rsplit(" :: ", 1)[1] for one in about.get_all("Classifier") or () if "License ::" in one
    ]
    said = about.get("License-Expression") or "; ".join(classifiers) or about.get("License") or ""
    names = {name.strip() for name in re.split(r"\bAND\b|\bOR\b|[;()]", _simplified(said)) if name.strip()}
    return names or {_UNSAID.get(found.name.lower(), "no licence said")}


def _simplified(said: str) -> str:
    if "LGPL" in said or "Lesser General Public License" in said:
        return "LGPL"
    said = said.replace("DFSG approved", "")
    return "; ".join(_WORDS.get(name.strip().lower(), name) for name in said.split(";"))


def unfit_licences(installed: Iterable[Distribution]) -> Iterator[str]:
    """Packages with a licence that is not among ALLOWED."""
    for one in installed:
        if strange := sorted(licences(one) - ALLOWED):
            yield f"{one.name} {one.version}: licence {', '.join(strange)}"


def withdrawn(said: str) -> Iterator[str]:
    """Packages that pip, in what it said of an installation, calls yanked."""
    for name, version, reason in _YANKED.findall(said):
        yield f"{name} {version} was withdrawn from the index: {reason or 'no reason given'}"


def unhashed(lock: str) -> Iterator[str]:
    """Lines of a lock that name no single version, or no hash of its files."""
    for line in lock.replace("\\\n", " ").splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            name, _, rest = line.partition(" ")
            if not re.fullmatch(r"[\w.-]+(\[[\w,-]+\])?==\S+", name) or "--hash=sha256:" not in rest:
                yield line.strip()[:100]


def vulnerable(answer: str) -> tuple[list[str], list[str]]:
    """What pip-audit's JSON says: a line for each known vulnerability, and each reason for which it did not look."""
    try:
        packages = json.loads(answer)["dependencies"]
    except (ValueError, KeyError):
        return [], ["pip-audit gave no answer"]
    known = [
        f"{one['name']} {one['version']}: {fault['id']}, fixed in {', '.join(fault['fix_versions']) or 'no version'}"
        for one in packages
        for fault in one.get("vulns", ())
    ]
    return known, [one["skip_reason"] for one in packages if "skip_reason" in one]


def _known_vulnerabilities() -> list[str]:
    """Asked of pip-audit; says so, where it is not there or its database can't be reached."""
    if not importlib.util.find_spec("pip_audit"):
        print("known vulnerabilities were not asked for: pip-audit is not installed")
        return []
    words = "-m pip_audit --require-hashes --disable-pip --progress-spinner off --format json --requirement"
    done = subprocess.run(
        [sys.executable, *words.split(), LOCK],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    known, unasked = vulnerable(done.stdout)
    if unasked:
        print(f"known vulnerabilities were not asked for, of {len(unasked)} packages or more: {unasked[0]}")
    return known


def _pip(*words: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def main() -> int:
    """0: all is well; 1: each fault is a line."""
    argparse.ArgumentParser(prog="bin/audit", description=__doc__).parse_args()
    faults = list(unfit_licences(distributions()))
    for name in LOCKS:
        faults += [
            f"{name}: no single version or no hash: {line}" for line in unhashed((ROOT / name).read_text())
        ]
    code, said = _pip("check")
    faults += said.splitlines() if code else []
    # Resolves nothing: each line is looked up in the index with its hashes, and nothing is installed.
    lookup = (
        "install",
        "--dry-run",
        "--ignore-installed",
        "--no-deps",
        "--require-hashes",
        "--requirement",
        LOCK,
    )
    code, said = _pip(*lookup, "--disable-pip-version-check")
    faults += withdrawn(said)
    faults += [f"{LOCK} can't be installed: {said.strip().splitlines()[-1]}"] if code else []
    faults += _known_vulnerabilities()
    for fault in faults:
        print(fault)
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
