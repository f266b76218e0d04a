"""What other tools call our settings: words of TRL, transformers, PEFT, axolotl, Unsloth, vLLM,
lm-evaluation-harness and W&B."""

import re

WORDS: dict[str, tuple[str, ...]] = {
    "optimizer.lr": ("learning_rate", "peak_lr", "max_lr", "lr"),
    "train.schedule": (
        "lr_scheduler", "lr_scheduler_type", "scheduler", "scheduler_type", "lr_schedule",
        "lr_decay_style",
    ),
    "train.warmup_steps": ("warmup", "warmup_ratio", "num_warmup_steps", "warmup_iters"),
    "train.min_lr": ("lr_min", "min_learning_rate", "min_lr_rate", "cosine_min_lr_ratio"),
    "train.max_steps": (
        "epochs", "epoch", "num_epochs", "num_train_epochs", "max_epochs", "steps", "num_steps",
        "train_steps", "iterations", "max_iters", "total_steps",
    ),
    "train.global_batch_size": (
        "batch_size", "bs", "train_batch_size", "per_device_train_batch_size",
        "gradient_accumulation_steps", "grad_accum", "accumulate_grad_batches",
    ),
    "hardware.micro_batch_tokens": ("micro_batch_size", "micro_batch", "max_tokens_per_gpu"),
    "train.seq_len": (
        "max_seq_length", "max_seq_len", "sequence_len", "sequence_length", "cutoff_len",
        "block_size", "context_length",
    ),
    "train.grad_clip": ("max_grad_norm", "gradient_clip_val", "gradient_clipping", "clip_grad"),
    "train.checkpoint_every": ("save_steps", "save_interval", "save_every", "checkpoint_interval"),
    "train.keep_checkpoints": ("save_total_limit", "max_checkpoints"),
    "train.keep_optimizer": ("resume_from_checkpoint", "resume", "save_only_model"),
    "train.packing": ("sample_packing", "pack", "padding_free"),
    "train.precision": ("bf16", "fp16", "tf32", "mixed_precision", "amp"),
    "optimizer.weight_decay": ("wd",),
    "optimizer.betas": ("adam_beta1", "adam_beta2", "beta1", "beta2"),
    "optimizer.eps": ("adam_epsilon", "epsilon"),
    "optimizer": ("optim", "optimizer_name", "optim_type"),
    "objective": ("loss", "loss_type", "loss_fn"),
    "adapter.rank": ("lora_r", "lora_rank", "lora_dim", "r"),
    "adapter.alpha": ("lora_alpha",),
    "adapter.dropout": ("lora_dropout",),
    "adapter.merge": ("merge_lora", "merge_adapter", "merge_and_unload"),
    "adapter": (
        "lora", "qlora", "peft", "peft_type", "use_peft", "use_lora", "finetuning_type",
        "load_in_4bit", "load_in_8bit", "quantization", "lora_target_modules", "target_modules",
    ),
    "sampler.temp eval.temp": ("temperature", "train_temp", "eval_temp"),
    "truncation.top_p eval.truncation.top_p": ("top_p", "topp", "nucleus"),
    "truncation.top_k eval.truncation.top_k": ("top_k", "topk"),
    "truncation": ("min_p", "typical_p"),
    "sampler.max_new_tokens eval.max_new_tokens": (
        "max_tokens", "max_gen_toks", "max_completion_length", "max_completion_tokens",
        "max_output_tokens", "max_length",
    ),
    "sampler.max_model_len eval.max_model_len": ("max_context", "max_prompt_length"),
    "sampler.num_samples eval.num_samples": ("n", "num_generations", "num_return_sequences",
        "n_samples", "samples_per_prompt"),
    "sampler": ("engine", "backend", "use_vllm", "inference_engine"),
    "sampler.url": ("base_url", "api_base", "api_url", "vllm_server_host"),
    "model.name": (
        "model_id", "model_name", "model_name_or_path", "base_model",
        "pretrained_model_name_or_path", "pretrained",
    ),
    "model.path": ("model_path", "checkpoint_path", "ckpt_path"),
    "model.dtype": ("torch_dtype", "model_dtype"),
    "model.template_args": ("chat_template_kwargs", "enable_thinking", "chat_template"),
    "data.path": ("data_path", "dataset_path", "data_files", "train_file", "prompts"),
    "data.hub_name": ("dataset", "datasets", "dataset_name", "dataset_id"),
    "data.split": ("dataset_split", "train_split"),
    "data.question_field": ("dataset_text_field", "text_field", "text_column", "prompt_field",
        "prompt_column", "prompt_key"),
    "data.limit": ("max_samples", "max_train_samples", "num_prompts", "subset"),
    "prompt_format.system": ("system_prompt", "system_message", "default_system"),
    "eval.benchmarks": ("tasks", "task", "benchmark", "eval_dataset", "evals"),
    "eval.limit": ("eval_limit", "num_problems"),
    "eval.arms": ("base_only", "eval_base", "skip_base"),
    "hardware.devices": ("gpus", "num_gpus", "n_gpus", "ngpu", "num_processes", "nproc_per_node"),
    "hardware.num_nodes": ("nodes", "nnodes", "num_machines"),
    "hardware.tensor_parallel_size": ("tp", "tensor_parallel", "tp_size"),
    "hardware.replicas": ("dp", "data_parallel_size"),
    "hardware.memory_utilization": ("gpu_memory_utilization", "mem_fraction_static"),
    "hardware.activation_checkpointing": (
        "gradient_checkpointing", "use_gradient_checkpointing", "recompute",
    ),
    "hardware.attention": ("attn_implementation", "flash_attention", "flash_attn"),
    "hardware.strategy": ("fsdp", "ddp", "deepspeed", "zero"),
    "hardware.compile_training": ("torch_compile", "compile"),
    "hardware.compile_engine": ("enforce_eager",),
    "hardware.accelerator": ("device", "cuda", "gpu", "cpu"),
    "logger": ("report_to", "loggers", "wandb", "use_wandb", "wandb_mode"),
    "logger.project": ("wandb_project", "project_name"),
    "logger.entity": ("wandb_entity",),
    "output_dir": ("output", "out", "out_dir", "save_dir", "output_path", "outdir"),
    "run_name": ("experiment_name", "wandb_name", "wandb_run_name"),
    "study": ("group", "wandb_group"),
    "seed": ("random_seed", "data_seed", "manual_seed"),
    "rounds": ("num_rounds", "iterative", "self_play_rounds"),
    "stages": ("stage", "do_train", "do_eval", "do_sample"),
}  # fmt: skip
"""Our settings and groups, each with other tools' words for it; a word under two settings says that
either may be meant."""
SETTINGS = {word: ours.split() for ours, words in WORDS.items() for word in words}


def meant_by(key: str) -> list[str]:
    """Our settings for what other tools call `key`, of which the section does not count unless one
    of them stands in it; empty where nobody calls anything so."""
    section, _, word = key.rpartition(".")
    ours = SETTINGS.get(re.sub(r"[^a-z0-9]+", "_", word.lower()), [])
    return [name for name in ours if section and name.startswith(f"{section}.")] or ours
