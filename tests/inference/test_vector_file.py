"""What is written row by row reads as one matrix."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from scl_fairseq.inference.vector_file import VectorFile, kind_of


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
@pytest.mark.parametrize("sizes", [[], [3], [4, 0, 5]])
def test_both_formats_read_as_they_were_written(kind, sizes, tmp_path):
    rng = np.random.default_rng(0)
    blocks = [rng.normal(size=(size, 7)).astype(np.float32) for size in [0, *sizes]]
    path = tmp_path / f"vectors.{kind}"
    with open(path, "wb") as file:
        vectors = VectorFile(file, kind)
        for block in blocks:
            vectors.write(block)
        vectors.finish()
    found = np.load(path) if kind == "npy" else load_file(path)["embeddings"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.concatenate(blocks))


def test_another_ending_is_refused(tmp_path):
    assert kind_of(tmp_path / "a.b.npy") == "npy"
    with pytest.raises(ValueError, match=r"\.npy or \.safetensors"):
        kind_of(tmp_path / "vectors.txt")
