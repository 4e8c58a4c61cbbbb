"""refit-bench megatron-flags: Megatron's flags of a refit benchmark as options of this suite."""

import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from fixtures.cases.errors import CaseError
from fixtures.cases.inventory import KIMI_K2, MODELS, ModelSpec, find_model
from fixtures.cases.layouts import Layout
from fixtures.cases.scenarios import Scenario
from tools import command_parser
from tools.megatron_known import CONSTANTS, IGNORED, REFUSED, SIZES

LAYOUT_FLAGS = (
    "--tensor-model-parallel-size",
    "--expert-model-parallel-size",
    "--expert-tensor-parallel-size",
)
TARGET_FLAGS = (
    "--rl-inference-tensor-model-parallel-size",
    "--rl-inference-expert-model-parallel-size",
    "--rl-inference-expert-tensor-model-parallel-size",
)
LAYER_FREQ = "--moe-layer-freq"
FIELDS = {**SIZES, LAYER_FREQ: "dense_layers"}
"""Flag -> field of ModelSpec."""
RUN_FLAGS = {
    "--num-benchmark-warmup": "--warmup",
    "--num-benchmark-iterations": "--iterations",
    "--refit-execution-batch-bytes": "--refit-execution-batch-bytes",
}
MAPPED = {*LAYOUT_FLAGS, *TARGET_FLAGS, *RUN_FLAGS, *SIZES, "--refit-mode", "--refit-method", "--num-layers"}
"""Flags with an effect on a refit: each takes exactly one value."""

Flags = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Mapped:
    """`options` for pytest; `ignored` flags as written; `ranks` that the refit needs, 0 when that is open."""

    options: tuple[str, ...]
    ignored: tuple[str, ...]
    ranks: int


def map_flags(argv: Sequence[str]) -> Mapped:
    """Map Megatron's flags; what follows a lone `--` goes to pytest as it is.

    Without `--engine` behind the `--`, Megatron's own refit runs over `--refit-method`; without `--twin`, the
    layouts run as they are, not cut to the allocation. Raises CaseError with one sentence.
    """
    split = list(argv).index("--") if "--" in argv else len(argv)
    rest = tuple(argv[split + 1 :])
    flags = read_flags(argv[:split])
    for flag in flags:
        _check(flag, flags)
    scenario = _scenario(flags)
    options = ["--scenario", scenario.row, *_model_options(flags, scenario)]
    for flag, option in RUN_FLAGS.items():
        if flag in flags:
            options += [option, str(_number(flag, flags, least=int(option == "--iterations")))]
    as_written = not _has(rest, "--twin")
    options += ["--twin", "1,1"] if as_written else []
    if not _has(rest, "--engine"):
        options += ["--engine", "megatron", "--method", scenario.method]
    ignored = tuple(shlex.join((flag, *flags[flag])) for flag in flags if flag not in MAPPED)
    return Mapped(options=(*options, *rest), ignored=ignored, ranks=scenario.world_size if as_written else 0)


