from .cnet_alone import CNetOnImage, CNetOnROI
from .detectors import DiagnosingRCNN, DiagnosingRetinaNet
from .yolov4 import YOLOv4
from .yolov7 import YOLOv7
