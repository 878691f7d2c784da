"""Any command as a paraphraser, through augment itself."""

import sys

import pytest

from scl_fairseq.data.paraphrase import EMPTY, Outcome, Request
from scl_fairseq.data.paraphrase_command import ParaphraseCommand

REQUESTS = [Request("a film", (4, 0, 0)), Request("so bad", (4, 1, 0)), Request("fine", (9, 0, 0))]


def run(code, *arguments, temperature=0.3, seed=1, requests=REQUESTS):
    words = " ".join(arguments)
    command = ParaphraseCommand(f'{sys.executable} -c "{code}" {words}')
    return command.paraphrase(requests, temperature, seed)


def test_lines_in_lines_out():
    found = run("import sys; [print(line.strip().upper()) for line in sys.stdin]")
    assert found == [Outcome("A FILM"), Outcome("SO BAD"), Outcome("FINE")]


def test_temperature_and_seed_are_filled_in():
    code = "import sys; [print(*sys.argv[1:]) for _ in sys.stdin]"

    def told(**others):
        return {one.text for one in run(code, "{temperature}", "{seed}", **others)}

    (first,) = told()
    assert first.startswith("0.3 ")
    assert told() == {first}
    assert told(seed=2) != {first}
    assert told(requests=REQUESTS[:2]) != {first}  # another shard
    assert ParaphraseCommand("x {temperature}").needs_temperature
    assert not ParaphraseCommand("x {seed}").needs_temperature


def test_an_empty_line_is_no_paraphrase():
    found = run("import sys; [print('' if i == 1 else 'x') for i, _ in enumerate(sys.stdin)]")
    assert found == [Outcome("x"), Outcome(None, EMPTY), Outcome("x")]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('one line')", "wrote 1 lines, expected 3"),
        ("import sys; sys.exit('no model')", "failed with exit code 1: no model"),
        ("import sys; sys.stdout.buffer.write(bytes([255, 10] * 3))", "wrote no UTF-8"),
    ],
)
def test_what_a_command_does_wrong(code, message):
    with pytest.raises(ValueError, match=message):
        run(code)


def test_what_is_no_command():
    for command, message in [
        ("", "is empty"),
        ("a 'b", "No closing quotation"),
        ("a {unknown}", "unknown.*are filled in"),
    ]:
        with pytest.raises(ValueError, match=message):
            ParaphraseCommand(command)
    with pytest.raises(OSError, match="no-such-command"):
        ParaphraseCommand("no-such-command").paraphrase(REQUESTS, None, 0)
