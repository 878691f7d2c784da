"""Kernels in Triton, and on which cards they were measured to be faster than torch."""
