"""What Slurm's commands print, of releases 22.05 to 25.11: their lines and order, with names and numbers of no real site."""

from __future__ import annotations

#: Preempts by partition, with the user signal; 22.05. scontrol shows some 150 more lines.
CONFIG_22 = """\
Configuration data as of 2026-11-24T08:29:59
AccountingStorageType   = accounting_storage/slurmdbd
AuthInfo                = socket=/run/munge/munge.socket.2,cred_expire=60
AuthType                = auth/munge
ClusterName             = lab
JobRequeue              = 1
JobSubmitPlugins        = (null)
KillWait                = 30 sec
MaxArraySize            = 5001
PreemptMode             = REQUEUE
PreemptParameters       = (null)
PreemptType             = preempt/partition_prio
SchedulerParameters     = bf_continue,bf_window=4320
SlurmctldParameters     = enable_configless,preempt_send_user_signal
SLURM_VERSION           = 22.05.8

Slurmctld(primary) at head is UP
"""

#: Preempts by QOS, with SIGTERM alone, through a plugin of the site's own; 23.11.
CONFIG_23 = """\
Configuration data as of 2026-11-24T08:29:59
AuthInfo                = (null)
ClusterName             = campus
JobRequeue              = 0
JobSubmitPlugins        = lua
KillWait                = 60 sec
MaxArraySize            = 1001
PreemptMode             = CANCEL
PreemptParameters       = youngest_first
PreemptType             = preempt/qos
SlurmctldParameters     = (null)
SLURM_VERSION           = 23.11.10

Slurmctld(primary) at ctl1 is UP
Slurmctld(backup) at ctl2 is UP
"""

#: Preempts nobody; 25.11, which writes no plugin as (null).
CONFIG_25 = """\
Configuration data as of 2026-04-21T06:19:30
AuthInfo                = (null)
ClusterName             = linux
JobRequeue              = 1
JobSubmitPlugins        = (null)
KillWait                = 30 sec
MaxArraySize            = 1001
MaxBatchRequeue         = 5
PreemptMode             = OFF
PreemptParameters       = send_user_signal
PreemptType             = (null)
SlurmctldParameters     = (null)
SLURM_VERSION           = 25.11.4
"""

#: `scontrol --all --oneliner show partition`: of 22.05, of 23.11, of 24.05, in this order.
PARTITIONS = (
    "PartitionName=low AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A "
    "DefaultTime=02:00:00 DisableRootJobs=NO ExclusiveUser=NO GraceTime=120 Hidden=NO MaxNodes=UNLIMITED MaxTime=1-00:00:00 "
    "MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=node[1-3] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO "
    "OverSubscribe=NO OverTimeLimit=NONE PreemptMode=REQUEUE State=UP TotalCPUs=96 TotalNodes=3 SelectTypeParameters=NONE "
    "JobDefaults=(null) DefMemPerCPU=2000 MaxMemPerNode=UNLIMITED TRES=cpu=96,mem=384000M,node=3,billing=96,gres/gpu=8\n"
    "PartitionName=paid AllowGroups=ALL AllowAccounts=physics,chem AllowQos=normal,high AllocNodes=login[1-2] Default=NO "
    "QoS=paid DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=2 MaxTime=UNLIMITED "
    "MinNodes=0 LLN=NO MaxCPUsPerNode=24 MaxCPUsPerSocket=UNLIMITED Nodes=node[1-3] PriorityJobFactor=1 PriorityTier=9 "
    "RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=96 TotalNodes=3 "
    "SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=64000 TRES=cpu=96,node=3\n"
    "PartitionName=scrap AllowGroups=ALL DenyAccounts=guests AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A DefaultTime=NONE "
    "DisableRootJobs=NO ExclusiveUser=NO ExclusiveTopo=NO GraceTime=0 Hidden=YES MaxNodes=UNLIMITED MaxTime=12:30:00 "
    "MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED MaxCPUsPerSocket=UNLIMITED NodeSets=all Nodes=node[1-3] PriorityJobFactor=1 "
    "PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=CANCEL State=DRAIN TotalCPUs=96 "
    "TotalNodes=3 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED\n"
)

#: `sinfo --noheader --Node --format=%N|%c|%m|%T|%f|%G`; 24.05 names sockets, and a node may be in a state of two words.
NODES = (
    "node1|32|128000|mixed|a100,ib|gpu:a100:4(S:0-1)\n"
    "node2|32|128000|drained*|a100,ib|gpu:a100:4(S:0-1)\n"
    "node3|32|128000|idle|(null)|(null)\n"
)

#: `scontrol --oneliner show reservation`, 23.11.
RESERVATIONS = (
    "ReservationName=autumn StartTime=2026-11-24T18:00:00 EndTime=2026-11-25T06:00:00 Duration=12:00:00 Nodes=node[1-3] "
    "NodeCnt=3 CoreCnt=96 Features=(null) PartitionName=(null) Flags=MAINT,IGNORE_JOBS,SPEC_NODES,ALL_NODES TRES=cpu=96 "
    "Users=root Groups=(null) Accounts=(null) Licenses=(null) State=INACTIVE BurstBuffer=(null) Watts=n/a\n"
    "ReservationName=course StartTime=2026-11-24T07:00:00 EndTime=2026-11-24T12:00:00 Duration=05:00:00 Nodes=node3 NodeCnt=1 "
    "CoreCnt=32 Features=(null) PartitionName=low Flags=SPEC_NODES TRES=cpu=32 Users=anna Groups=(null) Accounts=(null) "
    "Licenses=(null) State=ACTIVE BurstBuffer=(null) Watts=n/a MaxStartDelay=(null)\n"
    "ReservationName=matlab StartTime=2026-11-24T07:00:00 EndTime=2027-11-24T12:00:00 Duration=365-05:00:00 Nodes=(null) "
    "NodeCnt=0 CoreCnt=0 Features=(null) PartitionName=(null) Flags=LICENSE_ONLY Users=anna Licenses=matlab:2 State=ACTIVE\n"
)
NO_RESERVATIONS = "No reservations in the system\n"

#: `sacctmgr --noheader --parsable2 show qos name=... format=Name,PreemptMode,GraceTime,MaxWall,MaxTRES,MaxTRESPU,MaxSubmitPU`
QOS = "free|requeue|00:05:00|08:00:00|cpu=64,gres/gpu=2,mem=256G|gres/gpu=4|20\n"
EMPTY_QOS = "normal|cluster|00:00:00||||\n"


def scontrol(config: str = CONFIG_22, reservations: str = NO_RESERVATIONS) -> str:
    """A stub's body that answers what a whole site is asked for."""
    return (
        f"case \"$*\" in 'show config') cat << 'END'\n{config}END\n;;\n"
        f"'--all --oneliner show partition') cat << 'END'\n{PARTITIONS}END\n;;\n"
        f"'--oneliner show reservation') cat << 'END'\n{reservations}END\n;;\n*) exit 99 ;; esac"
    )


def printing(text: str) -> str:
    """A stub's body that says `text`."""
    return f"cat << 'END'\n{text}END\n"
