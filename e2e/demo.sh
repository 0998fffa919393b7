#!/usr/bin/env bash
# The main job in a minute: an agent that is cluster-admin reads a Secret only once two people
# have granted it that, for a minute; it is stopped from deleting a namespace; then it has to wait until a person has seen what would die with it, and has
# approved exactly that; and the story is in Postgres. Every command is printed before it runs. Exits 0 only when every step came out as it says. KEEP=1 leaves it all running.
set -uo pipefail
cd "$(dirname "$0")/.."

bold=$'\e[1m' dim=$'\e[2m' green=$'\e[32m' red=$'\e[31m' plain=$'\e[0m'
[ -t 1 ] || bold= dim= green= red= plain=

dir=$(mktemp -d "${TMPDIR:-/tmp}/holdfast-demo-XXXXXX")
finish() {
  code=$?
  if [ "${KEEP:-}" = 1 ] && [ -e "$dir/env" ]; then
    printf '\n%s\n' "${bold}Still running. Look around with:${plain}"
    printf '  %s\n' ". $dir/env" \
      "kubectl --kubeconfig \$HOLDFAST_AGENT_KUBECONFIG ..." \
      "psql \"\$DATABASE_URL\" -c 'SELECT * FROM agent_activity ORDER BY time'" \
      "go run ./cmd/holdfast-local down --dir $dir      # when you are done"
  else
    go run ./cmd/holdfast-local down --dir "$dir" >>"$dir/demo.log" 2>&1 || code=1
    [ $code = 0 ] && rm -rf "$dir" || printf '%s\n' "The logs are in $dir"
  fi
  exit $code
}
trap finish EXIT

step() { printf '\n%s\n' "${bold}$*${plain}"; }
fail() { printf '%s\n' "${red}✗ $*${plain}"; exit 1; }
# run prints a command, runs it, and keeps what it says in $said.
run() {
  printf '%s\n' "${dim}\$ $*${plain}"
  said=$(eval "$*" 2>&1); code=$?
  [ -z "$said" ] || printf '%s\n' "$said"
  return $code
}
passes() { run "$@" || fail "this should have gone through"; }
# refused wants a command to fail, and to say the text.
refused() {
  want=$1; shift
  run "$@" && fail "this should have been refused"
  case $said in *"$want"*) printf '%s\n' "${green}✓ refused, as it should be${plain}" ;; *) fail "refused, but not with: $want" ;; esac
}

step "A real control plane, with Holdfast in it"
printf '%s\n' "${dim}\$ go run ./cmd/holdfast-local up --dir $dir --policies=none --detach${plain}"
go run ./cmd/holdfast-local up --dir "$dir" --policies=none --detach >"$dir/demo.log" 2>&1 || { tail -20 "$dir/demo.log"; fail "it did not come up"; }
# shellcheck source=/dev/null
. "$dir/env"
printf '%s\n' "${dim}\$ . $dir/env${plain}"
agent='kubectl --kubeconfig $HOLDFAST_AGENT_KUBECONFIG'
human='kubectl --kubeconfig $HOLDFAST_HUMAN_KUBECONFIG'

step "The agent is cluster-admin; who it is, is declared"
passes "$agent auth can-i '*' '*'"
passes "$human get agents"

step "A policy: agents delete no namespaces"
passes "cat manifests/policies/examples/no-namespace-deletes.yaml"
passes "$human apply -f manifests/policies/examples/no-namespace-deletes.yaml"
passes "$human wait --for=condition=Compiled agentpolicy/no-namespace-deletes"
passes "$human create namespace prod"

step "The agent does its work: it reads, and creates what it is asked for"
passes "$agent get namespaces"
passes "$agent -n prod create deployment web --image=registry.example.com/web:1.0 --replicas=2"
passes "$agent -n prod create secret generic database --from-literal=password=hunter2"
cat >"$dir/orders.yaml" <<MANIFEST
{apiVersion: v1, kind: PersistentVolume, metadata: {name: orders},
 spec: {capacity: {storage: 20Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Delete,
        csi: {driver: disks.example.com, volumeHandle: disk-1}, claimRef: {namespace: prod, name: orders}}}
---
{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: orders, namespace: prod},
 spec: {accessModes: [ReadWriteOnce], storageClassName: "", volumeName: orders, resources: {requests: {storage: 20Gi}}}}
MANIFEST
passes "$agent apply -f $dir/orders.yaml"
passes "$human -n prod wait --for=jsonpath={.status.phase}=Bound --timeout=30s pvc/orders"

