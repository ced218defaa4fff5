"""
Generate the breast-ultrasound phantom: speckle images with one lesion each, whose class and exact box are
known, and their BBUI annotation, one file for each split.

An image's own entry has the exact box as `true_bbox`; the box of its annotation is coarse, as a hasty
annotator would draw it. The same options give the same files.
"""

import os
import sys

from phantom import generate_phantom

from tsdd_d2.data import assign_folds, dataset_folder, patient_classes
from tsdd_d2.data.prepare import preparation_parser, seed_option, write_and_count_splits
from tsdd_d2.errors import reports_errors

EXAMPLES = """
examples:
  python datasets/prepare_phantom.py                                   # 400 images of 100 patients
  python datasets/prepare_phantom.py --patients 20 --images-per-patient 2 --size 128
  python datasets/prepare_phantom.py --root ~/data/phantom_exact --coarseness 0 --seed 1

It writes <root>/images/*.png and <root>/annotations/fold{k}_{train,val,test}.json. The folder phantom/ below
$DETECTRON2_DATASETS (default: datasets) is registered as phantom_fold1_train, phantom_fold1_val, ...
"""


def prepare(
    root: str, patients: int, images_per_patient: int, size: int, seed: int, coarseness: float, num_folds: int
) -> None:
    """Write the images and `<root>/annotations/fold{k}_{train,val,test}.json`, and print the counts."""
    bbui = generate_phantom(
        root,
        num_patients=patients,
        images_per_patient=images_per_patient,
        seed=seed,
        size=size,
        coarseness=coarseness,
    )
    test_folds = assign_folds(patient_classes(bbui), num_folds, seed)
    write_and_count_splits(bbui, os.path.join(root, "annotations"), test_folds, num_folds, seed)
    print(f"Written to {root}: {num_folds} random folds, seed {seed}.")


@reports_errors
def main(argv=None) -> int:
    parser = preparation_parser(__doc__, EXAMPLES)
    parser.add_argument("--root", help="folder to write to (default: $DETECTRON2_DATASETS/phantom)")
    parser.add_argument("--patients", type=int, default=100, help="half of them malignant (default: 100)")
    parser.add_argument("--images-per-patient", type=int, default=4, help="of the one lesion (default: 4)")
    parser.add_argument("--size", type=int, default=256, help="width and height in pixels (default: 256)")
    parser.add_argument("--seed", type=seed_option, default=0, help="of images, boxes and folds (default: 0)")
    parser.add_argument(
        "--coarseness",
        type=float,
        default=0.45,
        help="of the manual boxes, from 0 (exact) to 1 (default: 0.45: mean IoU of 0.61 with the exact ones)",
    )
    parser.add_argument("--num-folds", type=int, default=5, help="number of folds, at least 2 (default: 5)")
    args = parser.parse_args(argv)
    # Before anything is rendered: each fold tests, validates and trains on a patient of each class.
    if args.num_folds < 2:
        parser.error(f"--num-folds is {args.num_folds}: give 2 or more")
    fewest = 2 * args.num_folds if args.num_folds > 2 else 8
    if args.patients < fewest:
        parser.error(f"--patients is {args.patients}: {args.num_folds} folds need {fewest} or more")
    args.root = os.path.expanduser(args.root or dataset_folder("phantom"))
    prepare(**vars(args))
    return 0


if __name__ == "__main__":
    sys.exit(main())
