//! The marks by which essaim knows what it made: names, aliases, a link group, a routing protocol.

use essaim_model::{AttachmentKey, NodeName, stable_id};

/// The node's VXLAN device.
pub const VXLAN_LINK: &str = "essaim-vx";
/// The interface that holds the node's overlay addresses.
pub const NODE_LINK: &str = "essaim0";
/// The other end of [`NODE_LINK`], where the programs are.
pub const NODE_PEER_LINK: &str = "essaim0p";
/// The group (`IFLA_GROUP`) of every link of essaim in a node's namespace; the firewall rules match on it.
pub(crate) const LINK_GROUP: u32 = 0xe55a;
/// The group of links that are about to be removed together.
pub(crate) const DOOMED_GROUP: u32 = 0xe55b;
/// The protocol (`rtm_protocol`) of every route of essaim.
pub(crate) const ROUTE_PROTOCOL: u8 = 0xe5;

/// The node's side of an endpoint's veth: `es` and 12 hexadecimal digits, within the kernel's 15 characters.
pub fn attachment_link(node: &NodeName, attachment: &AttachmentKey) -> String {
    format!("es{:012x}", stable_id(&format!("{node}/{attachment}")) >> 16)
}

/// The other end of the veth of an endpoint that the node's container engine moves into place, until it has: `ec` and
/// 12 hexadecimal digits.
pub fn handover_link(node: &NodeName, attachment: &AttachmentKey) -> String {
    format!("ec{:012x}", stable_id(&format!("{node}/{attachment}")) >> 16)
}

/// The alias of a link that belongs to a node as a whole.
pub(crate) fn node_alias(node: &NodeName) -> String {
    format!("essaim:{node}")
}

/// The alias of the node's side of an endpoint.
pub(crate) fn attachment_alias(node: &NodeName, attachment: &AttachmentKey) -> String {
    format!("essaim:{node}:{attachment}")
}

/// Whether a link with this alias was made by the node's essaim.
pub(crate) fn is_alias_of(alias: &str, node: &NodeName) -> bool {
    let own = node_alias(node);
    alias
        .strip_prefix(&own)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use essaim_model::{NetworkName, TaskId};

    fn node(name: &str) -> NodeName {
        NodeName::new(name).unwrap()
    }

    fn attachment(task: &str) -> AttachmentKey {
        AttachmentKey {
            task: TaskId::new(task).unwrap(),
            network: NetworkName::new("app").unwrap(),
        }
    }

    #[test]
    fn a_link_name_fits_and_differs_by_node_and_endpoint() {
        let name = attachment_link(&node("n1"), &attachment("web.1"));
        assert_eq!(name.len(), 14);
        assert_ne!(name, attachment_link(&node("n2"), &attachment("web.1")));
        assert_ne!(name, attachment_link(&node("n1"), &attachment("web.2")));
        assert_eq!(name, attachment_link(&node("n1"), &attachment("web.1")));
    }

    #[test]
    fn a_node_whose_name_begins_like_anothers_owns_nothing_of_it() {
        let own = node("n1");
        assert!(is_alias_of(&node_alias(&own), &own));
        assert!(is_alias_of(&attachment_alias(&own, &attachment("web.1")), &own));
        assert!(!is_alias_of(&node_alias(&node("n10")), &own));
        assert!(!is_alias_of(
            &attachment_alias(&node("n10"), &attachment("web.1")),
            &own
        ));
        assert!(!is_alias_of("uplink", &own));
    }
}
