"""A store of rows on disk, against a plain dict."""

from __future__ import annotations

import hashlib
import os
import pickle
import sqlite3
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_psp._cache import _index, _store, open_store
from sklearn_psp.exceptions import CacheError, CacheFormatWarning

LENGTH = 500
ROW = 2 * LENGTH


def key_of(number):
    """A digest."""
    return hashlib.sha256(str(number).encode()).digest()


def row_of(number, length=LENGTH):
    """The row of a number, as any bits: NaN among them."""
    bits = np.random.default_rng(number).integers(0, 1 << 16, size=length, dtype=np.uint16)
    return bits.view(np.float16)


def put(store, *numbers):
    """Write the rows of these numbers."""
    store.put([key_of(number) for number in numbers], np.stack([row_of(number) for number in numbers]))


def present(store, numbers):
    """Which numbers are in the store; what is there must be right."""
    numbers = list(numbers)
    rows, found = store.get([key_of(number) for number in numbers], LENGTH)
    numbers = [number for number, hit in zip(numbers, found, strict=True) if hit]
    for number, row in zip(numbers, rows, strict=True):
        assert row.tobytes() == row_of(number).tobytes()
    return numbers


@pytest.fixture
def store(tmp_path):
    """A store of ten rows."""
    store = open_store(tmp_path, max_bytes=10 * ROW)
    yield store
    store.close()


def database(folder):
    """The index of a store, opened as anybody may."""
    return closing(sqlite3.connect(folder / "features.sqlite", isolation_level=None))


def size_on_disk(folder):
    """Bytes of both files."""
    return sum(os.stat(folder / name).st_size for name in ("features.sqlite", "features.rows"))


@pytest.fixture
def tamper(store, tmp_path):
    """Change what is kept under a key as nobody should: `tamper(key, change)`, where `change(db, file, key, place)`."""

    def tamper(key, change):
        store.close()
        with database(tmp_path) as db, open(tmp_path / "features.rows", "r+b") as file:
            place = db.execute("SELECT place FROM entries WHERE key = ?", (key,)).fetchone()[0]
            change(db, file, key, place)

    return tamper


def test_rows__come_back_bit_for_bit(store):
    put(store, 1, 2, 3)
    rows, found = store.get([key_of(3), key_of(9), key_of(1), key_of(3)], LENGTH)
    assert found.tolist() == [True, False, True, True]
    assert found.dtype == bool
    assert rows.tobytes() == np.stack([row_of(3), row_of(1), row_of(3)]).tobytes()
    assert rows.dtype == np.float16
    assert rows.flags.c_contiguous
    assert rows.flags.writeable
    rows[:] = 0
    assert present(store, [1, 2, 3]) == [1, 2, 3]
    assert (len(store), store.n_bytes, store.max_bytes) == (3, 3 * ROW, 10 * ROW)
    assert store.has(key_of(1))
    assert not store.has(key_of(9))


def test_nothing_asked_for__nothing_found(store):
    rows, found = store.get([], LENGTH)
    assert rows.shape == (0, LENGTH)
    assert found.shape == (0,)
    store.put([], np.empty((0, LENGTH), dtype=np.float16))
    assert len(store) == 0


def test_strided_rows__are_written_as_they_look(store):
    rows = np.stack([row_of(1, 2 * LENGTH), row_of(2, 2 * LENGTH)])[:, ::2]
    store.put([b"a" * 16, b"b" * 16], rows)
    found, _ = store.get([b"a" * 16, b"b" * 16], LENGTH)
    assert found.tobytes() == rows.tobytes()


def test_another_length__is_not_found(store):
    put(store, 1)
    rows, found = store.get([key_of(1)], LENGTH - 1)
    assert rows.shape == (0, LENGTH - 1)
    assert not found.any()


def test_key_twice_in_one_put__keeps_the_last_row(store):
    store.put([key_of(1), key_of(2), key_of(1)], np.stack([row_of(7), row_of(2), row_of(1)]))
    assert present(store, [1, 2]) == [1, 2]
    assert store.n_bytes == 2 * ROW


