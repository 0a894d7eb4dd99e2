//! A traced packet goes through the real programs, and the steps name what they decided. Needs root.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test ends at the first surprise"
)]

use essaim_abi::{DropReason, Hook, Protocol, Verdict};
use essaim_datapath::{Datapath, TraceRequest, TraceStep};
use essaim_model::{DesiredState, NodeFacts, TaskState};

mod node;
mod plans;

use node::Node;

struct Traced {
    datapath: Datapath,
    desired: DesiredState,
    facts: NodeFacts,
    node: Node,
}

impl Traced {
    fn new(name: &str, tasks: &[(u32, TaskState)]) -> Self {
        let node = Node::new(name);
        let desired = plans::desired([(0, plans::service(0, tasks, true))]);
        let facts = Node::facts(plans::facts(&desired));
        let mut datapath = Datapath::open(&node.options).unwrap();
        datapath.apply(&desired, &facts).unwrap();
        datapath.attach(&facts).unwrap();
        Self {
            datapath,
            desired,
            facts,
            node,
        }
    }

    fn trace(&mut self, source: &str, destination: &str, port: u16) -> Vec<TraceStep> {
        let request = TraceRequest {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: Protocol::Tcp,
            port,
            source_port: 40_000,
            from: None,
        };
        let flows = self.datapath.maps().half_open_flows.entries().unwrap();
        let steps = self
            .datapath
            .trace(None, &request, &self.desired, &self.facts)
            .unwrap();
        // A dry run leaves nothing behind.
        assert_eq!(self.datapath.maps().half_open_flows.entries().unwrap(), flows);
        assert_eq!(
            self.datapath.counters(&self.desired).unwrap(),
            essaim_datapath::CountersReport::default()
        );
        assert_eq!(self.datapath.maps().config.read(0).unwrap().trace_mark, 0);
        steps
    }
}

#[test]
fn a_client_outside_is_sent_to_the_node_of_the_backend() {
    let mut traced = Traced::new("trace-edge", &[(1, TaskState::Ready)]);
    let steps = traced.trace("198.51.100.1", "203.0.113.7", 10_000);
    let [step] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(
        (step.hook, step.verdict),
        (Hook::IngressXdp, Verdict::Encapsulated),
        "{step}"
    );
    assert_eq!(step.backend, Some(plans::backend_key(0, 1)), "{step}");
    assert!(
        step.text
            .starts_with("sent in VXLAN to node n1 with VNI 4095 for s0.1@app"),
        "{step}"
    );
}

#[test]
fn a_client_outside_reaches_a_task_of_this_node_behind_xdp() {
    let mut traced = Traced::new("trace-local", &[(0, TaskState::Ready)]);
    let steps = traced.trace("198.51.100.1", "203.0.113.7", 10_000);
    let [xdp, tc] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(
        (xdp.hook, xdp.verdict),
        (Hook::IngressXdp, Verdict::Pass),
        "{xdp}"
    );
    assert_eq!(
        (tc.hook, tc.verdict),
        (Hook::UplinkTc, Verdict::Delivered),
        "{tc}"
    );
    assert_eq!(tc.to_ifindex, Some(node::ifindex("ep0")), "{tc}");
    let elsewhere = traced.trace("198.51.100.1", "203.0.113.7", 9);
    assert_eq!(
        elsewhere.iter().map(|step| step.verdict).collect::<Vec<_>>(),
        [Verdict::Pass; 2],
        "{elsewhere:?}"
    );
}

#[test]
fn a_task_is_followed_to_its_peer_a_vip_and_a_refusal() {
    let mut traced = Traced::new(
        "trace-task",
        &[(0, TaskState::Ready), (1, TaskState::Ready), (2, TaskState::Gone)],
    );
    let task = "10.0.0.2";
    let steps = traced.trace(task, "10.0.0.3", 80);
    let [step] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(
        (step.hook, step.verdict, step.vni),
        (Hook::EndpointTc, Verdict::Encapsulated, Some(4097)),
        "{step}"
    );
    assert_eq!(
        step.node.as_ref().map(ToString::to_string),
        Some("n1".to_owned()),
        "{step}"
    );

    let steps = traced.trace(task, "10.0.0.1", 80);
    let last = steps.last().unwrap();
    assert_eq!(last.service, Some(plans::vip_key(0)), "{steps:?}");

    let steps = traced.trace(task, "10.0.0.4", 80);
    let last = steps.last().unwrap();
    assert_eq!(
        (last.verdict, last.reason),
        (Verdict::Answered, Some(DropReason::EndpointGone)),
        "{steps:?}"
    );

    let steps = traced.trace("10.0.0.3", task, 80);
    let [step] = steps.as_slice() else {
        panic!("{steps:?}")
    };
    assert_eq!(
        (step.hook, step.verdict),
        (Hook::OverlayTc, Verdict::Delivered),
        "{step}"
    );
}

#[test]
fn what_nobody_can_send_is_refused() {
    let mut traced = Traced::new("trace-refused", &[(0, TaskState::Ready)]);
    let mut error = |source: &str, destination: &str| {
        let request = TraceRequest {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            protocol: Protocol::Udp,
            port: 1,
            source_port: 1,
            from: None,
        };
        traced
            .datapath
            .trace(None, &request, &traced.desired, &traced.facts)
            .unwrap_err()
            .to_string()
    };
    assert!(error("10.0.0.2", "fd00::1").contains("different families"));
    assert!(error("10.0.0.1", "10.0.0.2").contains("nobody sends from that address"));
    assert!(traced.node.pin("maps").exists());
}
