"""Two JPEG decoders, odd and damaged files, colours and modes, and warnings that neither escape nor decide."""

from __future__ import annotations

import io
import pickle
import random
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageFile

from sklearn_psp._images import _decode, _sources, read_batches, read_image
from sklearn_psp.exceptions import ImageReadError
from sklearn_psp.utils._descriptions import failures_frame
from sklearn_psp.utils._warnings import WarningOfQuietThread, quiet_thread, quiet_threads_allowed


@pytest.fixture(scope="module")
def jpegs(encode, china):
    with Image.open(china) as photograph:
        small = photograph.resize((61, 43))
        return {
            "photograph": china.read_bytes(),
            "4:2:0": encode(small, "JPEG"),
            "4:4:4": encode(small, "JPEG", quality=95, subsampling=0),
            "4:2:2": encode(small, "JPEG", quality=30, subsampling=1),
            "progressive": encode(small, "JPEG", progressive=True),
            "optimised, restarts": encode(small, "JPEG", optimize=True, restart_marker_blocks=2),
            "grey": encode(small.convert("L"), "JPEG"),
            "stored as RGB": encode(small, "JPEG", keep_rgb=True),
            "one pixel": encode(small.crop((0, 0, 1, 1)), "JPEG"),
        }


def pillow(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def test_torchvision_decoder_is_used_and_equals_pillow_bit_for_bit(jpegs):
    for name, data in jpegs.items():
        decoded = _decode.decode_jpeg(data)
        assert decoded is not None, name
        np.testing.assert_array_equal(decoded, pillow(data), err_msg=name)


def test_without_torchvision_decoder_pillow_gives_the_same(monkeypatch, jpegs):
    expected = {name: read_image(data) for name, data in jpegs.items()}
    monkeypatch.setattr(_decode, "_jpeg_operator", None)
    for name, data in jpegs.items():
        np.testing.assert_array_equal(read_image(data), expected[name], err_msg=name)


def test_truncated_jpeg_is_refused_wherever_it_ends(jpegs):
    for name in ("4:2:0", "progressive", "grey"):
        data = jpegs[name]
        for length in range(3, len(data), max(1, len(data) // 60)):
            with pytest.raises(ImageReadError, match="JPEG"):
                read_image(data[:length])


def test_truncated_jpeg_says_so_from_every_kind_of_source(tmp_path, jpegs):
    data = jpegs["photograph"][:5120]
    path = tmp_path / "cut.jpg"
    path.write_bytes(data)
    for source in (data, path):
        with pytest.raises(ImageReadError, match=r"truncated JPEG \(5,120 bytes\): image file is truncated"):
            read_image(source)
    with Image.open(path) as image, pytest.raises(ImageReadError, match="truncated JPEG: image file is truncated"):
        read_image(image)


def test_bytes_behind_the_end_do_not_matter(jpegs):
    np.testing.assert_array_equal(read_image(jpegs["4:2:0"] + b"\0" * 100), read_image(jpegs["4:2:0"]))


def test_damaged_jpegs_are_accepted_and_decoded_exactly_as_by_pillow(jpegs):
    rng = random.Random(0)
    data, outcomes = jpegs["4:2:0"], {"decoded": 0, "refused": 0}
    for _ in range(150):
        damaged = bytearray(data)
        for _ in range(rng.randrange(1, 5)):
            damaged[rng.randrange(200, len(data))] = rng.randrange(256)
        try:
            expected = pillow(bytes(damaged))
        except (OSError, SyntaxError, ValueError):
            with pytest.raises(ImageReadError):
                read_image(bytes(damaged))
            outcomes["refused"] += 1
        else:
            np.testing.assert_array_equal(read_image(bytes(damaged)), expected)
            outcomes["decoded"] += 1
    assert outcomes["decoded"] > 20


@pytest.mark.parametrize("file_format", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_truncated_files_of_other_formats_are_refused(encode, noise, file_format):
    data = encode(Image.fromarray(noise(64, 64, 3)), file_format)
    with pytest.raises(ImageReadError, match="could not be decoded"):
        read_image(data[: len(data) // 2])


@pytest.mark.parametrize("error", [SyntaxError("x"), MemoryError(), RuntimeError("x"), EOFError(), ZeroDivisionError()])
def test_whatever_a_decoder_throws_becomes_a_reason(monkeypatch, encode, error):
    data = encode(Image.new("RGB", (3, 3)))

    def load(self):
        raise error

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", load, raising=False)
    with pytest.raises(ImageReadError, match=rf"unreadable PNG \({len(data)} bytes\): (x|{type(error).__name__})"):
        read_image(data)


@pytest.mark.parametrize("file_format", ["JPEG", "PNG"])
@pytest.mark.parametrize(
    "limit", [99, 60, 40]
)  # 100 pixels: Pillow warns above the limit, refuses above twice the limit
def test_bombs_are_refused_by_both_decoders_from_the_limit_on(monkeypatch, encode, file_format, limit):
    data = encode(Image.new("RGB", (20, 5)), file_format)
    with Image.open(io.BytesIO(data)) as unloaded:
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for source in (data, unloaded):
            with pytest.raises(
                ImageReadError, match=rf"decompression bomb.*MAX_IMAGE_PIXELS = {limit}; make the image"
            ):
                read_image(source)
    assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("limit", [100, None])
def test_a_image_at_the_limit_is_read(monkeypatch, encode, limit):
    data = encode(Image.new("RGB", (20, 5)), "JPEG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert read_image(data).shape == (5, 20, 3)
    assert read_image(Image.new("RGB", (30, 5))).shape == (5, 30, 3)  # made in memory: no bomb


def test_reading_leaves_torch_threads_alone(jpegs):
    before = torch.get_num_threads()
    read_image(jpegs["photograph"])
    assert torch.get_num_threads() == before


ODD_IMAGES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "odd_images"

with_odd_images = pytest.mark.skipif(not ODD_IMAGES.is_dir(), reason="../shared/data is absent")


@pytest.fixture(scope="module")
def files():
    return sorted(str(path) for path in ODD_IMAGES.rglob("*") if path.is_file())


@with_odd_images
def test_every_odd_file_is_decoded_or_refused_with_a_reason(files, capsys):
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as escaped:
        warnings.simplefilter("always")
        batches = list(read_batches(files, batch_size=16, image_size=(32, 32), on_error="nan"))
    seconds = time.perf_counter() - begin
    failures = failures_frame(failure for batch in batches for failure in batch.failures)
    assert sum(len(batch.images) for batch in batches) == len(files)
    with capsys.disabled():
        print(f"\nodd_images: {len(files) - len(failures)} decoded, {len(failures)} refused in {seconds:.1f} s")
        print(failures["reason"].str.replace(r"[\d,]+", "#", regex=True).value_counts().head(8).to_string())
    assert [str(warning.message) for warning in escaped] == []
    assert (failures["reason"].str.len() > 10).all()
    # 828 of 1,040 with Pillow 13 and all its codecs; the rest are fonts, palettes, documents, crashes and bombs
    assert len(files) - len(failures) >= 0.75 * len(files)


@with_odd_images
def test_odd_files_give_the_same_as_path_and_as_pil_image(files):
    compared = 0
    for name in files[::4]:
        try:
            expected = read_image(name)
        except ImageReadError:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(name) as image:
                np.testing.assert_array_equal(read_image(image), expected, err_msg=name)
        compared += 1
    assert compared > 100


SIDE = st.integers(1, 6)


def on_white(rgba):
    alpha = rgba[..., 3:].astype(float) / 255
    return np.floor(rgba[..., :3] * alpha + 255 * (1 - alpha) + 0.5 + 1e-9).astype(np.uint8)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF"])
def test_alpha_is_composed_on_white(encode, noise, file_format):
    rgba = noise(40, 50, 4)
    rgba[0, :, 3], rgba[1, :, 3] = 0, 255
    expected = on_white(rgba)
    assert (expected[0] == 255).all()
    image = Image.fromarray(rgba)
    for source in (rgba, image, encode(image, file_format)):
        np.testing.assert_array_equal(read_image(source), expected)


def test_grey_with_alpha_is_composed_on_white(encode, noise):
    la = noise(9, 8, 2)
    expected = on_white(np.dstack([la[..., [0, 0, 0]], la[..., 1]]))
    image = Image.fromarray(la)
    assert image.mode == "LA"
    np.testing.assert_array_equal(read_image(encode(image)), expected)
    np.testing.assert_array_equal(read_image(image), expected)
    palette_alpha = Image.frombytes("PA", (2, 1), bytes([1, 51, 0, 255]))
    palette_alpha.putpalette([10, 20, 30, 40, 50, 60])
    assert read_image(palette_alpha).tolist() == [[[212, 214, 216], [10, 20, 30]]]


@pytest.mark.parametrize("file_format", ["PNG", "GIF"])
def test_transparent_palette_colour_is_white(encode, file_format):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    pixels = read_image(encode(image, file_format, transparency=1))
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [70, 80, 90]]]


def test_palette_with_alpha_per_colour(encode):
    image = Image.frombytes("P", (3, 1), bytes([0, 1, 2]))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    pixels = read_image(encode(image, transparency=bytes([255, 0, 51])))
    # 51 / 255 = 0.2: 255 - 0.2 * (255 - colour)
    assert pixels.tolist() == [[[10, 20, 30], [255, 255, 255], [218, 220, 222]]]


@pytest.mark.parametrize(("mode", "key"), [("RGB", (1, 2, 3)), ("L", 7)])
def test_colour_key_of_png_is_white(encode, mode, key):
    image = Image.new(mode, (2, 1), key)
    image.putpixel((1, 0), (9, 9, 9) if mode == "RGB" else 9)
    pixels = read_image(encode(image, transparency=key))
    assert pixels.tolist() == [[[255, 255, 255], [9, 9, 9]]]


def test_grey_is_repeated(encode, noise):
    grey = noise(5, 6)
    expected = np.dstack([grey] * 3)
    image = Image.fromarray(grey)
    for source in (grey, grey[..., None], image, encode(image), encode(image, "PPM")):
        np.testing.assert_array_equal(read_image(source), expected)
    jpeg = encode(image, "JPEG")
    with Image.open(io.BytesIO(jpeg)) as decoded:
        np.testing.assert_array_equal(read_image(jpeg), np.asarray(decoded.convert("RGB")))


def test_black_and_white(encode):
    image = Image.frombytes("1", (8, 1), b"\xa5")
    expected = np.repeat(np.unpackbits(np.uint8([0xA5]))[None, :, None] * np.uint8(255), 3, axis=2)
    for source in (image, encode(image), expected[..., 0] > 0):
        np.testing.assert_array_equal(read_image(source), expected)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_grey_is_rounded_to_eight(encode, file_format):
    levels = np.arange(0, 65536, dtype=np.uint16).reshape(256, 256)
    expected = np.dstack([np.rint(levels / 257).astype(np.uint8)] * 3)
    np.testing.assert_array_equal(read_image(levels), expected)
    np.testing.assert_array_equal(read_image(encode(Image.fromarray(levels), file_format)), expected)
    np.testing.assert_array_equal(read_image(Image.fromarray(levels.astype(np.int32))), expected)
    big = Image.frombytes("I;16B", (256, 256), levels.astype(">u2").tobytes())
    np.testing.assert_array_equal(read_image(big), expected)


@pytest.mark.parametrize("value", [-1, 65536])
def test_32_bit_levels_beyond_16_bits_are_refused(value):
    with pytest.raises(ImageReadError, match="16-bit range 0 to 65,535"):
        read_image(Image.fromarray(np.array([[0, value]], np.int32)))


def test_mode_f_is_a_float_image():
    values = np.linspace(0, 1, 12, dtype=np.float32).reshape(3, 4)
    expected = np.dstack([np.rint(values.astype(float) * 255).astype(np.uint8)] * 3)
    np.testing.assert_array_equal(read_image(Image.fromarray(values)), expected)
    with pytest.raises(ImageReadError, match=r"must lie in \[0, 1\]"):
        read_image(Image.fromarray(values * 255))


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV"])
def test_colour_spaces_convert_as_pillow_does(mode, noise):
    image = Image.frombytes(mode, (5, 4), noise(4, 5, 4 if mode == "CMYK" else 3).tobytes())
    np.testing.assert_array_equal(read_image(image), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_is_read_as_pillow_reads_it(encode, china):
    with Image.open(china) as photograph:
        small = photograph.resize((64, 48))
    data = encode(small.convert("CMYK"), "JPEG")
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode == "CMYK"
        expected = np.asarray(image.convert("RGB"))
    np.testing.assert_array_equal(read_image(data), expected)
    assert np.abs(expected.astype(int) - np.asarray(small)).mean() < 8, "inverted"


def test_lab_black_grey_and_white():
    image = Image.frombytes("LAB", (3, 1), bytes([0, 0, 0, 136, 0, 0, 255, 0, 0]))  # a* and b* signed
    black, grey, white = read_image(image)[0].astype(int)
    assert black.max() <= 1
    assert np.ptp(grey) <= 2
    assert abs(grey.mean() - 127) <= 2  # L* = 53.3 is 0.214 linear, 127 in sRGB
    assert white.min() >= 254


def test_premultiplied_modes(noise):
    rgba = noise(4, 5, 4)
    premultiplied = Image.fromarray(rgba).convert("RGBa")
    np.testing.assert_array_equal(read_image(premultiplied), on_white(np.asarray(premultiplied.convert("RGBA"))))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_array_follows_the_closed_form(data):
    channels = data.draw(st.sampled_from([None, 1, 3, 4]))
    shape = (data.draw(SIDE), data.draw(SIDE)) + (() if channels is None else (channels,))
    dtype = data.draw(st.sampled_from(["u1", "<u2", ">u2", "?", "f2", "<f4", ">f4", "f8"]))
    elements = {"min_value": 0, "max_value": 1} if "f" in dtype else {}
    array = data.draw(hnp.arrays(dtype, shape, elements=hnp.from_dtype(np.dtype(dtype), **elements)))
    scale = {"u": 1 / (257 if "2" in dtype else 1), "b": 255, "f": 255}[np.dtype(dtype).kind]
    levels = np.rint(array.astype(np.float64) * scale).reshape(*shape[:2], -1)
    expected = on_white(levels) if channels == 4 else np.broadcast_to(levels, (*shape[:2], 3))
    before = array.copy()
    np.testing.assert_array_equal(read_image(array), expected)
    np.testing.assert_array_equal(array, before)


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float64, (2, 3), elements=st.floats(width=64)))
def test_floats_are_read_exactly_when_all_lie_in_0_1(array):
    if ((array >= 0) & (array <= 1)).all():
        assert read_image(array).shape == (2, 3, 3)
    else:
        with pytest.raises(ImageReadError, match=r"must lie in \[0, 1\]"):
            read_image(array)


@pytest.mark.parametrize("action", ["error", "always", "default"])
def test_a_decoders_warning_neither_escapes_nor_decides(tmp_path, noise, encode, monkeypatch, action):
    from PIL import Image, PngImagePlugin

    load_end = PngImagePlugin.PngImageFile.load_end

    def warn(self):
        warnings.warn("odd file", UserWarning, stacklevel=1)
        return load_end(self)

    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_end", warn)
    pixels = noise(4, 4, 3)
    data = encode(Image.fromarray(pixels))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        before = list(warnings.filters)
        np.testing.assert_array_equal(read_image(data), pixels)
        for batch in read_batches([data] * 20, batch_size=3, image_size=(4, 4), n_jobs=4):
            np.testing.assert_array_equal(batch.images[-1], pixels)
        assert warnings.filters == before
    assert caught == []


def test_the_consumers_warnings_pass_while_images_are_read(monkeypatch):
    decoders_at_work, warned = threading.Event(), threading.Event()

    def read(data):
        with quiet_thread():
            decoders_at_work.set()
            warned.wait(600)
            warnings.warn("from the decoder", UserWarning, stacklevel=1)
        return np.zeros((4, 4, 3), np.uint8)

    monkeypatch.setattr(_sources, "rgb_from_bytes", read)
    batches = read_batches(
        iter([[np.zeros((4, 4, 3), np.uint8)], [b""], [b""], [b""]]), batch_size=1, image_size=(4, 4)
    )
    next(batches)
    assert decoders_at_work.wait(600)
    with pytest.warns(UserWarning, match="from the consumer") as caught:
        warnings.warn("from the consumer", UserWarning, stacklevel=1)
    warned.set()
    assert len(caught) == 1
    assert len(list(batches)) == 3


def test_filters_are_left_as_found_when_the_consumer_stops_early_or_resets_them(folder):
    before = list(warnings.filters)
    batches = read_batches(folder[0], batch_size=2, image_size=(4, 4))
    next(batches)
    batches.close()
    assert warnings.filters == before
    with warnings.catch_warnings():
        with quiet_threads_allowed():
            warnings.resetwarnings()
        assert warnings.filters == []


def test_the_rule_matches_nothing_outside_a_decoder_and_travels_to_other_processes():
    assert not issubclass(UserWarning, WarningOfQuietThread)
    with quiet_thread():
        assert issubclass(UserWarning, WarningOfQuietThread)
    assert not issubclass(UserWarning, WarningOfQuietThread)
    with quiet_threads_allowed():
        assert pickle.loads(pickle.dumps(warnings.filters[0])) == warnings.filters[0]
