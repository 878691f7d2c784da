"""The criterion on small models, against features taken by another route and explicit loops."""

import contextlib
from types import SimpleNamespace

import fairseq.models.roberta
import pytest
import torch
import torch.nn.functional as F
from fairseq import options, tasks
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq.logging import metrics

import scl_fairseq  # noqa: F401 (registers the criterion)
from tests.losses import reference

SIZES = {
    "roberta": "--encoder-layers 2 --encoder-embed-dim 32 --encoder-ffn-embed-dim 48 "
    "--encoder-attention-heads 4",
}
SIZES["roberta_prenorm"] = SIZES["roberta"]
SIZES["bart_base"] = (
    SIZES["roberta"] + " --decoder-layers 2 --decoder-embed-dim 32 --decoder-ffn-embed-dim 48 "
    "--decoder-attention-heads 4 --add-prev-output-tokens --share-all-embeddings"
)
ARCHITECTURES = list(SIZES)
EMBEDDINGS = ["cls", "pooled", "mean"]


def build(tiny, arch="roberta", *flags, criterion="sentence_prediction_scl"):
    """Task, model, criterion and one batch of 8 ragged sentences with 5 of one class."""
    arguments = [
        str(tiny.data),
        *f"--task sentence_prediction --num-classes 2 --init-token 0 --arch {arch}".split(),
        *SIZES[arch].split(),
        *f"--criterion {criterion} --max-positions 64 --batch-size 8".split(),
        *map(str, flags),
    ]
    parser = options.get_training_parser()
    cfg = convert_namespace_to_omegaconf(options.parse_args_and_arch(parser, arguments))
    torch.manual_seed(1)
    task = tasks.setup_task(cfg.task)
    model = task.build_model(cfg.model)
    with torch.no_grad():  # at 0.02 all sentences would be nearly the same to so small a model
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.3)
    task.load_dataset("train")
    dataset = task.dataset("train")
    rows = [dataset[i] for i in range(len(dataset))]
    ones = [row for row in rows if row["target"].item() == 1][:5]
    zeros = [row for row in rows if row["target"].item() == 0][:3]
    batch = dataset.collater(ones + zeros)
    assert batch["net_input"]["src_tokens"].eq(task.source_dictionary.pad()).any()
    criterion = task.build_criterion(cfg.criterion)
    return SimpleNamespace(task=task, model=model, criterion=criterion, batch=batch, cfg=cfg)


def expected_embedding(built, kind):
    """The embedding that the contract names, by the model's public functions alone."""
    model, net_input = built.model, built.batch["net_input"]
    pad, eos = built.task.source_dictionary.pad(), built.task.source_dictionary.eos()
    head = model.classification_heads["sentence_classification_head"]
    features = model(**net_input, features_only=True)[0]
    is_bart = "prev_output_tokens" in net_input
    read = net_input["prev_output_tokens"] if is_bart else net_input["src_tokens"]
    rows = []
    for i, states in enumerate(features):
        if is_bart:
            last_eos = net_input["src_tokens"][i].eq(eos).nonzero()[-1, 0]
            cls = states[last_eos]
        else:
            cls = states[0]
        if kind == "cls":
            rows.append(cls)
        elif kind == "pooled":
            rows.append(torch.tanh(F.linear(cls, head.dense.weight, head.dense.bias)))
        else:
            wide = torch.promote_types(states.dtype, torch.float32)
            rows.append(states[read[i].ne(pad)].to(wide).mean(dim=0))
    return torch.stack(rows)


def loop_loss(embedding, targets, temperature):
    z = [reference.normalized(row) for row in embedding.detach().double().tolist()]
    return sum(reference.anchor_losses(z, targets.tolist(), temperature))


@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_loss_is_the_weighted_sum_of_ce_and_scl(tiny, arch, kind):
    flags = ["--scl-lambda", 0.7, "--scl-temperature", 0.2, "--scl-embedding", kind]
    built = build(tiny, arch, *flags)
    built.model.eval()
    loss, sample_size, log = built.criterion(built.model, built.batch)
    stock = build(tiny, arch, criterion="sentence_prediction").criterion
    ce = stock(built.model, built.batch)[0].item()
    targets = built.batch["target"].view(-1)
    scl = loop_loss(expected_embedding(built, kind), targets, 0.2)
    assert scl > 0.1
    assert sample_size == 8
    assert log["ce_loss"].item() == pytest.approx(ce, rel=1e-6)
    assert log["scl_loss"].item() == pytest.approx(scl, rel=1e-5)
    assert loss.item() == pytest.approx(0.3 * ce + 0.7 * scl, rel=1e-5)


def test_xlmr_is_a_roberta(tiny):
    built = build(tiny)
    xlmr = fairseq.models.roberta.XLMRModel(built.model.args, built.model.encoder)
    xlmr.classification_heads = built.model.classification_heads
    built.model.eval()
    loss = built.criterion(built.model, built.batch)[0]
    assert torch.equal(built.criterion(xlmr.eval(), built.batch)[0], loss)


