"""Trainings of several processes whose batches are chosen row by row: ``run(cases, world, ...)``.

Each process runs fairseq's own ``Trainer`` on the CPU over gloo, case after case, and leaves
gradients after the first update and weights after the last one. One process is the reference: it
has no workers at all, and its batches are those of all workers put together.
"""

import itertools
import json
from pathlib import Path

import torch

from tests import forked, runs

NO_DROPOUT = ["--dropout", "0", "--attention-dropout", "0", "--pooler-dropout", "0"]
LOGGED = ("loss", "scl_loss", "anchors_with_positive")
HALF = "--memory-efficient-fp16"  # of fairseq's, the one that trains on a CPU
LEGACY, PYTORCH = "legacy_ddp", "pytorch_ddp"


def case(updates, *flags, backend=LEGACY, dummies=None, dropout=False, valid=None):
    """A training.

    Args:
        updates: of each update, for each worker the rows of its batch, or of each micro-batch;
            none: it is idle.
        dummies: for each worker the rows of the batch that the trainer runs while it is idle.
        flags: for ``fairseq-train``.
        backend: ``--ddp-backend``.
        dropout: whether it is on.
        valid: for each worker the rows of its batch in the validation at the end.
    """
    return {
        "updates": updates,
        "flags": [*map(str, flags), *([] if dropout else NO_DROPOUT)],
        "backend": backend,
        "dummies": dummies,
        "valid": valid or [[0, 1, 2, 3] for _ in updates[0]],
    }


def run(cases, world, tiny, folder, command=runs.command):
    """What each worker found, ``found[rank][name]``, for cases by name.

    ``command(tiny, save_dir, *options)`` is the training that the cases' flags change.
    """
    folder.mkdir(parents=True)
    spec = folder / "spec.json"
    arguments = command(tiny, folder / "unused", "--user-dir", runs.ROOT / "scl_fairseq")
    spec.write_text(json.dumps({"arguments": arguments[1:], "cases": cases}))
    meeting = folder / "meeting"  # no port, which others could take
    calls = [(spec, rank, world, meeting, folder / f"{rank}.pt") for rank in range(world)]
    forked.run_together(main, calls, [folder / f"{rank}.log" for rank in range(world)])
    return [torch.load(folder / f"{rank}.pt") for rank in range(world)]


def together(given):
    """The case as one worker would train it, whose micro-batches are those of all put together."""
    updates = []
    for workers in given["updates"]:
        if any(rows and isinstance(rows[0], list) for rows in workers):
            updates.append([[joined(parts) for parts in zip(*workers, strict=True)]])
        else:
            updates.append([joined(workers)])
    valid = [joined(given["valid"])]
    return {**given, "updates": updates, "dummies": None, "valid": valid}


def joined(lists):
    """One list of all."""
    return list(itertools.chain.from_iterable(lists))


def relative_difference(one, other):
    """Norm of the difference of two dictionaries of tensors over the norm of the second.

    What is absent is zero: fairseq's own wrapper gives unused parameters a gradient of zero.
    """
    zero = torch.zeros(1)
    names = one.keys() | other.keys()
    differences = torch.stack([(one.get(n, zero) - other.get(n, zero)).norm() for n in names])
    return (differences.norm() / torch.stack([t.norm() for t in other.values()]).norm()).item()


def main(spec, rank, world, meeting, out):
    """One worker."""
    import torch.distributed as dist

    spec = json.loads(Path(spec).read_text())
    if world > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=rank, world_size=world
        )
    found = {
        name: train(spec["arguments"], given, rank, world) for name, given in spec["cases"].items()
    }
    torch.save(found, out)


def train(arguments, given, rank, world):
    """One case on one worker."""
    import torch.distributed as dist
    from fairseq import options, tasks, utils
    from fairseq.dataclass.utils import convert_namespace_to_omegaconf
    from fairseq.trainer import Trainer

    parallel = ["--distributed-world-size", str(world), "--ddp-backend", given["backend"]]
    if given["backend"] == PYTORCH and "--no-find-unused" not in given["flags"]:
        parallel.append("--find-unused-parameters")
    flags = [flag for flag in given["flags"] if flag != "--no-find-unused"]
    parser = options.get_training_parser()
    namespace = options.parse_args_and_arch(parser, [*arguments, *flags, *parallel])
    cfg = convert_namespace_to_omegaconf(namespace)
    utils.set_torch_seed(cfg.common.seed)
    task = tasks.setup_task(cfg.task)
    model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
    if HALF not in flags:
        model.double()  # in float32 the order of sums alone moves gradients by a few 1e-6
    for parameter in model.parameters():
        if parameter.dim() > 1:  # at 0.02 so small a model would see all sentences as one
            torch.nn.init.normal_(parameter, std=0.3)
    task.load_dataset("train")
    data = task.dataset("train")

    def batch(rows):
        return data.collater([data[i] for i in rows]) if rows else {}

    Path(cfg.checkpoint.save_dir).mkdir(exist_ok=True)  # for what the trainer saves of a crash
    gathers, errors = [0], []
    original = dist.all_gather_into_tensor

    def counted(*args, **kwargs):
        gathers[0] += 1
        return original(*args, **kwargs)

    dist.all_gather_into_tensor = counted
    trainer = Trainer(cfg, task, model, criterion)
    if HALF not in flags:
        model.double()  # heads that the criterion has added
    trainer.clip_grad_norm = lambda _: torch.ones(
        1
    )  # fairseq's refuses float64; nothing is clipped
    if world > 1 and given["backend"] == PYTORCH:
        trainer._wrapped_model = wrapped_for_cpu(model, trainer, cfg)
    if given["dummies"]:
        trainer.reset_dummy_batch(batch(given["dummies"][rank]))
    gradients, counts, logs, validated = {}, [], [], {}
    try:
        for update in given["updates"]:
            gathers[0] = 0
            rows = update[rank]
            micro = rows if rows and isinstance(rows[0], list) else [rows]
            logs.append(trainer.train_step([batch(each) for each in micro]))
            counts.append(gathers[0])
            if not gradients:
                gradients = {
                    name: parameter.grad.clone()
                    for name, parameter in model.named_parameters()
                    if parameter.grad is not None
                }
        gathers[0] = 0
        validated = trainer.valid_step(batch(given["valid"][rank]))
    except ValueError as error:
        errors.append(str(error))
    finally:
        dist.all_gather_into_tensor = original
    return {
        "gradients": gradients,
        "weights": {name: tensor.clone() for name, tensor in model.state_dict().items()},
        "gathers": counts,
        "gathers_in_validation": gathers[0],
        "losses": [log and {key: float(log[key]) for key in LOGGED if key in log} for log in logs],
        "validated": {key: float(value) for key, value in validated.items()},
        "errors": errors,
        "state": trainer.get_criterion().training_state(),
    }


def wrapped_for_cpu(model, trainer, cfg):
    """As fairseq wraps for pytorch_ddp, but for the ids of GPUs that it insists on."""
    from fairseq.distributed import ModuleProxyWrapper
    from torch.nn.parallel import DistributedDataParallel

    return ModuleProxyWrapper(
        DistributedDataParallel(
            model,
            process_group=trainer.data_parallel_process_group,
            find_unused_parameters=cfg.distributed_training.find_unused_parameters,
        )
    )
