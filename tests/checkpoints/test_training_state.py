"""What a criterion keeps in checkpoints, through fairseq's own trainer and command lines."""

from types import SimpleNamespace

import pytest
import torch

from scl_fairseq.checkpoints import loading, training_state, validation
from tests import runs, stock

# A criterion that writes down what it is asked for, and counts its training steps.
PLUGIN = """
import torch
import scl_fairseq
from fairseq.criterions import register_criterion
from scl_fairseq.criterions.sentence_prediction_scl import (
    SentencePredictionSCLConfig, SentencePredictionSCLCriterion
)

def say(*words):
    print("SAID", *words, flush=True)

@register_criterion("counting", dataclass=SentencePredictionSCLConfig)
class CountingCriterion(SentencePredictionSCLCriterion):
    steps = 0

    def prepare_model(self, model):
        say("prepare", type(model).__name__)
        model.register_classification_head("added", num_classes=3, inner_dim=5)
        for parameter in model.encoder.sentence_encoder.embed_positions.parameters():
            parameter.requires_grad = False

    def finish_loading(self, model, train_subset):
        head = model.classification_heads["sentence_classification_head"]
        say("finish", float(model.encoder.lm_head.weight.double().sum()), head.dense.weight.dtype)
        with torch.no_grad():
            head.dense.weight.fill_(0.125)

    def training_state(self):
        if self.steps == 0:
            return None
        return {"steps": self.steps, "rows": torch.arange(self.steps), "kind": "counting"}

    def load_training_state(self, state):
        say("load", state["steps"], state["rows"].tolist(), state["kind"])
        self.steps = state["steps"]

    def forward(self, model, sample, reduce=True):
        self.steps += model.training
        return super().forward(model, sample, reduce)
"""


@pytest.fixture(scope="module")
def plugin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugin") / "counting_plugin"
    folder.mkdir()
    (folder / "__init__.py").write_text(PLUGIN)
    return folder


@pytest.fixture(scope="module")
def finished(tiny, plugin, tmp_path_factory):
    """Five updates of an epoch of eight: what was said, and the checkpoints."""
    folder = tmp_path_factory.mktemp("finished")
    return said(counting(tiny, plugin, folder, "--max-update", 5)), folder


def counting(tiny, plugin, folder, *options):
    arguments = runs.command(tiny, folder, "--user-dir", plugin, *options, criterion="counting")
    return runs.train([*arguments, "--disable-validation"]).stdout


def said(output):
    return [line.split()[1:] for line in output.splitlines() if line.startswith("SAID")]


def test_a_new_training_prepares_then_finishes_once(tiny, finished):
    lines, folder = finished
    encoder = loading_weights(tiny.encoder / "model.pt")
    (prepared, finish) = lines
    assert prepared == ["prepare", "RobertaModel"]
    # By then the weights are the checkpoint's.
    expected = encoder["encoder.lm_head.weight"].double().sum().item()
    assert float(finish[1]) == pytest.approx(expected, rel=1e-6)
    saved = loading_weights(folder / "checkpoint_last.pt")
    assert saved["classification_heads.added.dense.weight"].shape == (5, 32)
    positions = "encoder.sentence_encoder.embed_positions.weight"
    assert torch.equal(saved[positions], encoder[positions])  # frozen before the optimizer was made


def loading_weights(path):
    loading.allow_globals()
    return torch.load(path, map_location="cpu", weights_only=True)["model"]


def test_state_is_plain_and_lies_in_extra_state(finished):
    _, folder = finished
    loading.allow_globals()
    saved = torch.load(folder / "checkpoint_last.pt", weights_only=True)
    state = saved["extra_state"][training_state.KEY]
    assert state["steps"] == 5
    assert state["rows"].tolist() == [0, 1, 2, 3, 4]


def test_a_resumed_training_gets_its_state_back_and_finishes_no_loading(
    tiny, plugin, finished, tmp_path
):
    lines = said(
        counting(
            tiny, plugin, tmp_path, "--max-update", 7, "--restore-file",
            finished[1] / "checkpoint_last.pt",
        )
    )  # fmt: skip
    assert [line[0] for line in lines] == ["prepare", "load"]
    assert lines[1][1:] == ["5", "[0,", "1,", "2,", "3,", "4]", "counting"]
    saved = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    assert saved["extra_state"][training_state.KEY]["steps"] == 7


RESETS = [f"--reset-{what}" for what in ("optimizer", "dataloader", "meters", "lr-scheduler")]


