"""Megatron's flags as options of the suite."""

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fixtures.cases.errors import CaseError
from fixtures.cases.inventory import KIMI_K2, KIMI_K2_MINI
from fixtures.cases.scenarios import find_scenario
from tools.__main__ import main as run
from tools.megatron_flags import MAPPED, map_flags, read_flags
from tools.megatron_known import CONSTANTS, IGNORED, REFUSED, SIZES

LAYOUTS = """--tensor-model-parallel-size 16 --expert-model-parallel-size 4
--rl-inference-tensor-model-parallel-size 8 --rl-inference-expert-model-parallel-size 4
--refit-mode non-collocated --refit-method nvshmem"""
KIMI = """--num-layers 61 --hidden-size 7168 --num-attention-heads 64 --ffn-hidden-size 18432
--num-experts 384 --moe-router-topk 8 --moe-ffn-hidden-size 2048 --moe-shared-expert-intermediate-size 2048
--multi-latent-attention --q-lora-rank 1536 --kv-lora-rank 512 --qk-head-dim 128 --qk-pos-emb-head-dim 64
--v-head-dim 128 --vocab-size 163840 --bf16 --seq-length 4096 --max-position-embeddings 4096
--micro-batch-size 1 --swiglu --normalization RMSNorm --rotary-base 50000"""


def words(*texts: str) -> list[str]:
    """Flags as a shell splits them."""
    return [word for text in texts for word in shlex.split(text)]


def option(options: tuple[str, ...], name: str) -> str:
    """The value behind an option of pytest."""
    return options[options.index(name) + 1]


def test_the_flags_that_users_know_become_a_scenario_of_the_brief() -> None:
    mapped = map_flags(words(LAYOUTS, KIMI, "--num-benchmark-warmup 3 --num-benchmark-iterations 20"))
    assert find_scenario(option(mapped.options, "--scenario")).key == "s2"
    assert option(mapped.options, "--model") == "kimi-k2"
    assert option(mapped.options, "--num-layers") == "61"
    assert option(mapped.options, "--warmup") == "3"
    assert option(mapped.options, "--iterations") == "20"
    assert option(mapped.options, "--engine") == "megatron"
    assert option(mapped.options, "--method") == "nvshmem"
    assert option(mapped.options, "--twin") == "1,1"
    assert mapped.ranks == 96
    assert "--seq-length 4096" in mapped.ignored
    assert "--swiglu" in mapped.ignored
    assert not any(word.split()[0] in MAPPED for word in mapped.ignored)


@pytest.mark.parametrize("method", ["nixl", "nccl_m2n"])
def test_upstreams_newer_methods_and_batches_are_passed_on(method: str) -> None:
    layouts = LAYOUTS.replace("nvshmem", method)
    mapped = map_flags(words(layouts, "--refit-execution-batch-bytes 268435456"))
    assert option(mapped.options, "--method") == method
    assert option(mapped.options, "--refit-execution-batch-bytes") == "268435456"


def test_the_target_defaults_to_the_source() -> None:
    mapped = map_flags(
        words("--tensor-model-parallel-size 4 --expert-model-parallel-size=2 --refit-mode collocated")
    )
    assert option(mapped.options, "--scenario").startswith("4:2:4:2:collocated:gloo:")


def test_no_size_leaves_the_model_to_the_suite() -> None:
    assert "--model" not in map_flags(words(LAYOUTS)).options


def test_mini_is_chosen_by_its_sizes() -> None:
    flags = words(LAYOUTS) + [
        word for flag, field in SIZES.items() for word in (flag, str(getattr(KIMI_K2_MINI, field)))
    ]
    assert option(map_flags(flags).options, "--model") == "kimi-k2-mini"


def test_dense_layers_tell_the_models_apart() -> None:
    frequency = ["--moe-layer-freq", "([0]*3+[1]*58)"]
    assert option(map_flags([*words(LAYOUTS), *frequency]).options, "--model") == "deepseek-v3"
    sizes = words("--num-experts 256 --num-attention-heads 128 --vocab-size 129280")
    assert option(map_flags([*words(LAYOUTS), *frequency, *sizes]).options, "--model") == "deepseek-v3"
    with pytest.raises(CaseError, match="--moe-layer-freq 3 is of no model"):
        map_flags([*words(LAYOUTS), *frequency, "--num-experts", "384", "--num-attention-heads", "64"])


