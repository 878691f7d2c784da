"""``make demo``: what this project does, shown on few-shot samples of one task."""
