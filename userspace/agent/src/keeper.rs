use crate::holder::{HeldPort, HolderClient, HolderIdentity, HolderLauncher, LaunchError};
use crate::ports::{PortFilter, PortHold};
use crate::state_dir::StateDir;
use essaim_model::DesiredState;
use std::collections::{BTreeMap, BTreeSet};

/// The agent's side of the held ports: a holder that runs, and what it said of each port.
#[derive(Debug)]
pub(crate) struct PortKeeper {
    launcher: HolderLauncher,
    state_dir: StateDir,
    holder: Option<HolderClient>,
    holds: BTreeMap<HeldPort, PortHold>,
    filter: PortFilter,
}

impl PortKeeper {
    pub(crate) fn new(launcher: HolderLauncher, state_dir: StateDir) -> Self {
        let (holds, filter) = (BTreeMap::new(), PortFilter::default());
        Self {
            launcher,
            state_dir,
            holder: None,
            holds,
            filter,
        }
    }

    /// Takes these ports and keeps all others that are held, so that nothing is freed while programs still answer it.
    pub(crate) async fn take(&mut self, ports: &BTreeSet<HeldPort>) -> Result<(), LaunchError> {
        let union = self.holds.keys().chain(ports).copied().collect();
        self.ask(&union).await
    }

    /// Holds exactly these ports.
    pub(crate) async fn settle(&mut self, ports: &BTreeSet<HeldPort>) -> Result<(), LaunchError> {
        if self.holds.keys().eq(ports) {
            return Ok(());
        }
        self.ask(ports).await
    }

    async fn ask(&mut self, ports: &BTreeSet<HeldPort>) -> Result<(), LaunchError> {
        let unknown = || ports.iter().map(|port| (*port, PortHold::Unknown)).collect();
        let refused = match self.ask_holder(ports).await {
            Ok(refused) => refused,
            Err(error) => {
                self.holder = None;
                self.holds = unknown();
                return Err(error);
            }
        };
        let mut holds: BTreeMap<HeldPort, PortHold> =
            ports.iter().map(|port| (*port, PortHold::Held)).collect();
        holds.extend(refused);
        for (port, hold) in &holds {
            if *hold == PortHold::Unsupported && self.holds.get(port) != Some(hold) {
                tracing::warn!(
                    "port {port} is published without a socket to hold it: this kernel has no sockets of its protocol"
                );
            }
        }
        self.holds = holds;
        Ok(())
    }

    async fn ask_holder(
        &mut self,
        ports: &BTreeSet<HeldPort>,
    ) -> Result<Vec<(HeldPort, PortHold)>, LaunchError> {
        let answered = self.holder.as_mut().map(|holder| holder.hold(ports));
        let refused = match answered {
            Some(Ok(refused)) => refused,
            // It went away, or there was none yet.
            Some(Err(_)) | None => self
                .holder
                .insert(self.launcher.ensure(&self.state_dir).await?)
                .hold(ports)?,
        };
        Ok(refused
            .iter()
            .map(|refusal| (refusal.port, PortHold::of(refusal)))
            .collect())
    }

    /// The plan without the ports that other processes have.
    pub(crate) fn reduce(&mut self, desired: &DesiredState) -> DesiredState {
        let denied = self
            .holds
            .iter()
            .filter(|(_, hold)| !hold.is_served())
            .map(|(port, _)| *port)
            .collect();
        self.filter.reduce(desired, &denied)
    }

    /// What is wrong with these ports.
    pub(crate) fn problems(&self, ports: &BTreeSet<HeldPort>) -> BTreeSet<String> {
        let holds = self.holds.iter().filter(|(port, _)| ports.contains(port));
        holds.filter_map(|(port, hold)| hold.problem(*port)).collect()
    }

    /// What the holder said of each port.
    pub(crate) fn holds(&self) -> &BTreeMap<HeldPort, PortHold> {
        &self.holds
    }

    /// The holder, to give it descriptors; none where it did not answer.
    pub(crate) fn holder_mut(&mut self) -> Option<&mut HolderClient> {
        self.holder.as_mut()
    }

    /// The holder that answered last.
    pub(crate) fn holder(&self) -> Option<&HolderIdentity> {
        self.holder.as_ref().map(HolderClient::identity)
    }
}
