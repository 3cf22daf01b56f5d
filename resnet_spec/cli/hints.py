"""What people type first, by habit from other programs, and what to type here instead. Data.

Read only once an option or a command is unknown.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

_RECIPES = ("train", "find-rate", "compare", "show samples")
"""Commands whose --set changes a recipe."""
_TRAINS = ("train", "find-rate", "compare")
_SPECS = ("describe", "bench", "parity", "bisect", "show spec", *_TRAINS)
"""Commands whose --set changes a network."""
_FIRST_IS_SPEC = ("describe", "train", "find-rate", "bench", "parity", "bisect", "show spec")
_FIRST_IS_WEIGHTS = (
    *("evaluate", "predict", "inspect", "convert", "export", "parity", "bisect"),
    *("show predictions", "show confusion", "show filters", "show features"),
)


class Answer(NamedTuple):
    """What to type: {value} is the value given, {command} the command.

    commands: whose answer it is; () for every command that has the option it begins with.
    """

    text: str
    commands: tuple[str, ...] = ()

    def fits(self, command: str, options: Collection[str]) -> bool:
        """Return whether a command of these `options` can be told so."""
        return command in self.commands if self.commands else self.text.split()[0] in options


class Hint(NamedTuple):
    """Words that mean one thing elsewhere. example: stands for a value that was not given.

    The first answer that fits the command is given. A word without an example takes no value.
    """

    words: str
    answers: tuple[Answer, ...]
    example: str = ""


def _set(words: str, field: str, example: str, value: str = "{value}") -> Hint:
    """Return the hint for a field of the recipe; `value` is fixed where the word is a switch."""
    return Hint(words, (Answer(f"--set {field}={value}", _RECIPES),), example)


def _instead(words: str, text: str, example: str = "X") -> Hint:
    """Return the hint for another option of the same meaning."""
    return Hint(words, (Answer(text),), example)


def _without(words: str, why: str, commands: tuple[str, ...] = _TRAINS) -> Hint:
    """Return the hint for what nobody needs to give here."""
    return Hint(words, (Answer(f"leave it out: {why}", commands),), "X")


_BATCH = (Answer("--set batch={value}", _RECIPES), Answer("--batch {value}"))
_DEVICES = "cpu, cuda:0"
_FROM_DATA = "leave it out: the classes are those of --data"
_WEIGHTS = Answer("resnet-spec {command} {value}: weights come first", _FIRST_IS_WEIGHTS)

HINTS: tuple[Hint, ...] = (
    # The recipe.
    _set("--epochs --epoch --num-epochs --n-epochs --max-epochs --nepochs -e", "epochs", "5"),
    _set("--steps --max-steps --num-steps --iterations --iters --max-iters", "steps", "1000"),
    _set("--lr --learning-rate --learning_rate --base-lr --rate", "schedule.rate", "0.1"),
    Hint("--batch-size --batch --batch_size --train-batch-size --bs -b", _BATCH, "32"),
    _set("--seed --random-seed --manual-seed --random-state", "seed", "1"),
    _set("--momentum", "optimizer.momentum", "0.9"),
    _set("--weight-decay --weight_decay --wd --l2", "optimizer.weight_decay", "0.0001"),
    _set("--nesterov", "optimizer.nesterov", "", "true"),
    _set("--scheduler --lr-scheduler --lr-schedule --schedule --sched", "schedule.kind", "cosine"),
    _set("--warmup --warmup-epochs --lr-warmup-epochs", "schedule.warmup", "5"),
    _set("--layer-decay --layerwise-decay", "layer_decay", "0.75"),
    _set("--min-lr --lr-min --eta-min --final-lr", "schedule.floor", "0.0001"),
    _set("--lr-step-size --step-size --decay-epochs", "schedule.period", "30"),
    _set("--gamma --lr-gamma --decay-rate", "schedule.gamma", "0.1"),
    _set("--milestones --lr-steps", "schedule.milestones", "[30, 60]"),
    _set("--patience --early-stopping", "early_stopping.patience", "5"),
    _set("--min-delta", "early_stopping.min_delta", "0.001"),
    _set("--label-smoothing --smoothing", "label_smoothing", "0.1"),
    _set("--teacher --teacher-path --teacher-model --teacher-ckpt", "loss.teacher", "FILE"),
    Hint(
        "--distillation-alpha --distill-alpha --kd-alpha",
        (Answer("--set loss.teacher=FILE --set loss.teacher_weight={value}", _RECIPES),),
        "0.5",
    ),
    Hint(
        "--distillation-tau --temperature --kd-temperature",
        (Answer("--set loss.teacher=FILE --set loss.temperature={value}", _RECIPES),),
        "3.0",
    ),
    _set("--ema --model-ema", "ema.decay", "", "0.9999"),
    _set("--ema-decay --model-ema-decay", "ema.decay", "0.9999"),
    Hint(
        "--model-ema-warmup",
        (Answer("--set ema.decay=0.9999 --set ema.warmup=power", _RECIPES),),
    ),
    Hint(
        "--model-ema-steps",
        (Answer("--set ema.decay=0.999 --set ema.every={value}", _RECIPES),),
        "32",
    ),
    _set("--accumulate --grad-accum --grad-accum-steps --accum-iter", "accumulate", "2"),
    _set("--amp --bf16 --bfloat16 --mixed-precision --autocast", "precision", "", "bfloat16"),
    _set("--fp16 --half --float16", "precision", "", "float16"),
    _set("--fp32 --float32", "precision", "", "float32"),
    _set("--precision --dtype", "precision", "bfloat16"),
    _set("--pad --padding --crop-padding", "augment.pad", "4"),
    _set("--flip --hflip --horizontal-flip", "augment.flip", "", "true"),
    _set("--reprob --random-erase --random-erasing", "augment.erase", "0.25"),
    _set("--aug-repeats --repeated-aug --ra-reps", "augment.repeats", "2"),
    Hint(
        "--crop-pct --crop-fraction --center-crop",
        (Answer("--set evaluation.crop={value}", _RECIPES), Answer("--crop {value}")),
        "0.95",
    ),
    _set("--eval-interval --val-interval --val-freq --eval-every", "evaluate_every", "5"),
    _set("--save-interval --save-freq --save-every --checkpoint-every", "checkpoint_every", "5"),
    _set("--optimizer --optim --opt", "optimizer.kind", "adamw"),
    _set("--clip-grad --clip-grad-norm --max-grad-norm --grad-clip", "optimizer.clip_norm", "1.0"),
    _without("--log-interval --print-freq --log-every --log-freq", "each epoch prints a line"),
    # The network.
    Hint(
        "--model --arch --architecture --model-name --network --net --backbone --spec --preset -a",
        (
            Answer("resnet-spec {command} {value}: the network comes first", _FIRST_IS_SPEC),
            Answer("--specs {value}", ("compare",)),
            Answer("--spec {value}"),
        ),
        "resnet50",
    ),
    Hint(
        "--num-classes --num_classes --nb-classes --n-classes --nclass --classes",
        (
            Answer(_FROM_DATA, (*_TRAINS, "show samples")),
            Answer("--classes {value}"),
            Answer("--set classes={value}"),
        ),
        "10",
    ),
    Hint(
        "--img-size --image-size --img_size --imgsz --size --resolution --crop-size --input-size",
        (Answer("--input-size {value}"), Answer("--set input.size={value}")),
        "224",
    ),
    Hint(
        "--in-chans --in-channels --channels",
        (Answer("--set input.channels={value}", _SPECS),),
        "1",
    ),
    Hint(
        "--drop-path --drop-path-rate --stochastic-depth",
        (Answer("--set stochastic_depth={value}", _SPECS),),
        "0.1",
    ),
    Hint(
        "--zero-init-residual --zero-init-last",
        (Answer("--set zero_init_last_norm=true", _SPECS),),
    ),
    # Weights.
    _instead(
        "--pretrained-weights --pretrained-path --pretrained-model --init-checkpoint --finetune",
        "--pretrained {value}",
    ),
    Hint("--weights --load --load-from --params", (_WEIGHTS, Answer("--pretrained {value}")), "X"),
    Hint(
        "--checkpoint --ckpt --ckpt-path --checkpoint-path --resume-from --resume",
        (
            _WEIGHTS,
            Answer("--resume {value} to go on, or --pretrained {value} to begin", ("train",)),
        ),
        "RUN",
    ),
    _instead("--freeze-backbone --freeze-encoder --linear-probe", "--freeze backbone", ""),
    _instead("--head-lr --lr-head", "--head-rate {value}", "10"),
    # Data, files and places.
    _instead(
        "--dataset --data-dir --data-path --data_dir --data-root --dataset-path --train-dir --root",
        "--data {value}",
        "DIR",
    ),
    Hint(
        "--output --output-dir --output_dir --out-dir --outdir --save-dir --save --save-path "
        "--work-dir --log-dir --logdir --output-path --output-file --result-dir -o",
        (
            Answer("resnet-spec convert SRC {value}: the file comes second", ("convert",)),
            Answer("--out {value}"),
        ),
        "DIR",
    ),
    Hint(
        "--image --images --input --source --img",
        (Answer("resnet-spec predict CHECKPOINT {value}: images come last", ("predict",)),),
        "IMAGE",
    ),
    _instead("--config --cfg --hyp --hparams --hyperparameters -c", "--recipe {value}", "FILE"),
    _instead("--topk --top-k -k", "--top {value}", "5"),
    Hint(
        "--val --val-split --validation-split --val-fraction",
        (Answer("--validation {value}", _TRAINS), Answer("--split validation")),
        "0.1",
    ),
    _instead("--validation", "--split validation", ""),
    _instead("--type --target --export-format -t", "--to {value}", "onnx"),
    Hint("--format -f", (Answer("--to {value}", ("export", "convert")),), "onnx"),
    # Where and how it runs.
    _instead("--framework --library --engine --lib", "--backend {value}", "torch"),
    _instead("--gpu --gpus --gpu-id --cuda --use-cuda --use-gpu --num-gpus -g", "--device cuda:0"),
    _instead("--cpu --no-cuda --no-gpu --force-cpu", "--device cpu", ""),
    _instead("--accelerator", "--device {value}", "cuda:0"),
    Hint(
        "--workers --num-workers --num_workers --n-workers --j -j --threads",
        (
            Answer("--jobs {value}", ("compare",)),
            Answer(
                "leave it out: images are decoded by as many threads as there are processors",
                ("train", "evaluate", "show samples", "show predictions", "show confusion"),
            ),
        ),
        "4",
    ),
    _without(
        "--distributed --ddp --world-size --local-rank --local_rank --nproc-per-node --dist-url",
        "a run is one process on one device; see --device",
    ),
    _instead("--wandb --use-wandb", "--track wandb", ""),
    _instead("--tensorboard --tb", "--track tensorboard", ""),
    _instead("--mlflow", "--track mlflow", ""),
    _instead("--force --yes --exist-ok --clobber --replace -f -y", "--overwrite", ""),
    _instead("--silent --no-progress --no-bar -q", "--quiet", ""),
    _instead("--json --as-json", "--format json", ""),
    _instead("--toml", "--format toml", ""),
    Hint("--verbose -v", (Answer("leave it out: nothing is hidden, but by --quiet", _TRAINS),)),
)


WORDS: dict[str, str] = {
    "version": "--version",
    "-V": "--version",
    "-v": "--version",
    "-version": "--version",
    "help": "--help",
    "-help": "--help",
    "-?": "--help",
    "/?": "--help",
    "man": "--help",
    "--list": "list",
    "-l": "list",
    "ls": "list",
    "models": "list",
    "presets": "list",
    "networks": "list",
    "recipes": "list --recipes",
    "--recipes": "list --recipes",
    "datasets": "list --data",
    "data": "list --data",
    "--data": "list --data",
    "pretrained": "list --pretrained",
    "download": "list --pretrained",
    "zoo": "list --pretrained",
    "summary": "describe SPEC",
    "info": "describe SPEC, or inspect FILE",
    "model": "describe SPEC",
    "params": "describe SPEC",
    "flops": "describe SPEC",
    "profile": "describe SPEC",
    "config": "describe SPEC --format toml",
    "init": "describe SPEC --format toml",
    "run": "train SPEC",
    "fit": "train SPEC",
    "start": "train SPEC",
    "training": "train SPEC",
    "lr-find": "find-rate SPEC",
    "lr-finder": "find-rate SPEC",
    "find-lr": "find-rate SPEC",
    "finetune": "train --pretrained NAME",
    "fine-tune": "train --pretrained NAME",
    "resume": "train --resume RUN",
    "continue": "train --resume RUN",
    "test": "evaluate CHECKPOINT",
    "eval": "evaluate CHECKPOINT",
    "val": "evaluate CHECKPOINT",
    "validate": "evaluate CHECKPOINT",
    "score": "evaluate CHECKPOINT",
    "accuracy": "evaluate CHECKPOINT",
    "infer": "predict CHECKPOINT IMAGE",
    "inference": "predict CHECKPOINT IMAGE",
    "classify": "predict CHECKPOINT IMAGE",
    "sweep": "compare",
    "grid": "compare",
    "study": "compare",
    "studies": "compare --list",
    "benchmark": "bench SPEC",
    "speed": "bench SPEC",
    "throughput": "bench SPEC",
    "time": "bench SPEC",
    "results": "report RUN",
    "check": "parity SPEC",
    "verify": "parity SPEC",
    "prove": "parity SPEC",
    "diff": "parity SPEC",
    "debug": "bisect SPEC",
    "load": "inspect FILE",
    "import": "convert SRC DST",
    "save": "convert SRC DST",
    "onnx": "export CHECKPOINT --to onnx",
    "deploy": "export CHECKPOINT --to onnx",
    "plot": "show WHAT",
    "draw": "show WHAT",
    "view": "show WHAT",
    "visualize": "show WHAT",
    "visualise": "show WHAT",
    "devices": "backends",
    "frameworks": "backends",
    "env": "backends",
    "completions": "completion SHELL",
    "autocomplete": "completion SHELL",
}
"""What is typed in a command's place, and what to type after `resnet-spec` instead."""