def read_flags(argv: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Flag -> values, from `--flag value`, `--flag=value` or bare `--flag`; the last one of a name counts."""
    flags: dict[str, tuple[str, ...]] = {}
    flag = None
    for word in argv:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            flags[flag] = (value,) if equals else ()
        elif flag is None:
            raise CaseError(f"{word!r} is not a flag: Megatron's flags begin with --")
        else:
            flags[flag] = (*flags[flag], word)
    return flags


def _check(flag: str, flags: Flags) -> None:
    """Raise CaseError for a flag that is unknown or cannot be honoured with this value."""
    if flag in CONSTANTS:
        allowed, shown = CONSTANTS[flag]
        if not re.fullmatch(allowed, "".join(flags[flag]).replace(" ", "")):
            raise CaseError(f"{shlex.join((flag, *flags[flag]))} cannot be refitted here: it must be {shown}")
    if flag in REFUSED:
        raise CaseError(f"{flag} {REFUSED[flag]}")
    if flag not in MAPPED and flag not in CONSTANTS and flag not in IGNORED:
        raise CaseError(
            f"unknown flag {flag}: not one of Megatron's that this benchmark knows; put pytest's own options "
            "behind a lone --"
        )


def _value(flag: str, flags: Flags) -> str:
    values = flags[flag]
    if len(values) != 1:
        raise CaseError(f"{flag} needs one value, not {' '.join(values) or 'none'}")
    return values[0]


def _number(flag: str, flags: Flags, least: int = 1) -> int:
    text = _value(flag, flags)
    if not text.isdecimal() or int(text) < least:
        raise CaseError(f"{flag} must be a whole number of at least {least}, not {text!r}")
    return int(text)


def _scenario(flags: Flags) -> Scenario:
    """Source from the training flags, target from the --rl-inference ones, which default to the source's."""
    if "--refit-mode" not in flags:
        raise CaseError("--refit-mode is missing: collocated or non-collocated")
    source = _layout(LAYOUT_FLAGS, flags, Layout(tp=1, ep=1))
    return Scenario(
        key="own",
        source=source,
        target=_layout(TARGET_FLAGS, flags, source),
        mode=_value("--refit-mode", flags),
        method=_value("--refit-method", flags) if "--refit-method" in flags else "gloo",
        purpose="from Megatron flags",
    )


def _layout(names: tuple[str, str, str], flags: Flags, default: Layout) -> Layout:
    tp_flag, ep_flag, etp_flag = names
    tp = _number(tp_flag, flags) if tp_flag in flags else default.tp
    ep = _number(ep_flag, flags) if ep_flag in flags else default.ep
    if etp_flag in flags and (etp := _number(etp_flag, flags)) != tp:
        raise CaseError(
            f"{etp_flag} {etp} does not go with TP {tp}: here a layout has TP x EP ranks and each expert is "
            f"cut over all {tp} TP ranks; leave the flag out or set it to {tp}"
        )
    return Layout(tp=tp, ep=ep)


def _model_options(flags: Flags, scenario: Scenario) -> list[str]:
    """Options that name the model; none when no size is given: then the suite chooses by device."""
    sizes = {flag: _number(flag, flags) for flag in SIZES if flag in flags}
    named = bool(sizes)
    if LAYER_FREQ in flags:
        sizes[LAYER_FREQ] = _dense_layers("".join(flags[LAYER_FREQ]))
    layers = _number("--num-layers", flags) if "--num-layers" in flags else None
    model = find_model(_model_of(sizes).name, layers)
    for layout in (scenario.source, scenario.target):
        model.check_layout(layout)
    options = ["--model", model.name] if named or model.name != KIMI_K2.name else []
    return options + (["--num-layers", str(layers)] if layers is not None else [])


def _dense_layers(text: str) -> int:
    """Of a layer frequency that CONSTANTS allows: [0]*3+[1]*58 has 3."""
    many = re.search(r"\[0\]\*(\d+)", text.replace(" ", ""))
    return int(many[1]) if many else 1


def _model_of(sizes: Mapping[str, int]) -> ModelSpec:
    """The suite's model with these sizes; CaseError names the first size of the nearest one that differs."""

    def differing(model: ModelSpec) -> list[str]:
        return [flag for flag, size in sizes.items() if getattr(model, FIELDS[flag]) != size]

    nearest = min(MODELS.values(), key=lambda model: len(differing(model)))
    if wrong := differing(nearest):
        flag = wrong[0]
        known = ", ".join(f"{m.name} has {getattr(m, FIELDS[flag])}" for m in MODELS.values())
        raise CaseError(f"{flag} {sizes[flag]} is of no model that this suite builds: {known}")
    return nearest


def _has(options: Sequence[str], name: str) -> bool:
    return any(option == name or option.startswith(f"{name}=") for option in options)


def main(argv: list[str]) -> int:
    """Print the pytest options, quoted for a shell, and on stderr what was ignored.

    Raises CaseError for a flag that cannot be honoured here and for too small a Slurm allocation.
    """
    if {"-h", "--help"} & set(argv):
        effect = f"Flags with an effect: {', '.join(sorted(MAPPED))}."
        none = f"{len(IGNORED)} others have none and are listed as ignored; unknown ones are refused."
        parser = command_parser("megatron-flags", f"{__doc__}\n\n{effect}\n\n{none}")
        parser.usage = "%(prog)s FLAGS [-- PYTEST OPTIONS]"
        parser.print_help()
        return 0
    mapped = map_flags(argv)
    _check_allocation(mapped, os.environ.get("SLURM_NTASKS", ""))
    for flag in mapped.ignored:
        print(f"ignored, without effect on a refit here: {flag}", file=sys.stderr)
    print(shlex.join(mapped.options))
    return 0


def _check_allocation(mapped: Mapped, tasks: str) -> None:
    if tasks.isdecimal() and int(tasks) < mapped.ranks:
        raise CaseError(
            f"this refit needs {mapped.ranks} ranks and the allocation has {tasks} tasks: ask for more, or "
            "cut the layouts with -- --twin A,B"
        )
