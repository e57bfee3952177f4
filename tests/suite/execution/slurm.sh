#!/usr/bin/env bash
# A Slurm of two nodes on this machine, for tests: slurm.sh up DIR | down DIR
# The nodes are processes on loopback, each with four CPUs that it only believes in. Without systemd, database or cgroups.
# Exits with 77 and the reason where Slurm is not installed. SLURM_CONF=DIR/slurm.conf makes its commands find it.
set -euo pipefail
verb=$1 dir=$2
port=${PORT:-17817}
export SLURM_CONF=$dir/slurm.conf

pid_of() { cat "$dir/$1.pid" 2>/dev/null; }
alive() { local pid; pid=$(pid_of "$1") && [ -n "$pid" ] && kill -0 "$pid" 2>/dev/null; }

up() {
  for program in munged slurmctld slurmd sbatch squeue; do
    command -v "$program" >/dev/null || { echo "$program is not installed: apt-get install slurm-wlm munge"; exit 77; }
  done
  mkdir -p "$dir"/state "$dir"/spool
  chmod 755 "$dir"
  (umask 077 && head -c 256 /dev/urandom >"$dir/key")
  local me host
  me=$(id -un) host=$(hostname -s)
  {
    echo "ClusterName=test"
    echo "SlurmctldHost=$host(127.0.0.1)"
    echo "SlurmctldPort=$port"
    echo "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny"
    echo "AuthInfo=socket=$dir/munge.socket,cred_expire=30" # for which a job that was put back waits at least
    echo "SlurmUser=$me"
    echo "SlurmdUser=$me"
    echo "StateSaveLocation=$dir/state"
    echo "SlurmdSpoolDir=$dir/spool/%n"
    echo "SlurmctldPidFile=$dir/slurmctld.pid"
    echo "SlurmdPidFile=$dir/%n.pid"
    echo "SlurmctldLogFile=$dir/slurmctld.log"
    echo "SlurmdLogFile=$dir/%n.log"
    echo "SlurmdParameters=config_overrides"
    echo "ProctrackType=proctrack/linuxproc"
    echo "TaskPlugin=task/none"
    echo "MpiDefault=none"
    echo "SelectType=select/cons_tres"
    echo "SelectTypeParameters=CR_CPU"
    echo "SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1"
    echo "KillWait=2"
    echo "PreemptType=preempt/partition_prio"
    echo "PreemptMode=REQUEUE"
    echo "MaxArraySize=2001"
    for number in 1 2; do
      echo "NodeName=n$number NodeHostname=$host NodeAddr=127.0.0.1 Port=$((port + number)) CPUs=4"
    done
    echo "PartitionName=main Nodes=ALL Default=YES MaxTime=60 State=UP"
    echo "PartitionName=urgent Nodes=ALL MaxTime=60 PriorityTier=9 State=UP"
    echo "PartitionName=shut Nodes=ALL MaxTime=60 State=DOWN"
  } >"$dir/slurm.conf"
  munged --force --key-file="$dir/key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munged.log" --seed-file="$dir/munge.seed" --num-threads=2
  slurmctld
  slurmd -N n1
  slurmd -N n2
  for _ in $(seq 300); do
    [ "$(sinfo -h -p main -N -t idle -o %N 2>/dev/null | wc -l)" = 2 ] && exit 0
    sleep 0.2
  done
  tail -n 5 "$dir"/*.log
  exit 1
}

down() {
  for name in n1 n2 slurmctld munged; do
    alive $name && kill "$(pid_of $name)"
  done
  for _ in $(seq 50); do
    alive n1 || alive n2 || alive slurmctld || alive munged || exit 0
    sleep 0.1
  done
  for name in n1 n2 slurmctld munged; do
    alive $name && kill -9 "$(pid_of $name)"
  done
}

case $verb in
  up) up ;;
  down) down ;;
  *) echo "expected up or down"; exit 2 ;;
esac