def test_what_follows_the_dashes_goes_to_pytest() -> None:
    mapped = map_flags([*words(LAYOUTS), "--", "--engine", "direct", "--twin=8,2", "-k", "a b"])
    assert mapped.options[-5:] == ("--engine", "direct", "--twin=8,2", "-k", "a b")
    assert "megatron" not in mapped.options
    assert "--method" not in mapped.options
    assert mapped.options.count("--twin") == 0
    assert mapped.ranks == 0


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--refit-speed 9", "unknown flag --refit-speed"),
        ("--tensor-model-parallel-siz 9", "unknown flag --tensor-model-parallel-siz"),
        ("--expert-tensor-parallel-size 1", "--expert-tensor-parallel-size 1 does not go with TP 16"),
        ("--rl-inference-expert-tensor-model-parallel-size 16", "16 does not go with TP 8"),
        ("--hidden-size 7169", "--hidden-size 7169 is of no model"),
        ("--hidden-size 7168 --num-experts 32", "--num-experts 32 is of no model"),
        ("--num-layers 62", "kimi-k2 has 61 layers, 62 were asked for"),
        ("--tensor-model-parallel-size 3", "64 is not divisible by TP 3"),
        ("--tensor-model-parallel-size zero", "--tensor-model-parallel-size must be a whole number"),
        ("--tensor-model-parallel-size 8 8", "--tensor-model-parallel-size needs one value, not 8 8"),
        ("--num-benchmark-iterations 0", "--num-benchmark-iterations must be a whole number of at least 1"),
        ("--pipeline-model-parallel-size 2", "--pipeline-model-parallel-size 2 cannot be refitted"),
        ("--normalization LayerNorm", "--normalization LayerNorm cannot be refitted"),
        ("--moe-layer-freq 1", "--moe-layer-freq 1 cannot be refitted"),
        ("--fp16", "--fp16 would move fp16 weights"),
        ("--refit-mode both", "unknown mode 'both'"),
        ("--refit-method mpi", "unknown method 'mpi'"),
        ("--refit-mode collocated", "a collocated scenario needs source and target on the same ranks"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(flags: str, sentence: str) -> None:
    with pytest.raises(CaseError) as refusal:
        map_flags(words(LAYOUTS, flags))
    assert sentence in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_word_without_a_flag_and_a_missing_mode_are_refused() -> None:
    with pytest.raises(CaseError, match="'16' is not a flag"):
        read_flags(["16"])
    with pytest.raises(CaseError, match="--refit-mode is missing"):
        map_flags(["--tensor-model-parallel-size", "2"])


@pytest.mark.parametrize("value", ["([0]*1+[1]*60)", "[0]+[1]*60", "([0]*1 + [1]*60)"])
def test_the_layer_pattern_of_kimi_k2_is_accepted(value: str) -> None:
    assert map_flags([*words(LAYOUTS), "--moe-layer-freq", value]).ignored


def test_every_flag_is_known_in_one_way_only() -> None:
    kinds = (MAPPED, set(CONSTANTS), set(REFUSED), IGNORED)
    assert sum(len(kind) for kind in kinds) == len(set().union(*kinds))
    assert set(SIZES.values()) <= set(vars(KIMI_K2))


@given(st.lists(st.sampled_from(sorted(IGNORED)), unique=True), st.randoms())
def test_ignored_flags_change_nothing_wherever_they_stand(flags: list[str], random) -> None:  # noqa: ANN001
    pairs = [[flag] for flag in flags] + [
        [name, *values] for name, values in read_flags(words(LAYOUTS, KIMI)).items()
    ]
    random.shuffle(pairs)
    mapped = map_flags([word for pair in pairs for word in pair])
    assert mapped.options == map_flags(words(LAYOUTS, KIMI)).options
    assert set(flags) <= {text.split()[0] for text in mapped.ignored}


def test_the_command_prints_for_a_shell(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "96")
    assert run(["megatron-flags", *words(LAYOUTS), "--swiglu", "--", "-k", "a b"]) == 0
    printed = capsys.readouterr()
    assert shlex.split(printed.out)[-2:] == ["-k", "a b"]
    assert printed.err == "ignored, without effect on a refit here: --swiglu\n"


def test_too_small_an_allocation_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NTASKS", "95")
    assert run(["megatron-flags", *words(LAYOUTS)]) == 2
    assert capsys.readouterr().err.startswith("this refit needs 96 ranks and the allocation has 95 tasks")
    monkeypatch.setenv("SLURM_NTASKS", "8")
    assert run(["megatron-flags", *words(LAYOUTS), "--", "--twin", "8,2"]) == 0
