"""The page itself: HTML, style and script, which ask nothing of any other host."""

from __future__ import annotations

import html

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/page.css">
<script src="/page.js" defer></script>
</head>
<body>
<main>
<h1>{title}</h1>
<p>{about}</p>
<form id="form">
<label for="texts">{prompt}</label>
<textarea id="texts" rows="8" spellcheck="false" data-tabs="{tabs}"></textarea>
<button id="send" type="submit">Label</button>
</form>
<p id="status" role="status" aria-live="polite"></p>
<section id="results" aria-label="results"></section>
</main>
</body>
</html>
"""

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
label { display: block; margin-bottom: .3rem; }
textarea { width: 100%; box-sizing: border-box; font: inherit; padding: .5rem; }
button { font: inherit; margin-top: .5rem; padding: .3rem 1.2rem; }
#status.error { color: #b00020; font-weight: bold; }
article { border: 1px solid #8888; border-radius: .4rem; padding: .6rem 1rem; margin: .8rem 0; }
article h2 { font-size: 1rem; margin: 0; font-weight: normal; overflow-wrap: anywhere; }
.label { font-weight: bold; }
.bar { display: grid; grid-template-columns: minmax(6rem, 12rem) 1fr 4rem; gap: .6rem; }
.bar meter { width: 100%; height: 1.2rem; }
.bar span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.nearest { margin: .6rem 0 0; }
ul { margin: .2rem 0 0; padding-left: 1.2rem; overflow-wrap: anywhere; }
"""

# All texts go in as text, never as markup.
SCRIPT = """
"use strict";
const form = document.getElementById("form");
const texts = document.getElementById("texts");
const send = document.getElementById("send");
const status = document.getElementById("status");
const results = document.getElementById("results");
const SHOWN = 300;

function add(parent, tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  parent.appendChild(element);
  return element;
}

function say(text, isError) {
  status.textContent = text;
  status.className = isError ? "error" : "";
}

function cut(text) {
  return text.length > SHOWN ? text.slice(0, SHOWN) + "\\u2026" : text;
}

function show(answer) {
  for (const row of answer.rows) {
    const article = add(results, "article");
    const head = add(article, "h2", cut(row.text) + " \\u2192 ");
    add(head, "span", row.label, "label");
    const order = row.probabilities.map((value, index) => [value, answer.class_names[index]]);
    order.sort((one, other) => other[0] - one[0]);
    for (const [value, name] of order.slice(0, 10)) {
      const bar = add(article, "div", undefined, "bar");
      add(bar, "span", name);
      const meter = add(bar, "meter");
      meter.value = value;
      meter.setAttribute("aria-label", name);
      add(bar, "span", (100 * value).toFixed(1) + " %");
    }
    if (!row.neighbours.length) continue;
    add(article, "p", "Nearest training sentences:", "nearest");
    const list = add(article, "ul");
    for (const one of row.neighbours) {
      add(list, "li", cut(one.text) + " (" + one.label + ", " + one.similarity.toFixed(2) + ")");
    }
  }
}

async function ask(event) {
  event.preventDefault();
  results.replaceChildren();
  send.disabled = true;
  say("Working\\u2026", false);
  try {
    const response = await fetch("/predict", {
      method: "POST",
      headers: {"Content-Type": "application/json"},
      body: JSON.stringify({texts: texts.value}),
    });
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    show(answer);
    const count = answer.rows.length;
    const notes = answer.truncated ? "; " + answer.truncated + " cut to the model's length" : "";
    say(count + (count === 1 ? " sentence" : " sentences") + notes, false);
  } catch (error) {
    say(error instanceof TypeError ? "The server does not answer." : error.message, true);
  } finally {
    send.disabled = false;
  }
}

form.addEventListener("submit", ask);
texts.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
  if (event.key === "Tab" && !event.shiftKey && texts.dataset.tabs === "yes") {
    event.preventDefault();
    texts.setRangeText("\\t", texts.selectionStart, texts.selectionEnd, "end");
  }
});
"""


def page(title: str, about: str, takes_pairs: bool) -> str:
    """The HTML of a model.

    Args:
        title: of the page.
        about: a sentence below it.
        takes_pairs: whether a line is two sentences.
    """
    prompt = "Sentences, one a line (Ctrl+Enter labels them)"
    if takes_pairs:
        prompt = "Pairs of sentences, one a line with a tab between them (Ctrl+Enter labels them)"
    return _PAGE.format(
        title=html.escape(title),
        about=html.escape(about),
        prompt=prompt,
        tabs="yes" if takes_pairs else "no",
    )
