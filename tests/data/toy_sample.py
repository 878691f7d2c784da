"""Few-shot samples of sentences that the toy translation models know."""

from examples.noise import toy_models
from scl_fairseq.data import synthetic
from scl_fairseq.data.sampling import Size, write_samples
from scl_fairseq.data.tasks import find_task
from scl_fairseq.data.translation_choice import ModelChoice


def sentences(count, seed=7):
    """Sentences with their labels, of words as often as the models have met them."""
    rows = synthetic.generate(count, seed)
    texts = toy_models.respell([text for text, _ in rows], seed)
    return list(zip(texts, [label for _, label in rows], strict=True))


def sample(folder, size, task="SST-2", seed=7):
    """A sample of so many examples of SST-2, or of RTE, whose second sentences are others."""
    rows = sentences(size + 60, seed)
    parts = {"dev": rows[:60], "train": rows[60:]}
    for name, part in parts.items():
        if task == "RTE":
            names = ("not_entailment", "entailment")
            others = [text for text, _ in part[1:] + part[:1]]
            lines = ["index\tsentence1\tsentence2\tlabel"]
            lines += [
                f"{at + 100}\t{text}\t{other}\t{names[label]}"
                for at, ((text, label), other) in enumerate(zip(part, others, strict=True))
            ]
        else:
            lines = ["sentence\tlabel", *(f"{text}\t{label}" for text, label in part)]
        path = folder / "corpus" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    written = write_samples(
        find_task(task), folder / "corpus", folder / "samples", Size(size), 1, seed=0
    )
    return written.folders[0]


FORWARD = {"checkpoint_file": "model1.pt:model2.pt", "tokenizer": "moses", "bpe": "fastbpe"}
BACKWARD = {"bpe": "sentencepiece"}


def choices(models):
    """The toy models by the hub's own argument names: an ensemble there, a single model back."""
    return (
        ModelChoice(str(models / "en-xx"), FORWARD),
        ModelChoice(str(models / "xx-en"), BACKWARD),
    )
