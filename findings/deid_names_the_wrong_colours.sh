#!/usr/bin/env bash
# deid 0.4.13 with pydicom 3.0.2: of an uncompressed image in YBR_FULL, DicomCleaner.save_dicom() writes RGB and leaves YBR_FULL in
# the file. pydicom 3 gives RGB for such an image, and the tag is not changed. clean() itself returns the right pixels.
# A grey ramp as an ultrasound image, luminance before and after, outside of the part that was blanked:
#   RGB:       0, 53, 106, 158, 211 stay what they are
#   YBR_FULL:  79, 77, 106, 158, 178 in green and magenta; black, as in a cyst, gets brighter than dark tissue
#   YBR_FULL, with PhotometricInterpretation set to RGB in the file that was written: 0, 53, 106, 158, 211 again
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    deid==0.4.13 pydicom==3.0.2 matplotlib==3.11.2 numpy==2.4.6
cd "$folder"
cat >recipe.deid <<'END'
FORMAT dicom

%filter graylist

LABEL A banner
contains Manufacturer Example
  coordinates 0,0,30,4
END
venv/bin/python - <<'END'
import numpy as np
import pydicom
from deid.dicom import DicomCleaner
from pydicom.pixels import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid

ROWS, COLUMNS = 20, 30
grey = np.tile(np.linspace(0, 255, COLUMNS).round().astype(np.uint8), (ROWS, 1))
no_colour = np.full_like(grey, 128)
stored = {
    "RGB": np.stack([grey, grey, grey], axis=-1),
    "YBR_FULL": np.stack([grey, no_colour, no_colour], axis=-1),
}


def luminances(dataset):
    """Of every sixth pixel in a row below the blanked part."""
    return (pixel_array(dataset)[10, ::6] @ [0.299, 0.587, 0.114]).round().astype(int).tolist()


results = {}
for name, pixels in stored.items():
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = UltrasoundImageStorage, generate_uid()
    dataset.Modality, dataset.Manufacturer = "US", "Example"
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, name
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0
    dataset.PixelData = pixels.tobytes()
    dataset.save_as("image.dcm", enforce_file_format=True)
    cleaner = DicomCleaner(deid="recipe.deid", output_folder="cleaned")
    cleaner.detect("image.dcm")
    returned = cleaner.clean()
    assert (returned[:4] == 0).all() and np.abs(returned[4:].astype(int) - grey[4:, :, None]).max() <= 1
    saved = pydicom.dcmread(cleaner.save_dicom())
    assert saved.PhotometricInterpretation == name and len(saved.PixelData) == 3 * ROWS * COLUMNS
    before, after = luminances("image.dcm"), luminances(saved)
    saved.PhotometricInterpretation = "RGB"
    results[name] = (before, after, luminances(saved))
    print("{}: before {}, after {}, with the tag set to RGB {}".format(name, *results[name]))
right = grey[10, ::6].tolist()
assert results["RGB"] == (right, right, right)
before, after, set_to_rgb = results["YBR_FULL"]
assert before == set_to_rgb == right and after[0] > 70 and after[1] < after[0]
END
