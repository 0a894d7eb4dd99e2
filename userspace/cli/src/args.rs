//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use essaim_client::HostArgs;
use essaim_model::TaskId;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

const EXIT_CODES: &str = "\
Exit codes:
  0  done; verify: everything is as it should be; check: the catalog is valid
  1  failed; verify: there are differences; check: the catalog is invalid
  2  the command line is wrong; verify: it could not be told

Diagnostics go to standard error; RUST_LOG chooses how many (error, warn, info, debug, trace).";

/// A networking data plane for clusters of containers: overlay networks, virtual IPs and published ports in eBPF.
#[derive(Debug, Parser)]
#[command(name = "essaim", version, after_help = EXIT_CODES, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) host: HostArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a node: a worker or a manager of a cluster, or only the data plane of a catalog in a file.
    ///
    /// Without --catalog the node waits for `essaim swarm init` or `join`, and goes on as what it is after a restart.
    /// With it, the agent follows the file and applies every change live; an invalid catalog changes nothing. Stopping
    /// the node, even with kill -9, leaves its tasks and its data plane working; the next start takes them over.
    /// `essaim clean` removes the data plane.
    #[command(after_help = "\
Examples:
  essaim node --uplink eth0                        run this node; then: essaim swarm init
  essaim node ls                                   the nodes of the cluster
  essaim node --name n1 --catalog /etc/essaim/catalog.toml --uplink eth0
  essaim node --name n1 --catalog catalog.toml --uplink eth0,eth1 --state-dir /run/essaim-n1")]
    Node(Box<NodeArgs>),
    #[command(flatten)]
    Operate(essaim_client::Command),
    /// Print what a shell needs to complete these commands.
    #[command(after_help = "\
Examples:
  source <(essaim completions bash)
  essaim completions fish > ~/.config/fish/completions/essaim.fish")]
    Completions {
        /// The shell.
        shell: essaim_client::Shell,
    },
    /// Validate a catalog: every error at once, each with its place in the file.
    #[command(after_help = "\
Examples:
  essaim check catalog.toml
  essaim check catalog.toml --format json | jq -r '.errors[].message'")]
    Check(CheckArgs),
    /// Show the node's networks, services, published ports, counters, drops, VTEPs and maps.
    ///
    /// Works without an agent, too: from the pinned maps and the catalog that was applied last.
    #[command(after_help = "\
Examples:
  essaim status
  essaim status --format json | jq '.services[] | {name, backends}'")]
    Status(LookArgs),
    /// Compare what should be with the kernel's links and maps; change nothing.
    ///
    /// Exit code 0: equal, 1: there are differences, 2: it could not be told.
    #[command(after_help = "\
Examples:
  essaim verify && echo all is well
  essaim verify --format json")]
    Verify(LookArgs),
    /// Run a synthetic packet through the real programs, against the live maps, and say what each decided and why.
    ///
    /// Nothing is sent and no state is written. Without --from the packet comes from the task, or the node, that has
    /// SRC, and from a client outside where nothing here has it.
    #[command(after_help = "\
Examples:
  essaim trace 203.0.113.7 192.168.50.11 tcp 8080               a client's packet to a published port
  essaim trace 10.0.1.11 10.0.1.3 tcp 80                        a task's packet to a VIP
  essaim trace 10.0.1.11 10.0.1.22 udp 53 --from eth0           the same packet, forged from outside")]
    Trace(TraceArgs),
    /// Print every decision of the programs as it is made, until interrupted.
    #[command(after_help = "\
Examples:
  essaim watch
  essaim watch --format json | jq 'select(.verdict == \"drop\")'")]
    Watch(LookArgs),
    /// Print every change of members, tasks and catalog that this node learns of, until interrupted.
    #[command(after_help = "\
Examples:
  essaim monitor
  essaim monitor --format json | jq 'select(.change == \"member-down\")'")]
    Monitor(LookArgs),
    /// Take a task of this node out of service, so that no request fails.
    ///
    /// Its node tells all others that it is draining, and waits until none of them sends it new flows. Then its processes
    /// (all that are in its network namespace) are asked to end, killed after the grace period, and the task is gone. A task
    /// that was stopped does not come back: its successor has another id.
    #[command(after_help = "\
Examples:
  essaim stop web.2
  essaim stop web.2 --signal SIGINT --grace 30s
  essaim stop web.2 --drain-only && systemctl stop web-2     where something else ends it")]
    Stop(StopArgs),
    /// Print a file of one fresh key for gossip, to be given to every node.
    #[command(after_help = "\
Examples:
  (umask 077 && essaim keygen > /etc/essaim/gossip.toml)")]
    Keygen,
    /// Remove everything that essaim made on this node: programs, maps, links, rules, held ports.
    ///
    /// Safe to run twice, and after a crash. Stop the agent first.
    #[command(after_help = "\