def test_closed_and_opened_again__everything_is_there(store, tmp_path):
    put(store, 1)
    store.close()
    assert open_store(tmp_path) is store
    assert present(store, [1]) == [1]
    assert store.max_bytes == 10 * ROW


def overwrite(file, place, content):
    """Write to a place of a file."""
    file.seek(place)
    file.write(content)


def flip(db, file, key, place):
    """Flip one bit of the row."""
    file.seek(place + 5)
    overwrite(file, place + 5, bytes([file.read(1)[0] ^ 1]))


def update(column, value):
    """Change a column of the index."""
    return lambda db, file, key, place: db.execute(f"UPDATE entries SET {column} = ? WHERE key = ?", (value, key))


DAMAGE = {
    "payload": flip,
    "zeros": lambda db, file, key, place: overwrite(file, place, bytes(ROW)),
    "foreign": lambda db, file, key, place: overwrite(file, place, b"something else"),
    "length": update("size", ROW - 2),
    "checksum": update("checksum", b"12345678"),
    "empty": update("checksum", b""),
    "place": update("place", 65),
    "behind the end": update("place", 1 << 40),
    "truncated": lambda db, file, key, place: file.truncate(place + ROW - 2),
}


@pytest.mark.parametrize("change", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_entry__is_not_found_and_can_be_replaced(change, store, tamper):
    put(store, 1, 2)
    tamper(key_of(2), change)
    assert present(store, [1, 2]) == [1]
    put(store, 2)
    assert present(store, [1, 2]) == [1, 2]
    assert store.has(key_of(2))
    assert len(store) == 2


def test_whole_row_under_another_key__is_not_found(store, tamper, tmp_path):
    put(store, 1, 2)
    with database(tmp_path) as db:
        entry = db.execute("SELECT place, checksum FROM entries WHERE key = ?", (key_of(1),)).fetchone()
    tamper(key_of(2), update("place", entry[0]))
    tamper(key_of(2), update("checksum", entry[1]))
    assert present(store, [1, 2]) == [1]


def test_file_of_rows_deleted__rows_are_missing_and_can_be_written_again(store, tmp_path):
    put(store, 1)
    (tmp_path / "features.rows").unlink()
    assert present(store, [1]) == []
    put(store, 1, 2)
    assert present(store, [1, 2]) == [1, 2]


@pytest.mark.parametrize("seed", range(30))
def test_flipped_bytes__give_right_rows_or_none_or_an_error(seed, store, tmp_path):
    for turn in range(4):
        put(store, *range(10 * turn, 10 * turn + 10))
    store.close()
    generator = np.random.default_rng(seed)
    for name in ("features.sqlite", "features.rows"):
        content = bytearray((tmp_path / name).read_bytes())
        for place in generator.integers(0, len(content), size=20):
            content[place] ^= 1 << generator.integers(8)
        (tmp_path / name).write_bytes(content)
    # The error is allowed, not demanded: it depends on what stood there.
    with suppress(CacheError):
        open_store(tmp_path)
        present(store, range(40))
        put(store, 50)
        present(store, [50])
    store.close()


def test_too_many__the_oldest_go(store):
    for number in range(25):
        put(store, number)
        kept = range(max(0, number - 9), number + 1)
        assert present(store, range(25))[-3:] == list(kept)[-3:]
        assert store.n_bytes == len(kept) * ROW


def test_many_rounds__what_is_used_stays(store):
    put(store, 0)
    for number in range(1, 60):
        put(store, number)
        assert present(store, [0]) == [0]
    assert len(store) == 10


def test_eviction__follows_the_model(store):
    generator = np.random.default_rng(0)
    order: list[int] = []  # the oldest first
    for _ in range(150):
        numbers = list(dict.fromkeys(generator.integers(0, 30, size=4).tolist()))
        put(store, *numbers)
        order = ([number for number in order if number not in numbers] + numbers)[-10:]
        assert [number for number in range(30) if store.has(key_of(number))] == sorted(order)
    assert (len(store), store.n_bytes) == (10, 10 * ROW)


def test_read_entries__are_renewed_only_in_the_older_half(store):
    put(store, *range(10))
    assert present(store, [0, 9, 2]) == [0, 9, 2]
    assert list(store._used) == [key_of(0), key_of(2)]
    put(store, *range(10, 18))
    assert [number for number in range(30) if store.has(key_of(number))] == [0, 2, *range(10, 18)]


def test_many_read_entries__are_renewed_at_once(store, monkeypatch):
    monkeypatch.setattr(_store, "_MANY", 2)
    put(store, *range(10))
    present(store, [0, 1])
    assert not store._used
    put(store, *range(10, 18))
    assert [number for number in range(30) if store.has(key_of(number))] == [0, 1, *range(10, 18)]


def test_half_empty_store__notes_nothing(store):
    put(store, *range(5))
    present(store, range(5))
    assert not store._used


def test_put_larger_than_the_bound__keeps_the_last(store):
    put(store, *range(100, 105))
    put(store, *range(25))
    assert [number for number in range(200) if store.has(key_of(number))] == list(range(15, 25))


def test_row_larger_than_the_bound__is_left_out(store):
    put(store, 1)
    store.put([key_of(2)], np.ones((1, 11 * LENGTH), dtype=np.float16))
    assert present(store, [1]) == [1]
    assert not store.has(key_of(2))


def test_another_bound__is_applied_and_kept(store, tmp_path):
    put(store, *range(10))
    assert open_store(tmp_path, max_bytes=3 * ROW) is store
    assert store.n_bytes == 3 * ROW
    assert present(store, range(10)) == [7, 8, 9]
    assert open_store(str(tmp_path)).max_bytes == 3 * ROW
    open_store(tmp_path, max_bytes=500_000_000)
    put(store, *range(50))
    assert present(store, range(50)) == list(range(50))
    with pytest.raises(ValueError, match="max_bytes=0 must be at least 1"):
        open_store(tmp_path, max_bytes=0)


def test_same_folder_by_another_name__is_the_same_store(store, tmp_path):
    assert open_store(os.path.join(tmp_path, "x", "..")) is store
    assert pickle.loads(pickle.dumps(store)) is store


@pytest.mark.parametrize(
    ("keys", "rows"),
    [
        ([b"a"], np.ones((1, 4), dtype=np.float32)),
        ([b"a"], np.ones(4, dtype=np.float16)),
        ([b"a"], np.ones((2, 4), dtype=np.float16)),
        ([b"a"], np.ones((1, 0), dtype=np.float16)),
    ],
)
def test_rows_of_another_kind__are_refused(keys, rows, store):
    with pytest.raises(ValueError, match=r"rows must be float16 of shape \(1, length\)"):
        store.put(keys, rows)


@pytest.mark.parametrize("key", [b"", b"x" * 512, "text"])
def test_no_key__is_refused(key, store):
    with pytest.raises(ValueError, match="a key must be 1 to 511 bytes"):
        store.put([key], np.ones((1, 4), dtype=np.float16))


NUMBERS = st.lists(st.integers(0, 12), max_size=6)


@given(steps=st.lists(st.tuples(st.sampled_from(["put", "get", "has", "reopen"]), NUMBERS), max_size=12))
@settings(max_examples=40)
def test_any_order_of_calls__agrees_with_a_dict(steps):
    model = {}
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder, max_bytes=1 << 20)
        try:
            for step, (verb, numbers) in enumerate(steps):
                keys = [key_of(number) for number in numbers]
                if verb == "put":
                    rows = np.stack([row_of((step, place), 3) for place in range(len(keys))] or [np.ones(3)])
                    store.put(keys, rows[: len(keys)].astype(np.float16, copy=False))
                    model |= dict(zip(keys, rows, strict=False))
                elif verb == "get":
                    rows, found = store.get(keys, 3)
                    assert found.tolist() == [key in model for key in keys]
                    assert [row.tobytes() for row in rows] == [model[key].tobytes() for key in keys if key in model]
                elif verb == "has":
                    assert [store.has(key) for key in keys] == [key in model for key in keys]
                else:
                    store.close()
                assert (len(store), store.n_bytes) == (len(model), 6 * len(model))
        finally:
            store.close()


