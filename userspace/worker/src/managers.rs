use essaim_protocol::ManagerAddress;

/// Whom to ask for a session, and in which order.
#[derive(Debug)]
pub(crate) struct Managers {
    /// Given by the operator: asked after those that the cluster names, in case those are all gone.
    given: Vec<String>,
    addresses: Vec<String>,
    at: usize,
}

impl Managers {
    pub(crate) fn new(told: &[ManagerAddress], given: Vec<String>) -> Self {
        let mut managers = Self {
            given,
            addresses: Vec::new(),
            at: 0,
        };
        managers.told(told);
        managers
    }

    /// The cluster has these, the leader first.
    pub(crate) fn told(&mut self, told: &[ManagerAddress]) {
        self.addresses = Vec::new();
        for address in told.iter().map(|manager| &manager.address).chain(&self.given) {
            if !self.addresses.contains(address) {
                self.addresses.push(address.clone());
            }
        }
        self.at = 0;
    }

    /// The one to ask now.
    pub(crate) fn current(&self) -> Option<&str> {
        self.addresses.get(self.at).map(String::as_str)
    }

    /// That one did not answer.
    pub(crate) fn failed(&mut self) {
        self.at = (self.at + 1)
            .checked_rem(self.addresses.len())
            .unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_objects::NodeId;

    fn told(addresses: &[&str]) -> Vec<ManagerAddress> {
        let managers = addresses.iter().zip(1..).map(|(address, node)| ManagerAddress {
            node: NodeId::from_bits(node),
            address: (*address).to_owned(),
        });
        managers.collect()
    }

    #[test]
    fn all_are_asked_in_turn_the_leader_first_and_the_operators_last() {
        let mut managers = Managers::new(&told(&["b", "a"]), vec!["a".to_owned(), "c".to_owned()]);
        let mut asked = Vec::new();
        for _ in 0..4 {
            asked.push(managers.current().unwrap().to_owned());
            managers.failed();
        }
        assert_eq!(asked, ["b", "a", "c", "b"]);
        managers.told(&told(&["d"]));
        assert_eq!(managers.current(), Some("d"));
    }

    #[test]
    fn with_none_nobody_is_asked() {
        let mut managers = Managers::new(&[], Vec::new());
        managers.failed();
        assert_eq!(managers.current(), None);
    }
}
