//! Placement constraints and spread preferences: what they ask of a node.

use crate::Node;
use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

const NODE_LABELS: &str = "node.labels.";
const ENGINE_LABELS: &str = "engine.labels.";

/// A text that is no constraint or preference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// It compares nothing.
    #[error("constraint \"{found}\" has neither == nor !=, expected KEY==VALUE or KEY!=VALUE")]
    NoOperator {
        /// The text.
        found: String,
    },
    /// Nodes have no such property.
    #[error(
        "unknown key \"{found}\", expected node.id, node.hostname, node.ip, node.role, node.platform.os, \
         node.platform.arch, node.labels.NAME or engine.labels.NAME"
    )]
    UnknownKey {
        /// The key.
        found: String,
    },
    /// The property can never have this value.
    #[error("{key} cannot be \"{found}\", expected {expected}")]
    BadValue {
        /// The key.
        key: String,
        /// The value.
        found: String,
        /// What it could be.
        expected: &'static str,
    },
    /// Tasks are not spread over this.
    #[error("cannot spread over \"{found}\", expected node.labels.NAME or engine.labels.NAME")]
    NoSpread {
        /// The text.
        found: String,
    },
}

/// A property of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConstraintKey {
    /// Its identity.
    NodeId,
    /// Its host name.
    NodeHostname,
    /// The address that managers see it at.
    NodeIp,
    /// Its role.
    NodeRole,
    /// Its operating system.
    NodePlatformOs,
    /// Its architecture.
    NodePlatformArch,
    /// A label of the node.
    NodeLabel(String),
    /// A label of its engine.
    EngineLabel(String),
}

impl FromStr for ConstraintKey {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        let label = |prefix: &str| {
            let (start, name) = text.split_at_checked(prefix.len())?;
            (start.eq_ignore_ascii_case(prefix) && !name.is_empty()).then(|| name.to_owned())
        };
        if let Some(name) = label(NODE_LABELS) {
            return Ok(Self::NodeLabel(name));
        }
        if let Some(name) = label(ENGINE_LABELS) {
            return Ok(Self::EngineLabel(name));
        }
        match text.to_ascii_lowercase().as_str() {
            "node.id" => Ok(Self::NodeId),
            "node.hostname" => Ok(Self::NodeHostname),
            "node.ip" => Ok(Self::NodeIp),
            "node.role" => Ok(Self::NodeRole),
            "node.platform.os" => Ok(Self::NodePlatformOs),
            "node.platform.arch" => Ok(Self::NodePlatformArch),
            _ => Err(ConstraintError::UnknownKey {
                found: text.to_owned(),
            }),
        }
    }
}

impl fmt::Display for ConstraintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NodeId => f.write_str("node.id"),
            Self::NodeHostname => f.write_str("node.hostname"),
            Self::NodeIp => f.write_str("node.ip"),
            Self::NodeRole => f.write_str("node.role"),
            Self::NodePlatformOs => f.write_str("node.platform.os"),
            Self::NodePlatformArch => f.write_str("node.platform.arch"),
            Self::NodeLabel(name) => write!(f, "{NODE_LABELS}{name}"),
            Self::EngineLabel(name) => write!(f, "{ENGINE_LABELS}{name}"),
        }
    }
}

/// A condition on the node of a task, such as `node.labels.disk==ssd`.
///
/// Values are compared as a whole and without regard to case. A property that a node lacks is the empty string, so
/// `!=` holds. `node.ip` takes an address or a prefix. Architectures go by either of their usual names (`amd64` is
/// `x86_64`, `arm64` is `aarch64`), in which Swarm differs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Constraint {
    key: ConstraintKey,
    is_equal: bool,
    value: String,
}

impl Constraint {
    /// The property.
    pub const fn key(&self) -> &ConstraintKey {
        &self.key
    }

