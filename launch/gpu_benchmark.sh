#!/usr/bin/env bash
# Stable Diffusion 1.5 on this machine's GPU: 512 x 512 pixels, 20 guided calls, bfloat16. Which attention and which
# batch are fastest, at what fraction of the fastest matrix product, and a trace that shows what limits them.
# Weights are made up. Needs jax with CUDA, flax, safetensors and tokenizers; installs nothing and downloads nothing.
#
#   PYTHON     an interpreter that has them; python3
#   OUT        folder for the figures (*.json) and the trace; runs/gpu_benchmark
#   ATTENTION  "cudnn xla"
#   BATCHES    1,2,4,8,16,32; those after one that runs out of memory are not tried
#
# Arguments are passed to every command: bash launch/gpu_benchmark.sh --size=768
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3} out=${OUT:-runs/gpu_benchmark}
mkdir -p "$out"
export XLA_PYTHON_CLIENT_MEM_FRACTION=${XLA_PYTHON_CLIENT_MEM_FRACTION:-0.94}
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/jaxcil/compiled}

measure() {
  "$python" -m jaxcil benchmark generate --model=sd15 --size=512 --nfe=20 --dtype=bfloat16 "$@"
}

figures=() # of this run only
for attention in ${ATTENTION:-cudnn xla}; do
  figures+=("$out/$attention.json")
  measure --attention="$attention" --batch="${BATCHES:-1,2,4,8,16,32}" --json="$out/$attention.json" "$@"
done
read -r attention images < <("$python" - "${figures[@]}" <<'PYTHON'
import json, sys

entries = [json.load(open(path))["best"] for path in sys.argv[1:]]
best = max(entries, key=lambda figures: figures["images_per_second"])
print(best["attention"], best["images_per_device"])
PYTHON
)
# operations in a CUDA graph have no names in the trace
XLA_FLAGS="${XLA_FLAGS:-} --xla_gpu_enable_command_buffer=" \
  measure --attention="$attention" --batch="$images" --profile="$out/trace" --json="$out/trace.json" "$@"
