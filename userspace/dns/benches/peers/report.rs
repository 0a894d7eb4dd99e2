//! The table and the targets.

use crate::servers::{OURS, OURS_ALONE};
use std::collections::{BTreeMap, BTreeSet};

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Measure {
    CpuEach,
    CpuBoth,
    Rate,
    P99Full,
    P50Paced,
    P99Paced,
}

impl Measure {
    const fn title(self) -> &'static str {
        match self {
            Self::CpuEach => "CPU an answer, server, us",
            Self::CpuBoth => "so, with the asker's, us",
            Self::Rate => "thousand answers a second",
            Self::P99Full => "p99 at full speed, us",
            Self::P50Paced => "p50 at 5,000 a second, us",
            Self::P99Paced => "p99 at 5,000 a second, us",
        }
    }

    /// What our figure may be as a multiple of the better peer's.
    const fn target(self) -> Option<Limit> {
        match self {
            Self::CpuEach => Some(Limit::AtMost(1.0 / 3.0)),
            Self::Rate => Some(Limit::AtLeast(1.5)),
            Self::P99Full | Self::P99Paced => Some(Limit::Below(1.0)),
            Self::CpuBoth | Self::P50Paced => None,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Limit {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
}

impl Limit {
    fn verdict(self, ratio: f64) -> String {
        let (pass, words) = match self {
            Self::AtMost(limit) => (ratio <= limit, format!("at most {limit:.2}")),
            Self::AtLeast(limit) => (ratio >= limit, format!("at least {limit:.2}")),
            Self::Below(limit) => (ratio < limit, format!("below {limit:.2}")),
        };
        format!("({words})  {}", if pass { "PASS" } else { "MISS" })
    }
}

/// The figures of all rounds.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// By kind of names, measure and server.
    figures: BTreeMap<(String, Measure), BTreeMap<&'static str, Vec<f64>>>,
    /// The largest share of questions of a run that had no answer, by kind of names and server.
    unanswered: BTreeMap<(String, &'static str), f64>,
}

impl Report {
    /// Adds the figures of a round, and the share of questions that had no answer meanwhile.
    pub(crate) fn add(
        &mut self,
        kind: &str,
        server: &'static str,
        figures: &[(Measure, f64)],
        unanswered: f64,
    ) {
        for (measure, figure) in figures {
            let servers = self.figures.entry((kind.to_owned(), *measure)).or_default();
            servers.entry(server).or_default().push(*figure);
        }
        let most = self.unanswered.entry((kind.to_owned(), server)).or_default();
        *most = most.max(unanswered);
    }

    /// Prints medians with quartiles, then our medians as multiples of the better peer's.
    pub(crate) fn print(&self) {
        let servers: BTreeSet<&str> = self.figures.values().flat_map(BTreeMap::keys).copied().collect();
        print!("\n{:10}{:28}", "names", "median (quartiles)");
        for server in &servers {
            print!("{server:>30}");
        }
        println!();
        for ((kind, measure), figures) in &self.figures {
            print!("{kind:10}{:28}", measure.title());
            for server in &servers {
                let of = |fraction| {
                    figures
                        .get(server)
                        .map_or(0.0, |figures| quantile(figures, fraction))
                };
                let cell = format!("{:.1} ({:.1} to {:.1})", of(0.5), of(0.25), of(0.75));
                print!("{cell:>30}");
            }
            println!();
        }
        println!(
            "\n{:10}{:28}ours / the better peer's",
            "names", "ratio of medians"
        );
        for ((kind, measure), figures) in &self.figures {
            let limit = measure.target();
            let median = |server: &str| figures.get(server).map(|figures| quantile(figures, 0.5));
            let peers = servers
                .iter()
                .filter(|server| ![OURS, OURS_ALONE].contains(*server));
            let better = peers.filter_map(|server| median(server)).reduce(match limit {
                Some(Limit::AtLeast(_)) => f64::max,
                Some(Limit::AtMost(_) | Limit::Below(_)) | None => f64::min,
            });
            let (Some(ours), Some(better)) = (median(OURS), better) else {
                continue;
            };
            let ratio = ours / better;
            println!(
                "{kind:10}{:28}{ratio:5.2}  {}",
                measure.title(),
                limit.map(|limit| limit.verdict(ratio)).unwrap_or_default()
            );
        }
        for ((kind, server), share) in &self.unanswered {
            if *share > 0.0005 {
                let share = share * 100.0;
                println!(
                    "note: {server} left up to {share:.1} % of a run's questions for {kind} names without an answer"
                );
            }
        }
    }
}

/// A quantile of some figures; 0 where there is none.
pub(crate) fn quantile(figures: &[f64], fraction: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "a fraction of a length far below 2^52"
    )]
    let at = (sorted.len().saturating_sub(1) as f64 * fraction).round() as usize;
    sorted.get(at).copied().unwrap_or(0.0)
}
