"""Weights of a Hugging Face BERT, RoBERTa or XLM-R under the names of fairseq's RoBERTa encoder."""

import re
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from scl_fairseq.checkpoints.architecture import FAIRSEQ_PADDING_INDEX, Architecture
from scl_fairseq.checkpoints.head_training import DEFAULT_HEAD
from scl_fairseq.checkpoints.source_head import MODULES, SourceHead
from scl_fairseq.checkpoints.training_heads import buffer_of
from scl_fairseq.embeddings import MEAN

WORDS = "embeddings.word_embeddings.weight"
POSITIONS = "embeddings.position_embeddings.weight"
TOKEN_TYPES = "embeddings.token_type_embeddings.weight"

LAYER = {
    "attention.self.query": "self_attn.q_proj",
    "attention.self.key": "self_attn.k_proj",
    "attention.self.value": "self_attn.v_proj",
    "attention.output.dense": "self_attn.out_proj",
    "attention.output.LayerNorm": "self_attn_layer_norm",
    "intermediate.dense": "fc1",
    "output.dense": "fc2",
    "output.LayerNorm": "final_layer_norm",
}
HEAD = {
    "bert": {
        "cls.predictions.transform.dense": "dense",
        "cls.predictions.transform.LayerNorm": "layer_norm",
    },
    "roberta": {"lm_head.dense": "dense", "lm_head.layer_norm": "layer_norm"},
}
HEAD_PREFIX = {"bert": "cls.predictions.", "roberta": "lm_head."}
HEAD_SEED = 1
# Buffers, BERT's pooler and its next-sentence head: fairseq's encoder has no place for them.
_UNUSED = re.compile(
    r"embeddings\.(position_ids|token_type_ids)"
    r"|pooler\.dense\.(weight|bias)"
    r"|cls\.seq_relationship\.(weight|bias)"
)


def bare_names(stored: Mapping[str, Tensor], family: str) -> dict[str, Tensor]:
    """Tensors with names as the bare encoder and its MLM head have them.

    A ``bert.`` or ``roberta.`` in front is dropped, and the old ``LayerNorm.gamma`` and ``.beta``
    become ``weight`` and ``bias``.

    Raises:
        ValueError: two names become one.
    """
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        bare = name.removeprefix(family + ".")
        bare = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", bare)
        bare = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", bare)
        if bare in tensors:
            raise ValueError(f"the weights hold {bare} twice, once as {name}")
        tensors[bare] = tensor
    return tensors


def fairseq_state(
    tensors: Mapping[str, Tensor],
    architecture: Architecture,
    order: Sequence[int],
    head: SourceHead | None = None,
) -> tuple[dict[str, Tensor], bool]:
    """Map an encoder's tensors to the state dict of fairseq's ``RobertaModel``.

    BERT adds three embeddings a token: word, position, type. fairseq has no types, so row 0 of
    the types goes into every position row. fairseq counts positions from ``padding_idx + 1``;
    the rows before are never added to a real token. They are those of a RoBERTa, which counts
    alike, otherwise 0.

    Args:
        tensors: as :func:`bare_names` gives them.
        architecture: the sizes that the tensors must have.
        order: for each of fairseq's V ids, the row of the source's word embedding.
        head: the classification head among the tensors.

    Returns:
        The state dict (float32, contiguous; ``lm_head.weight`` is the tied word embedding
        itself) and whether the MLM head came with the source. fairseq loads strictly, so a head
        that did not is drawn with a fixed seed: normal weights of standard deviation 0.02,
        biases 0, layer norm 1.

    Raises:
        ValueError: tensors are missing, unknown, of the wrong shape or kind, or the MLM head is
            not tied to the word embedding; the message names them.
    """
    head_prefix = HEAD_PREFIX[architecture.family]
    has_head = any(name.startswith(head_prefix) for name in tensors)
    names, shapes = _expected(architecture, has_head)
    if head:
        _expect_classifier(architecture, head, names, shapes)
    tensors = {
        name: tensor
        for name, tensor in tensors.items()
        if name in shapes or not _UNUSED.fullmatch(name)
    }
    if has_head:
        tensors = _with_tied_head(tensors, head_prefix)
    _refuse_misfits(tensors, shapes)

    rows = torch.tensor(order)
    values = {name: tensor.to(torch.float32) for name, tensor in tensors.items()}
    first = architecture.first_position
    positions, token_type = values[POSITIONS][first:], values[TOKEN_TYPES][0]
    if token_type.any():  # adding 0 would turn -0.0 into 0.0
        positions = positions + token_type
    padding = values[POSITIONS][:first]
    if first != FAIRSEQ_PADDING_INDEX + 1:
        padding = positions.new_zeros(FAIRSEQ_PADDING_INDEX + 1, architecture.width)
    encoder = "encoder.sentence_encoder."
    state = {
        # Versions below 3 make fairseq drop a final layer norm.
        encoder + "version": torch.tensor([3.0]),
        encoder + "embed_tokens.weight": values[WORDS][rows],
        encoder + "embed_positions.weight": torch.cat([padding, positions]),
    }
    state |= {target: values[source] for source, target in names.items()}
    state["encoder.lm_head.weight"] = state[encoder + "embed_tokens.weight"]
    if has_head:
        state["encoder.lm_head.bias"] = values[head_prefix + "bias"][rows]
    else:
        state |= _fresh_head(architecture)
    if head and head.pooling == MEAN:
        state[buffer_of(DEFAULT_HEAD)] = torch.ones(1)
    return state, has_head


