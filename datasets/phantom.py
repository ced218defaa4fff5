"""
A breast-ultrasound phantom: B-mode images of layered tissue with one lesion of known class and exact box.

An image is made as a scanner makes it: a map of scatterers (backscatter in dB, less the attenuation
of the tissue above) is convolved with a point-spread function that widens away from the focus, noise is
added, the envelope is taken, and its logarithm is mapped to 8-bit grey. The speckle, the shadow behind a
lesion that attenuates more than its surroundings, and the enhancement behind one that attenuates less, are
consequences of this: none of them is painted.

The class of a lesion shows in four features of the BI-RADS lexicon: shape, margin, orientation and posterior
echo. Each is a degree in [0, 1] drawn from a distribution of the class, and the two distributions overlap.
Size, depth and darkness of a lesion say nothing about its class.

Conventions: lengths in millimetres, x from left to right, z = depth from the skin downwards; maps are (H, W)
with H = W = `size` pixels over a square of `FIELD_OF_VIEW` millimetres; boxes are XYWH in absolute pixels,
where the pixel of row i and column j covers [j, j + 1] x [i, i + 1].

Model: Bamber and Dickinson, "Ultrasonic B-scanning: a computer simulation", Phys. Med. Biol. 25, 1980.
"""

import os
import tempfile
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from scipy import fft, ndimage
from scipy.special import expit
from tqdm import tqdm

from tsdd_d2.data import CATEGORIES
from tsdd_d2.data.roi import manual_annotation
from tsdd_d2.errors import InputError

__all__ = ["generate_phantom"]

FIELD_OF_VIEW = 40.0
MINIMUM_SIZE = 32
MAXIMUM_SIZE = 4096

# Parameters (a, b) of the Beta distribution of a feature's degree, 0 typically benign, 1 typically malignant,
# for malignant = False and True. They overlap so much that a network of four convolution layers, trained on
# the crops of three quarters of the patients, reached an AUC of 0.87 on the others with the exact boxes, and
# 0.80 with the coarse ones (four-fold, 100 patients).
FEATURE_DEGREE = {False: (2.0, 3.7), True: (3.7, 2.0)}


@dataclass(frozen=True)
class Lesion:
    """
    A lesion as one image plane shows it.

    Attributes:
        centre: (x, z) in mm.
        half_axes: half width and half height of the ellipse that the contour modulates, in mm.
        tilt: rotation of that ellipse in radians.
        lobes: (K, 2) relative amplitude and phase of the contour's harmonics 2, ..., K + 1 (shape).
        spicules: (M, 2) relative length and angle of narrow spikes on the contour (margin).
        edge_width: standard deviation of the margin's blur in mm (margin).
        backscatter: level of its scatterers in dB relative to glandular tissue; negative is hypoechoic.
        attenuation: dB per mm more (shadow) or less (enhancement) than average tissue, there and back.
    """

    centre: tuple[float, float]
    half_axes: tuple[float, float]
    tilt: float
    lobes: np.ndarray
    spicules: np.ndarray
    edge_width: float
    backscatter: float
    attenuation: float


