//! What the operator types: essaim's own commands, or the docker CLI's at the same API.

use crate::Cluster;
use std::fmt;

/// The operator's client, and with it what tasks are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// `essaim`, for processes of the nodes.
    Essaim,
    /// `docker`, for containers of the nodes' engines.
    Docker,
}

impl Client {
    /// Runs a command at a node's API.
    pub(super) fn operate(self, cluster: &Cluster, node: &str, arguments: &[&str]) -> anyhow::Result<String> {
        match self {
            Self::Essaim => cluster.operate(node, arguments),
            Self::Docker => cluster.docker_cli(node, arguments),
        }
    }

    /// What its tasks are.
    pub(super) fn tasks(self) -> &'static str {
        match self {
            Self::Essaim => "processes of the machines",
            Self::Docker => "containers of a Docker Engine on each machine",
        }
    }

    /// What a service of the demo's server is made of, after its options: more options, an image, and its command.
    pub(super) fn server(self, cluster: &Cluster) -> Vec<String> {
        match self {
            Self::Essaim => vec![
                "host".to_owned(),
                cluster.binary("essaim-peer").display().to_string(),
            ],
            Self::Docker => {
                // No registry is asked: there is none on these machines.
                let image = ["--no-resolve-image", "busybox:latest", "/peer"].map(str::to_owned);
                cluster.peer_mounts().into_iter().chain(image).collect()
            }
        }
    }
}

impl fmt::Display for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Essaim => "essaim",
            Self::Docker => "docker",
        })
    }
}
