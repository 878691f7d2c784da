"""A batch in chunks is the batch: same loss, same gradients, and no more than a chunk at a time."""

import pytest
import torch

from scl_fairseq.criterions import chunks
from tests.criterions.test_sentence_prediction_scl import ARCHITECTURES, EMBEDDINGS, build
from tests.data_parallel import relative_difference

NO_DROPOUT = ["--dropout", 0, "--attention-dropout", 0, "--pooler-dropout", 0]


def loss_and_gradients(tiny, arch, *flags, seed=5):
    """Of the batch of 8 with the model in training mode, and what was logged."""
    built = build(tiny, arch, *flags)
    built.model.double().train()  # in float32 shorter padding alone moves gradients by 2e-6
    torch.manual_seed(seed)
    loss, sample_size, log = built.criterion(built.model, built.batch)
    loss.backward()
    named = built.model.named_parameters()
    gradients = {name: p.grad for name, p in named if p.grad is not None}
    return loss.item(), sample_size, log, gradients


@pytest.mark.parametrize("kind", EMBEDDINGS)
@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("size", [1, 3, 100])
def test_gradients_are_those_of_the_whole_batch(tiny, arch, kind, size):
    flags = [*NO_DROPOUT, "--scl-embedding", kind, "--scl-temperature", 0.2]
    loss, sample_size, log, gradients = loss_and_gradients(tiny, arch, *flags)
    chunked = loss_and_gradients(tiny, arch, *flags, "--scl-chunk-size", size)
    assert chunked[0] == pytest.approx(loss, rel=1e-6)
    assert chunked[1] == sample_size
    for key in ("ce_loss", "scl_loss", "ncorrect"):
        assert float(chunked[2][key]) == pytest.approx(float(log[key]), rel=1e-5)
    assert relative_difference(chunked[3], gradients) < 1e-6


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_with_dropout_it_is_the_same_chunks_kept(tiny, arch, monkeypatch):
    """What is computed again in backward has the random numbers of the first time, to the bit."""
    flags = ["--scl-chunk-size", 3, "--dropout", 0.3, "--attention-dropout", 0.2]
    dropped = loss_and_gradients(tiny, arch, *flags)
    monkeypatch.setattr(chunks, "checkpoint", lambda run, *args, use_reentrant: run(*args))
    kept = loss_and_gradients(tiny, arch, *flags)
    assert dropped[0] == kept[0]
    assert dropped[3].keys() == kept[3].keys()
    assert all(torch.equal(dropped[3][name], kept[3][name]) for name in kept[3])
    monkeypatch.undo()
    assert loss_and_gradients(tiny, arch, *flags, seed=6)[0] != kept[0]  # dropout is on


def test_no_more_than_a_chunk_is_computed_at_a_time_and_all_but_the_last_twice(tiny):
    built = build(tiny, "roberta", "--scl-chunk-size", 3)
    sizes = []
    encoder = built.model.encoder
    encoder.register_forward_pre_hook(lambda module, args: sizes.append(tuple(args[0].shape)))
    built.model.train()
    loss = built.criterion(built.model, built.batch)[0]
    pad = built.task.source_dictionary.pad()
    lengths = built.batch["net_input"]["src_tokens"].ne(pad).sum(dim=1)
    expected = [(len(part), int(part.max())) for part in lengths.split(3)]
    assert len({length for _, length in expected}) > 1  # each is cut to its own longest
    assert sizes == expected
    loss.backward()
    assert sizes[3:] == expected[1::-1]


def kept_for_backward(built):
    """How many numbers a forward pass keeps."""
    kept = []

    def keep(tensor):
        kept.append(tensor.numel())
        return tensor

    built.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        built.criterion(built.model, built.batch)
    return sum(kept)


def test_less_is_kept_for_backward(tiny):
    whole = kept_for_backward(build(tiny, "roberta"))
    assert kept_for_backward(build(tiny, "roberta", "--scl-chunk-size", 2)) < 0.5 * whole


def test_validation_takes_the_batch_as_it_is(tiny):
    built = build(tiny, "roberta", "--scl-chunk-size", 3)
    sizes = []
    built.model.encoder.register_forward_pre_hook(lambda _, args: sizes.append(len(args[0])))
    built.model.eval()
    with torch.no_grad():
        built.criterion(built.model, built.batch)
    assert sizes == [8]


def test_the_model_is_itself_again_afterwards(tiny):
    built = build(tiny, "roberta", "--scl-chunk-size", 3)
    built.criterion(built.model, built.batch)
    assert "forward" not in vars(built.model)
    with pytest.raises(RuntimeError):
        built.criterion(built.model, {**built.batch, "net_input": {"src_tokens": torch.ones(1)}})
    assert "forward" not in vars(built.model)


def test_a_size_below_zero_is_refused(tiny):
    with pytest.raises(ValueError, match="--scl-chunk-size must be 0 or more, got -1"):
        build(tiny, "roberta", "--scl-chunk-size", -1)
