#!/usr/bin/env bash
# What many teams run, as the baseline for a rollout: host after host, copy the release, install it, move the link, restart the
# service in place, wait until it is healthy. Same hosts, same unit, same settings, same balancers with the same checks.
#   plain_deploy.sh <ssh_config> <bundle> <release id> <host=address> ...
# PATIENCE: seconds that it waits for a host (60); then it ends there.
set -euo pipefail

config=$1 bundle=$2 release=$3 patience=${PATIENCE:-60}
shift 3
tree=/opt/linkrift/plain/$release

for place in "$@"; do
  host=${place%%=*} address=${place#*=}
  scp -q -F "$config" "$bundle" "$host:bundle.tar.gz"
  ssh -F "$config" "$host" sudo bash -s -- "$tree" "$release" "$address" "$patience" <<'EOF'
set -euo pipefail
tree=$1 release=$2 address=$3 patience=$4
mkdir -p "${tree%/*}"
tar -xzf bundle.tar.gz --no-same-owner -C "${tree%/*}"
rm bundle.tar.gz
cd "$tree"
target=$(python3 -c 'import platform, sys; print("cp%d%d-%s" % (*sys.version_info[:2], platform.machine()))')
python3 -m venv --without-pip venv
venv/bin/python "$(echo wheels/pip-*.whl)/pip" --isolated install --quiet --disable-pip-version-check --no-cache-dir \
  --no-index --no-deps --require-hashes --find-links wheels --requirement "requirements/$target.txt"
printf '{"id": "%s"}\n' "$release" > release.json
chmod -R go=u-w "$tree"

slot=$(basename "$(readlink /opt/linkrift/redirect/live)")
ln -sfn "$tree" "/opt/linkrift/redirect/$slot"
timeout "$patience" systemctl restart "linkrift-redirect@$slot"
case $slot in blue) port=8081 ;; *) port=8181 ;; esac
for _ in $(seq $((patience * 5))); do
  python3 -c 'import sys, urllib.request; urllib.request.urlopen(sys.argv[1], timeout=2)' "http://$address:$port/health" \
    2> /dev/null && exit 0
  sleep 0.2
done
exit 1
EOF
done