def _expected(
    architecture: Architecture, has_head: bool
) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """Names that map one to one, source → fairseq, and the shapes of all source tensors."""
    width, ffn_width = architecture.width, architecture.ffn_width
    modules = {"embeddings.LayerNorm": "sentence_encoder.layernorm_embedding"}
    for index in range(architecture.layers):
        for source, target in LAYER.items():
            modules[f"encoder.layer.{index}.{source}"] = f"sentence_encoder.layers.{index}.{target}"
    shapes: dict[str, tuple[int, ...]] = {
        WORDS: (architecture.vocabulary_size, width),
        POSITIONS: (architecture.position_rows, width),
        TOKEN_TYPES: (architecture.token_types, width),
    }
    if has_head:
        for source, target in HEAD[architecture.family].items():
            modules[source] = f"lm_head.{target}"
        shapes[HEAD_PREFIX[architecture.family] + "bias"] = (architecture.vocabulary_size,)

    names = {}
    for source, target in modules.items():
        outputs = ffn_width if target.endswith("fc1") else width
        inputs = ffn_width if target.endswith("fc2") else width
        for part in ("weight", "bias"):
            names[f"{source}.{part}"] = f"encoder.{target}.{part}"
            matrix = part == "weight" and not target.endswith(("norm", "layernorm_embedding"))
            shapes[f"{source}.{part}"] = (outputs, inputs) if matrix else (outputs,)
    return names, shapes


def _expect_classifier(
    architecture: Architecture,
    head: SourceHead,
    names: dict[str, str],
    shapes: dict[str, tuple[int, ...]],
) -> None:
    width = architecture.width
    for source, target in MODULES[architecture.family].items():
        rows = width if target == "dense" else head.outputs
        for part, shape in (("weight", (rows, width)), ("bias", (rows,))):
            names[f"{source}.{part}"] = f"classification_heads.{DEFAULT_HEAD}.{target}.{part}"
            shapes[f"{source}.{part}"] = shape


def _with_tied_head(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Leave out the second copies of the word embedding and of the head's bias."""
    tensors = dict(tensors)
    weight = tensors.pop(prefix + "decoder.weight", None)
    bias = tensors.pop(prefix + "decoder.bias", None)
    if weight is not None and WORDS in tensors and not torch.equal(weight, tensors[WORDS]):
        # fairseq would load both into one parameter, and the later would win silently.
        raise ValueError(
            f"{prefix}decoder.weight differs from {WORDS}; only a tied MLM head can be converted"
        )
    if bias is not None:
        kept = tensors.setdefault(prefix + "bias", bias)
        if not torch.equal(kept, bias):
            raise ValueError(f"{prefix}decoder.bias differs from {prefix}bias")
    return tensors


def _refuse_misfits(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    wrong = [
        f"{name} {tuple(tensors[name].shape)} instead of {shape}"
        for name, shape in shapes.items()
        if name in tensors and tuple(tensors[name].shape) != shape
    ]
    integers = [
        f"{name} {tensors[name].dtype}"
        for name in shapes
        if name in tensors and not tensors[name].is_floating_point()
    ]
    faults = {
        "missing": [name for name in shapes if name not in tensors],
        "unknown": [name for name in tensors if name not in shapes],
        "of the wrong shape": wrong,
        "not floating": integers,
    }
    listed = [f"{fault}: {', '.join(names)}" for fault, names in faults.items() if names]
    if listed:
        raise ValueError("the weights do not fit config.json; " + "; ".join(listed))


def _fresh_head(architecture: Architecture) -> dict[str, Tensor]:
    width = architecture.width
    generator = torch.Generator().manual_seed(HEAD_SEED)
    return {
        "encoder.lm_head.bias": torch.zeros(architecture.vocabulary_size),
        "encoder.lm_head.dense.weight": torch.empty(width, width).normal_(
            std=0.02, generator=generator
        ),
        "encoder.lm_head.dense.bias": torch.zeros(width),
        "encoder.lm_head.layer_norm.weight": torch.ones(width),
        "encoder.lm_head.layer_norm.bias": torch.zeros(width),
    }
