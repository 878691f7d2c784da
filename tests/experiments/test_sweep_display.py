"""What a sweep shows while it runs."""

from types import SimpleNamespace

from scl_fairseq.experiments.sweep_display import SweepDisplay, best_settings

KEYS = ["task", "sample", "seed", "scl-lambda"]


def record(task, sample, scl_lambda, accuracy, **more):
    setting = {"task": task, "sample": sample, "seed": 1, "scl-lambda": scl_lambda, "lr": 1}
    return {
        "setting": setting,
        "grid_keys": KEYS,
        "best_valid_accuracy": accuracy,
        "wall_seconds": 3,
        "collapsed": False,
        **more,
    }


def test_best_settings_are_means_of_validation_accuracy_the_best_of_each_task_first():
    records = [
        record("SST-2", 0, 0, 60.0, test_accuracy=99),
        record("SST-2", 1, 0, 70.0, test_accuracy=99),
        record("SST-2", 0, 0.9, 80.0, test_accuracy=1),
        record("SST-2", 1, 0.9, 90.0, test_accuracy=1),
        record("RTE", 0, 0, 55.0),
        record("RTE", 0, 0.9, 50.0),
    ]
    assert best_settings(records) == [
        ("SST-2 scl-lambda=0.9", [80.0, 90.0]),
        ("RTE scl-lambda=0", [55.0]),
        ("SST-2 scl-lambda=0", [60.0, 70.0]),
        ("RTE scl-lambda=0.9", [50.0]),
    ]


def trial(number):
    return SimpleNamespace(
        id=str(number),
        name=f"sample={number}",
        max_epoch=4,
    )


def test_lines_where_there_is_no_terminal(capsys):
    trials = [trial(i) for i in range(4)]
    with SweepDisplay() as display:
        display.start(trials, [record("SST-2", 0, 0, 60.0)])
        display.epoch(trials[1], 2)
        display.done(trials[1], record("SST-2", 1, 0, 70.0, collapsed=True))
        display.failed(trials[2], "RuntimeError: out of memory")
        display.done(trials[3], record("SST-2", 1, 0, 80.0))
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "1 of 4 trials have a result already"
    assert lines[1].startswith("2 done, 0 failed, 2 left: sample=1: validation 70.0 %, no better")
    assert lines[1].endswith(" s left")
    assert "2 done, 1 failed, 1 left: sample=2: FAILED, RuntimeError: out of memory" in lines[2]
    assert lines[3].endswith("no trial left")


def test_the_evaluation_after_the_last_epoch_takes_time_too():
    display = SweepDisplay()
    display.start([trial(0)], [])
    display._started -= 100  # seconds ago
    display.epoch(trial(0), 4)
    assert display._time_left() == "about 0 h 00 min 25 s left"


def test_the_terminal_shows_bar_and_table():
    from rich.console import Console

    display = SweepDisplay()
    display.start([trial(0), trial(1)], [])
    display.done(trial(0), record("SST-2", 0, 0.9, 61.5))
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(display._render())
    text = console.export_text()
    assert "SST-2 scl-lambda=0.9" in text
    assert "61.5 %" in text
    assert "1 done, 0 failed, 1 left" in text