@pytest.mark.parametrize("option", ["--restore-file", "--finetune-from-model"])
def test_a_start_from_its_weights_leaves_the_state_alone(tiny, plugin, finished, tmp_path, option):
    resets = RESETS if option == "--restore-file" else []
    checkpoint = finished[1] / "checkpoint_last.pt"
    words = ["--max-update", 2, option, checkpoint, *resets]
    lines = said(counting(tiny, plugin, tmp_path, *words))
    assert [line[0] for line in lines] == ["prepare", "finish"]
    saved = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    assert saved["extra_state"][training_state.KEY]["steps"] == 2


def test_nothing_to_load_is_a_start(tiny, plugin, tmp_path):
    words = ["--max-update", 1, "--restore-file", tmp_path / "none.pt", "--no-save"]
    lines = said(counting(tiny, plugin, tmp_path, *words))
    assert [line[0] for line in lines] == ["prepare", "finish"]


def test_a_pretrained_model_without_optimizer_is_a_start(tiny, plugin, tmp_path):
    words = ["--max-update", 1, "--restore-file", tiny.encoder / "model.pt", "--no-save"]
    lines = said(counting(tiny, plugin, tmp_path, *words))
    assert [line[0] for line in lines] == ["prepare", "finish"]


def test_loading_is_finished_before_half_precision_copies_the_weights(tiny, plugin, tmp_path):
    """A rate of 0 keeps them: what the optimizer copied is what is saved."""
    words = ["--max-update", 2, "--memory-efficient-fp16", "--lr", "0"]
    lines = said(counting(tiny, plugin, tmp_path, *words))
    assert lines[1][0] == "finish"
    assert lines[1][2] == "torch.float16"
    head = loading_weights(tmp_path / "checkpoint_last.pt")
    dense = head["classification_heads.sentence_classification_head.dense.weight"]
    assert dense.unique().tolist() == [0.125]


def test_loading_is_finished_before_a_copying_optimizer_is_built(tiny, monkeypatch):
    from fairseq.trainer import Trainer

    seen = []
    trainer = Trainer.__new__(Trainer)
    trainer._scl_may_begin, trainer._scl_resets, trainer._optim_history = True, True, []
    trainer._criterion = SimpleNamespace(finish_loading=lambda model, _: seen.append(model))
    trainer._model = "the model"
    trainer.cfg = SimpleNamespace(dataset=SimpleNamespace(train_subset="train"), optimizer=None)
    with pytest.raises(AttributeError):  # its configuration is not enough for an optimizer
        trainer._build_optimizer()
    assert seen == ["the model"]
    with pytest.raises(AttributeError):
        trainer._build_optimizer()
    assert seen == ["the model"]


def test_a_state_that_nobody_asks_for_is_ignored(tiny, finished, tmp_path):
    """The plug-in's other criterions begin from the checkpoint, and leave no state of their own."""
    start = finished[1] / "checkpoint_last.pt"
    output = runs.train(
        runs.command(tiny, tmp_path, "--max-update", 1, "--finetune-from-model", start)
    ).stdout
    assert "done training" in output
    saved = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    assert set(saved["extra_state"][training_state.KEY]) == {
        training_state.TEXT,
        training_state.HEADS,
        training_state.SOURCE,
    }


STOCK_HUB = """
import argparse, sys, torch
from fairseq.models.roberta import RobertaModel
torch.serialization.add_safe_globals([argparse.Namespace])
hub = RobertaModel.from_pretrained(sys.argv[1], "checkpoint_last.pt", sys.argv[2], bpe=None).eval()
with torch.no_grad():
    print(hub.predict("sentence_classification_head", torch.tensor([[0, 5, 6, 2]])).shape)
assert not any(name.startswith("scl_fairseq") for name in sys.modules)
"""


def test_stock_fairseq_fine_tunes_from_it(tiny, finished, tmp_path):
    stock.fine_tune(tiny, finished[1] / "checkpoint_last.pt", tmp_path, "--max-update", 1)


def test_stock_fairseqs_hub_loads_it(tiny, finished):
    assert "torch.Size([1, 2])" in stock.run(STOCK_HUB, finished[1], tiny.data)


def test_installing_again_does_nothing():
    from fairseq import checkpoint_utils
    from fairseq.tasks import FairseqTask
    from fairseq.trainer import Trainer

    import scl_fairseq  # noqa: F401

    before = Trainer.__init__, Trainer.load_checkpoint, Trainer.state_dict, Trainer._build_optimizer
    before += (FairseqTask.valid_step, checkpoint_utils.load_model_ensemble_and_task)
    training_state.install()
    validation.install()
    after = Trainer.__init__, Trainer.load_checkpoint, Trainer.state_dict, Trainer._build_optimizer
    after += (FairseqTask.valid_step, checkpoint_utils.load_model_ensemble_and_task)
    assert before == after
