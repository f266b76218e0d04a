"""File names of checkpoints as transformers and PEFT write and read them."""

MODEL_CONFIG, ADAPTER_CONFIG = "config.json", "adapter_config.json"
GENERATION_CONFIG = "generation_config.json"
MODEL_WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"
SAFETENSORS = "*.safetensors"
PATTERNS = (SAFETENSORS, "*.json", "*.jinja", "*.model", "*.txt")
"""Files that a checkpoint needs; others of a hub repository (GGUF, .bin copies) are not fetched."""
VOCABULARIES = ("tokenizer.json", "tokenizer.model", "vocab.json")
"""Files of a tokenizer, any of which is enough."""
TOKENIZER_CONFIG, TEMPLATE = "tokenizer_config.json", "chat_template.jinja"
NAMED_TEMPLATES = "additional_chat_templates/*.jinja"
"""Templates beside the ordinary one, each named by its file."""
TOKENIZER_FILES = (*VOCABULARIES, TOKENIZER_CONFIG, "merges.txt", "special_tokens_map.json",
                   "added_tokens.json", TEMPLATE, "chat_template.json",
                   NAMED_TEMPLATES)  # fmt: skip
"""Patterns of files that decide what a tokenizer does."""
CARRIED_FILES = (*TOKENIZER_FILES, GENERATION_CONFIG, "preprocessor_config.json",
                 "video_preprocessor_config.json", "processor_config.json")  # fmt: skip
"""Patterns of files that an export takes over from its base as they are."""
