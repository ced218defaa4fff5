"""DICOM files: frames as they are shown, and the region that is ultrasound."""

import logging
import shutil

import numpy as np
import pydicom
import pytest
from pydicom import examples
from pydicom.uid import (
    BasicTextSRStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    UltrasoundImageStorage,
    generate_uid,
)

from tsdd_d2.errors import InputError
from tsdd_d2.inference.dicom import WithoutImage
from tsdd_d2.inference.input_images import file_stem, find_image_files, read_images


def save_dicom(path, pixels, photometric="MONOCHROME2", regions=(), bits=8, **elements):
    """
    Args:
        regions: (x0, y0, x1, y1) with x1 and y1 inclusive, or (x0, y0, x1, y1, spatial format).
        elements: further elements by keyword, such as WindowCenter.
    """
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, generate_uid()
    dataset.set_pixel_data(pixels, photometric, bits)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.SequenceOfUltrasoundRegions = [region_item(*region) for region in regions]
    dataset.save_as(path, enforce_file_format=True)
    return path


def region_item(x0, y0, x1, y1, spatial_format=1):
    item = pydicom.Dataset()
    item.RegionSpatialFormat = spatial_format
    item.RegionLocationMinX0, item.RegionLocationMinY0 = x0, y0
    item.RegionLocationMaxX1, item.RegionLocationMaxY1 = x1, y1
    return item


@pytest.fixture
def grey():
    return np.random.RandomState(0).randint(0, 256, (20, 30), dtype=np.uint8)


def read(path):
    return list(read_images([path]))


def test_single_frame(grey, tmp_path):
    (image,) = read(save_dicom(tmp_path / "a.dcm", grey))
    assert image.pixels.dtype == np.uint8 and (image.pixels == grey[..., None]).all()
    assert image.pixels.shape == (20, 30, 3) and image.region == (0, 0, 30, 20)
    assert image.file_name == str(tmp_path / "a.dcm") and image.frame is None


@pytest.mark.parametrize("compressed", [False, True])
def test_a_data_set_that_was_read_before(tmp_path, compressed):
    colours = np.random.RandomState(0).randint(0, 256, (2, 20, 30, 3), dtype=np.uint8)
    dataset = pydicom.dcmread(save_dicom(tmp_path / "a.dcm", colours, "RGB", regions=[(2, 3, 11, 9)]))
    if compressed:
        dataset.compress(RLELossless)
    dataset.PlanarConfiguration = 1 if compressed else 0  # which a decoder need not follow
    before = dataset.to_json()
    images = list(read_images([dataset]))
    assert all((x.pixels == y).all() for x, y in zip(images, colours))
    assert [(x.frame, x.file_name, x.region) for x in images] == [(n, None, (2, 3, 12, 10)) for n in (1, 2)]
    assert dataset.to_json() == before
    del dataset.Rows
    with pytest.raises(InputError, match="input 2"):
        list(read_images([colours[0], dataset], channel_order="RGB"))


