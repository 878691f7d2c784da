"""Small models on unlabelled sentences, as the criterions of sentence embeddings meet them."""

from types import SimpleNamespace

import torch
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf

import scl_fairseq  # noqa: F401 (registers the criterions)
from tests.criterions.test_sentence_prediction_scl import SIZES

NO_DROPOUT = ["--dropout", 0, "--attention-dropout", 0, "--pooler-dropout", 0]


def build(data, *flags, criterion="simcse", arch="roberta"):
    """Task, model in float64, criterion, and a function that makes batches of rows."""
    arguments = [
        *f"{data} --task sentence_embedding --arch {arch} {SIZES[arch]}".split(),
        *f"--criterion {criterion} --max-positions 64 --batch-size 8".split(),
        *map(str, flags),
    ]
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
    torch.manual_seed(1)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    criterion = task.build_criterion(cfg.criterion)
    criterion.prepare_model(model)
    with torch.no_grad():  # at 0.02 all sentences would be nearly the same to so small a model
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    rows = task.load_dataset("train")
    return SimpleNamespace(
        task=task,
        model=model.double(),
        criterion=criterion,
        rows=rows,
        batch=lambda which: rows.collater([rows[i] for i in which]),
    )


def gradients(model):
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