def test_long_churn_of_all_sizes__file_stays_within_bounds(tmp_path, monkeypatch):
    # A file with little slack runs full soon, and shows what is done about it.
    monkeypatch.setattr(_store, "room_for", lambda max_bytes: max_bytes * 5 // 4 + (1 << 20))
    bound = 3_000_000
    store = open_store(tmp_path, max_bytes=bound)
    generator = np.random.default_rng(0)
    sizes = []
    for turn in range(250):
        length, n = int(generator.choice([700, 5000, 62_500])), int(generator.integers(1, 9))
        keys = [key_of((turn, place)) for place in range(n)]
        rows = np.full((n, length), turn, dtype=np.float16)
        store.put(keys, rows)
        assert store.n_bytes <= bound
        back, found = store.get(keys, length)
        assert found.all()
        assert (back == turn).all()
        sizes.append(os.stat(tmp_path / "features.rows").st_size)
    assert size_on_disk(tmp_path) < 2 * bound + (2 << 20)
    assert sizes[-1] < 1.02 * sizes[120]
    store.close()


def test_puts_as_large_as_the_bound__never_run_full(tmp_path, monkeypatch):
    monkeypatch.setattr(_store, "room_for", lambda max_bytes: max_bytes * 5 // 4 + (1 << 20))
    store = open_store(tmp_path, max_bytes=10_000_000)
    for turn in range(12):
        keys = [key_of((turn, place)) for place in range(80)]
        store.put(keys, np.full((80, 62_500), turn, dtype=np.float16))
        assert store.get(keys, 62_500)[1].all()
    assert len(store) == 80
    assert size_on_disk(tmp_path) < 60_000_000
    store.close()


def test_space__is_taken_where_it_fits_and_given_back_in_one_piece(tmp_path):
    store = open_store(tmp_path, max_bytes=100_000)
    for turn in range(30):
        store.put([key_of((turn, place)) for place in range(5)], np.zeros((5, 1000 + turn % 7), dtype=np.float16))
        with database(tmp_path) as db:
            entries = db.execute("SELECT place, size FROM entries").fetchall()
            free = db.execute("SELECT place, size FROM free").fetchall()
            (end,) = db.execute("SELECT end FROM state").fetchone()
        at = 64
        for place, size in sorted(entries + free):
            assert place == at  # no gap, no overlap
            at += size
        assert at == end
        assert not {place + size for place, size in free} & {place for place, _ in free}
    store.close()


def test_threads__read_and_write_at_once(store, tmp_path):
    open_store(tmp_path, max_bytes=300 * ROW)

    def work(thread):
        generator = np.random.default_rng(thread)
        for turn in range(30):
            numbers = generator.integers(0, 500, size=8).tolist()
            put(store, *numbers)
            present(store, generator.integers(0, 500, size=20))
            if turn % 10 == thread:
                open_store(tmp_path, max_bytes=(200 + 20 * thread) * 1000)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))
    numbers = [number for number in range(500) if store.has(key_of(number))]
    assert present(store, numbers) == numbers
    assert (len(store), store.n_bytes) == (len(numbers), len(numbers) * ROW)


