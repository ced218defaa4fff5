#!/usr/bin/env bash
# imageio (2.38.1) reads a colour DICOM image, as ultrasound scanners write them, as a grey one of the same height and width.
# It takes the bytes for three planes, whatever Planar Configuration says, and shows the first of them: where the colours of
# a pixel lie together (0, the usual value), that is the upper third of the picture, stretched. There is no error or warning.
# A black image of 60 x 80 pixels with a white lesion of 20 x 10 in its lower half:
#   pydicom 3.0.2: (60, 80, 3), 200 white pixels
#   imageio:       (60, 80), 0 white pixels
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check imageio==2.38.1 pydicom==3.0.2 numpy==2.4.6 pillow==12.0.0
cd "$folder"
venv/bin/python - <<'END'
import imageio.v2 as imageio
import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

pixels = np.zeros((60, 80, 3), dtype=np.uint8)
pixels[40:50, 50:70] = 255
image = pydicom.Dataset()
image.file_meta = pydicom.dataset.FileMetaDataset()
image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = UltrasoundImageStorage
image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
image.Modality, image.PatientID = "US", "1"
image.StudyInstanceUID, image.SeriesInstanceUID, image.InstanceNumber = generate_uid(), generate_uid(), 1
image.Rows, image.Columns, image.SamplesPerPixel, image.PlanarConfiguration = 60, 80, 3, 0
image.PhotometricInterpretation, image.PixelRepresentation = "RGB", 0
image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
image.PixelData = pixels.tobytes()
image.save_as("lesion.dcm", enforce_file_format=True)

right, found = pydicom.dcmread("lesion.dcm").pixel_array, imageio.imread("lesion.dcm")
for name, x in (("pydicom", right), ("imageio", found)):
    print(f"{name}: {x.shape}, {(x.reshape(60, 80, -1) == 255).all(axis=2).sum()} white pixels")
assert np.array_equal(right, pixels)
assert found.shape == (60, 80) and not found.any()
assert np.array_equal(found.ravel(), pixels.ravel()[: 60 * 80])  # rows 0 to 19
END
