"""A store that many processes use at once, some of which are killed."""

from __future__ import annotations

import inspect
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sklearn_psp._cache import open_store

posix = pytest.mark.skipif(os.name != "posix", reason="no fork on this system")

LENGTH = 4000


def keys_of(numbers):
    """Keys of numbers."""
    return [b"key-%012d" % number for number in numbers]


def put(store, numbers):
    """Write rows that tell by themselves whether they are right: each is its number over and over."""
    store.put(keys_of(numbers), np.repeat(np.array(numbers, dtype=np.float16)[:, None], LENGTH, axis=1))


def present(store, numbers):
    """Which numbers are in the store; what is there must be right."""
    rows, found = store.get(keys_of(numbers), LENGTH)
    numbers = np.array(numbers)[found]
    assert (rows == numbers[:, None]).all(), "a wrong row"
    return numbers.tolist()


COMMON = "import os, random, sys, threading, time\nimport numpy as np\nfrom sklearn_psp._cache import open_store\n"
COMMON += f"LENGTH = {LENGTH}\n" + "\n".join(inspect.getsource(function) for function in (keys_of, put, present))

BOUND = 400 * 8000
BUSY = """
generator = random.Random(int(sys.argv[2]))
sys.stdin.readline()
seen = 0
# Each has its own idea of the bound, and of how large the file may become.
store = open_store(sys.argv[1], max_bytes=int(sys.argv[3]))
for turn in range(60):
    put(store, generator.sample(range(1000), 16))
    seen += len(present(store, generator.sample(range(1000), 64)))
    assert store.n_bytes <= 200_000_000
assert seen > 100, seen
print(store.remember("winner", sys.argv[2]))
"""
WRITER = """
store = open_store(sys.argv[1])
for line in sys.stdin:
    child = os.fork()
    if child == 0:
        turn = int(line)
        while True:
            put(store, [(turn + step) % 1000 for step in range(16)])
            present(store, list(range(0, 1000, 50)))
            turn += 16
    print(child, flush=True)
    os.waitpid(child, 0)
    print("dead", flush=True)
"""
LOCKED = """
store = open_store(sys.argv[1])
with store._index.writing() as db:
    db.execute("INSERT INTO settings VALUES ('half', 'done')")
    print("inside", flush=True)
    time.sleep(60)
"""


def start(code, *arguments):
    """Start Python with a program."""
    command = [sys.executable, "-c", COMMON + code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def store(tmp_path):
    """A store of 400 rows."""
    store = open_store(tmp_path, max_bytes=BOUND)
    yield store
    store.close()


def check_whole(store):
    """All entries are whole, and counted right."""
    numbers = [number for number in range(1000) if store.has(keys_of([number])[0])]
    assert present(store, numbers) == numbers
    assert len(store) == len(numbers)
    assert store.n_bytes == 8000 * len(numbers)
    with store._index.reading() as db:
        assert db.execute("SELECT count(*) FROM entries").fetchone() == (len(numbers),)
    return numbers


def test_many_processes__read_right_rows_or_none(store, tmp_path):
    bounds = [BOUND, BOUND // 2, 200_000_000]
    processes = [start(BUSY, tmp_path, number, bound) for number, bound in enumerate(bounds)]
    outputs = []
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for turn in range(60):
        put(store, [(turn * 7 + step) % 1000 for step in range(8)])
        present(store, list(range(turn, 1000, 60)))
    for process in processes:
        outputs.append(process.communicate(timeout=900)[0].strip())
        assert process.returncode == 0
    assert set(outputs) == {store.recall("winner")}
    assert store.remember("winner", "late") == outputs[0]
    check_whole(store)
    open_store(tmp_path, max_bytes=BOUND)
    assert store.n_bytes <= BOUND


def test_file_grown_by_another_process__is_followed(store, tmp_path):
    put(store, [1])
    grow = "store = open_store(sys.argv[1], max_bytes=300_000_000)\nfor start in range(0, 1000, 100):\n"
    grow += "    store.put(keys_of(range(start, start + 100)), np.full((100, 100_000), start, dtype=np.float16))"
    with start(grow, tmp_path) as process:
        assert process.wait(600) == 0
    assert os.stat(tmp_path / "features.rows").st_size > 100_000_000
    rows, found = store.get(keys_of([999, 5000]), 100_000)
    assert found.tolist() == [True, False]
    assert (rows == 900).all()
    assert store.max_bytes == 300_000_000
    put(store, [1])
    assert present(store, [1]) == [1]


@posix
def test_writers_killed_at_any_moment__leave_whole_rows(store, tmp_path):
    generator = random.Random(0)
    n_stored = 0
    with start(WRITER, tmp_path) as writer:
        for turn in range(5):
            print(turn * 100, file=writer.stdin, flush=True)
            child = int(writer.stdout.readline())
            time.sleep(generator.uniform(0.01, 0.1))
            os.kill(child, signal.SIGKILL)
            assert writer.stdout.readline() == "dead\n"
            n_stored = max(n_stored, len(check_whole(store)))
            put(store, [turn])
            assert present(store, [turn]) == [turn]
        writer.stdin.close()
        assert writer.wait(600) == 0
    assert n_stored > 50
    store.close()
    open_store(tmp_path)
    check_whole(store)


@posix
def test_killed_within_a_transaction__others_go_on_without_it(store, tmp_path):
    with start(LOCKED, tmp_path) as process:
        assert process.stdout.readline() == "inside\n"
        process.kill()
        process.wait()
    put(store, [3])
    assert check_whole(store) == [3]
    assert store.recall("half") is None


@posix
def test_after_fork__child_and_parent_both_go_on(store, tmp_path):
    put(store, [1])
    code = """
store = open_store(sys.argv[1])
assert present(store, [1]) == [1]
children, stop = [], threading.Event()
def work(thread):
    turn = 0
    while not stop.is_set():
        put(store, [100 * thread + turn % 50])
        assert present(store, [1]) == [1]
        turn += 1
# Threads are in the midst of everything while the process forks.
threads = [threading.Thread(target=work, args=(thread,)) for thread in (1, 2)]
for thread in threads:
    thread.start()
for number in range(2, 8):
    time.sleep(0.01)
    child = os.fork()
    if child == 0:
        put(store, [number])
        assert present(store, [1, number]) == [1, number]
        assert open_store(sys.argv[1]) is store
        if number % 2:
            store.close()
        grandchild = os.fork()
        if grandchild == 0:
            put(store, [10 + number])
            os._exit(9)
        assert os.waitstatus_to_exitcode(os.waitpid(grandchild, 0)[1]) == 9
        os._exit(7)
    children.append(child)
assert [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children] == [7] * 6
stop.set()
for thread in threads:
    thread.join()
assert present(store, list(range(8))) == list(range(1, 8))
"""
    with start(code, tmp_path) as process:
        assert process.wait(600) == 0
    assert check_whole(store)[:13] == [*range(1, 8), *range(12, 18)]


@posix
def test_file_that_may_not_grow__is_said_and_what_is_there_stays_readable(store, tmp_path):
    code = """
import resource, signal
from sklearn_psp.exceptions import CacheError
store = open_store(sys.argv[1])
put(store, [1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
_, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
try:
    put(store, list(range(2, 200)))
except CacheError as error:
    assert repr(sys.argv[1]) in str(error), error
    assert "pass" in str(error), error
else:
    raise AssertionError("it was written all the same")
assert present(store, list(range(200))) == [1]
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
put(store, list(range(2, 200)))
"""
    with start(code, tmp_path) as process:
        assert process.wait(600) == 0
    assert check_whole(store) == list(range(1, 200))
