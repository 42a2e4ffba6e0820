"""Builds the sdist and the wheel so that the same source gives the same bytes.

setuptools alone writes into them when each file was checked out, by whom and under which umask.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory


def build(source: Path, into: Path, epoch: int) -> list[Path]:
    """The sdist of the tree `source`, and the wheel built from that sdist, in `into`; setuptools writes into `source`.

    `epoch`: the time of every file in them, in seconds since 1970. Raises CalledProcessError.
    """
    with TemporaryDirectory() as folder:
        raw = _run_setuptools("build_sdist", source, Path(folder, "raw"), epoch)
        sdist = into / raw.name
        _rewrite(raw, sdist, epoch)
        subprocess.run(["tar", "-xpzf", sdist.resolve()], cwd=folder, check=True)
        tree = Path(folder, sdist.name.removesuffix(".tar.gz"))
        return [sdist, _run_setuptools("build_wheel", tree, into, epoch)]


def _run_setuptools(step: str, source: Path, into: Path, epoch: int) -> Path:
    """Run the step of PEP 517 in the folder `source`, which it takes for the project's."""
    into.mkdir(exist_ok=True)
    call = f"import sys; from setuptools import build_meta; print(build_meta.{step}(sys.argv[1]))"
    words = [sys.executable, "-c", call, str(into.resolve())]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}
    done = subprocess.run(
        words, cwd=source, env=environment, umask=0o022, stdout=subprocess.PIPE, text=True, check=True
    )
    return into / done.stdout.splitlines()[-1]


def _rewrite(raw: Path, sdist: Path, epoch: int) -> None:
    """Copy a tar.gz: files in order, all of one time, of no owner, with the usual modes."""
    with (
        tarfile.open(raw) as old,
        sdist.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=epoch) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for member in sorted(old.getmembers(), key=lambda one: one.name):
            member.mtime, member.mode = epoch, 0o755 if member.mode & 0o100 else 0o644
            member.uid, member.gid, member.uname, member.gname, member.pax_headers = 0, 0, "", "", {}
            new.addfile(member, old.extractfile(member) if member.isfile() else None)


def _export(project: Path, into: Path) -> int:
    """Write the files of the last commit, with the present time as in a fresh clone. The time of that commit."""
    into.mkdir()
    git = ["git", "-C", str(project)]
    packed = subprocess.run([*git, "archive", "HEAD"], stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-xmf", "-"], cwd=into, input=packed, check=True)
    when = subprocess.run([*git, "log", "-1", "--format=%ct"], stdout=subprocess.PIPE, text=True, check=True)
    return int(when.stdout)


def main(into: Path) -> None:
    """Build the last commit twice; if both are the same, move them to `into` and print their hashes."""
    project = Path(__file__).parents[1]
    with TemporaryDirectory() as folder:
        built = []
        for name in ("first", "second"):
            source, out = Path(folder, name), Path(folder, f"{name}-built")
            out.mkdir()
            built.append(build(source, out, _export(project, source)))
        different = [
            one.name for one, other in zip(*built, strict=True) if one.read_bytes() != other.read_bytes()
        ]
        if different:
            sys.exit(f"two builds of the same commit differ: {', '.join(different)}")
        into.mkdir(exist_ok=True)
        for one in built[0]:
            print(hashlib.sha256(one.read_bytes()).hexdigest(), shutil.move(one, into / one.name))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
