//! Fragments follow their first one.

use essaim_abi::{DropReason, Hook, MacAddr, Verdict};
use essaim_bpf_tests::{
    Input, Node, Packet, Row, Steering, check, check_each, encapsulated, ethernet, index, mac_of, of_flow,
    uplink,
};

const CLIENT: (&str, u16) = ("198.51.100.7", 40_000);
const CLIENT6: (&str, u16) = ("2001:db8:c::7", 40_000);
const GATEWAY: MacAddr = MacAddr([0x06, 0xe5, 0x5a, 0, 0, 1]);
const CUTS: [usize; 2] = [40, 80];

fn from_client(part: &[u8]) -> Input {
    Input::uplink(ethernet(uplink::MAC, uplink::ROUTER, part))
}

fn from_task(ifindex: u32, task: &str, part: &[u8]) -> Input {
    Input::endpoint(ifindex, ethernet(GATEWAY, mac_of(task), part))
}

fn datagram(client: (&str, u16), own: &str) -> Packet {
    Packet::udp(client, (own, 5353), &[7; 100])
}

#[test]
fn fragments_reach_the_task_of_the_first_one() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, own, task) in [
        (CLIENT, uplink::V4, "10.1.0.11"),
        (CLIENT6, uplink::V6, "fd01::11"),
    ] {
        let whole = datagram(client, own);
        let after = whole.clone().to(task, 53).ttl(60).fragments(&CUTS);
        let rows: Vec<Row> = whole
            .fragments(&CUTS)
            .iter()
            .zip(&after)
            .map(|(part, after)| {
                Row::becomes(
                    "fragment",
                    from_client(part),
                    ethernet(mac_of("10.1.0.11"), GATEWAY, after),
                )
                .watched(Hook::UplinkTc, Verdict::Delivered, index::TASK1)
            })
            .collect();
        check(&mut node, &rows);
    }
}

#[test]
fn a_later_fragment_without_its_first_is_the_kernels() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, own) in [(CLIENT, uplink::V4), (CLIENT6, uplink::V6)] {
        let parts = datagram(client, own).fragments(&CUTS);
        check_each(
            &mut node,
            &[
                Row::passes("later", from_client(&parts[1])),
                Row::passes("last", from_client(&parts[2])),
            ],
        );
        // Another datagram's.
        node.verdict(&from_client(&parts[0]));
        let other = Packet {
            id: 0x4321,
            ..datagram(client, own)
        }
        .fragments(&CUTS);
        check(&mut node, &[Row::passes("another's", from_client(&other[1]))]);
    }
}

#[test]
fn fragments_follow_the_first_one_to_another_node() {
    let mut node = Node::new();
    for (client, own) in [(CLIENT, uplink::V4), (CLIENT6, uplink::V6)] {
        let whole = datagram(client, own);
        let hash = of_flow((whole.source, client.1), (whole.destination, 5353), 17) & 0xffff_ff00;
        let (destination, source) = Steering {
            protocol: 1,
            port: 5353,
            token: 1,
            hash,
            ..Steering::default()
        }
        .macs();
        let rows: Vec<Row> = whole
            .fragments(&CUTS)
            .iter()
            .map(|part| {
                let inner = ethernet(destination, source, part);
                Row::becomes(
                    "fragment",
                    from_client(part),
                    encapsulated(index::VTEP2, index::INGRESS, &inner),
                )
            })
            .collect();
        check(&mut node, &rows);
        // And they enter there.
        node.owners(index::WEB, &[index::HERE1]);
        let after = whole
            .clone()
            .to(
                if own == uplink::V4 {
                    "10.1.0.11"
                } else {
                    "fd01::11"
                },
                53,
            )
            .ttl(60);
        let rows: Vec<Row> = whole
            .fragments(&CUTS)
            .iter()
            .zip(after.fragments(&CUTS))
            .map(|(part, after)| {
                let input = Input::overlay(index::INGRESS, index::VTEP2, ethernet(destination, source, part));
                Row::becomes(
                    "fragment, steered",
                    input,
                    ethernet(mac_of("10.1.0.11"), GATEWAY, &after),
                )
            })
            .collect();
        check(&mut node, &rows);
        let stranger = Packet { id: 0x4321, ..whole }.fragments(&CUTS);
        let input = Input::overlay(
            index::INGRESS,
            index::VTEP2,
            ethernet(destination, source, &stranger[1]),
        );
        check(
            &mut node,
            &[Row::drops(
                "a later one without its first",
                input,
                DropReason::UnknownFragment,
            )],
        );
        node.owners(index::WEB, &[index::behind(index::VTEP2)]);
    }
}

