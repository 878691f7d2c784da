"""A check of everything on a GPU, and its speed, in eight minutes: ``python -m benchmarks.gpu``."""
