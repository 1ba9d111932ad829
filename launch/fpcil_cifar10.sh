#!/usr/bin/env bash
# FPCIL on photographs: the tables of configs/fpcil_cifar10.md. Main table, controls and ablations; then a page of each.
# 70 networks.
#
#   PYTHON   an interpreter with jaxcil; python3
#   DATASET  CIFAR-10 as train/CLASS/*.png, test/CLASS/*.png, or cifar10, as TFDS has it
#   SET      synthetic images of its classes, out of jaxcil import-images or jaxcil generate
#   OTHERS   a folder like DATASET of eight classes that CIFAR-10 does not have; without it that ablation is left out
#   OUT      folder of the runs; runs/fpcil_cifar10
#
# Arguments are handed on to every run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3} out=${OUT:-runs/fpcil_cifar10}
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/jaxcil/compiled}

runs=()

run() {
  local name=$1
  shift
  runs+=("$out/$name")
  "$python" -m jaxcil run --config=fpcil_cifar10 --workdir="$out/$name" --config.dataset="${DATASET:-cifar10}" \
    --config.synthetic.path="$SET" "$@"
}

# five classes keep an extractor busy for longer, and half a batch of others is too much beside them
five=(
  --config.scenario.first_classes=5 --config.scenario.classes_a_task=1
  --config.extractor.steps=4800 --config.extractor.warmup=480 --config.future_proof.share=0.3
)
another=(--config.scenario.class_order=seed-1)
controls=("--config.seeds=0,1" "--config.extractors=shuffled_labels,known_classes")
run main-2-1993 "$@"
run main-2-1 "${another[@]}" "$@"
run main-5-1993 "${five[@]}" "$@"
run main-5-1 "${five[@]}" "${another[@]}" "$@"
run controls-2 "${controls[@]}" "$@"
run controls-5 "${controls[@]}" "${five[@]}" "$@"

ablation=("--config.seeds=0,1" "--config.heads=ncm,fetril,fecam")
fpcil=("${ablation[@]}" --config.extractors=future_proof)
both=("${ablation[@]}" "--config.extractors=plain,future_proof")
run images150 "${fpcil[@]}" --config.future_proof.images_a_class=150 "$@"
run images500 "${fpcil[@]}" --config.future_proof.images_a_class=500 "$@"
run known50 "${fpcil[@]}" --config.future_proof.known_share=0.5 "$@"
run weight50 "${fpcil[@]}" --config.future_proof.loss_weight=0.5 "$@"
run share50 "${fpcil[@]}" --config.future_proof.share=0.5 "$@"
run unaugmented "${fpcil[@]}" --config.future_proof.augment_alike=False "$@"
run smoothed "${both[@]}" --config.extractor.label_smoothing=0.1 "$@"
plain_images=()
for kind in brightness contrast saturation hue grayscale blur; do
  plain_images+=("--config.extractor.augmentation.$kind=0")
done
run crops "${ablation[@]}" "${plain_images[@]}" "$@"
six=("--config.classes=airplane,automobile,bird,cat,deer,dog")
run six-right "${both[@]}" "${six[@]}" "$@"
run six-wrong "${fpcil[@]}" "${six[@]}" --config.future_proof.classes=frog,horse,ship,truck "$@"
if [[ -n ${OTHERS:-} ]]; then
  names=$(cd "$OTHERS/train" && printf '%s\n' * | paste -sd,)
  run other500 "${fpcil[@]}" --config.future_proof.source="$OTHERS" --config.future_proof.classes="$names" "$@"
fi
"$python" -m jaxcil report "${runs[@]:0:6}" --out="$out/report"
"$python" -m jaxcil report "${runs[0]}" "${runs[@]:6}" --out="$out/ablations"
