"""Values of options, where commands find them without importing torch."""

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
TORCH, ONNX = "torch", "onnx"
BACKENDS = (TORCH, ONNX)
# The precisions of exported models and their files; a folder means the first that it has.
ONNX_FILES = {"fp32": "model.onnx", "fp16": "model_fp16.onnx", "int8": "model_int8.onnx"}
