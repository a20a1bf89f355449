"""A file is there whole or not at all, whenever the process that writes it dies."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time

import numpy as np
import pytest
from sklearn.decomposition import PCA

from sklearn_psp._persistence import atomic_file, load, save
from sklearn_psp.exceptions import PersistenceError

KILLS = int(os.environ.get("SKLEARN_PSP_KILLS", "12"))
posix = pytest.mark.skipif(os.name != "posix", reason="no fork on this system")

# A small process with everything imported forks the one that saves: a kill then costs milliseconds.
WRITER = """
import os, sys
import numpy as np
from sklearn.decomposition import PCA
from sklearn_psp._persistence import save
path, n = sys.argv[1], 300
def estimator(version):
    pca = PCA(version)
    pca.components_, pca.mean_ = np.full((n, n), float(version)), np.full(n, float(version))
    return pca
versions = [estimator(1), estimator(2)]
save(versions[0], path)
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        while True:
            for version in versions:
                save(version, path)
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""


@posix
def test_killed_at_any_moment__leaves_the_old_file_or_the_new_one(path):
    generator = random.Random(0)
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        for _ in range(KILLS):
            print("go", file=writer.stdin, flush=True)
            child = int(writer.stdout.readline())
            time.sleep(generator.uniform(0, 0.08))
            os.kill(child, signal.SIGKILL)
            assert writer.stdout.readline() == "dead\n"
            found = load(path)
            assert found.n_components in (1, 2)
            assert (found.components_ == found.n_components).all()
            assert (found.mean_ == found.n_components).all()
        writer.stdin.close()
        assert writer.wait(600) == 0
    save(PCA(3), path)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_error_while_writing__leaves_the_old_file_and_nothing_else(path):
    path.write_bytes(b"old")
    with pytest.raises(TypeError), atomic_file(path) as file:
        file.writelines([b"new", None])
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_readers_see_the_old_file_until_the_new_one_is_whole(path):
    path.write_bytes(b"old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"


def test_temporary_files_of_the_dead__are_removed_and_no_others(path):
    abandoned = path.with_name(f".{path.name}.0123abcd.tmp")
    abandoned_lock = path.with_name(f".{path.name}.4567abcd.lock")
    others = [path.with_name(name) for name in (".other.0123abcd.tmp", f".{path.name}.mine.tmp", f"{path.name}.tmp")]
    for file in (abandoned, abandoned_lock, *others):
        file.write_bytes(b"")
    save(PCA(), path)
    assert not abandoned.exists()
    assert not abandoned_lock.exists()
    assert all(other.exists() for other in others)


@posix
def test_two_writers_at_once__both_succeed_and_the_last_one_stays(path):
    with atomic_file(path) as first:
        first.write(b"first")
        with atomic_file(path) as second:
            second.write(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@posix
def test_mode_and_link__stay(path):
    target = path.with_name("target.skops")
    save(PCA(1), target)
    target.chmod(0o640)
    path.symlink_to(target)
    save(PCA(2), path)
    assert path.is_symlink()
    assert load(target).n_components == 2
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_new_file__is_readable_as_other_files_are(path):
    plain = path.with_name("plain")
    plain.write_bytes(b"")
    save(PCA(), path)
    assert path.stat().st_mode == plain.stat().st_mode


def test_full_disk__leaves_the_old_file(path, monkeypatch):
    save(PCA(1), path)

    def refuse(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sklearn_psp._persistence._save.os.fsync", refuse)
    with pytest.raises(OSError, match=f"No space left.*{path.name}"):
        save(PCA(2), path)
    monkeypatch.undo()
    assert load(path).n_components == 1
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_half_a_file__is_never_taken_for_a_whole_one(path):
    save(PCA(2).fit(np.random.default_rng(0).normal(size=(50, 9))), path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(PersistenceError, match="only a part of one"):
        load(path)