Examples:
  essaim clean
  essaim clean --state-dir /run/essaim-n1
  essaim clean --name n1 --bpf-root /sys/fs/bpf/essaim     where the state directory is lost")]
    Clean(CleanArgs),
    /// Hold ports and descriptors for the agent. Started by the agent.
    #[command(hide = true)]
    Hold(HoldArgs),
}

/// How a command prints its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct StateDirArg {
    /// Where the agent keeps its lock, its sockets and a copy of the catalog; one of its own for each agent.
    #[arg(long, value_name = "DIR", default_value = "/run/essaim")]
    pub(crate) state_dir: PathBuf,
}

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct NodeArgs {
    /// What to do with the nodes of the cluster; without it, this node runs.
    #[command(subcommand)]
    pub(crate) command: Option<essaim_client::NodeCommand>,
    /// This node's name: in the catalog, where one is given; else the host name that people know it by, the machine's
    /// own where it is not given.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Follow this catalog (TOML) in place of managers; watched for changes.
    #[arg(long, value_name = "FILE", requires = "name")]
    pub(crate) catalog: Option<PathBuf>,
    /// The interfaces to the other nodes and to clients, one to four.
    #[arg(long, value_name = "IF", value_delimiter = ',', required = true)]
    pub(crate) uplink: Vec<String>,
    /// Folder on a BPF file system; what is pinned goes to a folder of the node's name in it.
    #[arg(long, value_name = "DIR", default_value = "/sys/fs/bpf/essaim")]
    pub(crate) bpf_root: PathBuf,
    /// The cgroup (version 2) whose sockets reach VIPs; the root of the hierarchy where it is not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) cgroup: Option<PathBuf>,
    /// The control group of the tasks, from the root of the hierarchy; `run` in that of --cgroup where it is not given.
    #[arg(long, value_name = "PATH", conflicts_with = "catalog")]
    pub(crate) task_cgroup: Option<PathBuf>,
    /// The keys of gossip (TOML, from essaim keygen), the same on every node; without them the catalog alone says which
    /// nodes and tasks are up. Managers give their own.
    #[arg(long, value_name = "FILE", requires = "catalog")]
    pub(crate) gossip_keys: Option<PathBuf>,
    /// How soon a node that does not answer is down; the same on every node.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) gossip_pace: Pace,
    /// How long the node counts as up while this process is away, as in an upgrade; 0: no longer than its pace says.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    pub(crate) gossip_absence: u64,
    /// Where the node keeps its identity, a manager's copy of the store and its tasks; must outlive a boot.
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/essaim",
        conflicts_with = "catalog"
    )]
    pub(crate) data_dir: PathBuf,
    /// Where the API listens; `docker.sock` in the state directory where it is not given.
    #[arg(long, value_name = "FILE", conflicts_with = "catalog")]
    pub(crate) api: Option<PathBuf>,
    /// Where it listens on TCP, too, for clients that show a certificate, such as 192.0.2.1:2376.
    #[arg(long, value_name = "ADDRESS:PORT", conflicts_with = "catalog", requires_all = ["api_ca", "api_cert", "api_key"])]
    pub(crate) api_tcp: Option<SocketAddr>,
    /// The authorities of its clients' certificates (PEM).
    #[arg(long = "tlscacert", value_name = "FILE", requires = "api_tcp")]
    pub(crate) api_ca: Option<PathBuf>,
    /// The certificate that it shows them (PEM).
    #[arg(long = "tlscert", value_name = "FILE", requires = "api_tcp")]
    pub(crate) api_cert: Option<PathBuf>,
    /// The key of that certificate (PEM).
    #[arg(long = "tlskey", value_name = "FILE", requires = "api_tcp")]
    pub(crate) api_key: Option<PathBuf>,
    /// The socket of the node's Docker Engine, which runs the tasks that have an image; it may be absent.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/var/run/docker.sock",
        conflicts_with = "catalog"
    )]
    pub(crate) docker_socket: PathBuf,
    /// Where that engine looks for the network plugin, through which its containers are on the cluster's networks.
    #[arg(
        long,
        value_name = "FILE",
        default_value = "/run/docker/plugins/essaim.sock",
        conflicts_with = "catalog"
    )]
    pub(crate) plugin_socket: PathBuf,
    /// Where essaim-cni finds the daemon; by default cni.sock in the state directory.
    #[arg(long, value_name = "FILE", conflicts_with = "catalog")]
    pub(crate) cni_socket: Option<PathBuf>,
    /// A label of this node's engine, for constraints on engine.labels.
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label, conflicts_with = "catalog")]
    pub(crate) labels: Vec<(String, String)>,
    /// A resource of a kind of your own that services can reserve: so many of it, or one by its name.
    #[arg(long = "generic-resource", value_name = "KIND=NUMBER|NAME", value_parser = resource, conflicts_with = "catalog")]
    pub(crate) generic_resources: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) state: StateDirArg,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    if name.is_empty() {
        return Err(format!("{text:?} is no label, expected NAME=VALUE"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

fn resource(text: &str) -> Result<(String, String), String> {
    let wrong =
        || format!("{text:?} is no resource, expected KIND=NUMBER, with 1 or more of it, or KIND=NAME");
    let (kind, value) = text.split_once('=').ok_or_else(wrong)?;
    if kind.is_empty() || value.is_empty() || value.parse::<i64>().is_ok_and(|number| number < 1) {
        return Err(wrong());
    }
    Ok((kind.to_owned(), value.to_owned()))
}

/// How soon a node that does not answer is down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pace {
    /// In under 3 s, and none that lives, even where one datagram in five is lost.
    #[default]
    Usual,
    /// In under 1 s, where next to nothing is lost and no machine stands still for half a second.
    Fast,
}

#[derive(Debug, Args)]
pub(crate) struct StopArgs {
    /// The task's id.
    pub(crate) task: TaskId,
    /// What its processes are asked to end with.
    #[arg(long, default_value = "SIGTERM")]
    pub(crate) signal: String,
    /// From that signal to SIGKILL.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub(crate) grace: Duration,
    /// Longest wait for the other nodes to send it nothing new.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = duration)]
    pub(crate) drain: Duration,
    /// Only drain it; its processes are left alone.
    #[arg(long)]
    pub(crate) drain_only: bool,
    #[command(flatten)]
    pub(crate) look: LookArgs,
}

/// A number with `ms`, `s` or `m`.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no time, expected a number with ms, s or m, such as 500ms or 10s");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => Ok(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs).ok_or_else(wrong),
        _ => Err(wrong()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// The catalog (TOML).
    pub(crate) file: PathBuf,
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
}

#[derive(Debug, Args)]
pub(crate) struct LookArgs {
    /// How to print the result.
    #[arg(long, value_enum, default_value_t)]
    pub(crate) format: Format,
    #[command(flatten)]
    pub(crate) state: StateDirArg,
}

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// The packet's source address.
    pub(crate) src: IpAddr,
    /// Its destination address.
    pub(crate) dst: IpAddr,
    /// Its protocol.
    #[arg(value_parser = ["tcp", "udp", "sctp"], ignore_case = true)]
    pub(crate) proto: String,
    /// Its destination port.
    pub(crate) port: u16,
    /// Where it comes in: an interface of this node, or `client` for the first uplink.
    #[arg(long, value_name = "INTERFACE|client")]
    pub(crate) from: Option<String>,
    #[command(flatten)]
    pub(crate) look: LookArgs,
}

#[derive(Debug, Args)]
pub(crate) struct CleanArgs {
    /// The node's name; the one that the agent wrote down where it is not given.
    #[arg(long)]
    pub(crate) name: Option<String>,
    /// Folder on a BPF file system; the one that the agent wrote down where it is not given.
    #[arg(long, value_name = "DIR")]
    pub(crate) bpf_root: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) state: StateDirArg,
}

