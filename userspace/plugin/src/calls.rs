//! What the engine sends and is answered: libnetwork's remote driver and remote IPAM protocols, of which only what is
//! needed is read (`docs/remote.md` and `docs/ipam.md` of libnetwork; `drivers/remote/api`, `ipams/remote/api`).

use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// What marks the request for a gateway's address (`netlabel.Gateway`).
pub(crate) const GATEWAY: &str = "com.docker.network.gateway";
/// The option that says what an address is for (`ipamapi.RequestAddressType`).
pub(crate) const ADDRESS_TYPE: &str = "RequestAddressType";

/// An object that may be `null`, as Go writes an empty map.
type Options = Option<Map<String, Value>>;

/// `/IpamDriver.RequestPool`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct RequestPool {
    #[serde(default)]
    pub(crate) pool: String,
    #[serde(default)]
    pub(crate) options: Options,
}

/// `/IpamDriver.RequestAddress`.
#[derive(Debug, Deserialize)]
pub(crate) struct RequestAddress {
    #[serde(rename = "PoolID")]
    pub(crate) pool: String,
    #[serde(rename = "Address", default)]
    pub(crate) address: String,
    #[serde(rename = "Options", default)]
    pub(crate) options: Options,
}

impl RequestAddress {
    pub(crate) fn is_gateway(&self) -> bool {
        let kind = self
            .options
            .as_ref()
            .and_then(|options| options.get(ADDRESS_TYPE));
        kind.and_then(Value::as_str) == Some(GATEWAY)
    }
}

/// `/IpamDriver.ReleaseAddress`.
#[derive(Debug, Deserialize)]
pub(crate) struct ReleaseAddress {
    #[serde(rename = "PoolID")]
    pub(crate) pool: String,
    #[serde(rename = "Address")]
    pub(crate) address: String,
}

/// `/NetworkDriver.CreateEndpoint`.
#[derive(Debug, Deserialize)]
pub(crate) struct CreateEndpoint {
    #[serde(rename = "NetworkID")]
    pub(crate) network: String,
    #[serde(rename = "EndpointID")]
    pub(crate) endpoint: String,
    #[serde(rename = "Interface")]
    pub(crate) interface: Option<Interface>,
}

/// The interface of an endpoint.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Interface {
    #[serde(rename = "Address", default)]
    pub(crate) v4: String,
    #[serde(rename = "AddressIPv6", default)]
    pub(crate) v6: String,
    #[serde(rename = "MacAddress", default)]
    pub(crate) mac: String,
}

/// `/NetworkDriver.Join`, and, without a sandbox, what is said of an endpoint otherwise.
#[derive(Debug, Deserialize)]
pub(crate) struct OfEndpoint {
    #[serde(rename = "EndpointID")]
    pub(crate) endpoint: String,
    #[serde(rename = "NetworkID", default)]
    pub(crate) network: String,
    #[serde(rename = "SandboxKey", default)]
    pub(crate) sandbox: String,
}

/// `/NetworkDriver.CreateNetwork`.
#[derive(Debug, Deserialize)]
pub(crate) struct CreateNetwork {
    #[serde(rename = "IPv4Data", default)]
    pub(crate) v4: Option<Vec<Pool>>,
}

/// A pool of a network.
#[derive(Debug, Deserialize)]
pub(crate) struct Pool {
    #[serde(rename = "AddressSpace", default)]
    pub(crate) space: String,
}

/// The name of the address space: what the engine gives back shows that a network's addresses are ours, too.
pub(crate) const SPACE: &str = "essaim";

/// An address, with or without a prefix's length.
pub(crate) fn address(text: &str) -> Option<IpAddr> {
    text.split('/').next()?.parse().ok()
}

/// The answer to `Join`: which link the engine moves into its sandbox. Without a gateway of ours it gives the container a
/// second interface for what is outside (`docker_gwbridge`), unless the network is internal.
pub(crate) fn joined(link: &str, is_internal: bool) -> Value {
    json!({
        "InterfaceName": { "SrcName": link, "DstPrefix": "eth" },
        "DisableGatewayService": is_internal,
    })
}

/// An identity of a pool that says all there is to know: the network's, and the subnet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PoolId {
    pub(crate) network: essaim_objects::NetworkId,
    pub(crate) subnet: IpNet,
}

impl PoolId {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (network, subnet) = text.split_once('/')?;
        Some(Self {
            network: network.parse().ok()?,
            subnet: subnet.parse().ok()?,
        })
    }
}