def test_sum_reduction_is_mean_ce_plus_summed_scl_once_the_trainer_divides(tiny):
    built = build(tiny, "roberta", "--scl-reduction", "sum", "--scl-lambda", 0.25)
    built.model.eval()
    loss, sample_size, log = built.criterion(built.model, built.batch)
    divided = loss.item() / sample_size
    expected = 0.75 * log["ce_loss"].item() / 8 + 0.25 * log["scl_loss"].item()
    assert divided == pytest.approx(expected, rel=1e-6)
    assert log["scl_loss"].item() == pytest.approx(
        loop_loss(expected_embedding(built, "cls"), built.batch["target"].view(-1), 0.3), rel=1e-5
    )


@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_gradient_of_scl_alone_reaches_the_encoder(tiny, arch, kind):
    built = build(tiny, arch, "--scl-lambda", 1, "--scl-embedding", kind, "--dropout", 0)
    built.criterion(built.model, built.batch)[0].backward()
    first_layer = built.model.encoder
    first_layer = getattr(first_layer, "sentence_encoder", first_layer).layers[0]
    assert first_layer.fc1.weight.grad.abs().sum() > 1e-3
    out_proj = built.model.classification_heads["sentence_classification_head"].out_proj
    for parameter in out_proj.parameters():
        assert torch.equal(parameter.grad, torch.zeros_like(parameter))


def test_lambda_one_warns(tiny, caplog):
    build(tiny, "roberta", "--scl-lambda", 1)
    assert "leaves the classifier untrained" in caplog.text


def test_lambda_zero_has_the_gradients_of_stock(tiny):
    gradients = []
    for name in ("sentence_prediction_scl", "sentence_prediction"):
        flags = ["--scl-lambda", 0] if name.endswith("scl") else []
        built = build(tiny, "roberta", *flags, criterion=name)
        torch.manual_seed(2)
        built.criterion(built.model, built.batch)[0].backward()
        gradients.append([p.grad for p in built.model.parameters()])
    for ours, stock in zip(*gradients, strict=True):
        assert (ours is None) == (stock is None)
        assert ours is None or torch.equal(ours, stock)


def test_lambda_zero_still_reports_scl(tiny):
    built = build(tiny, "roberta", "--scl-lambda", 0)
    log = built.criterion(built.model.eval(), built.batch)[2]
    assert log["scl_loss"].item() > 0
    assert not log["scl_loss"].requires_grad


@pytest.mark.parametrize("arch", ["roberta", "bart_base"])
def test_one_encoder_forward_an_update(tiny, arch):
    built = build(tiny, arch)
    calls = []
    built.model.encoder.register_forward_hook(lambda *_: calls.append("encoder"))
    head = built.model.classification_heads["sentence_classification_head"]
    head.register_forward_hook(lambda *_: calls.append("head"))
    hooks_before = len(head._forward_hooks) + len(head._forward_pre_hooks)
    built.criterion(built.model, built.batch)
    assert sorted(calls) == ["encoder", "head"]
    assert len(head._forward_hooks) + len(head._forward_pre_hooks) == hooks_before


@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_features(tiny, dtype, kind):
    built = build(tiny, "roberta", "--scl-embedding", kind, "--scl-temperature", 0.01)
    built.model.eval().to(dtype)
    loss, _, log = built.criterion(built.model, built.batch)
    loss.backward()
    assert log["scl_loss"].dtype == torch.float32
    # The model's own half-precision features, from there on in float64: 1 / tau would magnify any
    # half-precision arithmetic in the loss a hundredfold.
    targets = built.batch["target"].view(-1)
    expected = loop_loss(expected_embedding(built, kind), targets, 0.01)
    assert log["scl_loss"].item() == pytest.approx(expected, rel=1e-4)
    gradient = built.model.encoder.sentence_encoder.layers[0].fc1.weight.grad
    assert gradient.isfinite().all()
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("rows", [[0], [0, 7]], ids=["a batch of one", "only singletons"])
def test_batches_without_positives(tiny, rows):
    built = build(tiny, "roberta")
    dataset = built.task.dataset("train")
    items = {dataset[i]["target"].item(): dataset[i] for i in range(len(dataset))}
    batch = dataset.collater([items[label] for label in (0, 1)[: len(rows)]])
    loss, _, log = built.criterion(built.model, batch)
    loss.backward()
    assert log["scl_loss"].item() == 0
    assert loss.item() == pytest.approx(0.1 * log["ce_loss"].item())
    for parameter in built.model.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def test_mean_ignores_padding(tiny):
    built = build(tiny, "roberta", "--scl-embedding", "mean", "--scl-lambda", 1)
    built.model.eval()
    value = built.criterion(built.model, built.batch)[0].item()
    wider = {**built.batch["net_input"]}
    wider["src_tokens"] = F.pad(wider["src_tokens"], (0, 9), value=1)
    padded = {**built.batch, "net_input": wider}
    assert built.criterion(built.model, padded)[0].item() == pytest.approx(value, rel=1e-5)


