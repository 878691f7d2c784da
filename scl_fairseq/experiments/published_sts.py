"""Numbers that Wu et al. published (InfoCSE, arXiv 2210.06432), as the source documents have them.

Which value of a row is underlined or bold is left out.
"""

from __future__ import annotations

from scl_fairseq.inference.sts_files import TEST_SETS

STS, BEIR, ABLATION = "sts", "beir", "sts-ablation"
NAMES = (STS, BEIR, ABLATION)
AVERAGE = "average"

# Spearman x 100 on TEST_SETS, and what is printed as their mean.
_STS = """
    GloVe embeddings (avg.)             55.14 70.66 59.73 68.25 63.66 58.02 53.76 61.32
    BERT-base (first-last avg.)         39.70 59.38 49.67 66.03 66.19 53.87 62.06 56.70
    BERT-base-flow                      58.40 67.10 60.85 75.16 71.22 68.66 64.47 66.55
    BERT-base-whitening                 57.83 66.90 60.90 75.08 71.31 68.24 63.73 66.28
    IS-BERT-base                        56.77 69.24 61.21 75.23 70.16 69.21 64.25 66.58
    CT-BERT-base                        61.63 76.80 68.47 77.50 76.48 74.31 69.19 72.05
    ConSERT-base                        64.64 78.49 69.07 79.72 75.95 73.97 67.31 72.74
    BERT-base-flow (another training)   63.48 72.14 68.42 73.77 75.37 70.72 63.11 69.57
    SG-OPT-BERT-base                    66.84 80.13 71.23 81.56 77.17 77.23 68.16 74.62
    Mirror-BERT-base                    69.10 81.10 73.00 81.90 75.70 78.00 69.10 75.40
    SimCSE-BERT-base                    68.40 82.41 74.38 80.91 78.56 76.85 72.23 76.25
    ESimCSE-BERT-base                   73.40 83.27 77.25 82.66 78.81 80.17 72.30 78.27
    DiffCSE-BERT-base                   72.28 84.43 76.47 83.90 80.54 80.59 71.23 78.49
    InfoCSE-BERT-base                   70.53 84.59 76.40 85.10 81.95 82.00 71.37 78.85
    ConSERT-large                       70.69 82.96 74.13 82.78 76.66 77.53 70.37 76.45
    BERT-large-flow                     65.20 73.39 69.42 74.92 77.63 72.26 62.50 70.76
    SG-OPT-BERT-large                   67.02 79.42 70.38 81.72 76.35 76.16 70.20 74.46
    SimCSE-BERT-large                   70.88 84.16 76.43 84.50 79.76 79.26 73.88 78.41
    ESimCSE-BERT-large                  73.21 85.37 77.73 84.30 78.92 80.73 74.89 79.31
    DiffCSE-BERT-large                  72.11 84.99 76.19 85.09 78.65 80.34 73.93 78.76
    InfoCSE-BERT-large                  71.89 86.17 77.72 86.20 81.29 83.16 74.84 80.18
"""

# nDCG of SimCSE, ESimCSE, DiffCSE, InfoCSE, of each base and large.
BEIR_METHODS = tuple(
    f"{method} {size}"
    for method in ("SimCSE", "ESimCSE", "DiffCSE", "InfoCSE")
    for size in ("base", "large")
)
_BEIR = """
    trec-covid        0.2750 0.2264 0.2291 0.2829 0.2368 0.2291 0.3937 0.3166
    nfcorpus          0.1048 0.1356 0.1149 0.1483 0.1204 0.1470 0.1358 0.1576
    nq                0.1628 0.1671 0.0935 0.1705 0.1188 0.1556 0.2023 0.1790
    fiqa              0.0985 0.0975 0.0731 0.1117 0.0924 0.1027 0.0991 0.1000
    arguana           0.2796 0.2078 0.3376 0.2604 0.2500 0.2572 0.3244 0.4133
    webis-touche2020  0.1342 0.0878 0.0786 0.1057 0.0912 0.0781 0.0935 0.0920
    quora             0.7375 0.7511 0.7411 0.7615 0.7491 0.7471 0.8241 0.8268
    cqadupstack       0.1349 0.1082 0.1276 0.1196 0.1197 0.1160 0.2097 0.1881
    dbpedia-entity    0.1662 0.1495 0.1260 0.1650 0.1537 0.1571 0.2101 0.1838
    scidocs           0.0611 0.0688 0.0657 0.0796 0.0673 0.0699 0.0837 0.0859
    climate-fever     0.1420 0.1065 0.0796 0.1302 0.1019 0.1087 0.0937 0.0840
    scifact           0.2492 0.2541 0.3013 0.2875 0.2666 0.2811 0.3269 0.3801
    hotpotqa          0.2382 0.1896 0.1213 0.1970 0.1730 0.2068 0.3177 0.2781
    fever             0.2916 0.1776 0.0756 0.1689 0.1416 0.1849 0.1978 0.1252
    average           0.2197 0.1948 0.1832 0.2135 0.1916 0.2030 0.2509 0.2436
"""

# Spearman x 100 on STS-B's dev set, BERT-base; our runs are matched by these names.
ABLATIONS = {
    "InfoCSE": 85.49,
    "without pre-training": 83.73,
    "without detach": 84.41,
    "without MLM": 82.45,
    "without contrast": 40.00,
    "mask rate 10 %": 83.97,
    "mask rate 15 %": 84.62,
    "mask rate 20 %": 84.74,
    "mask rate 25 %": 85.08,
    "mask rate 30 %": 84.19,
    "mask rate 35 %": 84.70,
    "mask rate 40 %": 85.49,
    "mask rate 45 %": 84.13,
    "SimCSE": 82.45,
    "with RTD (DiffCSE)": 84.56,
    "with RTD + MLM": 85.83,
}
NOTES = {
    STS: (
        "Published: InfoCSE's table, unsupervised. What the source documents head SICK15 is taken "
        "for STS15. Another encoder or other texts are no reproduction.",
    ),
    BEIR: (
        "Published: InfoCSE's table, BERT, nDCG. The row nfcopus of the source documents is taken "
        "for nfcorpus.",
    ),
    ABLATION: (
        "Published: InfoCSE's ablations, BERT-base, the best value on STS-B's dev set. RTD is "
        "DiffCSE's replaced-token detection; its weight there is unknown.",
        "Published without MLM is what SimCSE has.",
    ),
}


def _parsed(text: str, width: int) -> dict[str, tuple[float, ...]]:
    lines = (line.split() for line in text.strip().splitlines())
    return {" ".join(line[:-width]): tuple(map(float, line[-width:])) for line in lines}


STS_NUMBERS = {
    model: dict(zip((*TEST_SETS, AVERAGE), values, strict=True))
    for model, values in _parsed(_STS, len(TEST_SETS) + 1).items()
}
BEIR_NUMBERS = {
    data: dict(zip(BEIR_METHODS, values, strict=True))
    for data, values in _parsed(_BEIR, len(BEIR_METHODS)).items()
}
BEIR_SETS = tuple(name for name in BEIR_NUMBERS if name != AVERAGE)
