"""Small Hugging Face models in which every tensor differs, and their vocabularies."""

import json
import shutil
import string
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers

SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "hidden_dropout_prob": 0.2,
    "attention_probs_dropout_prob": 0.05,
}
# Special tokens lie apart and out of fairseq's order, so that a wrong permutation shows.
WORDPIECES = [
    *("[PAD]", "the", "[UNK]", "film", "[SEP]", "##ing", "[CLS]", "[MASK]", "[unused0]"),
    *string.ascii_lowercase,
    *(f"##{letter}" for letter in string.ascii_lowercase),
    *string.digits,
    *".,!?'-<>[]",
]
SENTENCES = [
    "the film is a charming and funny story .",
    "a dull, lifeless remake of the first film",
    "Ça alors! naïve 😀 人 …  two  spaces",
]


def randomise(model, seed=0):
    """Give every tensor a value of its own; fresh models have zero biases and unit norms."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in model.named_parameters():
            noise = torch.randn(tensor.shape, generator=generator)
            tensor.copy_(1 + 0.3 * noise if "LayerNorm.weight" in name else 0.2 * noise)
    return model.eval()


def save_bert(folder: Path, model_class=None, tokens=WORDPIECES, **overrides):
    config = transformers.BertConfig(
        **{**SIZES, "vocab_size": len(tokens), "max_position_embeddings": 40, **overrides}
    )
    model = randomise((model_class or transformers.BertForMaskedLM)(config))
    model.save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    return model


def train_vocabulary(folder: Path) -> dict[str, int]:
    from tokenizers import ByteLevelBPETokenizer

    bpe = ByteLevelBPETokenizer()
    specials = ["<s>", "<pad>", "</s>", "<unk>"]
    bpe.train_from_iterator(SENTENCES * 3, 330, min_frequency=1, special_tokens=specials)
    bpe.save_model(str(folder))
    ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
    return ids | {"madeupword0000": len(ids), "<mask>": len(ids) + 1}


def roberta_vocabulary(bpe: Path, folder: Path) -> dict[str, int]:
    """Hugging Face's numbering of encoder.json, vocab.bpe and dict.txt; merges.txt is written."""
    numbers = json.loads((bpe / "encoder.json").read_text(encoding="utf-8"))
    spelling = {str(number): token for token, number in numbers.items()}
    lines = (bpe / "dict.txt").read_text(encoding="utf-8").splitlines()
    entries = [line.split(" ")[0] for line in lines]
    tokens = ["<s>", "<pad>", "</s>", "<unk>"]
    tokens += [spelling.get(entry, entry) for entry in entries] + ["<mask>"]
    shutil.copy(bpe / "vocab.bpe", folder / "merges.txt")
    return {token: position for position, token in enumerate(tokens)}


def save_roberta(folder: Path, model_class=None, bpe: Path | None = None, **overrides):
    """A RoBERTa with a small BPE of its own, or with that of a folder in fairseq's form."""
    folder.mkdir(exist_ok=True)
    ids = roberta_vocabulary(bpe, folder) if bpe else train_vocabulary(folder)
    (folder / "vocab.json").write_text(json.dumps(ids), encoding="utf-8")
    config = transformers.RobertaConfig(
        **{
            **SIZES,
            "vocab_size": len(ids),
            "max_position_embeddings": 42,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            **overrides,
        }
    )
    model = randomise((model_class or transformers.RobertaForMaskedLM)(config))
    model.save_pretrained(folder)
    return model


def save_xlm_roberta(folder: Path, lines: Sequence[str], model_class=None, pieces=120, **overrides):
    """An XLM-R with a SentencePiece model that is trained on ``lines``, normalised as XLM-R's."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_prefix=str(folder / "sentencepiece.bpe"),
        vocab_size=pieces,
        hard_vocab_limit=False,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc",
        minloglevel=2,
        num_threads=1,
    )
    (folder / "sentencepiece.bpe.vocab").unlink()
    processor = sentencepiece.SentencePieceProcessor(str(folder / "sentencepiece.bpe.model"))
    config = transformers.XLMRobertaConfig(
        **{
            **SIZES,
            # XLM-R's own ids: <s> <pad> </s> <unk>, the pieces after the model's three, <mask>.
            "vocab_size": len(processor) - 3 + 5,
            "max_position_embeddings": 42,
            "type_vocab_size": 1,
            "layer_norm_eps": 1e-5,
            **overrides,
        }
    )
    model = randomise((model_class or transformers.XLMRobertaForMaskedLM)(config))
    model.save_pretrained(folder)
    return model
