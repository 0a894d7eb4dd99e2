//! The namespaces that the frames go through: a sender, this node, and who is behind it.
//!
//! ```text
//! client (va)--(vb) node                      xdp_drop, xdp_tx, ingress_xdp
//! client (va)--(vb) node (vc)--(vd) wire      nft_dnat
//! sender (eth0)--(epa) node (epb)--(eth0) peer    redirect_peer, endpoint_tc
//!                           (vc)--(vd) wire       endpoint_tc, kernel_vxlan
//! ```

use anyhow::Context as _;
use essaim_abi::MacAddr;
use essaim_bench::cluster::{Shape, published_port, task_address, vtep};
use essaim_bench::frames::{Template, Transport};
use essaim_bench::live::{Stream, cost};
use essaim_bench::netns::Netns;
use essaim_bench::node::Node;
use essaim_bench::programs::BenchPrograms;
use essaim_model::Uplink;
use std::net::{IpAddr, SocketAddr};

/// Flow counts of the edge and of what it is compared with.
const FLOWS: [u64; 2] = [1 << 10, 1 << 16];
const NODE_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);

/// A topology with a generator at one end and a sink at the other.
pub(crate) struct World {
    streams: Vec<(String, Stream)>,
    /// Where the generator runs: the first.
    namespaces: Vec<Netns>,
    programs: BenchPrograms,
    _node: Option<Node>,
}

impl World {
    /// What is measured in it.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.streams.iter().map(|(id, _)| id.clone()).collect()
    }

    /// CPU time of a frame, in nanoseconds.
    pub(crate) fn cost(&mut self, id: &str, frames: u32) -> anyhow::Result<f64> {
        let (_, stream) = self
            .streams
            .iter()
            .find(|(name, _)| name == id)
            .context("no such stream")?;
        let sender = self.namespaces.first().context("the world is empty")?;
        cost(&mut self.programs, sender, stream, frames).with_context(|| format!("measuring {id}"))
    }
}

/// A client and a node, joined by `va` and `vb`.
struct Edge {
    client: Netns,
    node: Netns,
    programs: BenchPrograms,
}

impl Edge {
    fn new(world: &str) -> anyhow::Result<Self> {
        let (client, node) = (Netns::new(world, "client")?, Netns::new(world, "node")?);
        client.veth("va", &node, "vb")?;
        node.ip(&format!("link set vb address {NODE_MAC}"))?;
        Ok(Self {
            client,
            node,
            programs: BenchPrograms::load(1)?,
        })
    }

    fn attach_xdp(&mut self, program: &str, to_client: bool) -> anyhow::Result<()> {
        let Self {
            client,
            node,
            programs,
        } = self;
        let (namespace, interface) = if to_client { (client, "va") } else { (node, "vb") };
        namespace.inside(|| programs.attach_xdp(program, interface))
    }

    /// Streams of a client's datagrams to the node's published port.
    fn streams(&self, name: &str, flows: &[u64]) -> anyhow::Result<Vec<(String, Stream)>> {
        let (from, to) = ("198.51.0.9".parse::<IpAddr>()?, vtep(0, false));
        let to = SocketAddr::new(to, published_port(0));
        let frame = Template::new(
            (CLIENT_MAC, NODE_MAC),
            SocketAddr::new(from, 1),
            to,
            Transport::Udp,
        )?;
        let ifindex = self.client.ifindex("va")?;
        let stream = |flows: &u64| {
            (
                format!("live/{name}/{flows}"),
                Stream {
                    frame: frame.clone(),
                    flows: *flows,
                    ifindex,
                    peer: 0,
                },
            )
        };
        Ok(flows.iter().map(stream).collect())
    }

    fn into_world(self, streams: Vec<(String, Stream)>, others: Vec<Netns>, node: Option<Node>) -> World {
        let namespaces = [self.client, self.node].into_iter().chain(others).collect();
        World {
            streams,
            namespaces,
            programs: self.programs,
            _node: node,
        }
    }
}

/// The least: a native XDP program that drops.
pub(crate) fn drop() -> anyhow::Result<World> {
    let mut edge = Edge::new("drop")?;
    edge.attach_xdp("drop_xdp", false)?;
    let streams = edge.streams("xdp_drop", &[1 << 10])?;
    Ok(edge.into_world(streams, Vec::new(), None))
}