def test_each_frame_is_an_image(grey, tmp_path):
    images = read(save_dicom(tmp_path / "a.dcm", np.stack([grey, grey // 2, grey // 4]), regions=[(2, 3, 11, 9)]))
    assert [x.frame for x in images] == [1, 2, 3]
    assert all((x.pixels[..., 1] == grey // 2**i).all() for i, x in enumerate(images))
    assert [x.region for x in images] == [(2, 3, 12, 10)] * 3


def test_frames_are_decoded_one_by_one(grey, tmp_path, monkeypatch):
    decoded = []
    monkeypatch.setattr("tsdd_d2.inference.dicom._shown", lambda frame, *_: decoded.append(frame) or frame)
    images = read_images([save_dicom(tmp_path / "a.dcm", np.stack([grey] * 5))])
    next(images), next(images)
    assert len(decoded) == 2


@pytest.mark.parametrize(
    "regions, expected",
    [
        ([(4, 5, 13, 14)], (4, 5, 14, 15)),
        ([(4, 5, 99, 60)], (4, 5, 30, 20)),  # beyond the image
        ([(0, 0, 5, 5), (10, 2, 25, 17), (12, 4, 20, 10)], (10, 2, 26, 18)),  # the largest
        ([(2, 2, 9, 9), (0, 0, 29, 19, 3)], (2, 2, 10, 10)),  # no spectral Doppler
    ],
)
def test_the_region(grey, tmp_path, regions, expected):
    assert read(save_dicom(tmp_path / "a.dcm", grey, regions=regions))[0].region == expected


def test_a_region_that_is_not_seen_is_told(grey, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        read(save_dicom(tmp_path / "inner.dcm", grey, regions=[(0, 0, 20, 15), (3, 3, 9, 9)]))
        assert not caplog.records
        read(save_dicom(tmp_path / "dual.dcm", grey, regions=[(0, 0, 14, 19), (15, 0, 28, 19)]))
    assert "dual.dcm: 2 two-dimensional regions" in caplog.text


@pytest.mark.parametrize("regions", [[(40, 5, 60, 15)], [(0, 0, 9, 9, 3)], [(9, 9, 4, 4)]])
def test_no_usable_region(grey, tmp_path, regions):
    with pytest.raises(InputError, match=r"a\.dcm: no region to look at"):
        read(save_dicom(tmp_path / "a.dcm", grey, regions=regions))


def test_monochrome1_is_inverted(grey, tmp_path):
    (image,) = read(save_dicom(tmp_path / "a.dcm", grey, "MONOCHROME1"))
    assert (image.pixels[..., 0] == 255 - grey).all()


def test_the_window_is_applied(tmp_path):
    values = np.array([[0, 64, 128, 192, 255]], np.uint8)
    (image,) = read(save_dicom(tmp_path / "a.dcm", values, WindowCenter=128.5, WindowWidth=129))
    # linear from 64 to 192, PS3.3 C.11.2.1.2
    assert image.pixels[0, :, 0].tolist() == [0, 0, 128, 255, 255]


def test_a_window_of_rescaled_levels_is_refused(grey, tmp_path):
    rescaled = {"RescaleSlope": 1, "RescaleIntercept": -1024}
    (image,) = read(save_dicom(tmp_path / "no_window.dcm", grey, **rescaled))
    assert (image.pixels[..., 0] == grey).all()
    with pytest.raises(InputError, match="a.dcm.*RescaleIntercept"):
        read(save_dicom(tmp_path / "a.dcm", grey, WindowCenter=-896, WindowWidth=256, **rescaled))


def test_colours(tmp_path):
    rgb = np.random.RandomState(0).randint(0, 256, (2, 6, 8, 3), dtype=np.uint8)
    images = read(save_dicom(tmp_path / "rgb.dcm", rgb, "RGB"))
    assert all((image.pixels == frame).all() for image, frame in zip(images, rgb))
    # red is Y 76, Cb 85, Cr 255 (PS3.3 C.7.6.3.1.2)
    red = np.broadcast_to(np.array([76, 85, 255], np.uint8), (4, 4, 3))
    (image,) = read(save_dicom(tmp_path / "ybr.dcm", red, "YBR_FULL"))
    assert np.abs(image.pixels.astype(int) - [255, 0, 0]).max() <= 2


def test_a_compressed_file(grey, tmp_path):
    dataset = pydicom.dcmread(save_dicom(tmp_path / "a.dcm", grey))
    dataset.compress(RLELossless)
    dataset.save_as(tmp_path / "rle.dcm")
    assert (read(tmp_path / "rle.dcm")[0].pixels[..., 0] == grey).all()


@pytest.mark.parametrize(
    "name, frames, region", [("palette_color", 1, (120, 60, 800, 350)), ("ybr_color", 30, (84, 31, 320, 240))]
)
def test_ultrasound_that_pydicom_ships(name, frames, region):
    """A 16-bit palette; 30 frames of JPEG. The regions of both reach beyond the image."""
    images = read(examples.get_path(name))
    assert len(images) == frames and {x.region for x in images} == {region}
    x0, y0, x1, y1 = region
    inside = images[0].pixels[y0:y1, x0:x1]
    assert inside.dtype == np.uint8 and inside.std() > 10


def test_deeper_values_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.dcm: values of 12 bits"):
        read(save_dicom(tmp_path / "a.dcm", np.full((4, 4), 900, np.uint16), bits=12))
    with pytest.raises(InputError, match=r"b\.dcm: signed values of 8 bits"):
        read(save_dicom(tmp_path / "b.dcm", np.full((4, 4), -3, np.int8)))


def save_palette(path, indices, scale):
    """A file whose palette has four colours in 16 bits, the brightest 200 times `scale`."""
    dataset = pydicom.dcmread(save_dicom(path, indices))
    dataset.PhotometricInterpretation = "PALETTE COLOR"
    for colour, entries in {"Red": [0, 10, 20, 200], "Green": [0, 5, 10, 100], "Blue": [0, 1, 2, 50]}.items():
        keyword = f"{colour}PaletteColorLookupTable"
        dataset.add_new(f"{keyword}Descriptor", "US", [4, 0, 16])
        dataset.add_new(f"{keyword}Data", "OW", (np.array(entries, "<u2") * scale).tobytes())
    dataset.save_as(path)
    return path


def test_a_palette_of_16_bits_with_entries_of_8_is_refused(tmp_path):
    """The upper 8 bits would be shown, which are 0."""
    indices = np.array([[0, 1], [2, 3]], np.uint8)
    (image,) = read(save_palette(tmp_path / "a.dcm", indices, scale=256))
    assert image.pixels[1].tolist() == [[20, 10, 2], [200, 100, 50]]
    # a dark frame of a good palette is none
    assert read(save_palette(tmp_path / "dark.dcm", indices * 0, scale=256))[0].pixels.max() == 0
    with pytest.raises(InputError, match=r"b\.dcm: a palette of 16 bits whose entries are at most 200"):
        read(save_palette(tmp_path / "b.dcm", indices, scale=1))


def test_8_bits_in_16(grey, tmp_path):
    path = save_dicom(tmp_path / "a.dcm", grey.astype(np.uint16), bits=8)
    assert pydicom.dcmread(path).BitsAllocated == 16
    assert (read(path)[0].pixels[..., 0] == grey).all()


def test_damaged_files_are_named(grey, tmp_path):
    (tmp_path / "text.dcm").write_text("no DICOM")
    whole = save_dicom(tmp_path / "whole.dcm", grey).read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[:-200])
    (tmp_path / "cut_before_pixels.dcm").write_bytes(whole[: whole.rindex(b"\xe0\x7f\x10\x00")])
    (tmp_path / "preamble.dcm").write_bytes(whole[:132])
    no_pixels = pydicom.dcmread(tmp_path / "whole.dcm")
    no_pixels.PixelData = b""
    no_pixels.save_as(tmp_path / "empty.dcm")
    del no_pixels.PixelData
    no_pixels.SOPClassUID = BasicTextSRStorage
    no_pixels.save_as(tmp_path / "report.dcm")
    for name in ("text", "cut", "cut_before_pixels", "preamble", "empty", "report"):
        with pytest.raises(InputError, match=rf"{name}\.dcm") as error:
            read(tmp_path / f"{name}.dcm")
        # which counts as no error
        assert isinstance(error.value, WithoutImage) == (name == "report")


def stating(path, **elements):
    """The file with other elements, whatever its pixels are."""
    dataset = pydicom.dcmread(path)
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("stated", [1, 4])
@pytest.mark.parametrize("compressed", [False, True])
def test_frames_are_as_many_as_stated(grey, tmp_path, stated, compressed):
    path = save_dicom(tmp_path / "a.dcm", np.stack([grey] * 3))
    if compressed:
        dataset = pydicom.dcmread(path)
        dataset.compress(RLELossless)
        dataset.save_as(path)
    assert len(read(path)) == 3
    with pytest.raises(InputError, match=r"a\.dcm"):
        read(stating(path, NumberOfFrames=stated))


def test_a_cine_that_states_one_frame_is_refused(tmp_path):
    path = tmp_path / "a.dcm"
    shutil.copy(examples.get_path("ybr_color"), path)
    with pytest.raises(InputError, match=r"a\.dcm.* 1 .* 30"):
        read(stating(path, NumberOfFrames=1))


@pytest.mark.parametrize(
    "elements",
    [
        {"PhotometricInterpretation": "YBR_FULL_422"},
        {"PhotometricInterpretation": "MONOCHROME1"},
        {"Rows": 19},
        {"Columns": 29},
        {"Columns": 31},
        {"Rows": 21},
    ],
)
def test_pixels_of_another_size_or_colour_than_stated_are_refused(grey, tmp_path, elements):
    path = save_dicom(tmp_path / "a.dcm", np.stack([grey] * 3, axis=2), photometric="RGB")
    assert len(read(path)) == 1
    with pytest.raises(InputError, match=r"a\.dcm"):
        read(stating(path, **elements))


@pytest.mark.parametrize("name", ["ybr_color", "rgb_color"])
def test_the_order_of_colours_is_that_of_the_compressed_pixels(name, tmp_path):
    """Which pydicom takes from the header, and a JPEG decides for itself."""
    path = tmp_path / "a.dcm"
    dataset = getattr(examples, name)
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        dataset.compress(RLELossless)
    dataset.save_as(path)
    expected = read(path)[0].pixels
    assert (read(stating(path, PlanarConfiguration=1 - dataset.PlanarConfiguration))[0].pixels == expected).all()


@pytest.mark.parametrize("region", [(0, 0, 0, 0), (5, 5, 5, 15), (9, 9, 3, 3)])
def test_a_region_that_shows_nothing_is_refused(grey, tmp_path, region):
    with pytest.raises(InputError, match=r"a\.dcm"):
        read(save_dicom(tmp_path / "a.dcm", grey, regions=[region]))
    assert read(save_dicom(tmp_path / "b.dcm", grey, regions=[region, (2, 3, 21, 12)]))[0].region == (2, 3, 22, 13)


def test_a_cine_with_colour_for_every_second_pixel(tmp_path):
    path, brightness = tmp_path / "a.dcm", np.random.RandomState(0).randint(0, 256, (3, 20, 15, 2), dtype=np.uint8)
    save_dicom(path, np.zeros((20, 30, 3), np.uint8), photometric="RGB")
    without_colour = np.full_like(brightness, 128)
    frames = np.concatenate([brightness, without_colour], axis=-1)  # Y Y Cb Cr for each pair of pixels
    stating(path, PhotometricInterpretation="YBR_FULL_422", NumberOfFrames=3, PixelData=frames.tobytes())
    for image, expected in zip(read(path), brightness.reshape(3, 20, 30), strict=True):
        assert (image.pixels[..., 0] == expected).all()


def test_files_without_suffix(grey, tmp_path):
    """As on a DICOM medium, with its table of contents."""
    for name in ("IM0001", "1.2.840.10", "DICOMDIR"):
        save_dicom(tmp_path / name, grey)
    (tmp_path / "notes").touch()
    files = find_image_files([str(tmp_path)])
    assert [file_stem(x) for x in files] == ["1.2.840.10", "IM0001"]
    assert len(read(tmp_path / "IM0001")) == 1
