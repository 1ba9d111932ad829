#!/usr/bin/env bash
# FPCIL on photographs: the published tables of configs/fpcil_cifar10.py. Main table, controls, then ablations, and a
# page of each; 72 networks, and two more with OTHERS.
#
#   PYTHON   an interpreter with jaxcil; python3
#   DATASET  CIFAR-10 as train/CLASS/*.png, test/CLASS/*.png, or cifar10, as TFDS has it
#   SET      synthetic images of its classes, from jaxcil import-images or jaxcil generate
#   OTHERS   a folder like DATASET of classes that CIFAR-10 does not have; without it that ablation is omitted
#   OUT      folder of the runs; runs/fpcil_cifar10
#
# Arguments are passed on to every run, and override what the script sets.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=${PYTHON:-python3} out=${OUT:-runs/fpcil_cifar10}
: "${SET:?give the folder of the synthetic images: SET=... bash launch/fpcil_cifar10.sh}"

runs=()

run() {
  local name=$1
  shift
  runs+=("$out/$name")
  "$python" -m jaxcil run --config=fpcil_cifar10 --workdir="$out/$name" --config.dataset="${DATASET:-cifar10}" "$@"
}

images=("--config.synthetic.path=$SET")
# five classes take an extractor longer to learn, and half a batch of other images is too much for them
five=(
  --config.scenario.first_classes=5 --config.scenario.classes_per_task=1
  --config.training.steps=4800 --config.training.warmup=480 --config.auxiliary.future.batch_fraction=0.3
)
another=(--config.scenario.class_order=seed-1)
controls=("${images[@]}" "--config.seeds=0,1" "--config.variants=shuffled_labels,known_classes")
run main-2-1993 "${images[@]}" "$@"
run main-2-1 "${images[@]}" "${another[@]}" "$@"
run main-5-1993 "${images[@]}" "${five[@]}" "$@"
run main-5-1 "${images[@]}" "${five[@]}" "${another[@]}" "$@"
run controls-2 "${controls[@]}" "$@"
run controls-5 "${controls[@]}" "${five[@]}" "$@"
"$python" -m jaxcil report "${runs[@]}" --out="$out/report"

runs=("${runs[0]}")
ablation=("${images[@]}" "--config.seeds=0,1" "--config.heads=ncm,fetril,fecam")
fpcil=("${ablation[@]}" --config.variants=future_proof)
both=("${ablation[@]}" "--config.variants=plain,future_proof")
run images150 "${fpcil[@]}" --config.auxiliary.future.images_per_class=150 "$@"
run images500 "${fpcil[@]}" --config.auxiliary.future.images_per_class=500 "$@"
run known50 "${fpcil[@]}" --config.auxiliary.future.known_fraction=0.5 "$@"
run weight50 "${fpcil[@]}" --config.auxiliary.future.loss_weight=0.5 "$@"
run share50 "${fpcil[@]}" --config.auxiliary.future.batch_fraction=0.5 "$@"
run unaugmented "${fpcil[@]}" --config.auxiliary.future.augment_alike=False "$@"
run smoothed "${both[@]}" --config.training.label_smoothing=0.1 "$@"
plain_images=()
for kind in brightness contrast saturation hue grayscale blur; do
  plain_images+=("--config.training.augmentation.$kind=0")
done
run crops "${ablation[@]}" "${plain_images[@]}" "$@"
six=("--config.classes=airplane,automobile,bird,cat,deer,dog")
run six-right "${both[@]}" "${six[@]}" "$@"
run six-wrong "${fpcil[@]}" "${six[@]}" --config.auxiliary.future.classes=frog,horse,ship,truck "$@"
if [[ -n ${OTHERS:-} ]]; then
  names=$(cd "$OTHERS/train" && printf '%s\n' * | paste -sd,)
  others=("--config.synthetic.path=none" "--config.auxiliary.future.source=$OTHERS" "--config.auxiliary.future.classes=$names")
  run other500 "${fpcil[@]}" "${others[@]}" "$@"
fi
"$python" -m jaxcil report "${runs[@]}" --out="$out/ablations"