/// The least that sends on: `return XDP_TX`.
pub(crate) fn bounce() -> anyhow::Result<World> {
    let mut edge = Edge::new("bounce")?;
    edge.attach_xdp("tx_xdp", false)?;
    edge.attach_xdp("drop_xdp", true)?;
    let streams = edge.streams("xdp_tx", &[1 << 10])?;
    Ok(edge.into_world(streams, Vec::new(), None))
}

/// The node's own programs at the uplink; what they send back is dropped at the client's end.
pub(crate) fn edge() -> anyhow::Result<World> {
    let mut edge = Edge::new("edge")?;
    edge.attach_xdp("drop_xdp", true)?;
    let shape = Shape {
        services: 1,
        tasks: 10,
        published_each: 1,
        here: 0,
        underlay_v6: false,
        dual_stack: false,
    };
    let desired = shape.desired()?;
    let uplink = Uplink {
        name: "vb".to_owned(),
        ifindex: edge.node.ifindex("vb")?,
        mtu: 1500,
        mac: NODE_MAC,
    };
    let facts = shape.facts(&desired, uplink);
    let mut node = Node::open("edge")?;
    node.apply(&edge.node, &desired, &facts)?;
    let streams = edge.streams("ingress_xdp", &FLOWS)?;
    Ok(edge.into_world(streams, Vec::new(), Some(node)))
}

/// What Docker does: nftables' DNAT with connection tracking, and the kernel's forwarding.
pub(crate) fn nft_dnat() -> anyhow::Result<World> {
    let mut edge = Edge::new("nft")?;
    let wire = Netns::new("nft", "wire")?;
    edge.node.veth("vc", &wire, "vd")?;
    wire.inside(|| edge.programs.attach_tc("drop_tc", "vd"))?;
    let (own, port) = (vtep(0, false), published_port(0));
    edge.node.command("ethtool", &["-K", "vb", "gro", "on"])?;
    edge.node.ip(&format!("addr add {own}/24 dev vb"))?;
    edge.node.ip("addr add 10.77.0.1/24 dev vc")?;
    edge.node
        .ip("neigh add 10.77.0.2 lladdr 02:00:00:00:07:02 dev vc")?;
    edge.node.ip("route add 198.51.0.0/16 dev vb")?;
    edge.node.command("sysctl", &["-qw", "net.ipv4.ip_forward=1"])?;
    let rules = format!(
        "add table ip bench; add chain ip bench in {{ type nat hook prerouting priority dstnat; }}; \
         add rule ip bench in ip daddr {own} udp dport {port} dnat to 10.77.0.2:80"
    );
    edge.node.command("nft", &[&rules])?;
    let streams = edge.streams("nft_dnat", &FLOWS)?;
    Ok(edge.into_world(streams, vec![wire], None))
}

/// A task that sends, the node, the task's peer on the node, and the underlay.
struct Tasks {
    sender: Netns,
    node: Netns,
    peer: Netns,
    wire: Netns,
    programs: BenchPrograms,
}

impl Tasks {
    fn new(world: &str) -> anyhow::Result<Self> {
        let (sender, node) = (Netns::new(world, "sender")?, Netns::new(world, "node")?);
        let (peer, wire) = (Netns::new(world, "peer")?, Netns::new(world, "wire")?);
        node.veth("epa", &sender, "eth0")?;
        node.veth("epb", &peer, "eth0")?;
        node.veth("vc", &wire, "vd")?;
        // The generator's frames are taken by NAPI only.
        node.command("ethtool", &["-K", "epa", "gro", "on"])?;
        let mut programs = BenchPrograms::load(1)?;
        peer.inside(|| programs.attach_tc("drop_tc", "eth0"))?;
        Ok(Self {
            sender,
            node,
            peer,
            wire,
            programs,
        })
    }

