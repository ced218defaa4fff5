"""The compared methods: a file for each, in the order of the tables."""

# isort: off
from . import cnet_alone
from . import detectors
from . import retinanet
from . import faster_rcnn
from . import tsddnet
