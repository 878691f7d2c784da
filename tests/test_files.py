import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from scl_fairseq.files import link_or_copy, replaced_file, replaced_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_result_takes_its_place_whole(tmp_path):
    place = tmp_path / "above" / "result"
    for name in ("first", "second"):
        with replaced_folder(place) as folder:
            (folder / name).touch()
            assert name not in (names(place) if place.exists() else [])
        assert names(place) == [name]
    assert names(tmp_path / "above") == ["result"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_interrupted_block_changes_nothing(tmp_path, error):
    def write_half(place):
        with replaced_folder(place) as folder:
            (folder / "half").touch()
            raise error

    with pytest.raises(error):
        write_half(tmp_path / "new" / "above" / "result")
    assert names(tmp_path) == []
    (tmp_path / "result").mkdir()
    (tmp_path / "result" / "old").touch()
    with pytest.raises(error):
        write_half(tmp_path / "result")
    assert names(tmp_path) == ["result"]
    assert names(tmp_path / "result") == ["old"]


def test_a_file_takes_its_place_whole(tmp_path):
    place = tmp_path / "above" / "result"
    with replaced_file(place) as file:
        file.write(b"first")
        assert not place.exists()
    with pytest.raises(ValueError, match="half"), replaced_file(place) as file:  # noqa: PT012
        file.write(b"second")
        raise ValueError("half")
    assert place.read_bytes() == b"first"
    assert names(tmp_path / "above") == ["result"]


def test_a_link_or_else_a_copy(tmp_path, monkeypatch):
    (tmp_path / "source").write_text("text")
    (tmp_path / "alias").symlink_to(tmp_path / "source")
    link_or_copy(tmp_path / "alias", tmp_path / "link")
    assert (tmp_path / "link").samefile(tmp_path / "source")
    assert not (tmp_path / "link").is_symlink()

    def refuse(*_):
        raise OSError("another file system")

    monkeypatch.setattr(os, "link", refuse)
    link_or_copy(tmp_path / "alias", tmp_path / "copy")
    assert (tmp_path / "copy").read_text() == "text"
    assert not (tmp_path / "copy").samefile(tmp_path / "source")


def test_what_is_not_ours_stays(tmp_path):
    (tmp_path / "thesis.txt").touch()
    for place in (tmp_path, tmp_path / "thesis.txt"):
        with (
            pytest.raises(ValueError, match=r"holds something else|is a file"),
            replaced_folder(place, is_ours=lambda folder: not names(folder)),
        ):
            pass
    assert names(tmp_path) == ["thesis.txt"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with replaced_folder(tmp_path / "link") as folder:
        (folder / "new").touch()
    assert (tmp_path / "link").is_symlink()
    assert names(tmp_path / "real") == ["new"]


def test_the_current_folder_is_not_replaced(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "old").touch()
    monkeypatch.chdir(tmp_path / "here")
    for place in (".", tmp_path / "here", tmp_path):
        with pytest.raises(ValueError, match="current folder"), replaced_folder(Path(place)):
            pass
    assert names(tmp_path / "here") == ["old"]


def test_what_came_meanwhile_stays(tmp_path):
    def write_into(place):
        with replaced_folder(place, is_ours=lambda folder: False) as folder:
            (folder / "new").touch()
            place.mkdir()
            (place / "thesis.txt").touch()

    with pytest.raises(ValueError, match="holds something else"):
        write_into(tmp_path / "result")
    assert names(tmp_path / "result") == ["thesis.txt"]
    assert names(tmp_path) == ["result"]


def test_the_umask_holds(tmp_path):
    before = os.umask(0o027)
    try:
        with replaced_folder(tmp_path / "result"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "result").stat().st_mode & 0o777 == 0o750


def test_parents_go_again_when_the_last_cannot_be_made(tmp_path):
    with pytest.raises(OSError), replaced_folder(tmp_path / "new" / ("x" * 300) / "result"):  # noqa: PT011
        pass
    assert names(tmp_path) == []


KILLED = """
import os, signal, sys
from pathlib import Path
from scl_fairseq import files
with files.replaced_folder(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    if sys.argv[2] == "in the swap":
        place, old = Path(sys.argv[1]), folder.with_suffix(".old")
        place.rename(old)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("when", ["while writing", "in the swap"])
def test_what_a_killed_run_left_goes_with_the_next(tmp_path, when):
    place = tmp_path / "result"
    place.mkdir()
    (place / "old").touch()
    done = subprocess.run([sys.executable, "-c", KILLED, place, when], check=False)
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.glob(".result.*.new")
    running = left.with_name(left.name.replace(left.name.split(".")[3], str(os.getpid()), 1))
    running.mkdir()  # of a run that goes on

    def write_again():
        with replaced_folder(place, is_ours=lambda folder: names(folder) == ["old"]):
            assert names(place) == ["old"]
            raise InterruptedError

    for is_old in (False, True):  # at first it may be somebody's whom we cannot see
        if is_old:
            os.utime(left, (0, 0))
        with pytest.raises(InterruptedError):
            write_again()
        assert left.exists() != is_old
    assert names(tmp_path) == [running.name, "result"]
