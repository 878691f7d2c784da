"""One way to embed sentences, in a process of its own: prints seconds, as a line of JSON.

    python -m benchmarks.embedders NAME SENTENCES VECTORS FOLDER

Loading the model and a first small batch are not timed; reading the file of sentences, a line each,
is. The vectors are written to VECTORS (.npy), for a comparison. FOLDER holds the encoder in
fairseq's form.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.device import WARM_UP

Embed = Callable[[Path], np.ndarray]


def ours(folder: Path) -> Embed:
    """As ``scl-embed`` does it, block by block."""
    import scl_fairseq
    from scl_fairseq.inference.lines import read_blocks

    model = scl_fairseq.load(folder)

    def embed(path: Path) -> np.ndarray:
        with path.open("rb") as file:
            return np.concatenate(
                [model.embed(block, "cls").numpy() for block, _ in read_blocks(file, path.name)]
            )

    return embed


def sentence_transformers(folder: Path) -> Embed:
    """sentence-transformers' ``encode`` with its defaults, the vector at [CLS]."""
    from sentence_transformers import SentenceTransformer, models

    from scl_fairseq.checkpoints.embedded import find_encoder

    transformer = models.Transformer(str(find_encoder()))
    pooling = models.Pooling(transformer.get_word_embedding_dimension(), pooling_mode="cls")
    model = SentenceTransformer(modules=[transformer, pooling])
    return lambda path: model.encode(read(path), show_progress_bar=False)


def extract_features(folder: Path) -> Embed:
    """Fairseq's hub interface, a sentence at a time, as its README shows."""
    from fairseq.models.roberta import RobertaModel

    import scl_fairseq  # noqa: F401 (registers WordPiece)

    vocabulary = str(folder / "vocab.txt")
    hub = RobertaModel.from_pretrained(
        str(folder), "model.pt", ".", bpe="wordpiece", wordpiece_vocab=vocabulary
    ).eval()
    if torch.cuda.is_available():
        hub.cuda()

    def embed(path: Path) -> np.ndarray:
        with torch.no_grad():
            features = (hub.extract_features(hub.encode(line))[0, 0] for line in read(path))
            return np.stack([vector.cpu().numpy() for vector in features])

    return embed


def read(path: Path) -> list[str]:
    """Lines of a file."""
    return path.read_text("utf-8").split("\n")[:-1]


CONTENDERS: dict[str, Callable[[Path], Embed]] = {
    "scl-embed": ours,
    "sentence-transformers encode": sentence_transformers,
    "fairseq extract_features": extract_features,
}


def measured(name: str, sentences: str, vectors: str, folder: str) -> dict[str, float]:
    """Embed, tell how long it took, and write the vectors."""
    embed, path = CONTENDERS[name](Path(folder)), Path(sentences)
    few = Path(vectors).with_suffix(".few")
    few.write_text("".join(f"{line}\n" for line in read(path)[:64]), encoding="utf-8")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for _ in range(WARM_UP[device]):
        embed(few)
    started = time.perf_counter()
    found = embed(path)
    seconds = time.perf_counter() - started
    np.save(vectors, found)
    return {"seconds": seconds}


if __name__ == "__main__":
    print(json.dumps(measured(*sys.argv[1:]), allow_nan=False))
