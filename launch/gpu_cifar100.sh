#!/usr/bin/env bash
# Published recipes on CIFAR-100 on this machine's GPU: 50 classes first and 5 per task, ten equal tasks, ResNet-18 and
# ResNet-32, three seeds; then one page of all. Each run's timing.json has the seconds of every stage.
#
#   PYTHON   an interpreter with jaxcil and jax with CUDA; python3
#   DATASET  cifar100, as TFDS has it (jaxcil prepare-data cifar100), or a folder train/CLASS/*.png, test/CLASS/*.png
#   OUT      folder of the runs; runs/cifar100
#
# Arguments are passed on to every run: bash launch/gpu_cifar100.sh --config.seeds=0 --config.training.epochs=1
# --config.training.warmup=0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3} out=${OUT:-runs/cifar100}

runs=()
for recipe in fecam fetril acl; do
  for network in resnet18 resnet32; do
    for split in 50,5 10,10; do
      runs+=("$out/$recipe-$network-$split")
      "$python" -m jaxcil run --config="${recipe}_cifar100" --workdir="${runs[-1]}" \
        --config.dataset="${DATASET:-cifar100}" --config.training.network="$network" --config.training.dtype=bfloat16 \
        --config.scenario.first_classes="${split%,*}" --config.scenario.classes_per_task="${split#*,}" "$@"
    done
  done
done
"$python" -m jaxcil report "${runs[@]}" --out="$out/report"
