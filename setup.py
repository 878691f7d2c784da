"""Installs the package and its commands; constraints.txt has the versions it is tested with."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"', (HERE / "scl_fairseq" / "__init__.py").read_text("utf-8")
)[1]

setup(
    name="scl-fairseq",
    version=VERSION,
    description="Supervised contrastive learning for fine-tuning language models with fairseq",
    long_description=(HERE / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    packages=find_packages(include=["scl_fairseq", "scl_fairseq.*"]),
    package_data={"scl_fairseq.kernels": ["measured.json"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "fairseq==0.12.2; python_version < '3.11'",
        "fairseq-fixed==0.12.3.1; python_version >= '3.11'",
        "torch>=2.1",
        "numpy",
        "omegaconf",
        "regex",
        "rich",
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
        "fastbpe": ["fastBPE"],
        "plot": ["matplotlib>=3.8"],
        "dev": [
            "beir",
            "hypothesis",
            "matplotlib",
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
