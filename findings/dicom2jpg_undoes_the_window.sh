#!/usr/bin/env bash
# dicom2jpg 0.1.10 (with pydicom 3.0.2) stretches every image, after its window, from its own least to its own greatest value;
# colour images, which have no window, too. A window that is wider than the image's values is lost, and the same tissue gets
# another grey as soon as a caliper is in the image. Its page promises what a DICOM viewer shows. An 8-bit ultrasound image:
#   lesion 50, tissue 90 to 130, window 0 to 256:   lesion 0, tissue 127 to 255; 49 and 89 to 129 are meant
#   the same with a window of 0 to 512:             the same again; 24 and 44 to 64 are meant
#   the first with a caliper (255), a black border: lesion 50, tissue 90 to 130
#   a colour image, lesion 50, tissue 90 to 130:    lesion 0, tissue 127 to 255; 50 and 90 to 130 are meant
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    dicom2jpg==0.1.10 pydicom==3.0.2 numpy==2.4.6
cd "$folder"
venv/bin/python -W ignore - <<'END' 2>warnings.txt || { cat warnings.txt; exit 1; }
import dicom2jpg
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

LESION, TISSUE = np.s_[20:40, 20:50], np.s_[20:40, 50:91]


def write(pixels, name, window=None):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = UltrasoundImageStorage
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    data.Modality = "US"
    data.Rows, data.Columns = pixels.shape[:2]
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 8, 8, 7, 0
    data.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    data.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        data.PlanarConfiguration = 0
    if window is not None:
        data.WindowCenter, data.WindowWidth, data.VOILUTFunction = window / 2, window, "LINEAR_EXACT"
    data.PixelData = pixels.tobytes()
    data.save_as(name, enforce_file_format=True)
    return name


grey = np.tile(np.concatenate([np.full(50, 90), np.arange(90, 131), np.full(9, 130)]).astype(np.uint8), (60, 1))
grey[LESION] = 50
marked = grey.copy()
marked[:5], marked[10, 10] = 0, 255
cases = {  # pixels, width of the window that begins at 0
    "window of 256": (grey, 256),
    "window of 512": (grey, 512),
    "window of 256, caliper and border": (marked, 256),
    "colour": (np.repeat(grey[..., None], 3, axis=2), None),
}
results = {}
for name, (pixels, window) in cases.items():
    shown = dicom2jpg.dicom2img(write(pixels, "image.dcm", window))
    meant = pixels / window * 255 if window else pixels  # PS3.3 C.11.2.1.3.2, from 0 to 255
    results[name] = [(int(x[LESION].mean()), int(x[TISSUE].min()), int(x[TISSUE].max())) for x in (shown, meant)]
    (lesion, least, greatest), right = results[name]
    print(f"{name}: lesion {lesion}, tissue {least} to {greatest}; {right[0]} and {right[1]} to {right[2]} are meant")
assert results["window of 256"] == [(0, 127, 255), (49, 89, 129)]
assert results["window of 512"] == [(0, 127, 255), (24, 44, 64)]
assert results["window of 256, caliper and border"] == [(50, 90, 130), (49, 89, 129)]
assert results["colour"] == [(0, 127, 255), (50, 90, 130)]
END