_PLACE = re.compile(r"\b(SPEC|CHECKPOINT|FILE|NAME|RUN|WHAT|SRC|SHELL)\b")

VALUES: dict[str, dict[str, str]] = {
    "--split": {"val": "validation", "valid": "validation", "eval": "test"},
    "--show": {"top1": "accuracy", "acc": "accuracy", "err": "error"},
    "--head": {"new": "replace", "reset": "replace", "same": "keep"},
    "--input": {"normalized": "normalised", "float32": "normalised", "raw": "uint8"},
    "--engine": {"ort": "onnxruntime", "onnx": "onnxruntime", "ov": "openvino"},
    "--format": {"text": "table", "txt": "table", "yaml": "toml"},
}
"""What other programs call a choice of ours."""


def instead(word: str, rest: Sequence[str], commands: Collection[str]) -> str | None:
    """Return what to type where `word` stands in a command's place, before `rest`; None: unknown.

    A network, a file of one and weights are told apart by their names.
    """
    if word in ("help", "man") and rest and rest[0] in commands:
        return f"use resnet-spec {rest[0]} --help"
    if word in WORDS:
        given = rest[0] if rest and not rest[0].startswith("-") else None
        told = WORDS[word]
        if given is not None:
            told = _PLACE.sub(lambda place: shlex.quote(given), told, count=1)
        return f"use resnet-spec {told}"
    from resnet_spec.describing.presets import PRESETS
    from resnet_spec.weights.published.finding import is_weights

    if word in PRESETS or word.endswith((".toml", ".json")):
        return f"a command comes first, as in resnet-spec describe {shlex.quote(word)}"
    if not word.startswith("-") and is_weights(word):
        return f"a command comes first, as in resnet-spec inspect {shlex.quote(word)}"
    return None


def answer(word: str, value: str | None, command: str, options: Collection[str]) -> str | None:
    """Return what to type for the option `word` of `command`, None where that is not known.

    value: what was given with it. options: those that the command has.
    """
    if command == "launch":
        return "put -- before the command that every process runs, as in: -- train SPEC"
    found = [hint for hint in HINTS if word in hint.words.split()]
    for hint, it in _pairs(found):
        if it.fits(command, options):
            return _text(it, _value(hint, value), command)
    for hint, it in _pairs(found if word.startswith("--") else []):
        if it.commands and not it.text.startswith("leave"):
            told = it.text.format(value=_value(hint, value), command=it.commands[0])
            return f"in resnet-spec {it.commands[0]} it is: {told}"
    return None


def _pairs(hints: Sequence[Hint]) -> Iterator[tuple[Hint, Answer]]:
    return ((hint, it) for hint in hints for it in hint.answers)


def _value(hint: Hint, value: str | None) -> str:
    return shlex.quote(hint.example if value is None else value)


def _text(it: Answer, value: str, command: str) -> str:
    text = it.text.format(value=value, command=command)
    return text if text.startswith("leave") else f"use {text}"
