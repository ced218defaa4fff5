"""The compared methods: a file for each, in the order of the tables."""

# isort: off
from . import cnet_alone
from . import retinanet
from . import faster_rcnn
from . import yolov4
from . import yolov7
from . import stac
from . import unbiased_teacher
from . import soft_teacher
from . import spa
from . import tsddnet
