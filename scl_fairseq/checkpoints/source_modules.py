"""What sentence-transformers makes of an encoder: the modules that its folder names.

Folders of its versions 2 to 6 are read. Of the modules, a fairseq model can do what Transformer and
Pooling do, and where ``config.json`` names a classifier's labels, two Dense modules as its head.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from scl_fairseq.embeddings import CLS, MEAN, POOLINGS
from scl_fairseq.files import read_json

MODULES, CONFIG = "modules.json", "config.json"
TRANSFORMER, POOLING, NORMALIZE, DENSE = "Transformer", "Pooling", "Normalize", "Dense"
OF_PACKAGE = "sentence_transformers."
# Of Dense modules, and fairseq's names. Its gelu_accurate is no class of torch's.
ACTIVATIONS = {
    "torch.nn.modules.activation.Tanh": "tanh",
    "torch.nn.modules.activation.ReLU": "relu",
    "torch.nn.modules.activation.GELU": "gelu",
    "torch.nn.modules.linear.Identity": "linear",
}
SETTINGS = "sentence_bert_config.json"
_OLDER_SETTINGS = tuple(
    f"sentence_{kind}_config.json" for kind in ("roberta", "xlm-roberta", "camembert")
)
PROMPTS = "config_sentence_transformers.json"
_POOLING_FOLDER = "1_Pooling"
_OLDER_MODES = {  # in configurations before version 6
    "pooling_mode_cls_token": CLS,
    "pooling_mode_mean_tokens": MEAN,
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_SENTENCE, _STATES = "sentence_embedding", "last_hidden_state"


@dataclass(frozen=True)
class DenseLayer:
    """A Dense module: its folder, its sizes, and fairseq's name of its activation."""

    folder: Path
    inputs: int
    outputs: int
    activation: str


@dataclass(frozen=True)
class SourceModules:
    """What the modules are.

    Attributes:
        encoder: the folder with the encoder's ``config.json``, weights and vocabulary.
        pooling: ``cls`` or ``mean``; None where no module pools.
        told_by: the file that says so, as named from the source.
        layers: of a classifier, its two layers; otherwise empty.
        notes: what is not done here, in sentences.
    """

    encoder: Path
    pooling: str | None = None
    told_by: str | None = None
    layers: tuple[DenseLayer, ...] = ()
    notes: tuple[str, ...] = ()


def read_modules(source: Path) -> SourceModules:
    """Read ``modules.json`` and what it names; a folder without it is an encoder's and no more.

    Raises:
        ValueError: a file is damaged or missing, or a module does what fairseq's models do not; the
            message names file and module.
        OSError: a file cannot be read.
    """
    path = source / MODULES
    if not path.is_file():
        if (source / _POOLING_FOLDER).exists():
            _refuse(source / _POOLING_FOLDER, f"is there, and {MODULES}, which it belongs to, not")
        return SourceModules(source, notes=_notes_on_texts(source, source))
    kinds, folders = _kinds_and_folders(path)
    places = [place for place, kind in enumerate(kinds) if kind != "Dropout"]  # only in training
    kinds, folders = [kinds[place] for place in places], [folders[place] for place in places]
    if not kinds or kinds[0] != TRANSFORMER:
        _refuse(path, f"the first module is {kinds[0] if kinds else 'missing'}, not {TRANSFORMER}")
    encoder = folders[0]
    notes = _notes_on_texts(source, encoder)
    if len(kinds) == 1:
        return SourceModules(encoder, notes=notes)
    _check_states(encoder)
    layers = ()
    if kinds == [TRANSFORMER, POOLING, DENSE, DENSE] and _is_classifier(encoder):
        layers = tuple(_dense_layer(folder) for folder in folders[2:])
        if layers[-1].activation != "linear":
            _refuse(folders[-1], "is the last of a classifier, and its activation no Identity")
        kinds = kinds[:2]
    _check_kinds(path, kinds, folders)
    if NORMALIZE in kinds:
        _check_normalize(folders[kinds.index(NORMALIZE)])
        notes += (
            "sentence-transformers scales its vectors to length 1 (Normalize); a classification "
            "head reads them as they are before.",
        )
    config = folders[1] / CONFIG
    told_by = config.relative_to(source).as_posix()
    return SourceModules(encoder, read_pooling(config), told_by, layers, notes)


def read_pooling(path: Path) -> str:
    """``cls`` or ``mean``, of the configuration of a Pooling module.

    Raises:
        ValueError: it says something else.
        OSError: it cannot be read.
    """
    if not path.is_file():
        _refuse(path, "is missing")
    told = read_json(path)
    modes = told.get("pooling_mode")
    if modes is None:
        modes = [mode for key, mode in _OLDER_MODES.items() if told.get(key)] or [MEAN]
    modes = [modes] if isinstance(modes, str) else modes
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        _refuse(path, f"pooling_mode is {modes!r}")
    if len(modes) != 1 or modes[0].lower() not in POOLINGS:
        listed = " and ".join(modes) + (" together" if len(modes) > 1 else "")
        _refuse(path, f"the pooling is {listed}; a head of fairseq's can read cls or mean")
    if not told.get("include_prompt", True):
        _refuse(path, "include_prompt is false: a head of fairseq's reads all tokens of a text")
    return modes[0].lower()


