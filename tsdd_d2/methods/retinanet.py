"""RetinaNet (arXiv:1708.02002): Detectron2's, with the classes benign and malignant."""

from ..method import FA_BOXES, Method, paper_row, register_method

register_method(
    Method(
        "retinanet",
        "RetinaNet",
        "DiagnosingRetinaNet",
        FA_BOXES,
        overrides={
            "MODEL.CNET.WEIGHTS": "",
            "MODEL.RETINANET.NUM_CLASSES": 2,
            "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.1,
            # the diagnosis needs the top detection of both classes, however low their scores
            "MODEL.RETINANET.SCORE_THRESH_TEST": 0.0,
            "REFINEMENT.ENABLED": False,
            "TEST.DETECTIONS_PER_IMAGE": 100,
        },
        profiles={
            "paper": {"SOLVER.MAX_ITER": 19000},  # as many training images as both stages of TSDDNet draw
            # it diagnoses too: 240 pixels in the shorter side, where D-Net sees 160
            "cpu": {
                "MODEL.ANCHOR_GENERATOR.SIZES": [
                    [32, 40.32, 50.8], [64, 80.63, 101.59], [128, 161.27, 203.19],
                ],
                "INPUT.MIN_SIZE_TRAIN": (240,),
                "INPUT.MIN_SIZE_TEST": 240,
                "INPUT.MAX_SIZE_TRAIN": 320,
                "INPUT.MAX_SIZE_TEST": 320,
                "SOLVER.MAX_ITER": 2400,
            },
        },
        paper=(paper_row("table1 table2 table3", 1.0, "84.84±1.08 86.01±0.82 82.70±1.09 68.71±1.74"),),
    )
)  # fmt: skip
