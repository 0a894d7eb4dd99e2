//! A bad underlay: frames that come late, out of order, or not at all (`tc-netem(8)`).

use crate::cluster::Cluster;
use crate::run::run_here;
use crate::underlay::HUB;
use anyhow::{Context as _, bail, ensure};
use serde::Deserialize;
use std::env;
use std::iter::Sum;

/// What the underlay does to every frame, in the words of `tc qdisc add ... netem`; unset: nothing.
const NETEM: &str = "ESSAIM_LAB_NETEM";

/// How often what one lost frame fails is tried where frames are lost on purpose: with a loss of 1 % on each of four hops, all
/// tries fail once in 400,000 times.
const TRIES: u32 = 4;

/// How many frames may be under way to one machine: with netem's own 1,000, a burst would lose more than it is told to.
const LIMIT: &str = "100000";

/// What is done to the frames that leave the bridge for a machine: each meets it once, whatever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Netem(Vec<String>);

impl Netem {
    /// What `ESSAIM_LAB_NETEM` asks for.
    ///
    /// # Errors
    /// When it is set to nothing.
    pub(crate) fn wanted() -> anyhow::Result<Option<Self>> {
        Self::read(env::var(NETEM).ok().as_deref())
    }

    fn read(said: Option<&str>) -> anyhow::Result<Option<Self>> {
        let Some(said) = said else { return Ok(None) };
        let words: Vec<_> = said.split_whitespace().map(str::to_owned).collect();
        ensure!(
            !words.is_empty(),
            "{NETEM} is {said:?}, expected what tc-netem(8) takes, as in \"loss 1% delay 20ms reorder 10%\", or nothing set"
        );
        Ok(Some(Self(words)))
    }

    /// Puts it on a port of the bridge.
    ///
    /// # Errors
    /// When the kernel has no netem, or `tc` refuses the words.
    pub(crate) fn attach(&self, hub: &str, port: &str) -> anyhow::Result<()> {
        let mut line = vec!["tc", "-netns", hub, "qdisc", "add", "dev", port, "root", "netem"];
        line.extend(["limit", LIMIT]);
        line.extend(self.0.iter().map(String::as_str));
        run_here(&line).map(drop).with_context(|| {
            let words = self.0.join(" ");
            format!("{NETEM} asks for netem {words:?} on the underlay's links, and this kernel does not take it (the one of tests/vm has netem)")
        })
    }
}

/// How often something has to be tried that one lost frame fails: once, or a few times on a bad underlay.
///
/// # Errors
/// When `ESSAIM_LAB_NETEM` is set to nothing.
pub fn tries() -> anyhow::Result<u32> {
    Ok(if Netem::wanted()?.is_some() { TRIES } else { 1 })
}

/// What a bad underlay did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    /// Frames that were let through.
    pub passed: u64,
    /// Frames that were lost.
    pub lost: u64,
}

impl Sum for Frames {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| Self {
            passed: sum.passed + one.passed,
            lost: sum.lost + one.lost,
        })
    }
}

impl Cluster {
    /// What the underlay did to the frames for a machine.
    ///
    /// # Errors
    /// When there is no such machine, or its link has no netem since `ESSAIM_LAB_NETEM` asks for none.
    pub fn frames_to(&self, machine: &str) -> anyhow::Result<Frames> {
        let hub = self.netns(HUB);
        let shown = run_here(&[
            "tc",
            "-netns",
            &hub,
            "-statistics",
            "-json",
            "qdisc",
            "show",
            "dev",
            machine,
        ])?;
        counted(&shown).with_context(|| format!("the underlay's link to {machine}"))
    }

    /// Prints what netem did to the frames for all machines, where it was asked for.
    pub(crate) fn print_frames(&self) {
        if matches!(Netem::wanted(), Ok(Some(_))) {
            // A machine whose link the test took away has no counters.
            let frames = self
                .nodes()
                .chain(self.clients())
                .filter_map(|machine| self.frames_to(machine).ok());
            let Frames { passed, lost } = frames.sum();
            if passed > 0 {
                println!("netem: {lost} frames lost, {passed} passed");
            }
        }
    }
}

/// Reads the counters that `tc -s -j qdisc show` prints.
fn counted(shown: &str) -> anyhow::Result<Frames> {
    #[derive(Deserialize)]
    struct Qdisc {
        kind: String,
        #[serde(default)]
        packets: u64,
        #[serde(default)]
        drops: u64,
    }
    let qdiscs: Vec<Qdisc> = serde_json::from_str(shown).with_context(|| format!("tc printed {shown:?}"))?;
    match &qdiscs[..] {
        [netem] if netem.kind == "netem" => Ok(Frames {
            passed: netem.packets,
            lost: netem.drops,
        }),
        others => {
            let kinds: Vec<_> = others.iter().map(|qdisc| qdisc.kind.as_str()).collect();
            bail!("has no netem ({NETEM} asks for it) but {kinds:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_taken_as_they_are_and_none_is_an_error() {
        assert_eq!(Netem::read(None).unwrap(), None);
        let words = ["loss", "1%", "delay", "20ms"].map(str::to_owned).to_vec();
        assert_eq!(
            Netem::read(Some(" loss 1%  delay 20ms")).unwrap(),
            Some(Netem(words))
        );
        let text = Netem::read(Some(" ")).unwrap_err().to_string();
        assert!(text.contains(NETEM), "{text}");
    }

    #[test]
    fn counters_are_those_of_netem_and_no_other() {
        let netem = r#"[{"kind":"netem","handle":"8001:","root":true,"refcnt":3,
            "options":{"limit":100000,"delay":{"delay":0.02,"jitter":0,"correlation":0}},
            "bytes":12345,"packets":99,"drops":1,"overlimits":0,"requeues":0,"backlog":0,"qlen":0}]"#;
        assert_eq!(counted(netem).unwrap(), Frames { passed: 99, lost: 1 });
        let other =
            r#"[{"kind":"noqueue","root":true,"refcnt":2,"options":{},"bytes":0,"packets":0,"drops":0}]"#;
        let text = counted(other).unwrap_err().to_string();
        assert!(text.contains("noqueue") && text.contains(NETEM), "{text}");
    }

    #[test]
    fn frames_add_up() {
        let frames = [Frames { passed: 3, lost: 1 }, Frames { passed: 4, lost: 0 }];
        assert_eq!(frames.into_iter().sum::<Frames>(), Frames { passed: 7, lost: 1 });
    }
}