def pixel_grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centres of the pixels in mm: x of shape (1, size) and z of shape (size, 1)."""
    centres = (np.arange(size) + 0.5) * (FIELD_OF_VIEW / size)
    return centres[None, :], centres[:, None]


def random_field(size: int, length_z: float, length_x: float, rng: np.random.Generator) -> np.ndarray:
    """
    Returns a (size, size) Gaussian random field of zero mean and unit variance, periodic, smooth over
    `length_z` mm in depth and `length_x` mm laterally.
    """
    spectrum = fft.rfft2(rng.standard_normal((size, size)))
    frequency_z = fft.fftfreq(size, FIELD_OF_VIEW / size)[:, None]
    frequency_x = fft.rfftfreq(size, FIELD_OF_VIEW / size)[None, :]
    spectrum *= np.exp(-2 * np.pi**2 * ((frequency_z * length_z) ** 2 + (frequency_x * length_x) ** 2))
    spectrum[0, 0] = 0
    field = fft.irfft2(spectrum, s=(size, size))
    return field / field.std()


def draw_lesion(malignant: bool, rng: np.random.Generator) -> Lesion:
    """
    Draws the lesion of one patient: the degree of each of the four features from its class, the rest freely.
    """
    shape, margin, orientation, posterior = rng.beta(*FEATURE_DEGREE[malignant], size=4)
    diameter = rng.uniform(7.0, 14.0)
    aspect = 0.45 * (1.35 / 0.45) ** orientation  # height / width: parallel to the skin ... taller than wide
    half_axes = diameter / 2 / np.sqrt(aspect), diameter / 2 * np.sqrt(aspect)

    harmonics = np.arange(2, 7)
    amplitudes = (0.04 + 0.7 * shape**1.5) * rng.normal(size=len(harmonics)) / harmonics
    lobes = np.stack([amplitudes, rng.uniform(0, 2 * np.pi, len(harmonics))], axis=1)

    # A suspicious margin is spiculated, indistinct, or in part both.
    spiculated = rng.uniform(0.2, 0.8)
    number = rng.integers(8, 16)
    lengths = 1.1 * margin**2 * spiculated * rng.uniform(0.2, 1.0, number)
    spicules = np.stack([lengths, rng.uniform(0, 2 * np.pi, number)], axis=1)

    return Lesion(
        centre=(FIELD_OF_VIEW / 2, rng.uniform(10.0, 20.0)),
        half_axes=half_axes,
        tilt=rng.normal(0, 0.12),
        lobes=lobes,
        spicules=spicules,
        edge_width=0.08 + 1.1 * margin * (1 - spiculated),
        backscatter=rng.uniform(-20.0, -12.0),
        attenuation=1.1 * (posterior - 0.5),
    )


def another_plane(lesion: Lesion, rng: np.random.Generator) -> Lesion:
    """
    Returns the same lesion as another image of it shows it: elsewhere in the image, with a similar section.
    """
    width, height = np.array(lesion.half_axes) * np.exp(rng.normal(0, 0.08, 2))
    return replace(
        lesion,
        centre=(
            rng.uniform(1.35 * width, FIELD_OF_VIEW - 1.35 * width),
            max(lesion.centre[1] + rng.normal(0, 1.5), 1.2 * height + 3.0),
        ),
        half_axes=(width, height),
        tilt=lesion.tilt + rng.normal(0, 0.08),
        lobes=lesion.lobes + rng.normal(0, (0.01, 0.3), lesion.lobes.shape),
        spicules=lesion.spicules + rng.normal(0, (0, 0.15), lesion.spicules.shape),
        backscatter=lesion.backscatter + rng.normal(0, 1.0),
    )


def lesion_extent(lesion: Lesion, size: int) -> np.ndarray:
    """
    Returns a (size, size) map: 1 inside the contour of the lesion, 0 outside, blurred by its `edge_width`.
    """
    x, z = pixel_grid(size)
    x, z = x - lesion.centre[0], z - lesion.centre[1]
    along = (x * np.cos(lesion.tilt) + z * np.sin(lesion.tilt)) / lesion.half_axes[0]
    across = (z * np.cos(lesion.tilt) - x * np.sin(lesion.tilt)) / lesion.half_axes[1]
    angle = np.arctan2(across, along)
    contour = np.ones_like(angle)
    for harmonic, (amplitude, phase) in enumerate(lesion.lobes, start=2):
        contour += amplitude * np.cos(harmonic * angle + phase)
    for length, direction in lesion.spicules:
        contour += length * np.exp(80 * (np.cos(angle - direction) - 1))
    inside = np.hypot(along, across) <= contour
    return ndimage.gaussian_filter(inside.astype(float), lesion.edge_width * size / FIELD_OF_VIEW)


def lesion_mask(lesion: Lesion, size: int) -> np.ndarray:
    """
    Returns the (size, size) bool mask of the lesion: where its extent is one half or more. So the tip of a
    spicule that the blur of the margin hides does not count, as nobody could find it in the image.
    """
    return lesion_extent(lesion, size) >= 0.5


def corners_to_xywh(left: float, top: float, right: float, bottom: float) -> list[float]:
    """Returns an XYWH box as floats that JSON can hold, whatever number type the corners have."""
    return [float(value) for value in (left, top, right - left, bottom - top)]


def mask_to_box(mask: np.ndarray) -> list[float]:
    """Returns the XYWH box that encloses the True pixels of a mask exactly; ValueError if there are none."""
    slices = ndimage.find_objects(mask.astype(np.uint8))
    if not slices:
        raise ValueError("The mask is empty: no box encloses it.")
    rows, columns = slices[0]
    return corners_to_xywh(columns.start, rows.start, columns.stop, rows.stop)


def coarse_box(true_box: list[float], size: int, coarseness: float, rng: np.random.Generator) -> list[float]:
    """
    Returns the XYWH box that a hasty annotator draws: shifted, each side scaled on its own and more often too
    long than too short, rounded to whole pixels and clipped to the image of `size` pixels. With `coarseness`
    0 it is the true box, with 1 (the maximum) a side is 0.6 to 3.3 times as long and shifted by up to 0.4 of
    its true length.
    """
    scales = np.exp(coarseness * rng.uniform(-0.5, 1.2, 2))
    shifts = coarseness * rng.uniform(-0.4, 0.4, 2)
    corner, sides = np.array(true_box[:2]), np.array(true_box[2:])
    centre = corner + sides / 2 + shifts * sides
    first = np.clip(np.rint(centre - scales * sides / 2), 0, size - 1)
    last = np.clip(np.rint(centre + scales * sides / 2), first + 1, size)
    return corners_to_xywh(*first, *last)


@dataclass(frozen=True)
class Tissue:
    """
    Acoustic maps, both (H, W): backscatter in dB relative to gland, and attenuation in dB per mm, there and
    back, beyond the average that the depth-dependent gain makes up for.
    """

    backscatter: np.ndarray
    attenuation: np.ndarray


def draw_tissue(layer_depths: np.ndarray, size: int, rng: np.random.Generator) -> Tissue:
    """
    Draws the layers of a breast without lesion: skin, subcutaneous fat, gland, retromammary fat, muscle.

    Args:
        layer_depths: the lower border of the first four, in mm.
    """
    x, z = pixel_grid(size)
    # Layers and their fibres undulate together: all of them are functions of this warped depth.
    depth = z + 1.2 * random_field(size, 6.0, 8.0, rng) * np.clip(z / 6.0, 0, 1)
    layer = sum(expit((depth - border) / 0.15) for border in layer_depths)

    def level(*values):
        return np.interp(layer, np.arange(5), values)

    def fibres(length_z, length_x):
        texture = random_field(size, length_z, length_x, rng)
        rows = depth * (size / FIELD_OF_VIEW) - 0.5
        columns = np.broadcast_to(np.arange(size), rows.shape)
        return ndimage.map_coordinates(texture, [rows, columns], order=1, mode="grid-wrap")

    backscatter = level(5.0, -9.0, 0.0, -8.0, -9.0)
    backscatter += level(1.0, 1.5, 2.5, 1.5, 1.0) * random_field(size, 2.0, 4.0, rng)
    backscatter += level(1.0, 1.5, 3.5, 1.5, 3.5) * fibres(0.35, 2.5)
    # Septa and fasciae: the sparse ridges of a thin field, and one line at every border of a layer.
    septa = np.exp(-((fibres(0.7, 4.0) / 0.12) ** 2)) * (random_field(size, 3.0, 4.0, rng) > 0.3)
    backscatter += level(0.0, 10.0, 4.0, 10.0, 9.0) * septa
    for border in layer_depths:
        brightness = np.clip(random_field(size, 10.0, 5.0, rng) * 3 + 6, 0, None)
        backscatter += brightness * np.exp(-(((depth - border) / 0.25) ** 2))
    return Tissue(backscatter, attenuation=level(0, 0, 0, 0, 0.25))


def add_distractors(tissue: Tissue, depths: tuple[float, float], rng: np.random.Generator) -> Tissue:
    """
    Adds what is mistaken for a lesion: fat lobules and vessels between the two `depths` (in mm), and shadows
    that start at a ligament.
    """
    size = len(tissue.backscatter)
    x, z = pixel_grid(size)
    backscatter, attenuation = tissue.backscatter.copy(), tissue.attenuation.copy()

    def ellipse(half_width, half_height):
        centre_x, centre_z = rng.uniform(0, FIELD_OF_VIEW), rng.uniform(*depths)
        tilt = rng.normal(0, 0.25)
        along = (x - centre_x) * np.cos(tilt) + (z - centre_z) * np.sin(tilt)
        across = (z - centre_z) * np.cos(tilt) - (x - centre_x) * np.sin(tilt)
        radius = np.hypot(along / half_width, across / half_height)
        return radius + 0.12 * random_field(size, 1.5, 1.5, rng)

    for _ in range(rng.integers(1, 5)):
        radius = ellipse(rng.uniform(2.0, 5.5), rng.uniform(1.0, 2.5))
        inside = expit((1 - radius) / 0.06)
        backscatter += inside * (rng.uniform(-11.0, -7.0) - backscatter)
        backscatter += 5 * np.exp(-(((radius - 1.1) / 0.08) ** 2))
    for _ in range(rng.integers(0, 3)):
        radius = ellipse(rng.uniform(0.8, 3.0), rng.uniform(0.5, 1.0))
        inside = expit((1 - radius) / 0.06)
        backscatter += inside * (-28.0 - backscatter)
        attenuation -= 0.8 * inside
    for _ in range(rng.integers(0, 3)):
        column = np.exp(-(((x - rng.uniform(0, FIELD_OF_VIEW)) / rng.uniform(0.6, 2.0)) ** 2))
        start = rng.uniform(3.0, depths[1])
        attenuation += rng.uniform(0.8, 2.5) * column * ((z > start) & (z < start + 4.0))
    return Tissue(backscatter, attenuation)


def insert_lesion(tissue: Tissue, lesion: Lesion, rng: np.random.Generator) -> Tissue:
    """Returns the tissue with the lesion in it; its interior is slightly inhomogeneous."""
    size = len(tissue.backscatter)
    inside = lesion_extent(lesion, size)
    interior = lesion.backscatter + 2.0 * random_field(size, 1.0, 1.5, rng)
    return Tissue(
        tissue.backscatter + inside * (interior - tissue.backscatter),
        tissue.attenuation + inside * (lesion.attenuation - tissue.attenuation),
    )


def scatterer_amplitude(tissue: Tissue, rng: np.random.Generator) -> np.ndarray:
    """
    Returns the (H, W) amplitude of the scatterers: the backscatter of the tissue, with a few strong
    reflectors among the many weak ones, less the attenuation on the way to them.
    """
    size = len(tissue.backscatter)
    attenuated = np.cumsum(tissue.attenuation, axis=0) * (FIELD_OF_VIEW / size)
    # The beam has a width, so a shadow has soft borders.
    attenuated = ndimage.gaussian_filter1d(attenuated, 0.4 * size / FIELD_OF_VIEW, axis=1)
    strength = rng.gamma(0.35, 1 / 0.35, (size, size))
    return 10 ** ((tissue.backscatter - attenuated) / 20) * np.sqrt(strength)


def draw_phasors(size: int, rng: np.random.Generator) -> np.ndarray:
    """
    Returns complex circular normal (size, size) numbers of unit power: the sum of the echoes of many
    scatterers in one pixel, whose phases are random.
    """
    return (rng.standard_normal((size, size)) + 1j * rng.standard_normal((size, size))) / np.sqrt(2)


def apply_point_spread(scatterers: np.ndarray, axial_width: float, lateral_width: float, focus: float) -> np.ndarray:
    """
    Convolves complex scatterers (H, W) with the demodulated point-spread function: a Gaussian of unit energy
    with standard deviations `axial_width` and, growing away from the depth `focus`, `lateral_width`,
    all in mm.
    """
    size = len(scatterers)
    pixel = FIELD_OF_VIEW / size
    _, z = pixel_grid(size)
    width = lateral_width * np.sqrt(1 + ((z - focus) / 15.0) ** 2)
    transfer = np.exp(-2 * (np.pi * width * fft.fftfreq(size, pixel)[None, :]) ** 2)
    transfer /= np.sqrt(np.mean(transfer**2, axis=1, keepdims=True))
    signal = fft.ifft(fft.fft(scatterers, axis=1) * transfer, axis=1)

    radius = int(np.ceil(4 * axial_width / pixel))
    pulse = np.exp(-((np.arange(-radius, radius + 1) * pixel / axial_width) ** 2) / 2)
    return ndimage.convolve1d(signal, pulse / np.linalg.norm(pulse), axis=0, mode="nearest")


def compress(envelope: np.ndarray, gain: np.ndarray, dynamic_range: float) -> np.ndarray:
    """
    Returns the (H, W) uint8 grey image of an envelope: its level in dB plus `gain` (dB, broadcastable
    to (H, W)), of which 0 becomes white and -`dynamic_range` becomes black.
    """
    decibel = 20 * np.log10(envelope + 1e-6) + gain
    return np.rint(255 * np.clip(1 + decibel / dynamic_range, 0, 1)).astype(np.uint8)


@dataclass(frozen=True)
class Patient:
    """
    What the images of one patient have in common: the lesion, the anatomy and the scanner's settings.

    Attributes:
        layer_depths: lower border in mm of skin, subcutaneous fat, gland and retromammary fat.
        axial_width, lateral_width, focus: see :func:`apply_point_spread`.
        looks: number of independent views whose envelopes the scanner averages (spatial compounding).
        smoothing: standard deviation in mm of the filter on the envelope.
        dynamic_range: dB between black and white.
        depth_gain: dB per mm by which the depth-dependent gain misses the attenuation of average tissue.
    """

    malignant: bool
    lesion: Lesion
    layer_depths: np.ndarray
    axial_width: float
    lateral_width: float
    focus: float
    looks: int
    smoothing: float
    dynamic_range: float
    depth_gain: float


def draw_patient(malignant: bool, rng: np.random.Generator) -> Patient:
    """Draws lesion, anatomy and scanner of one patient; only the lesion depends on its class."""
    return Patient(
        malignant=malignant,
        lesion=draw_lesion(malignant, rng),
        layer_depths=np.cumsum(rng.uniform([1.2, 2.0, 11.0, 1.5], [2.0, 7.0, 18.0, 4.0])),
        axial_width=rng.uniform(0.13, 0.20),
        lateral_width=rng.uniform(0.25, 0.45),
        focus=rng.uniform(10.0, 22.0),
        looks=int(rng.integers(2, 5)),
        smoothing=rng.uniform(0.08, 0.16),
        dynamic_range=rng.uniform(42.0, 60.0),
        depth_gain=rng.uniform(-0.5, 0.0),
    )


def render_image(patient: Patient, lesion: Lesion, size: int, rng: np.random.Generator) -> np.ndarray:
    """
    Returns a (size, size) uint8 B-mode image of the patient with `lesion`, in fresh tissue, speckle and gain.
    """
    tissue = draw_tissue(patient.layer_depths + rng.normal(0, 0.2, 4), size, rng)
    tissue = add_distractors(tissue, (patient.layer_depths[0], patient.layer_depths[2]), rng)
    amplitude = scatterer_amplitude(insert_lesion(tissue, lesion, rng), rng)

    _, z = pixel_grid(size)
    # The depth-dependent gain amplifies the noise of the electronics too.
    noise = 10 ** ((-34 + 0.4 * z) / 20)
    envelope = np.zeros((size, size))
    for _ in range(patient.looks):
        echo = apply_point_spread(
            amplitude * draw_phasors(size, rng), patient.axial_width, patient.lateral_width, patient.focus
        )
        envelope += np.abs(echo + noise * draw_phasors(size, rng)) / patient.looks
    envelope = ndimage.gaussian_filter(envelope, patient.smoothing * size / FIELD_OF_VIEW)

    # 0 dB, the level of gland, is shown a little below middle grey.
    gain = -0.55 * patient.dynamic_range + rng.normal(0, 2.5) + patient.depth_gain * (z - 15.0)
    return compress(envelope, gain, patient.dynamic_range)


def phantom_image(
    patient_number: int, image_number: int, seed: int, size: int, coarseness: float
) -> tuple[np.ndarray, dict]:
    """
    Makes one image, counted from 0. It depends on the arguments alone: neither on other images nor on their
    number; and `coarseness` changes nothing but the coarse box.

    Returns:
        the (size, size) uint8 image, and a dict with "malignant" (bool), "true_bbox" and "bbox" (coarse),
        both XYWH.
    """
    shared, own = (np.random.SeedSequence(seed, spawn_key=(patient_number, key)) for key in (0, image_number + 1))
    # Every second patient has a malignant lesion, so that any number of patients is balanced.
    patient = draw_patient(patient_number % 2 == 1, np.random.default_rng(shared))
    image_rng, box_rng = (np.random.default_rng(child) for child in own.spawn(2))
    lesion = another_plane(patient.lesion, image_rng)
    true_box = mask_to_box(lesion_mask(lesion, size))
    image = render_image(patient, lesion, size, image_rng)
    box = coarse_box(true_box, size, coarseness, box_rng)
    return image, {"malignant": patient.malignant, "true_bbox": true_box, "bbox": box}


def write_phantom_image(numbers: tuple[int, int], output_dir: Path, seed: int, size: int, coarseness: float) -> dict:
    """
    Writes image `numbers` = (patient, image), and returns its dict of :func:`phantom_image` with "file_name".
    """
    patient_number, image_number = numbers
    image, truth = phantom_image(patient_number, image_number, seed, size, coarseness)
    file_name = f"images/{patient_number + 1:04d}_{image_number + 1}.png"
    if not cv2.imwrite(str(output_dir / file_name), image):
        raise OSError(f"Could not write {output_dir / file_name}: is the disk full, or the folder read-only?")
    return {"file_name": file_name, "patient_id": f"{patient_number + 1:04d}", **truth}


def generate_phantom(
    output_dir: str | Path,
    num_patients: int = 100,
    images_per_patient: int = 4,
    seed: int = 0,
    size: int = 256,
    coarseness: float = 0.45,
    num_workers: int = 2,
) -> dict:
    """
    Writes the images of a phantom data set to `output_dir`/images, as 8-bit grey PNG, and returns its
    annotation.

    Args:
        seed: the same seed gives the same files, whatever `num_workers` is.
        size: width and height of the images in pixels.
        coarseness: in [0, 1], how far the coarse boxes are from the true ones, see :func:`coarse_box`.
        num_workers: number of processes.

    Returns:
        a BBUI dict (COCO JSON with classes and patients of the images). The annotation of an image has the
        coarse box as "bbox", and the image itself has the exact box as "true_bbox", both XYWH.

    Raises:
        InputError: if an argument is out of its range.
    """
    for name, value, lowest, highest in (
        ("num_patients", num_patients, 1, 10**6),
        ("images_per_patient", images_per_patient, 1, 10**4),
        ("seed", seed, 0, 2**32 - 1),
        ("size", size, MINIMUM_SIZE, MAXIMUM_SIZE),
        ("num_workers", num_workers, 1, 1024),
    ):
        if not lowest <= value <= highest:
            raise InputError(f"{name} is {value}: give {lowest} to {highest}.")
    if not 0 <= coarseness <= 1:
        raise InputError(f"coarseness is {coarseness}: give a number from 0 (the true box) to 1.")

    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    numbers = [(patient, image) for patient in range(num_patients) for image in range(images_per_patient)]
    # Shown on a terminal only.
    progress = partial(tqdm, desc="Rendering", total=len(numbers), unit="image", disable=None)
    # Aside until all are there: earlier images must not be mixed with these, under an annotation of theirs.
    with tempfile.TemporaryDirectory(prefix=".rendering_", dir=output_dir) as folder:
        (Path(folder) / "images").mkdir()
        write = partial(write_phantom_image, output_dir=Path(folder), seed=seed, size=size, coarseness=coarseness)
        if num_workers == 1:
            records = list(progress(map(write, numbers)))
        else:
            with ProcessPoolExecutor(num_workers) as pool:
                records = list(progress(pool.map(write, numbers, chunksize=4)))
        (output_dir / "images").mkdir(exist_ok=True)
        for record in records:
            os.replace(os.path.join(folder, record["file_name"]), output_dir / record["file_name"])

    images, annotations = [], []
    for number, record in enumerate(records, start=1):
        image = {
            "id": number,
            "file_name": record["file_name"],
            "height": size,
            "width": size,
            "patient_id": record["patient_id"],
            "category_id": 2 if record["malignant"] else 1,
            "true_bbox": record["true_bbox"],
        }
        images.append(image)
        annotations.append(manual_annotation(number, image, record["bbox"]))
    return {
        "info": {"description": f"Breast-ultrasound phantom, seed {seed}, coarseness {coarseness}"},
        "categories": CATEGORIES,
        "images": images,
        "annotations": annotations,
    }
