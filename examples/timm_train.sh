#!/usr/bin/env bash
# AHSAR in timm's own training script, unchanged: models of ahsar neurons regulate themselves.
#
#   ./examples/timm_train.sh PATH/OF/timm/train.py IMAGES [more options of train.py]
#
# train.py is in timm's repository (https://github.com/huggingface/pytorch-image-models), not in its wheel; IMAGES is a
# folder with train/CLASS/*.png and validation/CLASS/*.png. --device-modules imports step_ahsar.models, which registers
# the models. Checkpoints have the thresholds, so --resume goes on from them, and --model-ema averages them. On several GPUs:
# torchrun --nproc_per_node 2 PATH/OF/timm/train.py with the same options; spikes are counted over all processes.
set -euo pipefail
script=$1 images=$2
shift 2
exec python "$script" --data-dir "$images" \
  --device-modules step_ahsar.models --model spikformer_2_64 --model-kwargs neuron=ahsar time_steps=4 \
  --num-classes 10 --img-size 32 --batch-size 64 --opt adamw --lr 2e-3 --weight-decay 0.01 --warmup-epochs 1 \
  --model-ema --model-ema-decay 0.99 --model-ema-warmup "$@"
