"""`python -m sklearn_psp search`, end to end."""

import base64
import io
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import sklearn_psp
from sklearn_psp.datasets import load_photographs

NAMES = ["china", "flower", "astronaut", "chelsea", "coffee"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder as people have them: folders below, spaces, a copy in capitals, files that are no images."""
    photographs = load_photographs()
    paths = dict(zip(photographs.target_names, photographs.filenames, strict=True))
    folder = tmp_path_factory.mktemp("cli") / "my images"
    (folder / "below <b>&").mkdir(parents=True)
    (folder / ".hidden").mkdir()
    for name in NAMES:
        shutil.copy(paths[name], folder / Path(paths[name]).name)
    shutil.copy(paths["chelsea"], folder / "below <b>&" / "COPY.PNG")
    shutil.copy(paths["chelsea"], folder / ".hidden" / "chelsea.png")
    (folder / "notes.txt").write_text("no image")
    (folder / "broken.jpg").write_bytes(b"no image either")
    (folder / "below <b>&" / "cut.jpg").write_bytes(Path(paths["rocket"]).read_bytes()[:3000])
    return folder


@pytest.fixture(scope="module")
def found(command, images):
    """A search for two images, one of the folder and one of another, with its page."""
    query = images.parent / "elsewhere.jpg"
    shutil.copy(images / "flower.jpg", query)
    page = images.parent / "new folder" / "page.html"
    return command("search", images, "chelsea.png", query, "--n-neighbors", 3, "-o", page, "--quiet"), page


def test_search__prints_nearest_images_with_distances(found):
    (status, out, err), _ = found
    assert status == 0
    assert err == ""
    blocks = [block.splitlines() for block in out.strip().split("\n\n")]
    chelsea = next(block for block in blocks if block[0].endswith("chelsea.png"))
    elsewhere = next(block for block in blocks if block[0].endswith("elsewhere.jpg"))
    assert chelsea[1].split(maxsplit=2) == ["1", "0.000", "below <b>&/COPY.PNG"]
    assert elsewhere[1].split(maxsplit=2) == ["1", "0.000", "flower.jpg"]
    for block in (chelsea, elsewhere):
        ranks, distances = zip(*(line.split()[:2] for line in block[1:4]), strict=True)
        assert ranks == ("1", "2", "3")
        assert list(map(float, distances)) == sorted(map(float, distances))


def test_query_that_is_in_the_folder__does_not_find_itself(found):
    (_, out, _), _ = found
    block = next(block for block in out.strip().split("\n\n") if block.splitlines()[0].endswith("chelsea.png"))
    assert not any(line.endswith(" chelsea.png") for line in block.splitlines()[1:])


def test_unreadable_files__are_survived_and_listed(found):
    (_, out, _), _ = found
    assert "2 files could not be read:" in out
    assert re.search(r"broken\.jpg: not an image of a format that Pillow reads \(15 bytes\)", out)
    assert re.search(r"cut\.jpg: truncated JPEG \(3,000 bytes\)", out)
    assert "6 images searched for 2" in out
    assert ".hidden" not in out
    assert "notes.txt" not in out


def test_page__is_self_contained_and_has_all_queries(found, parse_page):
    (_, out, _), path = found
    assert f"Page written to {path}" in out
    page = parse_page(path)
    assert len(page.with_class("query")) == 2
    assert len(page.with_class("distance")) == 6
    assert not page.with_class("mark")
    assert "elsewhere.jpg" in page.text
    assert "below <b>&/COPY.PNG" in page.text
    assert "broken.jpg" in page.text
    # An image that is shown twice is in the page once.
    assert page.html.count("data:image/jpeg") == len({attrs["class"] for attrs in page.with_class("image")})


def test_page__has_the_results_as_a_table(found, parse_page):
    link = next(attrs["href"] for tag, attrs in parse_page(found[1]).elements if tag == "a")
    table = pd.read_csv(io.BytesIO(base64.b64decode(link.partition(",")[2])))
    assert table.columns.tolist() == ["query", "rank", "image", "distance"]
    assert len(table) == 6


def test_folder_of_queries_and_a_second_gallery__without_a_page(command, images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    queries = tmp_path / "queries"
    queries.mkdir()
    shutil.copy(images / "china.jpg", queries)
    (queries / "bad.png").write_bytes(b"bad")
    more = tmp_path / "more"
    more.mkdir()
    shutil.copy(images / "china.jpg", more / "temple.jpg")
    status, out, err = command("search", images, queries, "--also", more, "--no-page", "-n", 100)
    assert status == 0
    assert "describing images" in err
    assert re.search(r"1 +0\.000 +(china|temple)\.jpg\n +2 +0\.000 +(china|temple)\.jpg", out)
    assert "bad.png: not an image" in out
    assert "7 images searched for 1" in out
    assert not list(tmp_path.glob("*.html"))


def test_nothing_readable__is_one_clear_error(command, tmp_path):
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "a.jpg").write_bytes(b"bad")
    status, _, err = command("search", tmp_path / "gallery", tmp_path / "gallery", "--no-page", "-q")
    assert status == 2
    assert err.count("\n") == 1
    assert "none of the images could be read" in err


def test_no_readable_query_in_a_folder__is_one_clear_error(command, images, tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"bad")
    status, _, err = command("search", images, tmp_path, "--no-page", "-q")
    assert status == 2
    assert err.splitlines() == [
        "python -m sklearn_psp search: error: QUERY: none of the images to search for could be read"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{images}/none", "a.jpg"], "IMAGES: there is no folder '.*none'"),
        (["{images}/china.jpg", "a.jpg"], "IMAGES must be a folder of images, but '.*china.jpg' is a file"),
        (["{empty}", "{images}"], "IMAGES holds no images: .*ends in .avif"),
        (["{images}", "nothing.jpg"], "QUERY: there is no file 'nothing.jpg'"),
        (["{images}", "broken.jpg"], "QUERY: the image '.*broken.jpg' could not be decoded: not an image"),
        (["{images}", "notes.txt"], "QUERY: the image '.*notes.txt' could not be decoded: not an image"),
        (["{images}", "{empty}"], "QUERY holds no images: "),
        (["{images}", "china.jpg", "--output", "{empty}"], "--output must be a file, but '.*' is a folder"),
        (["{images}", "china.jpg", "--output", "{images}/notes.txt/a.html"], "--output: nothing can be written to"),
        (["{images}", "china.jpg", "--backbone", "nonet"], "backbone='nonet'"),
        (["{images}", "china.jpg", "--device", "cuda:99"], "device"),
        (["{images}", "china.jpg", "--weights", "{empty}/none.pth"], "weights='.*none.pth'"),
    ],
)
def test_mistake__is_one_line_and_status_2(command, images, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    filled = [argument.format(images=images, empty=empty) for argument in arguments]
    status, out, err = command("search", *filled, "--quiet")
    assert status == 2
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("python -m sklearn_psp search: error: ")
    assert re.search(message, err)
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: COMMAND"),
        (["find"], "invalid choice: 'find'"),
        (["search"], "required: IMAGES, QUERY"),
        (["search", ".", "a.jpg", "-n", "0"], "must be a whole number of at least 1, got '0'"),
        (["search", ".", "a.jpg", "-n", "many"], "must be a whole number of at least 1, got 'many'"),
    ],
)
def test_arguments_that_do_not_parse__status_2(command, arguments, message):
    status, _, err = command(*arguments)
    assert status == 2
    assert message in err
    assert "Traceback" not in err


def test_help_and_version(command):
    assert command("--version").out.strip() == f"sklearn_psp {sklearn_psp.__version__}"
    assert "~/Pictures cat.jpg" in command("--help").out
    assert "--n-neighbors" in command("search", "--help").out


def test_home__is_expanded(command, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert repr(str(tmp_path / "none")) in command("search", "~/none", "a.jpg").err


def test_module__runs_and_loads_nothing_heavy_for_its_version():
    code = (
        "import runpy, sys; sys.argv = ['sklearn_psp', '--version']\n"
        "try: runpy.run_module('sklearn_psp', run_name='__main__')\n"
        "except SystemExit as error: assert not error.code\n"
        "assert not {'torch', 'numba', 'sklearn'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == f"sklearn_psp {sklearn_psp.__version__}\n"