#[derive(Debug, Args)]
pub(crate) struct HoldArgs {
    #[command(flatten)]
    pub(crate) state: StateDirArg,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn uplinks_are_given_apart_or_together() {
        let cli = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap().command;
        for line in [
            "essaim node --name n1 --catalog c --uplink eth0,eth1",
            "essaim node --name n1 --catalog c --uplink eth0 --uplink eth1",
        ] {
            let Command::Node(node) = cli(line) else {
                panic!("{line}")
            };
            assert_eq!(node.uplink, ["eth0", "eth1"]);
        }
    }

    #[test]
    fn resources_have_a_kind_and_a_number_or_name() {
        let pair = |kind: &str, value: &str| Ok((kind.to_owned(), value.to_owned()));
        assert_eq!(resource("disk=2"), pair("disk", "2"));
        assert_eq!(resource("gpu=GPU-1"), pair("gpu", "GPU-1"));
        for wrong in ["gpu", "=1", "gpu=", "gpu=0", "gpu=-1"] {
            assert!(resource(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for wrong in ["10", "s", "1h", "-1s", "99999999999999999999s", ""] {
            assert!(duration(wrong).unwrap_err().contains("expected"), "{wrong}");
        }
    }

    #[test]
    fn every_public_command_has_examples_and_the_holder_is_hidden() {
        // Those of the operator are docker's, and have theirs in docs/cli.md.
        let is_own = |command: &&clap::Command| command.get_name() == "node" || !command.has_subcommands();
        for command in Cli::command().get_subcommands().filter(is_own) {
            let help = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert_eq!(
                help.contains("Examples:"),
                !command.is_hide_set(),
                "{}",
                command.get_name()
            );
        }
    }
}
