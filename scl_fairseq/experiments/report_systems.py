"""The table of a report that says what its systems are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from scl_fairseq.experiments import tables
from scl_fairseq.experiments.report_cells import plain_columns
from scl_fairseq.experiments.results import Result
from scl_fairseq.experiments.settings import DATA_KEYS, SYSTEM, canonical, first_stage
from scl_fairseq.experiments.tables import NOTHING, Entry, Table

# They follow from the data and the other options.
_DERIVED = (*DATA_KEYS, SYSTEM, "seed", "total-num-update", "warmup-updates")
# Value by canonical value, by option.
_Options = dict[str, dict[tuple, object]]


def system_table(results: Iterable[Result], systems: Sequence[str]) -> Table:
    """The options that tell systems apart, and those of first stages that the second has not.

    Args:
        results: finished trials.
        systems: their names, in the order of the rows; those without a trial have no row.
    """
    results = list(results)
    systems = [name for name in systems if any(result.loss == name for result in results)]
    own: dict[str, _Options] = {name: {} for name in systems}
    first: dict[str, _Options] = {name: {} for name in systems}
    for result in results:
        _collect(own[result.loss], result.setting)
        _collect(first[result.loss], first_stage(result.setting))
    rows = []
    for name in systems:
        apart = {
            key: values
            for key, values in own[name].items()
            if any(values.keys() != other.get(key, {}).keys() for other in own.values())
        }
        stage = {
            key: values
            for key, values in first[name].items()
            if values.keys() != own[name].get(key, {}).keys()
        }
        rows.append((tables.text(name), _options(apart), _options(stage)))
    notes = (
        "options: those that not all systems have, or have otherwise; of CE+SCL's own, the others "
        "are at their defaults. first stage: a training from whose last weights the trial starts; "
        "its options where the trial has others or none.",
    )
    columns = plain_columns(("system", "options", "first stage"))
    return Table("systems", "Systems", tuple(columns), tuple(rows), notes)


def _collect(found: _Options, setting: Mapping[str, object]) -> None:
    for key, value in setting.items():
        if key not in _DERIVED and "." not in key:
            found.setdefault(key, {})[canonical(value)] = value


def _options(found: _Options) -> Entry:
    parts = []
    for key, values in sorted(found.items()):
        listed = [tables.setting_value(values[one]).text for one in sorted(values)]
        # A flag is there or not.
        parts.append(key if listed == ["True"] else f"{key} {' or '.join(listed)}")
    return tables.text(", ".join(parts) or NOTHING)
