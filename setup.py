"""Installs vindr_det. Never imports torch, so that metadata builds anywhere."""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "vindr_det/__init__.py").read_text()).group(1)


class BuildWithConfigs(build_py):
    """Puts ``configs/`` into the package: a checkout has it beside the package, an installation inside."""

    def run(self):
        super().run()
        if not self.editable_mode:
            shutil.copytree(HERE / "configs", Path(self.build_lib) / "vindr_det/configs", dirs_exist_ok=True)


setup(
    name="vindr_det",
    version=VERSION,
    description="Find and localize 14 findings on chest X-rays: a Detectron2 plugin for VinDr-CXR",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    author="The vindr_det developers",
    keywords="chest x-ray, radiology, object detection, detectron2, vindr-cxr, vinbigdata, dicom",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Healthcare Industry",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in range(10, 14)),
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Topic :: Scientific/Engineering :: Medical Science Apps.",
        "Typing :: Typed",
    ],
    packages=find_packages(include=["vindr_det", "vindr_det.*"]),
    package_data={"vindr_det": ["py.typed", "bundles/*/*", "pacs/codes.csv", "report/static/*",
                                "serve/static/*"]},
    cmdclass={"build_py": BuildWithConfigs},
    entry_points={"console_scripts": ["vindr-det = vindr_det.__main__:main"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "albumentations==2.0.8",  # the last release; its successor changed name and license
        "ensemble-boxes>=1.0.9",
        "filelock>=3.12",
        "fvcore>=0.1.5.post20221221,<0.1.6",
        "grad-cam>=1.5",
        "hotcoco>=1.3",
        "iterative-stratification>=0.1.9",
        "jinja2>=3.1",
        "lightning>=2.6",  # the first whose fit() reads a checkpoint with weights_only
        "matplotlib>=3.8",
        "msgspec>=0.19",  # the first with wheels for Python 3.13
        "numpy>=1.26",
        "opencv-python-headless>=4.9",
        "pandas>=2.2",
        "protobuf>=4.25",  # the messages in TFRecord files
        "pycocotools>=2.0.8",
        "pydicom>=3.0",
        "pyjpegls>=1.4",  # refuses damaged JPEG-LS, which pylibjpeg makes a picture of
        "pylibjpeg>=2.0",
        "pylibjpeg-libjpeg>=2.3",
        "pylibjpeg-openjpeg>=2.4",
        "safetensors>=0.4",
        "scikit-learn>=1.5",
        "scipy>=1.11",
        "simplejpeg>=1.8",  # raises where libjpeg only warns
        "tabulate>=0.9",
        "tensorboard>=2.18",  # the first that goes with numpy 2
        "timm>=1.0.31",
        "torch>=2.4",
        "torchvision>=0.19",
        "tqdm>=4.66",
    ],
    extras_require={
        # What Detectron2 itself needs from the package index; Detectron2 is not on it (INSTALL.md).
        "detectron2": [
            "cloudpickle",
            "hydra-core>=1.1",
            "iopath>=0.1.7,<0.1.10",
            "omegaconf>=2.1,<2.4",
            "packaging",
            "setuptools<81",  # detectron2.model_zoo imports pkg_resources, which 81 and later lack
            "shapely>=2.0",  # with which Detectron2 crops masks, as ViTDet's training does
            "termcolor>=1.1",
            "yacs>=0.1.8",
        ],
        "dask": ["distributed>=2024.1"],
        # The torchvision engine's detectors as ONNX files: vindr-det export.
        "export": ["onnx>=1.16", "onnxruntime>=1.18"],
        # The search of vindr-det tune.
        "tune": ["optuna>=4.2"],
        # Bundles on a Hugging Face hub, or on one of your own.
        "hub": ["huggingface_hub>=0.34", "safetensors>=0.5"],
        # Answers to a PACS: vindr-det dicom-out and listen.
        "dicom-out": ["dicomweb-client>=0.60", "highdicom>=0.25", "pynetdicom>=3.0"],
        # The web page of vindr-det serve.
        "serve": ["fastapi>=0.115", "python-multipart>=0.0.18", "uvicorn>=0.30"],
        # A training's curves and pictures in Weights & Biases, in MLflow.
        "wandb": ["wandb>=0.19"],
        "mlflow": ["mlflow-skinny>=2.20"],
        # Results as supervision's Detections. It brings opencv-python beside our headless one (INSTALL.md).
        "supervision": ["supervision>=0.26"],
        "notebook": ["ipykernel>=6.29", "nbclient>=0.10", "nbformat>=5.10"],
        "docs": ["mkdocs-material>=9.5"],
        # What the tests use, lint, and the extras that tests need.
        "dev": [
            "axe-core-python>=0.1", "build>=1.2", "dicomweb-client>=0.60", "distributed>=2024.1",
            "fastapi>=0.115", "highdicom>=0.25", "huggingface_hub>=0.34", "import-linter>=2.5",
            "ipykernel>=6.29", "mkdocs-material>=9.5", "mlflow-skinny>=2.20", "mypy",
            "nbclient>=0.10", "nbformat>=5.10", "onnx>=1.16", "onnxruntime>=1.18", "optuna>=4.2",
            "pre-commit", "psutil", "pynetdicom>=3.0", "pytest>=8", "pytest-timeout",
            "pytest-xdist", "python-multipart>=0.0.18", "ruff", "safetensors>=0.5",
            "selenium>=4.20", "uvicorn>=0.30", "wandb>=0.19",
        ],
    },
)
