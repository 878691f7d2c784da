"""A report as Markdown, LaTeX, CSV or one HTML page."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Callable, Mapping, Sequence

from scl_fairseq.experiments import tables
from scl_fairseq.experiments.report import Report

NO_ROWS = "Nothing to show."
NO_MATPLOTLIB = "Figures need matplotlib: pip install '.[plot]' in a clone of scl-fairseq"


def _one_line(text: str) -> str:
    """Without line breaks, tabs and what else a log may hold that is not for print."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def markdown(report: Report) -> str:
    """Headings, tables whose columns line up, and their notes."""

    def escape(text: str) -> str:
        return re.sub(r"<(?=[A-Za-z/!])", r"\<", _one_line(text)).replace("|", r"\|")

    lines = [f"# {escape(report.title)}", "", *(f"- {escape(line)}" for line in report.summary)]
    for table in report.tables:
        lines += ["", f"## {escape(table.title)}", ""]
        rows = [list(map(escape, row)) for row in table.texts]
        left = table.text_columns
        lines.append(tables.markdown(table.header, rows, left) if rows else NO_ROWS)
        lines += ["", *(f"- {escape(note)}" for note in table.notes)]
    return "\n".join(lines) + "\n"


_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "±": r"$\pm$",
    "—": "---",
    "[": "{[}",  # after a line's end it would be an option
    "*": "{*}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
}


def _latex(text: str) -> str:
    escaped = "".join(_LATEX.get(character, character) for character in _one_line(text))
    return re.sub(r"(?<!\S)-(?=\d)", "$-$", escaped)


def latex(report: Report) -> str:
    """One ``table`` with booktabs' rules for each, to be included in a document."""
    lines = [
        f"% {_one_line(report.title)}",
        r"% needs \usepackage{booktabs} and \usepackage[T1]{fontenc}",
        *(f"% {_one_line(line)}" for line in report.summary),
    ]
    for table in report.tables:
        left = table.text_columns
        alignment = "".join("l" if i in left else "r" for i in range(len(table.columns)))
        lines += [
            "",
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(table.title)}}}",
            rf"\label{{tab:{table.name}}}",
            rf"\begin{{tabular}}{{{alignment}}}",
            r"\toprule",
            " & ".join(map(_latex, table.header)) + r" \\",
            r"\midrule",
            *(" & ".join(map(_latex, row)) + r" \\" for row in table.texts),
            r"\bottomrule",
            r"\end{tabular}",
            *(rf"\par\footnotesize {_latex(note)}" for note in table.notes),
            r"\end{table}",
        ]
    return "\n".join(lines) + "\n"


def to_csv(report: Report) -> str:
    """Raw values of all tables in one: ``table`` names the one a line is of, the last are notes."""
    names = dict.fromkeys(
        name for table in report.tables for column in table.columns for name in column.raw
    )
    out = io.StringIO()
    writer = csv.DictWriter(out, ["table", *names, "note"], restval="", lineterminator="\n")
    writer.writeheader()
    for table in report.tables:
        raw = [name for column in table.columns for name in column.raw]
        for row in table.rows:
            values = [value for entry in row for value in entry.raw]
            writer.writerow({"table": table.name, **dict(zip(raw, values, strict=True))})
    for line in report.summary:
        writer.writerow({"table": "summary", "note": _one_line(line)})
    for table in report.tables:
        for note in table.notes:
            writer.writerow({"table": table.name, "note": _one_line(note)})
    return out.getvalue()


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1b1b1b; background: #fff;
       max-width: 80rem; margin: 2rem auto; padding: 0 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.875rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.3rem 0.7rem; text-align: right; vertical-align: top; white-space: nowrap; }
.text { text-align: left; } .long { white-space: normal; min-width: 16rem; }
thead { border-top: 2px solid; border-bottom: 1px solid; } tbody { border-bottom: 2px solid; }
tbody tr:nth-child(even) { background: #f4f5f7; }
ul { color: #444; font-size: 0.875rem; max-width: 60rem; }
figure { margin: 1.5rem 0; } figure svg { max-width: 100%; height: auto; }
"""
_LONG = 40  # characters, from which a field may break into lines


def to_html(report: Report) -> str:
    """One page that needs nothing else: style and figures are part of it."""

    def escape(text: str) -> str:
        return html.escape(_one_line(text))

    def items(lines: Sequence[str]) -> list[str]:
        return ["<ul>", *(f"<li>{escape(line)}</li>" for line in lines), "</ul>"]

    def fields(tag: str, texts: Sequence[str], left: set[int]) -> str:
        found = []
        for index, text in enumerate(texts):
            kinds = ["text"] * (index in left) + ["long"] * (len(text) > _LONG)
            kind = f' class="{" ".join(kinds)}"' if kinds else ""
            found.append(f"<{tag}{kind}>{escape(text)}</{tag}>")
        return f"<tr>{''.join(found)}</tr>"

    title = escape(report.title)
    lines = [
        "<!DOCTYPE html>",
        '<html lang="en">',
        '<head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{title}</title>",
        f"<style>{_STYLE}</style></head>",
        f"<body><h1>{title}</h1>",
        *items(report.summary),
    ]
    for table in report.tables:
        left = table.text_columns
        lines.append(f'<h2 id="{table.name}">{escape(table.title)}</h2>')
        if table.rows:
            lines += [
                '<div class="wide"><table>',
                f"<thead>{fields('th', table.header, left)}</thead>",
                "<tbody>",
                *(fields("td", row, left) for row in table.texts),
                "</tbody></table></div>",
            ]
        else:
            lines.append(f"<p>{NO_ROWS}</p>")
        lines += items(table.notes)
    lines.append('<h2 id="figures">Figures</h2>')
    figures = _draw(report)
    if figures is None:
        lines.append(f"<p>{escape(NO_MATPLOTLIB)}</p>")
    else:
        for name, svg in figures.items():
            lines += [f"<h3>{escape(name)}</h3>", f"<figure>{svg}</figure>"]
    return "\n".join([*lines, "</body></html>"]) + "\n"


def _draw(report: Report) -> Mapping[str, str] | None:
    """The figures as SVG by title, None without matplotlib."""
    try:
        import matplotlib  # noqa: F401 (the next import may be an old one)

        from scl_fairseq.experiments.result_figures import figures_for, render
    except ImportError:
        return None
    figures = figures_for(list(report.results), report.configs, report.top)
    return {
        title: _inline(render(figure, "svg").decode(), f"figure{number}-", title)
        for number, (title, figure) in enumerate(figures.items(), start=1)
    }


def _inline(svg: str, prefix: str, title: str) -> str:
    """An SVG document as a part of an HTML page, its ids told apart from other figures'."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)  # HTML knows them
    svg = re.sub(r'( id="|href="#|url\(#)', rf"\g<1>{prefix}", svg)
    label = html.escape(_one_line(title))
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).rstrip()


FORMATS: Mapping[str, Callable[[Report], str]] = {
    "markdown": markdown,
    "latex": latex,
    "csv": to_csv,
    "html": to_html,
}