def test_settings__the_first_decides(store, tmp_path):
    assert store.recall("network") is None
    assert store.remember("network", "a") == "a"
    assert store.remember("network", "b") == "a"
    assert store.remember("größe", "ß") == "ß"
    store.flush()
    store.close()
    assert open_store(tmp_path).recall("network") == "a"
    assert (len(store), store.n_bytes) == (0, 0)


def test_settings__one_written_after_the_look_is_kept(store, monkeypatch):
    store.remember("network", "a")
    answers = [None, store.recall("network")]
    monkeypatch.setattr(type(store), "recall", lambda self, name: answers.pop(0))
    store.remember("network", "b")
    monkeypatch.undo()
    assert store.recall("network") == "a"


def test_folder_deleted__the_next_call_makes_it_anew(store, tmp_path):
    put(store, 1)
    if sys.platform == "win32":
        store.close()
    for name in os.listdir(tmp_path):
        os.remove(tmp_path / name)
    os.rmdir(tmp_path)
    assert open_store(tmp_path, max_bytes=20 * ROW) is store
    assert len(store) == 0
    put(store, 2)
    assert (tmp_path / "features.sqlite").exists()


def test_folder_deleted__the_next_put_makes_it_anew(store, tmp_path):
    put(store, 1)
    for name in os.listdir(tmp_path):
        os.remove(tmp_path / name)
    os.rmdir(tmp_path)
    assert present(store, [1]) == []
    put(store, 2)
    assert present(store, [1, 2]) == [2]
    store.close()
    assert present(store, [2]) == [2]


