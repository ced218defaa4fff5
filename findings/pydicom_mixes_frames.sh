#!/usr/bin/env bash
# pydicom 3.0.2: of an uncompressed cine in YBR_FULL_422, iter_pixels() gives the first frame, then frames that are made of parts of
# two others, and at last a ValueError; pixel_array() gives all frames as they are. In this format two pixels share their
# colour, so that a frame takes two bytes for each pixel; iter_pixels() looks for the next one after three.
# Six frames of 30x20 pixels, by their brightness:
#   pixel_array(), whole or index=4:             the frames that were written
#   iter_pixels(), of the data set or the file:  frame 1, three frames that are in no file, a ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import numpy as np
import pydicom
from pydicom.pixels import iter_pixels, pixel_array
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

FRAMES, ROWS, COLUMNS = 6, 20, 30
brightness = np.random.RandomState(0).randint(0, 256, (FRAMES, ROWS, COLUMNS // 2, 2), dtype=np.uint8)
no_colour = np.full_like(brightness, 128)
dataset = pydicom.Dataset()
dataset.file_meta = pydicom.dataset.FileMetaDataset()
dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundMultiFrameImageStorage, generate_uid()
dataset.NumberOfFrames, dataset.Rows, dataset.Columns = FRAMES, ROWS, COLUMNS
dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, "YBR_FULL_422"
dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
dataset.PixelData = np.concatenate([brightness, no_colour], axis=-1).tobytes()  # Y Y Cb Cr for each two pixels
assert len(dataset.PixelData) == 2 * FRAMES * ROWS * COLUMNS
dataset.save_as("cine.dcm", enforce_file_format=True)


def number_of(pixels):
    """Of the frame that has this brightness, from 1 on; 0 if none has it."""
    equal = (brightness.reshape(FRAMES, ROWS, COLUMNS) == pixels[..., 0]).all(axis=(1, 2))
    return int(equal.argmax()) + 1 if equal.any() else 0


dataset = pydicom.dcmread("cine.dcm")
whole = pixel_array(dataset)
fifth = pixel_array(dataset, index=4)
print(f"pixel_array(): frames {[number_of(x) for x in whole]}; index=4: frame {number_of(fifth)}")
assert [number_of(x) for x in whole] == [1, 2, 3, 4, 5, 6] and number_of(fifth) == 5
for name, source in (("data set", dataset), ("file", "cine.dcm")):
    frames, error = [], None
    try:
        for frame in iter_pixels(source):
            frames.append(number_of(frame))
    except ValueError as raised:
        error = raised
    print(f"iter_pixels(), {name}: frames {frames}, then {error!r}")
    assert frames == [1, 0, 0, 0] and error is not None
END
