"""File names of checkpoints as transformers and PEFT write and read them."""

MODEL_CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
GENERATION_CONFIG = "generation_config.json"
MODEL_WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
SAFETENSORS = "*.safetensors"
PATTERNS = (SAFETENSORS, "*.json", "*.jinja", "*.model", "*.txt")
"""Files that a checkpoint needs; others of a hub repository (GGUF, .bin copies) are not fetched."""
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Files of a tokenizer, any of which is enough."""
TOKENIZER_FILES = (*VOCABULARIES, "tokenizer_config.json", "merges.txt", "special_tokens_map.json",
                   "added_tokens.json", "chat_template.jinja", "chat_template.json")  # fmt: skip
CARRIED_FILES = (*TOKENIZER_FILES, GENERATION_CONFIG, "preprocessor_config.json",
                 "video_preprocessor_config.json", "processor_config.json")  # fmt: skip
"""Files that an export takes over from its base as they are."""