def test_regression_runs_at_lambda_zero(tiny):
    built = build(tiny, "roberta", "--scl-lambda", 0)
    built.criterion.regression_target = True
    built.model.register_classification_head("sentence_classification_head", num_classes=1)
    sample = {**built.batch, "target": torch.linspace(0, 5, 8).view(-1, 1)}
    loss = built.criterion(built.model.eval(), sample)[0]
    logits = built.model(
        **sample["net_input"], classification_head_name="sentence_classification_head"
    )[0]
    assert loss.item() == pytest.approx(
        ((logits.view(-1) - sample["target"][:, 0]) ** 2).sum().item()
    )


def test_unknown_head_is_named(tiny):
    built = build(tiny)
    heads = built.model.classification_heads
    heads["other"] = heads.pop("sentence_classification_head")
    with pytest.raises(ValueError, match=r"no classification head 'sent.*it has: other"):
        built.criterion(built.model, built.batch)


def reduce(criterion, logs):
    with metrics.aggregate(new_root=True) as aggregator:
        for log in logs:
            criterion.reduce_metrics(log)
    return aggregator.get_smoothed_values()


@pytest.mark.parametrize("summed_over_workers", [False, True])
def test_reports_equal_scikit_learn_over_batches_and_workers(tiny, summed_over_workers):
    from sklearn.metrics import f1_score, matthews_corrcoef

    built = build(tiny, "roberta", "--report-mcc", "--report-acc-and-f1")
    built.model.eval()
    assert built.criterion.logging_outputs_can_be_summed()
    dataset = built.task.dataset("train")
    rows = [dataset[i] for i in range(40)]
    batches = [dataset.collater(rows[i : i + 7]) for i in range(0, 40, 7)]
    logs, predictions, targets = [], [], []
    with torch.no_grad():
        for batch in batches:
            logs.append(built.criterion(built.model, batch)[2])
            logits = built.model(
                **batch["net_input"], classification_head_name="sentence_classification_head"
            )[0]
            predictions += logits.argmax(dim=1).tolist()
            targets += batch["target"].view(-1).tolist()
    assert len(set(predictions)) == 2
    if summed_over_workers:  # what fairseq's all-reduce makes of two workers' outputs
        pairs = zip(logs[::2], logs[1::2], strict=True)
        steps = [[{key: a[key] + b[key] for key in a}] for a, b in pairs]
    else:
        steps = [[log] for log in logs]
    values = reduce(built.criterion, steps)
    accuracy = sum(p == t for p, t in zip(predictions, targets, strict=True)) / 40
    f1 = f1_score(targets, predictions)
    assert values["mcc"] == pytest.approx(100 * matthews_corrcoef(targets, predictions), abs=0.051)
    assert values["f1"] == pytest.approx(100 * f1, abs=0.051)
    assert values["acc_and_f1"] == pytest.approx(50 * (accuracy + f1), abs=0.051)
    for name in ("mcc", "f1", "acc_and_f1"):
        assert type(values[name]) is float  # a NumPy scalar would end up in the checkpoint


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scl_lambda": -0.1}, "between 0 and 1, got -0.1"),
        ({"scl_lambda": float("nan")}, "got nan"),
        ({"scl_temperature": -1.0}, "greater than 0, got -1.0"),
        ({"scl_temperature": float("inf")}, "got inf"),
        ({"regression_target": True}, "use it with --scl-lambda 0, got 0.9"),
    ],
)
def test_config_is_checked_when_the_criterion_is_built(changes, message):
    from scl_fairseq.criterions.sentence_prediction_scl import (
        SentencePredictionSCLConfig,
        SentencePredictionSCLCriterion,
    )

    cfg = SentencePredictionSCLConfig(**changes)
    task = SimpleNamespace(cfg=SimpleNamespace(num_classes=2))
    with pytest.raises(ValueError, match=message):
        SentencePredictionSCLCriterion(cfg, task)


def test_wrapped_by_torch_ddp(tiny):
    """The model's attributes lie one level down in torch's own wrapper."""
    import tempfile

    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{folder}/rendezvous", rank=0, world_size=1
        )
        stack.callback(torch.distributed.destroy_process_group)
        from scl_fairseq.criterions.capture import HeadCapture

        built = build(tiny)
        wrapped = torch.nn.parallel.DistributedDataParallel(
            built.model.eval(), find_unused_parameters=True
        )
        net_input = built.batch["net_input"]
        with HeadCapture(wrapped, "sentence_classification_head", "cls", net_input, 1) as captured:
            wrapped(
                **net_input,
                features_only=True,
                classification_head_name="sentence_classification_head",
            )
        assert captured.embedding().shape == (8, 32)