#[test]
fn fragments_of_a_reply_get_the_published_address() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE1]);
    for (client, own, task) in [
        (CLIENT, uplink::V4, "10.1.0.11"),
        (CLIENT6, uplink::V6, "fd01::11"),
    ] {
        let question = Packet::udp(client, (own, 5353), b"?");
        node.verdict(&from_client(&question.bytes()));
        let reply = Packet::udp((task, 53), client, &[3; 100]);
        let after = reply.clone().from(own, 5353).ttl(60);
        let rows: Vec<Row> = reply
            .fragments(&CUTS)
            .iter()
            .zip(after.fragments(&CUTS))
            .map(|(part, after)| {
                let input = from_task(index::TASK1, "10.1.0.11", part);
                Row::becomes("fragment", input, ethernet(GATEWAY, mac_of("10.1.0.11"), &after)).watched(
                    Hook::EndpointTc,
                    Verdict::Forwarded,
                    index::UP0,
                )
            })
            .collect();
        check(&mut node, &rows);
    }
}

#[test]
fn fragments_to_a_vip_reach_one_backend_and_its_answers_come_from_the_vip() {
    let mut node = Node::new();
    for (task, vip, backend) in [
        ("10.1.0.11", "10.1.0.100", "10.1.0.12"),
        ("fd01::11", "fd01::100", "fd01::12"),
    ] {
        let question = Packet::udp((task, 40_000), (vip, 53), &[5; 100]);
        let there = question.clone().to(backend, 53);
        let answer = Packet::udp((backend, 53), (task, 40_000), &[6; 100]);
        let back = answer.clone().from(vip, 53);
        let mut rows = Vec::new();
        for (part, after) in question.fragments(&CUTS).iter().zip(there.fragments(&CUTS)) {
            let input = from_task(index::TASK1, "10.1.0.11", part);
            rows.push(Row::becomes(
                "question",
                input,
                ethernet(mac_of("10.1.0.12"), GATEWAY, &after),
            ));
        }
        for (part, after) in answer.fragments(&CUTS).iter().zip(back.fragments(&CUTS)) {
            let input = from_task(index::TASK2, "10.1.0.12", part);
            rows.push(Row::becomes(
                "answer",
                input,
                ethernet(mac_of("10.1.0.11"), mac_of("10.1.0.12"), &after),
            ));
        }
        check(&mut node, &rows);
    }
}

/// A task's datagram to a published port is no less a datagram for being long.
#[test]
fn fragments_of_a_task_to_a_published_port_follow_the_first_one() {
    let mut node = Node::new();
    node.owners(index::WEB, &[index::HERE2]);
    for (task, own, backend) in [
        ("10.1.0.11", uplink::V4, "10.1.0.12"),
        ("fd01::11", uplink::V6, "fd01::12"),
    ] {
        let question = Packet::udp((task, 40_000), (own, 5353), &[5; 100]);
        let there = question.clone().to(backend, 53).ttl(60);
        let rows: Vec<Row> = question
            .fragments(&CUTS)
            .iter()
            .zip(there.fragments(&CUTS))
            .map(|(part, after)| {
                let input = from_task(index::TASK1, "10.1.0.11", part);
                Row::becomes("question", input, ethernet(mac_of("10.1.0.12"), GATEWAY, &after))
            })
            .collect();
        check(&mut node, &rows);
    }
}

#[test]
fn fragments_between_tasks_are_carried_as_they_are() {
    let mut node = Node::new();
    for (task, peer, remote) in [
        ("10.1.0.11", "10.1.0.12", "10.1.0.22"),
        ("fd01::11", "fd01::12", "fd01::22"),
    ] {
        let mut rows = Vec::new();
        for part in Packet::udp((task, 1), (peer, 2), &[5; 100]).fragments(&CUTS) {
            let input = from_task(index::TASK1, "10.1.0.11", &part);
            rows.push(Row::becomes(
                "local",
                input,
                ethernet(mac_of("10.1.0.12"), mac_of("10.1.0.11"), &part),
            ));
        }
        for part in Packet::udp((task, 1), (remote, 2), &[5; 100]).fragments(&CUTS) {
            let input = from_task(index::TASK1, "10.1.0.11", &part);
            let inner = ethernet(mac_of("10.1.0.22"), mac_of("10.1.0.11"), &part);
            rows.push(Row::becomes(
                "remote",
                input,
                encapsulated(index::VTEP2, index::RED, &inner),
            ));
        }
        check(&mut node, &rows);
    }
}