def _kinds_and_folders(path: Path) -> tuple[list[str], list[Path]]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        _refuse(path, "holds no list of modules")
    kinds, folders = [], []
    for one in listed:
        kind, inner = one.get("type"), one.get("path")
        if not isinstance(kind, str) or not isinstance(inner, str):
            _refuse(path, f"a module names no type or no path: {one}")
        if not kind.startswith(OF_PACKAGE):
            _refuse(path, f"module {kind} has code of its own")
        if Path(inner).is_absolute() or ".." in Path(inner).parts:
            _refuse(path, f"the path {inner!r} leads out of the folder")
        kinds.append(kind.rsplit(".", 1)[-1])
        folders.append(path.parent / inner)
    return kinds, folders


def _settings(encoder: Path) -> tuple[str, Mapping[str, Any]]:
    for name in (SETTINGS, *_OLDER_SETTINGS):
        if (encoder / name).is_file():
            return name, read_json(encoder / name)
    return SETTINGS, {}


def _check_kinds(path: Path, kinds: list[str], folders: list[Path]) -> None:
    for kind, folder in zip(kinds[1:], folders[1:], strict=False):
        if kind not in (POOLING, NORMALIZE) or kinds.count(kind) > 1:
            more = "" if kinds.count(kind) == 1 else ", more than once"
            _refuse(
                path,
                f"module {kind} ({folder.name}){more}: fairseq's models have no such part; brought "
                "in are Transformer, Pooling, Normalize, and two Dense modules where config.json "
                "names the labels of a classifier",
            )
    if kinds[1] != POOLING:
        _refuse(path, f"the module after {TRANSFORMER} is {kinds[1]}, not {POOLING}")


def _part(told: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    part = told.get(key)
    return part if isinstance(part, dict) else {}


def _notes_on_texts(source: Path, encoder: Path) -> tuple[str, ...]:
    notes = []
    name, told = _settings(encoder)
    if told.get("do_lower_case"):
        notes.append(
            f"{name} says do_lower_case: sentence-transformers lower-cases texts before "
            "the tokenizer gets them. This is not done here; lower-case your texts."
        )
    if (source / PROMPTS).is_file():
        told = read_json(source / PROMPTS)
        prompt = _part(told, "prompts").get(str(told.get("default_prompt_name")))
        if prompt:
            notes.append(
                f"{PROMPTS} has a default prompt: sentence-transformers puts {prompt!r} before "
                "each text. This is not done here; put it before yours."
            )
    return tuple(notes)


def _check_states(encoder: Path) -> None:
    """What is pooled must be the encoder's last states."""
    name, told = _settings(encoder)
    task = told.get("transformer_task", "feature-extraction")
    if task != "feature-extraction":
        _refuse(encoder / name, f"transformer_task is {task!r}; expected feature-extraction")
    way = _part(_part(told, "modality_config"), "text")
    states = way.get("method_output_name", _STATES)
    if way.get("method", "forward") != "forward" or states != _STATES:
        _refuse(encoder / name, f"modality_config.text is {json.dumps(way)}; expected {_STATES}")


def _check_normalize(folder: Path) -> None:
    told = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
    reads = told.get("module_input_name", _SENTENCE)
    if reads != _SENTENCE:
        _refuse(folder / CONFIG, f"Normalize scales {reads}, not {_SENTENCE}")


def _is_classifier(encoder: Path) -> bool:
    config = read_json(encoder / CONFIG) if (encoder / CONFIG).is_file() else {}
    return config.get("problem_type") is not None


def _dense_layer(folder: Path) -> DenseLayer:
    path = folder / CONFIG
    if not path.is_file():
        _refuse(path, "is missing")
    told = read_json(path)
    names = [told.get(f"module_{end}_name") or _SENTENCE for end in ("input", "output")]
    if told.get("use_residual") or names != [_SENTENCE, _SENTENCE]:
        _refuse(path, "a layer of fairseq's heads adds nothing to, and reads, one vector alone")
    activation = str(told.get("activation_function", next(iter(ACTIVATIONS))))
    if activation not in ACTIVATIONS:
        _refuse(path, f"activation_function is {activation}; supported: {', '.join(ACTIVATIONS)}")
    sizes = [told.get(f"{end}_features") for end in ("in", "out")]
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        _refuse(path, f"in_features and out_features are {sizes}")
    return DenseLayer(folder, *sizes, ACTIVATIONS[activation])


def _refuse(path: Path, reason: str) -> NoReturn:
    separator = " " if reason.startswith(("is ", "holds ")) else ": "
    raise ValueError(f"{path}{separator}{reason}")