    /// Whether a node meets it.
    pub fn is_met_by(&self, node: &Node) -> bool {
        let is_same = match &self.key {
            ConstraintKey::NodeIp => is_at(&self.value, node.status.addr.as_deref().unwrap_or_default()),
            ConstraintKey::NodePlatformArch => {
                let found = property(&self.key, node).unwrap_or_default();
                architecture(&found.to_ascii_lowercase()) == architecture(&self.value.to_ascii_lowercase())
            }
            ConstraintKey::NodeId
            | ConstraintKey::NodeHostname
            | ConstraintKey::NodeRole
            | ConstraintKey::NodePlatformOs
            | ConstraintKey::NodeLabel(_)
            | ConstraintKey::EngineLabel(_) => {
                let found = property(&self.key, node).unwrap_or_default();
                found.to_lowercase() == self.value.to_lowercase()
            }
        };
        is_same == self.is_equal
    }
}

/// Whether an address is the one, or of the prefix, that the text gives.
fn is_at(text: &str, address: &str) -> bool {
    let Ok(address) = address.parse::<IpAddr>() else {
        return false;
    };
    match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
        (Ok(one), _) => one == address,
        (_, Ok(prefix)) => prefix.contains(&address),
        (Err(_), Err(_)) => false,
    }
}

/// The name under which an architecture is compared.
fn architecture(name: &str) -> &str {
    match name {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

/// A node's property, where it has it.
fn property<'a>(key: &ConstraintKey, node: &'a Node) -> Option<&'a str> {
    let description = node.description.as_ref();
    let platform = description.and_then(|description| description.platform.as_ref());
    match key {
        ConstraintKey::NodeId => Some(node.id.as_str()),
        ConstraintKey::NodeHostname => description?.hostname.as_deref(),
        ConstraintKey::NodeIp => node.status.addr.as_deref(),
        ConstraintKey::NodeRole => Some(node.spec.role().as_str()),
        ConstraintKey::NodePlatformOs => platform?.os.as_deref(),
        ConstraintKey::NodePlatformArch => platform?.architecture.as_deref(),
        ConstraintKey::NodeLabel(name) => node.spec.labels.as_ref()?.get(name).map(String::as_str),
        ConstraintKey::EngineLabel(name) => {
            let labels = description?.engine.as_ref()?.labels.as_ref()?;
            labels.get(name).map(String::as_str)
        }
    }
}

impl FromStr for Constraint {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        let equal = text.split_once("==").map(|(key, value)| (key, true, value));
        let parts = equal.or_else(|| text.split_once("!=").map(|(key, value)| (key, false, value)));
        let Some((key, is_equal, value)) = parts else {
            return Err(ConstraintError::NoOperator {
                found: text.to_owned(),
            });
        };
        let key: ConstraintKey = key.trim().parse()?;
        let value = value.trim();
        let refused = |expected| {
            Err(ConstraintError::BadValue {
                key: key.to_string(),
                found: value.to_owned(),
                expected,
            })
        };
        match &key {
            ConstraintKey::NodeIp if value.parse::<IpAddr>().is_err() && value.parse::<IpNet>().is_err() => {
                return refused("an IP address or a prefix such as 10.0.0.0/8");
            }
            ConstraintKey::NodeRole if value.parse::<crate::NodeRole>().is_err() => {
                return refused("worker or manager");
            }
            _ if value.is_empty() => return refused("a value"),
            _ => {}
        }
        Ok(Self {
            value: value.to_owned(),
            key,
            is_equal,
        })
    }
}

impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let operator = if self.is_equal { "==" } else { "!=" };
        write!(f, "{}{operator}{}", self.key, self.value)
    }
}

/// What tasks are spread over: a label.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpreadKey(ConstraintKey);

impl SpreadKey {
    /// A node's value; nodes that lack the label make a group of their own.
    pub fn value<'a>(&self, node: &'a Node) -> Option<&'a str> {
        property(&self.0, node)
    }
}

impl FromStr for SpreadKey {
    type Err = ConstraintError;

