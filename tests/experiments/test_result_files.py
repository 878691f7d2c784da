"""Lines that are whole or not there."""

import json

import pytest

from scl_fairseq.experiments.result_files import LineFile, exclusive


def test_lines_are_appended_and_read_again(tmp_path):
    path = tmp_path / "results.jsonl"
    LineFile(path).append({"trial": "a", "name": "ä\n"})
    lines = LineFile(path)
    lines.append({"trial": "b"})
    assert lines.records == [{"trial": "a", "name": "ä\n"}, {"trial": "b"}]
    assert LineFile(path).records == lines.records
    assert path.read_bytes().count(b"\n") == 2


@pytest.mark.parametrize("left", [b"{", b'{"trial": "b"', b'{"trial": "b"}'])
def test_what_a_killed_process_has_left_is_cut_off(tmp_path, left):
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"trial": "a"}\n' + left)
    assert LineFile(path).records == [{"trial": "a"}]
    assert path.read_bytes() == b'{"trial": "a"}\n'


@pytest.mark.parametrize("line", ["no", "[1]", "{}", ""])
def test_another_damage_is_named_and_nothing_is_changed(tmp_path, line):
    path = tmp_path / "results.jsonl"
    text = f'{{"trial": "a"}}\n{line}\n{{"trial": "b"}}\n'
    path.write_text(text)
    with pytest.raises(ValueError, match=r"results.jsonl:2: not a trial's line"):
        LineFile(path)
    assert path.read_text() == text


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    import os

    path = tmp_path / "results.jsonl"
    lines = LineFile(path)
    lines.append({"trial": "a"})
    original = os.write
    monkeypatch.setattr(os, "write", lambda file, data: original(file, data[:5]))
    with pytest.raises(OSError, match="no space"):
        lines.append({"trial": "b"})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [{"trial": "a"}]
    assert lines.records == [{"trial": "a"}]


def test_a_folder_is_held_by_one(tmp_path):
    with exclusive(tmp_path), pytest.raises(ValueError, match="in use"), exclusive(tmp_path):
        pass
    with exclusive(tmp_path):
        pass
