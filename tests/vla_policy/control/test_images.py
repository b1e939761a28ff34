from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vla_policy.control.images import ENCODINGS, ImageError, decode_file, decode_pixels, fit_to

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 11, 3), np.uint8)
RAMP = np.stack(np.meshgrid(np.arange(40) * 6, np.arange(30) * 8, indexing="xy"), -1).astype(np.uint8)
SMOOTH = np.concatenate([RAMP, 255 - RAMP[..., :1]], -1)  # (30, 40, 3)
BAYER = {  # pattern -> colour index of the pixels of the first row and of the second
    "bayer_rggb8": ((0, 1), (1, 2)),
    "bayer_bggr8": ((2, 1), (1, 0)),
    "bayer_gbrg8": ((1, 2), (0, 1)),
    "bayer_grbg8": ((1, 0), (2, 1)),
}


def mosaic(pixels: np.ndarray, encoding: str) -> np.ndarray:
    """Keeps of every pixel the one colour that a sensor behind this filter would see."""
    seen = np.empty(pixels.shape[:2], np.uint8)
    for row, colours in enumerate(BAYER[encoding]):
        for column, colour in enumerate(colours):
            seen[row::2, column::2] = pixels[row::2, column::2, colour]
    return seen


@pytest.mark.parametrize("encoding", BAYER)
@pytest.mark.parametrize("padding", [0, 3])
def test_a_bayer_pattern_of_a_smooth_scene_gives_its_colours(encoding: str, padding: int) -> None:
    seen = mosaic(SMOOTH, encoding)
    data = np.pad(seen, ((0, 0), (0, padding)), constant_values=255)
    found = decode_pixels(data.tobytes(), encoding, 30, 40, 40 + padding)
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(found[inner].astype(int) - SMOOTH[inner]).max() <= 1


def test_grey_becomes_three_equal_channels_and_alpha_is_dropped() -> None:
    grey = decode_pixels(np.ascontiguousarray(PIXELS[..., 0]), "mono8", 9, 11, 11)
    np.testing.assert_array_equal(grey, np.repeat(PIXELS[..., :1], 3, axis=2))
    transparent = np.dstack([PIXELS[..., ::-1], np.zeros((9, 11), np.uint8)])
    np.testing.assert_array_equal(decode_pixels(transparent.tobytes(), "bgra8", 9, 11, 44), PIXELS)


@pytest.mark.parametrize(
    ("encoding", "height", "width", "step", "words"),
    [
        ("16UC1", 9, 11, 22, "'16UC1' is not supported, only rgb8"),
        ("mono16", 9, 11, 22, "did you mean 'mono8'"),
        ("bayer_rggb16", 9, 11, 22, "did you mean 'bayer_rggb8'"),
        ("", 9, 11, 33, "'' is not supported"),
        ("rgb8", 0, 11, 33, "at least 1 x 1"),
        ("bayer_rggb8", 1, 11, 11, "at least 2 x 2"),
        ("rgb8", 9, 11, 32, "got step 32"),
        ("rgb8", 9, 11, 34, "297 bytes"),
        ("rgb8", 2**32 - 1, 2**32 - 1, 2**32 - 1, "297 bytes|got step"),
    ],
)
def test_pixels_that_cannot_be_read_are_refused(encoding: str, height: int, width: int, step: int, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode_pixels(PIXELS.tobytes(), encoding, height, width, step)


def test_pixels_are_copied() -> None:
    data = bytearray(PIXELS.tobytes())
    found = decode_pixels(memoryview(data), "rgb8", 9, 11, 33)
    data[:] = bytes(len(data))
    np.testing.assert_array_equal(found, PIXELS)


def file_of(pixels: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


def test_files_are_read_as_rgb() -> None:
    bgr = PIXELS[..., ::-1]
    np.testing.assert_array_equal(decode_file(file_of(bgr, ".png"), "png"), PIXELS)
    np.testing.assert_array_equal(decode_file(file_of(bgr, ".png"), "rgb8; png compressed bgr8"), PIXELS)
    np.testing.assert_array_equal(decode_file(file_of(PIXELS[..., 0], ".png"), "png")[..., 2], PIXELS[..., 0])
    grey_alpha = file_of(np.dstack([bgr, PIXELS[..., 0]]), ".png")
    np.testing.assert_array_equal(decode_file(grey_alpha, "png"), PIXELS)
    smooth = file_of(SMOOTH[..., ::-1], ".jpg")
    assert np.abs(decode_file(smooth, "jpeg").astype(int) - SMOOTH).max() < 16
    np.testing.assert_array_equal(decode_file(smooth + b"\0\0", "jpeg"), decode_file(smooth, "jpeg"))


@pytest.mark.parametrize(
    ("data", "description", "words"),
    [
        (b"", "jpeg", "got 0 bytes"),
        (b"\0" * 12 + file_of(PIXELS, ".png"), "16UC1; compressedDepth png", "JPEG or PNG"),
        (file_of(SMOOTH, ".jpg")[:-100], "jpeg", "jpeg file is torn"),
        (file_of(SMOOTH, ".png")[:-100], "png", "png file is torn"),
        (file_of(SMOOTH, ".jpg")[:4] + file_of(SMOOTH, ".jpg")[-2:], "jpeg", "cannot be decoded"),
        (file_of(PIXELS[..., 0].astype(np.uint16) * 256, ".png"), "16UC1; png compressed ", "1 channels of uint16"),
        (file_of(SMOOTH, ".png"), "rgb8; png compressed rgb8", "stored as rgb8"),
    ],
)
def test_files_that_cannot_be_read_are_refused(data: bytes, description: str, words: str) -> None:
    with pytest.raises(ImageError, match=words):
        decode_file(data, description)


def test_the_trained_size_is_left_alone() -> None:
    assert fit_to(PIXELS, 9, 11, None) is PIXELS


def test_shrinking_averages_the_pixels_under_each_new_one() -> None:
    means = SMOOTH.reshape(10, 3, 10, 4, 3).astype(float).mean((1, 3))
    assert np.abs(fit_to(SMOOTH, 10, 10, "stretch") - means).max() <= 0.5


def test_a_crop_is_centred_and_keeps_shapes() -> None:
    np.testing.assert_array_equal(fit_to(SMOOTH, 30, 30, "crop"), SMOOTH[:, 5:35])
    np.testing.assert_array_equal(fit_to(SMOOTH, 15, 40, "crop"), fit_to(SMOOTH[7:22], 15, 40, None))


def test_another_aspect_ratio_is_refused_unless_the_robot_file_says_what_to_do() -> None:
    with pytest.raises(ImageError, match=r"30 x 40 .* trained 30 x 30; .*fit: crop or fit: stretch"):
        fit_to(SMOOTH, 30, 30, None)
    assert fit_to(np.zeros((1080, 1920, 3), np.uint8), 256, 455, None).shape == (256, 455, 3)  # 455.1 would be exact


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 60), st.integers(1, 60), st.integers(1, 40), st.integers(1, 40), st.sampled_from(["crop", "stretch"])
)
def test_every_size_fits_and_one_colour_stays_that_colour(h: int, w: int, height: int, width: int, fit: str) -> None:
    colour = np.array([10, 200, 77], np.uint8)
    fitted = fit_to(np.tile(colour, (h, w, 1)), height, width, fit)
    assert fitted.shape == (height, width, 3)
    assert (fitted == colour).all()


def test_the_encodings_are_those_of_eight_bits_a_channel() -> None:
    assert all(name.endswith("8") for name in ENCODINGS)
