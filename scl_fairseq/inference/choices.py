"""Values of options, where commands find them without importing torch."""

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
