"""The forms in which a run's model is exported, by name."""

FORMATS = {
    "safetensors": "Weights are stored as plain floats.",
    "torchao": "Weights are stored as torchao's tensors: codes and scales as they were tuned.",
    "gguf": 'Weights are stored in `model.gguf`; load it with llama.cpp, or with `gguf_file="model.'
    'gguf"` in `from_pretrained`.',
    "peft": "The adapter alone, in PEFT's format: `PeftModel.from_pretrained(model, folder)`.",
}
"""The formats, and the sentence in the model card about each."""

GGUF_TYPES = ("Q8_0", "Q4_0", "Q4_1", "F16")
"""Block formats of GGUF that a user can choose."""
