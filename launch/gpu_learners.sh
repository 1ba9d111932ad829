#!/usr/bin/env bash
# Learners that keep training on CIFAR-100 on this machine's GPU, with and without SDDR: LUCIR, PODNet, WA and DER, 50
# classes first and 10 per task; then one page of all. Each run's timing.json has the seconds of every stage. Started
# again it goes on where it stopped.
#
#   PYTHON   an interpreter with jaxcil and jax with CUDA; python3
#   DATASET  cifar100, as TFDS has it (jaxcil prepare-data cifar100), or a folder train/CLASS/*.png, test/CLASS/*.png
#   SET      synthetic images of its classes, from jaxcil generate or jaxcil import-images; without it there is no SDDR
#   OUT      folder of the runs; runs/learners
#
# Arguments are passed on to every run: bash launch/gpu_learners.sh --config.seeds=0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3} out=${OUT:-runs/learners}

images=()
if [[ -n ${SET:-} ]]; then
  images=("--config.synthetic.path=$SET" "--config.variants=plain,sddr,real_past")
fi
runs=()
for recipe in lucir podnet wa der; do
  runs+=("$out/$recipe")
  config=$recipe
  if [[ $recipe == wa ]]; then config=icarl; fi
  "$python" -m jaxcil run --config="${config}_cifar100" --workdir="${runs[-1]}" \
    --config.dataset="${DATASET:-cifar100}" --config.learners="$recipe," --config.training.dtype=bfloat16 \
    --config.scenario.first_classes=50 --config.scenario.classes_per_task=10 \
    --config.memory.total=none --config.memory.per_class=20 "${images[@]}" "$@"
done
"$python" -m jaxcil report "${runs[@]}" --out="$out/report"
