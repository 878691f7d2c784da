"""Sizes of tiles by the memory that is free, without a GPU: what torch tells of one is made up."""

import pytest
import torch

from scl_fairseq.losses import supervised_contrastive_loss, tiled, tiles

CUDA = torch.device("cuda")
GIB = 2**30


@pytest.fixture
def card(monkeypatch):
    """``card(free, held, used, limit)``, in bytes: of the driver, of torch, of its tensors."""

    def set_up(free, held=0, used=0, limit=1.0, total=80 * GIB):
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free, total))
        monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: held)
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: used)
        monkeypatch.setattr(
            torch.cuda, "get_per_process_memory_fraction", lambda device: limit, raising=False
        )

    return set_up


@pytest.mark.parametrize(
    ("free", "held", "used", "limit", "expected"),
    [
        (10 * GIB, 0, 0, 1.0, 10 * GIB),
        (10 * GIB, 5 * GIB, 2 * GIB, 1.0, 13 * GIB),  # torch's own cache can be used
        (10 * GIB, 5 * GIB, 2 * GIB, 0.05, 2 * GIB),
        (10 * GIB, 5 * GIB, 5 * GIB, 0.05, 0),  # past the limit
    ],
)
def test_free_memory(card, free, held, used, limit, expected):
    card(free, held, used, limit)
    assert tiles.free_memory(CUDA) == expected


def test_older_versions_of_torch_tell_no_limit(card, monkeypatch):
    card(10 * GIB, limit=0.01)
    monkeypatch.delattr(torch.cuda, "get_per_process_memory_fraction")
    assert tiles.free_memory(CUDA) == 10 * GIB


def test_tiles_are_smaller_only_where_memory_is_scarce(card):
    found = {}
    for free in (80 * GIB, 20 * GIB, 2 * GIB, GIB // 2, GIB // 8, 0):
        card(free)
        found[free] = tiles.tile_for(CUDA)
    assert list(found.values()) == [4096, 4096, 4096, 2048, 1024, 512]
    assert tiles.tile_for(torch.device("cpu")) == tiles.CPU_TILE


def test_memory_is_asked_for_only_where_it_matters(monkeypatch):
    def fail(*_):
        raise AssertionError("a driver call in every update")

    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    assert not tiles.exceeds_tile(512**2, CUDA)
    with pytest.raises(AssertionError):
        tiles.exceeds_tile(512**2 + 1, CUDA)


class Rows:
    """As much of a tensor as is asked for."""

    device = CUDA

    def __init__(self, rows, width):
        self._numbers = rows * width

    def numel(self):
        return self._numbers

    def element_size(self):
        return 4


def test_kept_tiles_take_half_of_what_backward_leaves(card):
    card(100 * GIB, total=140 * GIB)
    rows = Rows(262_144, 1024)
    kept = 4 * tiles.room_for_tiles(rows, 4096)
    assert 40 * GIB < kept < 50 * GIB
    # All that is needed under a limit of 4 GB, with rows and their unit copies already there.
    used = 2 * 4 * rows.numel()
    limit = 4e9
    card(100 * GIB, used, used, limit / (140 * GIB), total=140 * GIB)
    kept = 4 * tiles.room_for_tiles(rows, 4096)
    needed = used + 4 * rows.numel() + tiles.TEMPORARIES * 4 * 4096**2
    assert kept > 0
    assert needed + kept < limit
    card(0)
    assert tiles.room_for_tiles(rows, 4096) == 0


@pytest.mark.parametrize("temperature", [0.01, 0.3])
def test_how_many_tiles_are_kept_changes_no_bit(monkeypatch, temperature):
    monkeypatch.setattr(tiles, "CPU_TILE", 16)
    rows = torch.randn(100, 12, generator=torch.Generator().manual_seed(0))
    found = []
    for room in (0, 1000, 10**9):
        monkeypatch.setattr(tiled, "room_for_tiles", lambda *_, room=room: room)
        leaf = rows.clone().requires_grad_()
        loss = supervised_contrastive_loss(leaf, torch.arange(100) % 4, temperature)
        loss.backward()
        found.append((loss.item(), leaf.grad))
    for value, gradient in found[1:]:
        assert value == found[0][0]
        assert torch.equal(gradient, found[0][1])