    fn from_str(text: &str) -> Result<Self, ConstraintError> {
        match text.parse() {
            Ok(key @ (ConstraintKey::NodeLabel(_) | ConstraintKey::EngineLabel(_))) => Ok(Self(key)),
            Ok(_) | Err(_) => Err(ConstraintError::NoSpread {
                found: text.to_owned(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node() -> Node {
        serde_json::from_str(
            r#"{"ID":"8ndmfqyjknwbf6qu2vwspt9ci","Spec":{"Role":"manager","Labels":{"zone":"A","Zone":"b"}},
            "Description":{"Hostname":"N1","Platform":{"Architecture":"x86_64","OS":"linux"},
            "Engine":{"Labels":{"disk":"ssd"}}},"Status":{"State":"ready","Addr":"10.1.2.3"}}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_node_meets_what_it_is() {
        let node = node();
        for (text, is_met) in [
            ("node.id==8ndmfqyjknwbf6qu2vwspt9ci", true),
            ("node.id == 8NDMFQYJKNWBF6QU2VWSPT9CI", true),
            ("node.id!=8ndmfqyjknwbf6qu2vwspt9ci", false),
            ("node.hostname==n1", true),
            ("NODE.Hostname!=n2", true),
            ("node.hostname==n", false),
            ("node.hostname==n*", false),
            ("node.ip==10.1.2.3", true),
            ("node.ip!=10.1.0.0/16", false),
            ("node.ip==10.1.0.0/16", true),
            ("node.ip==10.2.0.0/16", false),
            ("node.ip==fd00::/8", false),
            ("node.role==manager", true),
            ("node.role!=Manager", false),
            ("node.role==worker", false),
            ("node.platform.os==Linux", true),
            ("node.platform.arch==x86_64", true),
            ("node.platform.arch==amd64", true),
            ("node.platform.arch!=arm64", true),
            ("node.labels.zone==a", true),
            ("node.labels.Zone==B", true),
            ("node.labels.ZONE==a", false),
            ("node.labels.none!=x", true),
            ("node.labels.none==x", false),
            ("engine.labels.disk==ssd", true),
            ("engine.labels.disk!=ssd", false),
            ("engine.labels.none!=ssd", true),
        ] {
            let constraint: Constraint = text.parse().unwrap();
            assert_eq!(constraint.is_met_by(&node), is_met, "{text}");
            assert_eq!(
                constraint.to_string().parse::<Constraint>().as_ref(),
                Ok(&constraint),
                "{text}"
            );
        }
    }

    #[test]
    fn a_node_that_said_nothing_lacks_everything() {
        let node: Node = serde_json::from_str(r#"{"ID":"8ndmfqyjknwbf6qu2vwspt9ci"}"#).unwrap();
        for (text, is_met) in [
            ("node.hostname!=x", true),
            ("node.hostname==x", false),
            ("node.ip==10.1.2.3", false),
            ("node.ip!=10.1.2.3", true),
            ("node.role==worker", true),
            ("engine.labels.x!=y", true),
        ] {
            assert_eq!(
                text.parse::<Constraint>().unwrap().is_met_by(&node),
                is_met,
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_constraint_is_refused_with_the_reason() {
        for (text, says) in [
            (
                "",
                "constraint \"\" has neither == nor !=, expected KEY==VALUE or KEY!=VALUE",
            ),
            (
                "node.id=x",
                "constraint \"node.id=x\" has neither == nor !=, expected KEY==VALUE or KEY!=VALUE",
            ),
            (
                "node.role==boss",
                "node.role cannot be \"boss\", expected worker or manager",
            ),
            (
                "node.ip==x",
                "node.ip cannot be \"x\", expected an IP address or a prefix such as 10.0.0.0/8",
            ),
            (
                "node.labels.a==",
                "node.labels.a cannot be \"\", expected a value",
            ),
        ] {
            assert_eq!(
                text.parse::<Constraint>().unwrap_err().to_string(),
                says,
                "{text}"
            );
        }
        for bad in ["node.labels.==x", "node.foo==x", "==x", "labels.a==x", "é==x"] {
            let error = bad.parse::<Constraint>().unwrap_err();
            assert!(matches!(error, ConstraintError::UnknownKey { .. }), "{bad}");
        }
    }

    #[test]
    fn tasks_are_spread_over_labels_only() {
        let node = node();
        assert_eq!(
            "node.labels.zone".parse::<SpreadKey>().unwrap().value(&node),
            Some("A")
        );
        assert_eq!(
            "engine.labels.disk".parse::<SpreadKey>().unwrap().value(&node),
            Some("ssd")
        );
        assert_eq!("engine.labels.x".parse::<SpreadKey>().unwrap().value(&node), None);
        for bad in ["", "node.id", "zone", "node.labels."] {
            assert!(bad.parse::<SpreadKey>().is_err(), "{bad}");
        }
    }
}
