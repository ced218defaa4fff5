#!/usr/bin/env python
"""Makes the page on which a sonologist reviews the ROIs that a first-stage run changed, and vetoes those that are wrong.

It is one HTML file, for any browser, without server or network; it holds the images. The vetoes that are downloaded
from it go into the next training as DATASETS.VETOES.
"""

import argparse
import os
import sys

import tsdd_d2  # noqa: F401 (before Detectron2, whose import it keeps silent)
from detectron2.data import MetadataCatalog
from tsdd_d2.data import ensure_registered
from tsdd_d2.engine.run_folder import read_rounds, read_run_config
from tsdd_d2.errors import reports_errors
from tsdd_d2.review import write_review_page

EPILOG = """
Examples:
    $ python tools/review_rois.py --run output/p02/tsddnet_stage1
    $ python tools/review_rois.py --run output/p02/tsddnet_stage1 --output review.html

Then train with what was vetoed:
    $ python tools/train_net.py --method tsddnet_stage1 --data busbra --fold 1 \\
        OUTPUT_DIR output/reviewed DATASETS.P 0.2 DATASETS.VETOES vetoes.json
"""


@reports_errors
def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, metavar="DIR", help="OUTPUT_DIR of a first-stage run")
    parser.add_argument("--output", metavar="FILE", help="the page (default: DIR/review.html)")
    args = parser.parse_args(argv)
    output = args.output or os.path.join(args.run, "review.html")
    data_set = read_run_config(args.run).DATASETS.TRAIN[0]
    rounds = read_rounds(args.run)
    ensure_registered(data_set)
    counts = write_review_page(output, rounds, data_set, MetadataCatalog.get(data_set).image_root)
    print(f"{output}: {counts.refined} refined and {counts.pseudo} pseudo ROIs, {counts.size / 1e6:.1f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