def test_foreign_files__stay(tmp_path):
    (tmp_path / "data.mdb").write_bytes(b"mine")
    store = open_store(tmp_path / "." / "", max_bytes=10 * ROW)
    put(store, 1)
    store.close()
    assert (tmp_path / "data.mdb").read_bytes() == b"mine"
    assert len(os.listdir(tmp_path)) == 3


def test_file_instead_of_folder__is_refused(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    for path in (tmp_path / "file", tmp_path / "file" / "folder"):
        with pytest.raises(NotADirectoryError, match=r"cache=.*lies in, a file; pass a folder"):
            open_store(path)


def test_no_database__is_refused_and_left_alone(tmp_path):
    content = bytes(range(256)) * 100
    (tmp_path / "features.sqlite").write_bytes(content)
    for _ in range(2):
        with pytest.raises(
            CacheError, match=r"features\.sqlite.*no whole store.*delete that file.*or pass another"
        ) as caught:
            open_store(tmp_path)
        assert str(tmp_path) in str(caught.value)
        assert caught.value.__cause__ is not caught.value
    assert isinstance(caught.value, OSError)
    assert (tmp_path / "features.sqlite").read_bytes() == content
    (tmp_path / "features.sqlite").unlink()
    store = open_store(tmp_path, max_bytes=10 * ROW)
    put(store, 1)
    store.close()


def test_file_that_was_cut_off__is_refused(tmp_path):
    store = open_store(tmp_path, max_bytes=10_000_000)
    for turn in range(40):
        store.put([key_of((turn, n)) for n in range(10)], np.ones((10, 500), dtype=np.float16))
    store.close()
    os.truncate(tmp_path / "features.sqlite", 20_000)
    with pytest.raises(CacheError, match=r"no whole store.*malformed.*delete that file"):
        open_store(tmp_path)
    assert os.stat(tmp_path / "features.sqlite").st_size == 20_000


@pytest.mark.parametrize("n_lost", [1, 2, 10, 40, 200])
def test_file_that_lacks_its_last_pages__gives_right_rows_or_none_or_an_error(n_lost, store, tmp_path):
    for turn in range(4):
        put(store, *range(10 * turn, 10 * turn + 10))
    store.put([b"large" * 4], np.ones((1, LENGTH * 9), dtype=np.float16))
    store.close()
    for name in ("features.sqlite", "features.rows"):
        size = os.stat(tmp_path / name).st_size
        os.truncate(tmp_path / name, max(100, size - 4096 * n_lost))
    # The error is allowed, not demanded: it depends on what stood in the pages.
    with suppress(CacheError):
        open_store(tmp_path)
        present(store, range(40))
        put(store, 50)
        assert present(store, [50]) == [50]


def test_database_of_another_program__is_refused(tmp_path):
    with database(tmp_path) as db:
        db.execute("CREATE TABLE images (name TEXT)")
        db.execute("INSERT INTO images VALUES ('x')")
    with pytest.raises(CacheError, match=r"features\.sqlite.*another program"):
        open_store(tmp_path)
    with database(tmp_path) as db:
        assert db.execute("SELECT * FROM images").fetchall() == [("x",)]


def test_rows_of_another_program__are_refused(tmp_path):
    (tmp_path / "features.rows").write_bytes(b"mine")
    with pytest.raises(CacheError, match=r"features\.rows.*another program"):
        open_store(tmp_path)
    assert (tmp_path / "features.rows").read_bytes() == b"mine"


def test_other_format__is_refused(store, tmp_path):
    store.close()
    with database(tmp_path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(CacheError, match="its format is 99"):
        open_store(tmp_path)


def test_store_of_an_earlier_version__is_left_alone_and_said_once(tmp_path):
    (tmp_path / "features.lmdb").write_bytes(b"old")
    with pytest.warns(CacheFormatWarning, match=r"holds 'features\.lmdb' of an earlier version.*Delete it") as caught:
        store = open_store(tmp_path, max_bytes=10 * ROW)
    assert caught[0].filename == __file__
    put(store, 1)
    assert open_store(tmp_path) is store
    assert (tmp_path / "features.lmdb").read_bytes() == b"old"
    store.close()


def sqlite_error(code, kind=sqlite3.OperationalError):
    """An error as SQLite raises it."""
    error = kind("x")
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (sqlite_error(sqlite3.SQLITE_FULL), "the disk is full: free some space"),
        (OSError(28, "x"), "the disk is full: free some space"),
        (sqlite_error(sqlite3.SQLITE_READONLY), "cannot be written: pass a folder in which you may create files"),
        (sqlite_error(sqlite3.SQLITE_CANTOPEN), "cannot be written: pass a folder in which you may create files"),
        (PermissionError(13, "x"), "cannot be written: pass a folder in which you may create files"),
        (sqlite_error(sqlite3.SQLITE_IOERR_READ), r"cannot be read or written \(x\); pass another folder"),
        (sqlite_error(sqlite3.SQLITE_CORRUPT, sqlite3.DatabaseError), "no whole store"),
    ],
)
def test_error_of_the_system__names_folder_and_remedy(error, message, tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(sqlite3, "connect", fail)
    with pytest.raises(CacheError, match=message) as caught:
        open_store(tmp_path)
    assert repr(str(tmp_path)) in str(caught.value)
    assert type(pickle.loads(pickle.dumps(caught.value))) is CacheError


def test_locked_for_long__is_said(store, tmp_path, monkeypatch):
    put(store, 1)
    store.close()
    monkeypatch.setattr(_index, "_PATIENCE", 0.1)
    with database(tmp_path) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(CacheError, match="locked by another process"):
            put(store, 2)
        assert present(store, [1]) == [1]
        db.execute("ROLLBACK")
    put(store, 2)


def test_disk_full_while_writing__is_said_and_the_store_stays_usable(store, monkeypatch):
    put(store, 1)

    def fail(*args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(_store, "_write", fail)
        with pytest.raises(CacheError, match="the disk is full"):
            put(store, 2)
    put(store, 3)
    assert present(store, [1, 2, 3]) == [1, 3]


@pytest.mark.parametrize("size", [2, 1500, 1880, 2050, 2500, 4100, 9000, 125_000])
def test_rows_of_any_size__the_files_stay_within_their_room(size, tmp_path):
    bound = 1_000_000
    store = open_store(tmp_path, max_bytes=bound)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_index, "disk_bound", lambda max_bytes: max_bytes * 9 // 8)
        n = bound // (size + 400) // 20 + 1
        for turn in range(60):
            keys = [key_of((turn, place)) for place in range(n)]
            store.put(keys, np.full((n, size // 2), turn, dtype=np.float16))
            assert store.n_bytes == size * len(store) <= bound
        # The space of one put waits to be used again.
        assert size_on_disk(tmp_path) < 2.2 * bound
    if size > 10_000:
        assert store.n_bytes > bound - 2 * size
    store.close()


def test_counts_that_are_wrong__do_not_stop_anything(store, tmp_path):
    put(store, *range(10))
    with database(tmp_path) as db:
        db.execute("UPDATE state SET n_bytes = ?, n_rows = 3", (1 << 40,))
    put(store, 20, 21)
    put(store, 22, 23)
    assert (len(store), store.n_bytes) == (2, 2 * ROW)
    assert present(store, [22, 23]) == [22, 23]


def test_room__is_more_than_rows_may_take():
    for max_bytes in (1, 10**6, 10**10):
        assert max_bytes < _index.disk_bound(max_bytes) < _index.room_for(max_bytes)
