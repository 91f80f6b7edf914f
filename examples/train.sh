#!/usr/bin/env bash
# A training run in bash: ten epochs, a checkpoint after each, a sign of life in between.
#   fred-supervise start --name bash --checkpoints 'epoch-*.txt' -- bash examples/train.sh {resume}
set -euo pipefail
done=0
if [ $# -gt 0 ]; then done=$(cat "$1"); fi  # the newest whole checkpoint, after a failure

for epoch in $(seq $((done + 1)) 10); do
    echo "epoch $epoch of 10"
    sleep "${EPOCH_SECONDS:-1}"             # your training step
    date > "$FRED_HEARTBEAT"                # alive
    echo "$epoch" > "$FRED_RUN_DIR/.new"    # beside it, then renamed: never half a checkpoint
    mv "$FRED_RUN_DIR/.new" "$FRED_RUN_DIR/epoch-$epoch.txt"
done
