"""A classifier's view of a data set against the same model, one sentence at a time."""

import numpy as np
import pytest
import torch
from fairseq.models.transformer import TransformerEncoder
from hypothesis import given
from hypothesis import strategies as st

import scl_fairseq  # noqa: F401
from scl_fairseq.batching import batches_by_length
from scl_fairseq.inference import evaluation

HEAD = "sentence_classification_head"


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.integers(1, 200))
def test_batches_hold_every_index_once_and_few_padding(lengths, max_tokens):
    batches = batches_by_length(lengths, max_tokens)
    assert sorted(i for batch in batches for i in batch) == list(range(len(lengths)))
    for batch in batches:
        longest = max(lengths[i] for i in batch)
        assert len(batch) == 1 or len(batch) * longest <= max_tokens
    order = [lengths[i] for batch in batches for i in batch]
    assert order == sorted(lengths, reverse=True)


class Sentences:
    """What evaluation needs of a fairseq data set."""

    def __init__(self, rows, pad):
        self.rows, self.pad = rows, pad

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return index

    def num_tokens(self, index):
        return len(self.rows[index])

    def collater(self, chosen):
        rows = [torch.tensor(self.rows[i]) for i in chosen]
        tokens = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=self.pad)
        return {
            "id": torch.tensor(chosen),
            "net_input": {
                "src_tokens": tokens,
                "src_lengths": torch.tensor([len(row) for row in rows]),
            },
            "target": torch.tensor([[i % 3] for i in chosen]),
        }


def classifier(**settings):
    from argparse import Namespace

    from fairseq.data import Dictionary
    from fairseq.models.roberta import RobertaModel
    from fairseq.models.roberta.model import base_architecture

    dictionary = Dictionary()
    for index in range(40):
        dictionary.add_symbol(f"word{index}")
    sizes = {
        "encoder_layers": 3,
        "encoder_embed_dim": 24,
        "encoder_ffn_embed_dim": 48,
        "encoder_attention_heads": 4,
        "max_positions": 64,
        "tokens_per_sample": 64,
    }
    args = Namespace(**{**sizes, **settings})
    base_architecture(args)
    torch.manual_seed(1)
    task = type("Task", (), {"source_dictionary": dictionary, "dictionary": dictionary})
    model = RobertaModel.build_model(args, task)
    model.register_classification_head(HEAD, num_classes=3)
    for parameter in model.parameters():  # RoBERTa's 0.02 would hide most mistakes
        torch.nn.init.normal_(parameter, std=0.3)
    rng = np.random.default_rng(0)
    rows = [[0, *rng.integers(4, 40, rng.integers(0, 40)).tolist(), 2] for _ in range(37)]
    return model, Sentences(rows, dictionary.pad())


def one_by_one(model, dataset):
    model.eval()
    with torch.no_grad():
        return torch.cat(
            [
                model(torch.tensor([row]), features_only=True, classification_head_name=HEAD)[0]
                for row in dataset.rows
            ]
        )


SETTINGS = [{}, {"encoder_normalize_before": True}, {"activation_fn": "relu"}]


@pytest.mark.parametrize("settings", SETTINGS, ids=["post-norm", "pre-norm", "relu"])
@pytest.mark.parametrize("max_tokens", [1, 100, 5000])
def test_logits_and_head_inputs_are_those_of_single_sentences(settings, max_tokens):
    model, dataset = classifier(**settings)
    expected = one_by_one(model, dataset)
    batches = evaluation.LengthSortedBatches(dataset, max_tokens)
    reading = evaluation.read_dataset(model, batches, HEAD)
    torch.testing.assert_close(reading.logits, expected, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        replayed = model.classification_heads[HEAD](reading.inputs[:, None])
    torch.testing.assert_close(replayed, expected, rtol=1e-5, atol=1e-5)
    assert reading.targets.tolist() == [i % 3 for i in range(len(dataset))]


def test_the_model_is_left_as_it_was():
    model, dataset = classifier()
    batches = evaluation.LengthSortedBatches(dataset, 200)
    for training in (True, False):
        model.train(training)
        evaluation.read_dataset(model, batches, HEAD)
        assert model.training is training
    assert type(model.encoder.sentence_encoder) is TransformerEncoder
    assert not model.classification_heads[HEAD]._forward_pre_hooks
    features, _ = model.eval()(torch.tensor([dataset.rows[0]]), features_only=True)
    assert features.shape[1] == len(dataset.rows[0])


def test_a_data_set_without_labels_and_what_is_told_of_it():
    model, dataset = classifier()
    batches = evaluation.LengthSortedBatches(dataset, 100)
    expected = evaluation.read_dataset(model, batches, HEAD)
    for batch in batches.batches:
        del batch["target"]
    told = []
    reading = evaluation.read_dataset(
        model, batches, HEAD, keep_inputs=False, on_progress=lambda *counts: told.append(counts)
    )
    assert (reading.targets, reading.inputs) == (None, None)
    assert torch.equal(reading.logits, expected.logits)
    done = np.cumsum([len(batch["id"]) for batch in batches.batches]).tolist()
    assert told == [(count, len(dataset)) for count in done]
    assert len(told) > 2


def test_another_head_is_run_but_not_replayed():
    model, dataset = classifier()

    class MeanHead(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.out_proj = torch.nn.Linear(24, 3)

        def forward(self, features, **kwargs):
            return self.out_proj(features.mean(dim=1))

    model.classification_heads[HEAD] = MeanHead()
    reading = evaluation.read_dataset(model, evaluation.LengthSortedBatches(dataset, 1), HEAD)
    assert reading.inputs is None
    torch.testing.assert_close(reading.logits, one_by_one(model, dataset), rtol=1e-5, atol=1e-5)


def test_only_the_head_position_of_the_last_layer_is_computed():
    model, dataset = classifier()
    last = model.encoder.sentence_encoder.layers[-1]
    seen = []
    hook = last.final_layer_norm.register_forward_hook(
        lambda module, args, output: seen.append(len(output))
    )
    evaluation.read_dataset(model, evaluation.LengthSortedBatches(dataset, 500), HEAD)
    hook.remove()
    assert sum(seen) == len(dataset)