step "It reads no Secret that nobody granted it, whatever RBAC says; it can ask"
passes "$human apply -f manifests/policies/baseline/reads.yaml"
passes "$human wait --for=condition=Compiled agentpolicy/baseline-reads"
refused "rule baseline-reads/hold-secret-reads" "$agent -n prod get secret database"
passes "kubectl holdfast --kubeconfig \$HOLDFAST_AGENT_KUBECONFIG request --verbs get --resource secrets/database -n prod --for 1m --reason 'the orders job cannot log in' -o name"
asked=${said#accessrequest.holdfast.dev/}
passes "kubectl holdfast --kubeconfig \$HOLDFAST_APPROVER_KUBECONFIG approve $asked"
refused "rule baseline-reads/hold-secret-reads" "$agent -n prod get secret database"
passes "kubectl holdfast --kubeconfig \$HOLDFAST_APPROVER2_KUBECONFIG approve $asked"
for _ in $(seq 30); do eval "$agent -n prod get secret database" >/dev/null 2>&1 && break; sleep 0.1; done
passes "$agent -n prod get secret database"

step "The agent tries to delete the namespace"
refused "rule no-namespace-deletes/deny-delete" "$agent delete namespace prod"

step "A second pair of eyes instead: now the agent's own command waits"
passes "$human delete agentpolicy no-namespace-deletes"
passes "$human apply -f manifests/policies/examples/hold-namespace-deletes.yaml"
passes "$human wait --for=condition=Compiled agentpolicy/hold-namespace-deletes"
printf '%s\n' "${dim}\$ $agent delete namespace prod &${plain}"
eval "$agent delete namespace prod" >"$dir/held.log" 2>&1 &
held=$!
for _ in $(seq 100); do
  request=$(eval "$human get accessrequests --field-selector=status.phase=Pending -o jsonpath='{.items[*].metadata.name}'")
  [ -n "$request" ] && break
  sleep 0.1
done
[ -n "$request" ] || fail "the delete was not held: $(cat "$dir/held.log")"
holdfast="kubectl holdfast --kubeconfig \$HOLDFAST_APPROVER_KUBECONFIG"
passes "kubectl holdfast --kubeconfig \$HOLDFAST_AGENT_KUBECONFIG reason $request 'the project is over'"
passes "$holdfast describe $request"
case $said in *'prod/orders'*data*) ;; *) fail "the approver is not told that data would be lost" ;; esac
kill -0 $held 2>/dev/null || fail "the agent's command did not wait: $(cat "$dir/held.log")"
passes "$holdfast approve $request -m 'the data is archived'"
wait $held || fail "approved, and still refused: $(cat "$dir/held.log")"
cat "$dir/held.log"
printf '%s\n' "${green}✓ the agent's command waited, and went through once a person had approved${plain}"

step "The agent's story, from Postgres"
query="SELECT to_char(time, 'HH24:MI:SS') AS time, verb, object, decision, array_to_string(rules, ', ') AS rule, response_code AS code
  FROM agent_activity
  WHERE username = 'system:serviceaccount:agents:bot' AND object ~ 'prod' AND (verb <> 'get' OR object ~ 'secrets')
  ORDER BY agent_activity.time"
for _ in $(seq 100); do # the API server sends its audit events once a second
  psql "$DATABASE_URL" -Atc "$query" 2>/dev/null | grep -q 'Allow|hold-namespace-deletes/hold-delete|200' && break
  sleep 0.1
done
passes "psql \"\$DATABASE_URL\" -c \"$query\""
case $said in *"Deny"*"no-namespace-deletes/deny-delete"*"403"*) ;; *) fail "the denial is not in the story" ;; esac
case $said in *"get"*"prod/secrets/database"*"Hold"*"baseline-reads/hold-secret-reads"*"403"*) ;; *) fail "the refused read is not in the story" ;; esac
case $said in *"create"*"deployments"*"Allow"*"201"*) ;; *) fail "the Deployment is not in the story" ;; esac

step "The story of the approval: request, review, and what came of it"
query="SELECT to_char(time, 'HH24:MI:SS.MS') AS time, split_part(username, ':', -1) AS who, what, left(detail, 72) AS detail
  FROM access_request_history WHERE access_request = '$request' ORDER BY access_request_history.time"
for _ in $(seq 100); do
  psql "$DATABASE_URL" -Atc "$query" 2>/dev/null | grep -q '|Used|' && break
  sleep 0.1
done
passes "psql \"\$DATABASE_URL\" -c \"$query\""
for what in Pending "review: Approve" Approved "let pass" Redeemed Used; do
  case $said in *"| $what "*) ;; *) fail "'$what' is not in the story" ;; esac
done
case $said in *hunter2*) fail "a Secret's value is in the story" ;; esac
printf '\n%s\n' "${green}✓ The agent was stopped, then waited for a person, and the story is told.${plain}"