    /// A stream of datagrams from the sender's address.
    fn stream(&self, name: &str, macs: (MacAddr, MacAddr), to: IpAddr) -> anyhow::Result<(String, Stream)> {
        let from = SocketAddr::new(task_address(0, 0, false), 1);
        let frame = Template::new(macs, from, SocketAddr::new(to, 80), Transport::Udp)?;
        let ifindex = self.sender.ifindex("eth0")?;
        Ok((
            format!("live/{name}/1024"),
            Stream {
                frame,
                flows: 1 << 10,
                ifindex,
                peer: 0,
            },
        ))
    }

    fn into_world(self, streams: Vec<(String, Stream)>, node: Option<Node>) -> World {
        let namespaces = vec![self.sender, self.node, self.peer, self.wire];
        World {
            streams,
            namespaces,
            programs: self.programs,
            _node: node,
        }
    }
}

fn mac(task: u32) -> MacAddr {
    match task_address(0, task, false) {
        IpAddr::V4(address) => MacAddr::of_ipv4(address),
        IpAddr::V6(_) => MacAddr::default(),
    }
}

/// Straight into the peer's namespace, nothing looked at.
pub(crate) fn bare_peer() -> anyhow::Result<World> {
    let mut tasks = Tasks::new("peer")?;
    tasks.node.inside(|| tasks.programs.attach_tc("peer_tc", "epa"))?;
    let (name, mut stream) =
        tasks.stream("bare_redirect_peer", (mac(0), mac(1)), task_address(0, 1, false))?;
    stream.peer = tasks.node.ifindex("epb")?;
    Ok(tasks.into_world(vec![(name, stream)], None))
}

/// The node's own programs, to a task of this node and to one elsewhere.
pub(crate) fn endpoint() -> anyhow::Result<World> {
    let mut tasks = Tasks::new("endpoint")?;
    tasks.wire.inside(|| tasks.programs.attach_tc("drop_tc", "vd"))?;
    let shape = Shape {
        services: 1,
        tasks: 10,
        published_each: 1,
        here: 2,
        underlay_v6: false,
        dual_stack: false,
    };
    let desired = shape.desired()?;
    let uplink = Uplink {
        name: "vc".to_owned(),
        ifindex: tasks.node.ifindex("vc")?,
        mtu: 1500,
        mac: NODE_MAC,
    };
    let mut facts = shape.facts(&desired, uplink);
    for (attachment, interface) in facts.attachments.values_mut().zip(["epa", "epb"]) {
        attachment.ifindex = tasks.node.ifindex(interface)?;
    }
    let mut node = Node::open("endpoint")?;
    node.apply(&tasks.node, &desired, &facts)?;
    let local = tasks.stream("endpoint_tc_local", (mac(0), mac(1)), task_address(0, 1, false))?;
    let remote = tasks.stream("endpoint_tc_remote", (mac(0), mac(5)), task_address(0, 5, false))?;
    Ok(tasks.into_world(vec![local, remote], Some(node)))
}

/// What the kernel does by itself: a route through a VXLAN device.
pub(crate) fn kernel_vxlan() -> anyhow::Result<World> {
    let mut tasks = Tasks::new("vxlan")?;
    tasks.wire.inside(|| tasks.programs.attach_tc("drop_tc", "vd"))?;
    let node = &tasks.node;
    let (own, other, far) = (vtep(0, false), vtep(1, false), "10.200.0.5");
    node.ip(&format!("link set epa address {NODE_MAC}"))?;
    node.ip(&format!("addr add {own}/24 dev vc"))?;
    node.ip(&format!("neigh add {other} lladdr 02:00:00:00:01:01 dev vc"))?;
    node.ip(&format!(
        "link add vx0 type vxlan id 42 dstport 4789 local {own} remote {other} dev vc noudpcsum"
    ))?;
    node.ip("link set vx0 up")?;
    node.ip("addr add 10.200.0.1/16 dev vx0")?;
    node.ip(&format!("neigh add {far} lladdr 02:00:00:00:07:02 dev vx0"))?;
    node.ip(&format!("route add {}/32 dev epa", task_address(0, 0, false)))?;
    node.command("sysctl", &["-qw", "net.ipv4.ip_forward=1"])?;
    let stream = tasks.stream("kernel_vxlan", (mac(0), NODE_MAC), far.parse()?)?;
    Ok(tasks.into_world(vec![stream], None))
}
