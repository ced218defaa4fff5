from .cnet_alone import CNetOnImage, CNetOnROI
from .detectors import DiagnosingRCNN, DiagnosingRetinaNet
