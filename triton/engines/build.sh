#!/usr/bin/env bash
# TensorRT plans of the three engines, built where they will be served. Not run here: needs TensorRT and an NVIDIA GPU.
# tests/deploy/test_engines_build.py runs this script against a stand-in for trtexec.
#
#     searchbar engines export                    on any machine with .venv-train: writes onnx/ beside this script
#     triton/engines/build.sh                     fp16
#     PRECISION=fp32 triton/engines/build.sh      fp16, fp32 or int8 (searchbar engines export --int8 first)
#
# MODELS       the model repository   [/srv/triton/models if that is there, else ../models]
# ONNX         the exported graphs    [onnx beside this script]
# CACHE        the timing cache       [.timing.cache in MODELS]
# TRTEXEC      the builder            [found on PATH or in /usr/src/tensorrt/bin]
# FORCE=1      builds what is up to date too
#
# A plan stands beside its stamp: what it was built from and for. A plan whose stamp still holds is left alone.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
engines=(speller_encoder speller_decoder embedder_encoder)
precision=${PRECISION:-fp16}
onnx=${ONNX:-$here/onnx}
models=${MODELS:-}
if [[ -z $models ]]; then
    if [[ -d /srv/triton/models ]]; then models=/srv/triton/models; else models=$here/../models; fi
fi
cache=${CACHE:-$models/.timing.cache}

die() {
    echo "build.sh: $*" >&2
    exit 1
}

find_trtexec() {
    local found
    found=${TRTEXEC:-$(command -v trtexec || true)}
    [[ -n $found ]] || found=/usr/src/tensorrt/bin/trtexec
    [[ -x $found ]] || die "no trtexec: run this in NVIDIA's Triton or TensorRT container, or name it with TRTEXEC"
    echo "$found"
}

# The version from the banner, "&&&& RUNNING TensorRT.trtexec [TensorRT v100500] ...". The status is not looked at: some
# releases end --help with 0, others with 1.
tensorrt_version() {
    local banner
    banner=$("$trtexec" --help 2>&1 || true)
    [[ $banner =~ \[TensorRT\ v([0-9]+)\] ]] || die "$trtexec does not say which TensorRT it is of"
    echo "${BASH_REMATCH[1]}"
}

gpu() {
    local line
    line=$(nvidia-smi --query-gpu=name,compute_cap --format=csv,noheader 2>/dev/null | head -n 1) || true
    [[ -n $line ]] || die "no NVIDIA GPU: nvidia-smi lists none (in a container: is it run with the NVIDIA runtime?)"
    echo "$line"
}

# min, opt and max of one model in trtexec's words, one flag a line.
shapes() {
    python3 - "$here/profiles.json" "$1" <<'PYTHON'
import json, sys
inputs = json.load(open(sys.argv[1]))[sys.argv[2]]
for bound in ("min", "opt", "max"):
    print(f"--{bound}Shapes=" + ",".join(f"{name}:" + "x".join(map(str, at[bound])) for name, at in inputs.items()))
PYTHON
}

digest() { sha256sum -- "$1" | cut -d ' ' -f 1; }

build() {
    local model=$1 graph=$onnx/$1.onnx folder=$models/$1/1 flags=() wanted text
    [[ $precision == int8 ]] && graph=$onnx/$model.int8.onnx
    [[ -f $graph ]] || die "$graph is missing: make it with 'searchbar engines export$([[ $precision == int8 ]] && echo ' --int8')'"
    [[ -f $onnx/$model.onnx ]] || die "$onnx/$model.onnx is missing: make it with 'searchbar engines export'"
    [[ -d $folder ]] || die "$folder is missing: MODELS names no model repository of this project"
    text=$(shapes "$model") || die "$here/profiles.json has no profile for $model"
    mapfile -t flags <<<"$text"
    case $precision in
    fp16) flags+=(--fp16) ;;
    int8) flags+=(--fp16 --int8) ;; # the scales are the graph's own QuantizeLinear nodes
    esac
    wanted=$(printf '%s\n' "tensorrt $version" "gpu $device" "onnx $(digest "$graph")" "precision $precision" "${flags[@]}")
    if [[ -z ${FORCE:-} && -f $folder/model.plan && -f $folder/fp32.onnx && -f $folder/model.plan.stamp && $(<"$folder/model.plan.stamp") == "$wanted
plan $(digest "$folder/model.plan")" ]]; then
        echo "$model: up to date"
        return
    fi
    echo "$model: building ($precision) from $graph"
    local made=$folder/.model.plan.$$ log=$work/$model.log
    "$trtexec" --onnx="$graph" --saveEngine="$made" --timingCacheFile="$cache" --skipInference "${flags[@]}" >"$log" 2>&1 || {
        rm -f -- "$made"
        tail -n 30 -- "$log" >&2
        die "$model: trtexec failed; the plan that was there, if any, is untouched"
    }
    [[ -s $made ]] || die "$model: trtexec reported success and wrote no plan"
    # What CUDA without TensorRT serves, and what the plan is compared with (configs/cuda.pbtxt).
    cp -- "$onnx/$model.onnx" "$folder/.fp32.onnx.$$"
    mv -f -- "$folder/.fp32.onnx.$$" "$folder/fp32.onnx"
    # The stamp goes first: a plan without one is built again, a stamp never vouches for another plan.
    rm -f -- "$folder/model.plan.stamp"
    mv -f -- "$made" "$folder/model.plan"
    printf '%s\n' "$wanted" "plan $(digest "$folder/model.plan")" >"$folder/.stamp.$$"
    mv -f -- "$folder/.stamp.$$" "$folder/model.plan.stamp"
    echo "$model: $(wc -c <"$folder/model.plan") bytes"
}

case $precision in fp16 | fp32 | int8) ;; *) die "PRECISION=$precision: it is fp16, fp32 or int8" ;; esac
trtexec=$(find_trtexec)
version=$(tensorrt_version)
device=$(gpu)
work=$(mktemp -d)
trap 'rm -rf -- "$work"; rm -f -- "$models"/*/1/.*."$$"' EXIT
echo "TensorRT $version on $device"
for engine in "${engines[@]}"; do build "$engine"; done
