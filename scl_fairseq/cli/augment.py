"""``scl-augment``: few-shot samples with paraphrases of their training rows."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from scl_fairseq.cli.common import Parser, bar_of, command
from scl_fairseq.cli.task_options import at_least, positive
from scl_fairseq.data.translation_choice import ModelChoice

if TYPE_CHECKING:
    from scl_fairseq.data.augmented_sample import Augmented
    from scl_fairseq.data.paraphrase import Paraphraser

PROG = "scl-augment"
CPU_TOKENS, GPU_TOKENS = 4096, 16384


def _parser() -> Parser:
    parser = Parser(
        PROG,
        "Enlarge the training set of a few-shot sample by paraphrases, once for each temperature:\n"
        "back-translation by sampling through two fairseq translation models, or any command\n"
        "that paraphrases lines. Originals stay, labels are kept, dev and test are the sample's\n"
        "own. The same seed gives the same text, in whatever batches; run again, it goes on\n"
        "where it was interrupted.",
        f"{PROG} --task SST-2 --sample few-shot/sample0 --out augmented/sample0 --seed 1 \\\n"
        "    --forward models/en-de checkpoint_file=model1.pt:model2.pt tokenizer=moses "
        "bpe=fastbpe \\\n    --backward transformer.wmt19.de-en checkpoint_file=model1.pt "
        "--temperature 0.3 0.9\n"
        f"  {PROG} --sample few-shot/sample0 --out paraphrased "
        "--command 'python paraphrase.py --seed {seed}'",
    )
    parser.add_argument("--task", metavar="TASK", help="of the sample, whose manifest knows it")
    parser.add_argument(
        "--sample", required=True, type=Path, metavar="DIR", help="few-shot sample of scl-sample"
    )
    parser.add_argument(
        "--out",
        required=True,
        type=Path,
        metavar="OUT",
        help="receives T0.3, T0.5, ...: each is a sample, and a --data-dir for scl-preprocess",
    )
    parser.add_argument(
        "--temperature",
        nargs="+",
        type=float,
        metavar="T",
        help="of sampling, a data set for each; more is noisier",
    )
    parser.add_argument(
        "--ratio", type=positive, default=3, metavar="R", help="paraphrases of each row (3)"
    )
    parser.add_argument("--seed", type=at_least(0), default=0, help="of the random numbers (0)")
    parser.add_argument(
        "--shard-size", type=positive, metavar="ROWS", help="rows that are kept together (32)"
    )
    models = parser.add_argument_group(
        "back-translation",
        "MODEL is a folder with checkpoint, dictionaries and BPE codes, or a name of fairseq's\n"
        "hub, which is downloaded; KEY=VALUE are the hub's own arguments: tokenizer, bpe,\n"
        "bpe_codes, sentencepiece_model, checkpoint_file=a.pt:b.pt (several: an ensemble), ...",
    )
    for name, what in (("forward", "from the sentences' language"), ("backward", "and back")):
        models.add_argument(
            f"--{name}", nargs="+", metavar=("MODEL", "KEY=VALUE"), help=f"model that goes {what}"
        )
    models.add_argument("--device", help="cpu, cuda or cuda:N (a GPU where there is one)")
    models.add_argument("--fp16", action="store_true", help="half precision, on a GPU")
    models.add_argument(
        "--batch-tokens",
        type=positive,
        metavar="N",
        help=f"sentences times longest length of a batch ({CPU_TOKENS}, on a GPU {GPU_TOKENS})",
    )
    other = parser.add_argument_group("any other paraphraser")
    other.add_argument(
        "--command",
        metavar="COMMAND",
        help="reads sentences, one a line, and writes as many lines; {temperature} and {seed} are "
        "filled in; no shell",
    )
    return parser


@command(PROG)
def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0, or 2 for bad input)."""
    options = _parser().parse_args(argv)
    choices = _check(options)

    from scl_fairseq.data.augmentation import SHARD_ROWS, augment
    from scl_fairseq.data.augmented_sample import Settings, open_sample

    settings = Settings(tuple(options.temperature or [None]), options.ratio, options.seed)
    open_sample(options.sample, options.task)  # refused here, before models load
    paraphraser = _command(options) if options.command else _back_translation(options, choices)
    logging.disable(logging.INFO)  # fairseq's
    try:
        with bar_of("sentences") as show:
            results = augment(
                options.sample,
                options.out,
                paraphraser,
                settings,
                options.task,
                options.shard_size or SHARD_ROWS,
                show,
            )
    finally:
        logging.disable(logging.NOTSET)
    _tell(results)
    return 0


def _check(options: argparse.Namespace) -> dict[str, ModelChoice]:
    of_models = ("forward", "backward", "device", "fp16", "batch_tokens")
    if options.command is not None:
        for name in of_models:
            if getattr(options, name):
                raise ValueError(
                    f"--{name.replace('_', '-')} is for back-translation, not --command"
                )
        return {}
    for name in ("forward", "backward"):
        if not getattr(options, name):
            raise ValueError(f"--{name} is required, or --command instead of both models")
    if not options.temperature:
        raise ValueError("--temperature is required, e.g. --temperature 0.3 0.5 0.7 0.9")
    return {name: ModelChoice.parse(getattr(options, name)) for name in ("forward", "backward")}


def _command(options: argparse.Namespace) -> Paraphraser:
    from scl_fairseq.data.paraphrase_command import ParaphraseCommand

    found = ParaphraseCommand(options.command)
    if options.temperature and not found.needs_temperature:
        raise ValueError("--temperature has no effect: --command does not say {temperature}")
    if found.needs_temperature and not options.temperature:
        raise ValueError("--command says {temperature}: --temperature is required")
    return found


def _back_translation(options: argparse.Namespace, choices: dict[str, ModelChoice]) -> Paraphraser:
    from scl_fairseq.inference.devices import find_device

    device = find_device(options.device)
    if options.fp16 and device.type != "cuda":
        raise ValueError("--fp16 needs a GPU")
    batch_tokens = options.batch_tokens or (GPU_TOKENS if device.type == "cuda" else CPU_TOKENS)
    logging.disable(logging.INFO)
    try:
        from scl_fairseq.data.back_translation import BackTranslation
        from scl_fairseq.data.translation import TranslationModel

        forward, backward = (
            TranslationModel(choices[name], device, options.fp16, batch_tokens)
            for name in ("forward", "backward")
        )
    finally:
        logging.disable(logging.NOTSET)
    return BackTranslation(forward, backward)


def _tell(results: Sequence[Augmented]) -> None:
    from scl_fairseq.data.change_table import change_table

    print(change_table(results))
    for result in results:
        if not result.examples:
            continue
        print(f"\n{result.folder.name}:")
        for before, after in result.examples:
            print(f"  before: {before}\n  after:  {after}")
    print()
    for result in results:
        for reason, count in result.kept.items():
            print(
                f"note: {result.folder.name}: {_sentences(count)} kept as they were, since {reason}"
            )
        for what, count in result.noted.items():
            print(f"note: {result.folder.name}: {_sentences(count)} {what}")
    for result in results:
        rows = f"{result.num_originals} originals, {result.num_copies} paraphrases"
        if result.was_there:
            print(f"{result.folder} is there already ({rows})")
        else:
            print(f"wrote {result.folder} ({rows})")


def _sentences(count: int) -> str:
    return "1 sentence" if count == 1 else f"{count} sentences"


if __name__ == "__main__":
    sys.exit(main())
