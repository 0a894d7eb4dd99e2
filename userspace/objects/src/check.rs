//! The checks of what a client asks: every rule of Swarm's, all problems at once, each with its field.

mod cluster;
mod container;
mod network;
mod service;

pub use cluster::{check_address_pools, check_data_path_port};

use crate::{ConfigSpec, Driver, Labels, NodeSpec, SecretSpec, Template};
use essaim_model::HostName;
use std::fmt;

/// A secret's data must be shorter, in bytes.
pub const MAX_SECRET_SIZE: usize = 500 * 1024;
/// A config's data must be shorter, in bytes.
pub const MAX_CONFIG_SIZE: usize = 1000 * 1024;
/// Longest name of a network, secret or config, in bytes.
const MAX_NAME: usize = 64;

/// A member that cannot be as it is; the object it belongs to is refused and nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {found}, expected {expected}")]
pub struct Invalid {
    /// The member, such as `TaskTemplate.ContainerSpec.Mounts[0].Target`.
    pub field: String,
    /// What it is.
    pub found: String,
    /// What it could be.
    pub expected: String,
}

/// The problems found so far, and where the check is.
#[derive(Default)]
struct Problems {
    found: Vec<Invalid>,
    place: Vec<String>,
}

impl Problems {
    /// Checks a member, whose name goes before those of its own members.
    fn within(&mut self, name: impl fmt::Display, check: impl FnOnce(&mut Self)) {
        self.place.push(name.to_string());
        check(self);
        self.place.pop();
    }

    /// Checks each item of a list.
    fn each<T>(&mut self, name: &str, items: Option<&[T]>, mut check: impl FnMut(&mut Self, &T)) {
        for (at, item) in items.unwrap_or_default().iter().enumerate() {
            self.within(format_args!("{name}[{at}]"), |problems| check(problems, item));
        }
    }

    /// Notes a problem of the member `name`, or of the place itself where that is empty.
    fn add(&mut self, name: &str, found: impl fmt::Display, expected: impl fmt::Display) {
        let place = self
            .place
            .iter()
            .map(String::as_str)
            .chain([name])
            .filter(|part| !part.is_empty());
        self.found.push(Invalid {
            field: place.collect::<Vec<_>>().join("."),
            found: found.to_string(),
            expected: expected.to_string(),
        });
    }

    /// Notes a problem with a text, quoted.
    fn text(&mut self, name: &str, found: &str, expected: impl fmt::Display) {
        self.add(name, format_args!("{found:?}"), expected);
    }

    fn finish(self) -> Result<(), Vec<Invalid>> {
        if self.found.is_empty() {
            Ok(())
        } else {
            Err(self.found)
        }
    }

    /// A number within limits, where it is given.
    fn number<T: Copy + PartialOrd + fmt::Display>(
        &mut self,
        name: &str,
        found: Option<T>,
        least: T,
        most: T,
    ) {
        if let Some(found) = found.filter(|found| !(least..=most).contains(found)) {
            self.add(name, found, format_args!("{least} to {most}"));
        }
    }

    /// A span that is not negative, where it is given.
    fn span(&mut self, name: &str, found: Option<crate::Nanoseconds>) {
        if let Some(found) = found.filter(|found| found.0 < 0) {
            self.add(name, format_args!("{} ns", found.0), "0 or more");
        }
    }

    fn labels(&mut self, name: &str, labels: Option<&Labels>) {
        if labels.is_some_and(|labels| labels.keys().any(|name| name.trim().is_empty())) {
            self.add(name, "a label without a name", "a name for each label");
        }
    }

    /// A name as networks, secrets and configs have it.
    fn name(&mut self, name: &str, found: Option<&str>) {
        let found = found.unwrap_or_default();
        let alphanumeric = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        let ends = alphanumeric(found.chars().next()) && alphanumeric(found.chars().last());
        let all = found
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !ends || !all || found.len() > MAX_NAME {
            self.text(
                name,
                found,
                "1 to 64 letters, digits, '-', '_' and '.', a letter or digit first and last",
            );
        }
    }

    /// A name as DNS has it.
    fn host_name(&mut self, name: &str, found: &str) {
        if HostName::new(found).is_err() {
            let expected = "a DNS name: labels of letters, digits, '-' and '_' with dots between them";
            self.text(name, found, expected);
        }
    }

    fn template(&mut self, name: &str, text: Option<&str>) {
        if let Err(error) = Template::parse(text.unwrap_or_default()) {
            self.add(name, error, "placeholders that are known");
        }
    }

    /// What fills in the placeholders of data.
    fn templating(&mut self, templating: Option<&Driver>, data: &[u8]) {
        let Some(driver) = templating.and_then(|driver| driver.name.as_deref()) else {
            return;
        };
        if driver != "golang" {
            self.text("Templating.Name", driver, "golang");
        } else if let Ok(text) = std::str::from_utf8(data) {
            self.template("Data", Some(text));
        } else {
            self.add("Data", "not UTF-8", "text, as its placeholders are filled in");
        }
    }

    /// The size of a secret's or config's data.
    fn size(&mut self, length: usize, limit: usize) {
        if length == 0 || length >= limit {
            self.add(
                "Data",
                format_args!("{length} bytes"),
                format_args!("1 to {} bytes", limit - 1),
            );
        }
    }
}

impl NodeSpec {
    /// Whether it can be asked of a node.
    ///
    /// # Errors
    /// Every member that cannot be as it is.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut problems = Problems::default();
        if self.name.as_deref().is_some_and(|name| !name.is_empty()) {
            problems.name("Name", self.name.as_deref());
        }
        problems.labels("Labels", self.labels.as_ref());
        problems.finish()
    }
}

impl SecretSpec {
    /// Whether such a secret can be made.
    ///
    /// # Errors
    /// Every member that cannot be as it is.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut problems = Problems::default();
        problems.name("Name", self.name.as_deref());
        problems.labels("Labels", self.labels.as_ref());
        let data = self.data.as_ref().map(crate::Data::as_bytes).unwrap_or_default();
        match self.driver.as_ref().and_then(|driver| driver.name.as_deref()) {
            Some(driver) => problems.text("Driver.Name", driver, "none: data is kept by the cluster"),
            None => problems.size(data.len(), MAX_SECRET_SIZE),
        }
        problems.templating(self.templating.as_ref(), data);
        problems.finish()
    }
}

impl ConfigSpec {
    /// Whether such a config can be made.
    ///
    /// # Errors
    /// Every member that cannot be as it is.
    pub fn check(&self) -> Result<(), Vec<Invalid>> {
        let mut problems = Problems::default();
        problems.name("Name", self.name.as_deref());
        problems.labels("Labels", self.labels.as_ref());
        let data = self.data.as_ref().map(crate::Data::as_bytes).unwrap_or_default();
        problems.size(data.len(), MAX_CONFIG_SIZE);
        problems.templating(self.templating.as_ref(), data);
        problems.finish()
    }
}

#[cfg(test)]
mod tests;
