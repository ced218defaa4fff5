#!/usr/bin/env bash
# dicomsdl 0.109.4: toPilImage() applies a window to unsigned pixels without cutting off what lies outside of it. In an
# image of 8 bits, as ultrasound scanners write them, the numbers go round below and above; in one of unsigned 16 bits
# everything below the window is white. Signed pixels, as those of CT, are right, and so are images without a window.
# Nothing is said. A cyst of 20, tissue of 90 and 130 and a bright border of 220 in a window of 60 to 159 (centre 110,
# width 100):
#   8 bits:             153, 77, 180 and 156: the cyst is as bright as the border; 0, 77, 180 and 255 are meant
#   unsigned 16 bits:   255, 77, 180 and 255: the cyst is white
#   signed 16 bits:     0, 77, 180 and 255, as pydicom 3.0.2 gives them for all of these
#   8 bits, no window:  0, 89, 140 and 255
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    dicomsdl==0.109.4 pydicom==3.0.2 pillow==13.0.0 numpy==2.4.6
cd "$folder"
venv/bin/python - <<'END'
import dicomsdl
import numpy as np
import pydicom
from pydicom.pixels import apply_windowing
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

VALUES = [20, 90, 130, 220]  # cyst, tissue, tissue, border: 40 x 10 pixels each


def write(kind, window):
    image = np.repeat(VALUES, 10).astype(kind) * np.ones((40, 1), kind)
    bits = image.dtype.itemsize * 8
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = UltrasoundImageStorage if bits == 8 else CTImageStorage
    dataset.SOPInstanceUID = generate_uid()
    dataset.Rows, dataset.Columns = image.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, int(image.dtype.kind == "i")
    if window:
        dataset.WindowCenter, dataset.WindowWidth = 110, 100
    dataset.PixelData = image.tobytes()
    dataset.save_as("image.dcm", enforce_file_format=True)


def greys(image):
    return [int(x) for x in np.asarray(image)[20, 5::10]]


seen = {}
for name, kind, window in (("8 bits", "uint8", True), ("unsigned 16 bits", "uint16", True),
                           ("signed 16 bits", "int16", True), ("8 bits, no window", "uint8", False)):
    write(kind, window)
    image = dicomsdl.open("image.dcm")
    assert greys(image.pixelData(storedvalue=True)) == VALUES  # the pixels themselves are read as they are
    seen[name] = greys(image.toPilImage())
    print(f"{name}: {seen[name]}", end="\n" if not window else "; ")
    if window:
        dataset = pydicom.dcmread("image.dcm")
        shown = apply_windowing(dataset.pixel_array, dataset)
        shown = (shown - shown.min()) / (shown.max() - shown.min()) * 255  # cyst and border lie outside of the window
        print(f"pydicom: {greys(shown)}")
        assert greys(shown) == [0, 77, 180, 255]
        by_hand = [min(max((x - 60) / 99 * 255, 0), 255) for x in VALUES]
        assert greys(shown) == [int(x) for x in by_hand]
assert seen["signed 16 bits"] == [0, 77, 180, 255] and seen["8 bits, no window"] == [0, 89, 140, 255]
assert seen["unsigned 16 bits"] == [255, 77, 180, 255]
assert seen["8 bits"] == [153, 77, 180, 156]
END
