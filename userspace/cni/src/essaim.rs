//! The steps of a container's life, as calls of the daemon.

use crate::ask::{Ask, AskError};
use crate::config::{Config, Wishes};
use crate::result::{added, compare, refused};
use essaim_protocol::{CniAdd, CniAttachment, CniCheck, CniGc, CniInterface, CniStatus, cni_path};
use rscni_plugin::cni::Cni;
use rscni_plugin::error::Error;
use rscni_plugin::types::{Args, CNIResult};
use serde::Serialize;
use std::time::Duration;

/// How long a step may take: longer than the daemon waits for managers and data plane, and than the holder keeps its socket
/// while it is away.
const PATIENCE: Duration = Duration::from_mins(1);

/// How long a runtime waits to hear whether containers can be added now.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);

/// The plugin, with whom it asks.
#[derive(Clone, Copy, Debug)]
pub struct Essaim<A> {
    daemon: A,
}

impl<A: Ask> Essaim<A> {
    /// The plugin.
    pub const fn new(daemon: A) -> Self {
        Self { daemon }
    }

    fn ask(&self, config: &Config, call: &str, asked: &impl Serialize) -> Result<Vec<u8>, Error> {
        self.ask_within(config, call, asked, PATIENCE)
    }

    fn ask_within(
        &self,
        config: &Config,
        call: &str,
        asked: &impl Serialize,
        patience: Duration,
    ) -> Result<Vec<u8>, Error> {
        let body = serde_json::to_vec(asked).map_err(|error| Error::FailedToDecode(error.to_string()))?;
        let answer = self.daemon.ask(&config.socket, call, body, patience);
        answer.map_err(|error| match error {
            AskError::Refused(refusal) => refused(&refusal),
            AskError::Away { .. } => Error::TryAgainLater(error.to_string()),
            AskError::Other { .. } => Error::FailedToDecode(error.to_string()),
        })
    }
}

/// The file of the container's namespace, as the runtime names it.
fn netns(args: &Args) -> Result<String, Error> {
    let netns = args.netns().ok_or_else(|| Error::missing_env(&["CNI_NETNS"]))?;
    let text = netns.to_str().filter(|text| text.starts_with('/'));
    let wrong = || {
        Error::InvalidEnvValue(format!(
            "CNI_NETNS is {}, expected an absolute path",
            netns.display()
        ))
    };
    text.map(str::to_owned).ok_or_else(wrong)
}

fn interface(answer: &[u8]) -> Result<CniInterface, Error> {
    serde_json::from_slice(answer)
        .map_err(|error| Error::FailedToDecode(format!("the daemon's answer cannot be read: {error}")))
}

impl<A: Ask> Cni for Essaim<A> {
    fn add(&self, args: Args) -> Result<CNIResult, Error> {
        let conf = args.config();
        let config = Config::read(conf)?;
        let (attachment, netns) = (config.attachment(&args)?, netns(&args)?);
        let Wishes { names, addresses } = Wishes::read(&args, &attachment)?;
        let asked = CniAdd {
            network: config.network.clone(),
            netns,
            names,
            addresses,
            is_default: config.is_default,
            attachment,
        };
        let made = interface(&self.ask(&config, cni_path::ADD, &asked)?)?;
        let name = &asked.attachment.interface;
        Ok(added(
            &made,
            name,
            &asked.netns,
            conf.prev_result.as_ref(),
            conf.dns.as_ref(),
        ))
    }

    fn del(&self, args: Args) -> Result<(), Error> {
        let config = Config::read(args.config())?;
        let attachment = config.attachment(&args)?;
        self.ask(&config, cni_path::DEL, &attachment).map(drop)
    }

    fn check(&self, args: Args) -> Result<(), Error> {
        let conf = args.config();
        let config = Config::read(conf)?;
        let asked = CniCheck {
            attachment: config.attachment(&args)?,
            netns: netns(&args)?,
        };
        let found = interface(&self.ask(&config, cni_path::CHECK, &asked)?)?;
        let name = &asked.attachment.interface;
        compare(&found, name, &asked.netns, conf.prev_result.as_ref())
    }

    fn gc(&self, args: Args) -> Result<(), Error> {
        let conf = args.config();
        let config = Config::read(conf)?;
        let valid = conf.valid_attachments.as_ref();
        // Without the list all would go; a runtime with no container gives an empty one.
        let valid = valid.ok_or_else(|| {
            let why = "cni.dev/valid-attachments is missing, expected a list of containerID and ifname";
            Error::InvalidNetworkConfig(why.to_owned())
        })?;
        let valid = valid.iter().map(|valid| CniAttachment {
            config: config.name.clone(),
            container: valid.container_id.clone(),
            interface: valid.ifname.clone(),
        });
        let asked = CniGc {
            config: config.name.clone(),
            valid: valid.collect(),
        };
        self.ask(&config, cni_path::GC, &asked).map(drop)
    }

    fn status(&self, args: Args) -> Result<(), Error> {
        let config = Config::read(args.config())?;
        let asked = CniStatus {
            network: config.network.clone(),
        };
        let answer = self.ask_within(&config, cni_path::STATUS, &asked, STATUS_PATIENCE);
        // Whatever the reason: nothing can be added now.
        let answer = answer.map_err(|error| Error::PluginNotAvailable(error.details().to_owned()));
        answer.map(drop)
    }
}

#[cfg(test)]
mod tests;
