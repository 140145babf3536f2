#!/usr/bin/env bash
# Puts back what plain_deploy.sh changed: the live slot has the release of the link `current` again.
#   plain_undo.sh <ssh_config> <host=address> ...
set -euo pipefail

config=$1
shift
for place in "$@"; do
  ssh -F "$config" "${place%%=*}" sudo bash -s <<'EOF'
set -euo pipefail
slot=$(basename "$(readlink /opt/linkrift/redirect/live)")
ln -sfn "$(readlink -f /opt/linkrift/redirect/current)" "/opt/linkrift/redirect/$slot"
systemctl restart "linkrift-redirect@$slot"
rm -rf /opt/linkrift/plain
EOF
done
