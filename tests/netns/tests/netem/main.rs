//! The underlay that `ESSAIM_LAB_NETEM` makes is as bad as it says: what other suites show on it, they show on frames that
//! were lost, late and out of order. Needs root, a kernel with netem, and [`SETTING`].

use anyhow::{Context as _, ensure};
use essaim_lab::{ClusterBuilder, Family};

/// The setting that this is about: each way one frame of a hundred is lost, the others take 20 ms, and every tenth of these
/// goes at once and so overtakes all that are under way.
const SETTING: &str = "loss 1% delay 20ms reorder 10%";

/// Pings, with so many milliseconds between two.
const PINGS: usize = 800;
const INTERVAL: &str = "0.004";

/// There and back, in milliseconds.
const ROUND_TRIP: f64 = 40.0;

/// An answer: which ping it is to, and the milliseconds that it took.
#[derive(Clone, Copy, Debug)]
struct Answer {
    sequence: u64,
    millis: f64,
}

#[test]
fn frames_are_lost_late_and_out_of_order() -> anyhow::Result<()> {
    let said = std::env::var("ESSAIM_LAB_NETEM").unwrap_or_default();
    ensure!(
        said == SETTING,
        "ESSAIM_LAB_NETEM is {said:?}, expected {SETTING:?}"
    );
    let cluster = ClusterBuilder::new().nodes(1).build()?;
    for family in Family::BOTH {
        let node = cluster.address("n1", family)?.to_string();
        let count = PINGS.to_string();
        let line = ["ping", "-n", "-W", "5", "-c", &count, "-i", INTERVAL, &node];
        let shown = cluster.exec("c1", &line)?.ok()?;
        let answers: Vec<_> = shown.lines().filter_map(answer).collect();
        let lost = PINGS - answers.len();
        let mut millis: Vec<_> = answers.iter().map(|answer| answer.millis).collect();
        millis.sort_by(f64::total_cmp);
        let median = *millis.get(millis.len() / 2).context("no ping was answered")?;
        let overtaken = answers
            .windows(2)
            .filter(|pair| matches!(pair, [first, second] if second.sequence < first.sequence))
            .count();
        println!(
            "{family}: of {PINGS} pings {lost} lost, {overtaken} overtaken; half took {median} ms or more"
        );
        // 16 on average; beyond these bounds are fewer than one of a million runs.
        ensure!((1..50).contains(&lost), "{lost} of {PINGS} pings were lost");
        ensure!(
            median >= ROUND_TRIP,
            "half of the pings took less than {median} ms"
        );
        // Those that are sent within 20 ms after one that goes at once come later than it, there or back.
        ensure!(
            overtaken > PINGS / 50,
            "{overtaken} of {PINGS} pings were overtaken"
        );
    }
    for machine in ["n1", "c1"] {
        let frames = cluster.frames_to(machine)?;
        ensure!(
            frames.lost > 0 && frames.passed > 2 * PINGS as u64 * 9 / 10,
            "to {machine}: {frames:?}"
        );
    }
    Ok(())
}

/// Reads a line of ping's: "64 bytes from ADDRESS: icmp_seq=7 ttl=64 time=40.2 ms".
fn answer(line: &str) -> Option<Answer> {
    let after = |name: &str| line.split_once(name)?.1.split(' ').next();
    Some(Answer {
        sequence: after(" icmp_seq=")?.parse().ok()?,
        millis: after(" time=")?.parse().ok()?,
    })
}
