//! Runs `nft`: the firewall's rules are read and replaced through it, in the calling thread's namespace.

use crate::firewall::{Family, MARK_PREFIX, MarkedRule, ObservedFirewall, docker_user_chain};
use crate::{NetlinkError, nft_generation};
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

/// Reads what netfilter holds of essaim, and remembers it while nobody changes any rule.
#[derive(Default)]
pub(crate) struct FirewallReader {
    known: Option<(u32, ObservedFirewall)>,
}

impl FirewallReader {
    /// What netfilter holds of essaim now.
    pub(crate) fn observe(&mut self) -> Result<ObservedFirewall, NetlinkError> {
        // A kernel that does not tell the generation is asked for the rules every time.
        let generation = nft_generation::generation().ok();
        if let (Some(now), Some((then, observed))) = (generation, &self.known)
            && now == *then
        {
            return Ok(observed.clone());
        }
        self.known = None;
        let observed = observe()?;
        // If a rule changed meanwhile, the generation is another one by the next time.
        self.known = generation.map(|generation| (generation, observed.clone()));
        Ok(observed)
    }
}

/// What netfilter holds of essaim.
pub(crate) fn observe() -> Result<ObservedFirewall, NetlinkError> {
    let table = list("table inet essaim")?.unwrap_or_default();
    let mut observed = ObservedFirewall {
        table: rules(&table).map(|rule| rule.mark).collect(),
        ..ObservedFirewall::default()
    };
    for family in Family::ALL {
        if let Some(chain) = list(&format!("chain {}", docker_user_chain(family)))? {
            let own = rules(&chain).filter(|rule| rule.mark.starts_with(MARK_PREFIX));
            observed.docker_user.insert(family, own.collect());
        }
    }
    Ok(observed)
}

/// Runs a script, in one transaction.
pub(crate) fn run(what: &str, script: &str) -> Result<(), NetlinkError> {
    let output = nft(&["-f", "-"], script)?;
    if output.status.success() {
        Ok(())
    } else {
        Err(refusal(what, &output))
    }
}

/// What `nft` lists, with handles; `None` where it does not exist.
fn list(what: &str) -> Result<Option<String>, NetlinkError> {
    let command = format!("list {what}\n");
    let output = nft(&["-a", "-f", "-"], &command)?;
    if output.status.success() {
        return Ok(Some(String::from_utf8_lossy(&output.stdout).into_owned()));
    }
    if String::from_utf8_lossy(&output.stderr).contains("No such file or directory") {
        return Ok(None);
    }
    Err(refusal(&command, &output))
}

fn refusal(what: &str, output: &Output) -> NetlinkError {
    NetlinkError::Nft {
        what: what.trim().to_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    }
}

fn nft(arguments: &[&str], input: &str) -> Result<Output, NetlinkError> {
    let run = || -> io::Result<Output> {
        let mut child = Command::new("nft")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(input.as_bytes())?;
        }
        child.wait_with_output()
    };
    run().map_err(|source| NetlinkError::NftMissing { source })
}

/// The rules of a listing: the lines that have a handle and open no block.
fn rules(listing: &str) -> impl Iterator<Item = MarkedRule> {
    listing.lines().filter_map(|line| {
        let (rule, handle) = line.rsplit_once("# handle ")?;
        if rule.trim_end().ends_with('{') {
            return None;
        }
        let mark = rule
            .rsplit_once("comment \"")
            .and_then(|(_, rest)| rest.split('"').next())
            .unwrap_or_default();
        Some(MarkedRule {
            handle: handle.trim().parse().ok()?,
            mark: mark.to_owned(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_gives_each_rule_with_its_mark() {
        let listing = concat!(
            "table inet essaim { # handle 7\n",
            "\tchain forward { # handle 3\n",
            "\t\ttype filter hook forward priority filter; policy accept;\n",
            "\t\tiifgroup 58714 accept comment \"essaim-00\" # handle 4\n",
            "\t\ttcp dport 1 drop # handle 9\n",
            "\t}\n}\n"
        );
        let found: Vec<(u64, String)> = rules(listing).map(|rule| (rule.handle, rule.mark)).collect();
        assert_eq!(found, [(4, "essaim-00".to_owned()), (9, String::new())]);
    }
}
