"""Few-shot samples for the embedded encoder, binarised: what several benchmarks train on."""

from pathlib import Path

from benchmarks.pipelines import ROOT
from scl_fairseq.data import synthetic
from scl_fairseq.data.encode import Settings
from scl_fairseq.data.preprocess import preprocess
from scl_fairseq.data.sampling import Size, write_samples
from scl_fairseq.data.tasks import TASKS

SHARED = ROOT.parent / "shared" / "data" / "glue"


def write_binarised_samples(
    name: str, glue_dir: Path, folder: Path, encoder: Path, num_examples: int, num_samples: int
) -> None:
    """Write ``folder/bin/NAME/0``, ..., of the text in ``folder/text/NAME/sample0``, ...

    Args:
        name: of the task; SST-2 is generated where ``glue_dir`` has none.
        glue_dir: holds a folder of official files for each task.
        folder: receives text and data.
        encoder: the converted embedded encoder, whose WordPiece is used.
        num_examples: training sentences of a sample.
        num_samples: how many.
    """
    task, source = TASKS[name], glue_dir / name
    if not source.is_dir() and name == "SST-2":
        source = folder / "synthetic"
        synthetic.write_corpus(source)
    size = Size(num_examples)
    written = write_samples(task, source, folder / "text" / name, size, num_samples, 1)
    for index, sample in enumerate(written.folders):
        settings = Settings("wordpiece", encoder)
        preprocess(task, sample, folder / "bin" / name / str(index), settings)
