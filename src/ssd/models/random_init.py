"""Random models with a byte tokenizer, one per architecture that people hold: test-sized, yet real
to vLLM and transformers."""

from pathlib import Path
from typing import Any

CHAT_TEMPLATE = (
    "{% for message in messages %}"
    "<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PADDING, END = "<|endoftext|>", "<|im_end|>"
SPECIAL = [PADDING, "<|im_start|>", END]
NUM_BYTES = 256


def save_random_model(folder: Path, name: str) -> None:
    """Write configuration, weights (seed 0) and tokenizer of the model `name` to `folder`."""
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    byte_tokenizer().save_pretrained(folder)
    fields = random_fields(name)
    config = CONFIG_MAPPING[fields.pop("model_type")](**fields)
    torch.manual_seed(0)
    network = AutoModelForCausalLM.from_config(config)
    network.to(torch.bfloat16).save_pretrained(folder)


def random_fields(name: str) -> dict[str, Any]:
    """The configuration of the model `name`."""
    tokens = {
        "vocab_size": NUM_BYTES + len(SPECIAL),
        "eos_token_id": NUM_BYTES + SPECIAL.index(END),
        "pad_token_id": NUM_BYTES + SPECIAL.index(PADDING),
    }
    return SHAPE | RANDOM_MODELS[name] | tokens


def byte_tokenizer() -> Any:
    """A tokenizer whose tokens are bytes and three special ones."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(vocab={symbol: i for i, symbol in enumerate(alphabet)}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PADDING,
        model_max_length=8192,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


SHAPE: dict[str, Any] = {
    "max_position_embeddings": 8192,
    "bos_token_id": None,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 32,
    "tie_word_embeddings": False,
}
"""What the models have in common unless their own line says otherwise."""
WINDOW = 8
"""Tokens of a sliding window: shorter than the prompts and answers of any test."""
EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
HYBRID = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 1,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
}
"""A gated delta net with a causal convolution, then attention. The width of its heads is that of
the published models, because vLLM's kernel for CPUs takes no smaller one."""

RANDOM_MODELS: dict[str, dict[str, Any]] = {
    "tiny": {
        "model_type": "llama",
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
    },
    # Qwen3-30B-A3B: all layers routed, normed queries and keys, a head of its own.
    "tiny_moe": {"model_type": "qwen3_moe", "num_experts": 8, "norm_topk_prob": True, **EXPERTS},
    # Llama 3.2 1B and 3B: tied, rotary frequencies scaled for long contexts.
    "tiny_llama32": {
        "model_type": "llama",
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 500000.0,
            "factor": 32.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 256,
        },
    },
    "tiny_mistral": {"model_type": "mistral", "sliding_window": WINDOW},
    # One matrix for queries, keys and values, and one for gate and up.
    "tiny_phi": {"model_type": "phi3", "num_attention_heads": 2, "sliding_window": WINDOW},
    "tiny_qwen3": {"model_type": "qwen3", "tie_word_embeddings": True},
    "tiny_qwen35": {"model_type": "qwen3_5_text", "tie_word_embeddings": True, **HYBRID},
    "tiny_qwen3_next": {"model_type": "qwen3_next", "num_experts": 4, **EXPERTS, **HYBRID},
    # Every other layer sees a window; embeddings are tied and scaled.
    "tiny_gemma3": {
        "model_type": "gemma3_text",
        "tie_word_embeddings": True,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
        "query_pre_attn_scalar": 32,
    },
    # Embeddings per layer, wider heads in the layers without a window; no cap on logits, which the
    # loss would miss.
    "tiny_gemma4": {
        "model_type": "gemma4_text",
        "tie_word_embeddings": True,
        "sliding_window": WINDOW,
        "layer_types": ["sliding_attention", "full_attention"],
        "global_head_dim": 64,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 259,
    },
    # Attention sinks, windows, experts with biases.
    "tiny_gpt_oss": {
        "model_type": "gpt_oss",
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "intermediate_size": 32,
        "sliding_window": WINDOW,
        "rope_parameters": {
            "rope_type": "yarn",
            "rope_theta": 150000.0,
            "factor": 32.0,
            "beta_fast": 32.0,
            "beta_slow": 1.0,
            "truncate": False,
            "original_max_position_embeddings": 256,
        },
    },
    # Its second layer has no rotary positions.
    "tiny_smollm3": {
        "model_type": "smollm3",
        "tie_word_embeddings": True,
        "no_rope_layers": [1, 0],
    },
}
"""By `model.name`: what a model's configuration adds to `SHAPE`."""
