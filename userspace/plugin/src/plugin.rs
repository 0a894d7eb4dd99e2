//! The plugin: what the engine asks, answered from the book and by the node.

mod cni;

use crate::book::{Book, Endpoint, Lease};
use crate::calls::{
    CreateEndpoint, CreateNetwork, OfEndpoint, PoolId, ReleaseAddress, RequestAddress, RequestPool, SPACE,
    address, joined,
};
use crate::engine::DockerEngine;
use crate::file::BookFile;
use crate::host::Host;
use crate::{NETWORK_OPTION, PluginError};
use essaim_objects::{Network, TaskId};
use essaim_protocol::{AttachmentsHeld, Place, RefusedContainer};
use essaim_store::mac;
use ipnet::IpNet;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};
use tokio::time::{sleep, timeout};

/// How long a request for an address waits for another container of a network with two families, which was told one of
/// its addresses only.
const HALF_TOLD: Duration = Duration::from_secs(2);
/// From a try to tell the managers that failed to the next.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the book is compared with the engine. What the engine has forgotten is let go of after two of these.
const SWEEP: Duration = Duration::from_secs(20);
/// How often, and how far apart, the engine is asked for a container that has joined: it tells once it has started it.
const LOOKS: [u64; 8] = [50, 100, 200, 400, 800, 1600, 3200, 6400];

/// The plugin. Clones are the same.
#[derive(Debug)]
pub struct Plugin<H> {
    inner: Arc<Inner<H>>,
}

impl<H> Clone for Plugin<H> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

#[derive(Debug)]
struct Inner<H> {
    host: H,
    engine: DockerEngine,
    file: BookFile,
    /// Held while the managers are told, so that they are told one thing after the other.
    book: Mutex<Book>,
    /// Something was told, given back or joined.
    moved: Notify,
    /// The managers are to be told again.
    stale: Notify,
}

/// Why a container has no place on a network.
#[derive(Debug, thiserror::Error)]
enum NotGranted {
    /// The managers do not answer; they may come to know of it all the same.
    #[error("{0}")]
    Unasked(String),
    /// They refuse it.
    #[error("{0}")]
    Refused(String),
}

impl<H: Host> Plugin<H> {
    /// The plugin with what an earlier one has kept in a file, of the engine behind a socket.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn open(
        host: H,
        engine: impl Into<std::path::PathBuf>,
        file: impl Into<std::path::PathBuf>,
    ) -> Result<Self, PluginError> {
        let file = BookFile::new(file.into());
        let mut book = file.read()?;
        let forgotten = book.start_anew(&host.boot());
        if forgotten > 0 {
            tracing::info!(
                forgotten,
                "the machine has started anew, without the containers that it had"
            );
            file.write(&book)?;
        }
        for task in book.joined() {
            host.runs(task);
        }
        Ok(Self {
            inner: Arc::new(Inner {
                host,
                engine: DockerEngine::new(engine.into()),
                file,
                book: Mutex::new(book),
                moved: Notify::new(),
                stale: Notify::new(),
            }),
        })
    }

    /// The node's side of it: tells the managers again where that failed or a session began, and lets go of what the engine
    /// has forgotten. Runs until it is dropped.
    pub async fn run(&self) {
        tokio::join!(self.retell(), self.sweep());
    }

    /// Has nothing any more: the node has left its cluster.
    ///
    /// # Errors
    /// That cannot be written down.
    pub async fn forget(&self) -> Result<(), PluginError> {
        let mut book = self.inner.book.lock().await;
        for task in book.joined() {
            self.inner.host.ended(task);
        }
        *book = Book::default();
        self.inner.file.write(&book)
    }

    async fn retell(&self) {
        loop {
            tokio::select! {
                () = self.inner.host.next_session() => {}
                () = self.inner.stale.notified() => {}
            }
            loop {
                let told = self.tell(&*self.inner.book.lock().await).await;
                let Err(why) = told else { break };
                tracing::warn!(
                    why,
                    "the managers do not know which containers are on the cluster's networks"
                );
                sleep(AGAIN).await;
            }
        }
    }

    /// Tells the managers what the book says.
    async fn tell(&self, book: &Book) -> Result<AttachmentsHeld, String> {
        let held = self.inner.host.hold(book.said()).await?;
        for RefusedContainer { task, why } in &held.refused {
            tracing::warn!(%task, why, "a container is on no network of the cluster any more");
        }
        Ok(held)
    }

    /// Tells the managers what the book says; the places of all containers, where they do not refuse this one.
    async fn granted(&self, book: &Book, task: TaskId) -> Result<Vec<Place>, NotGranted> {
        let held = self.tell(book).await.map_err(NotGranted::Unasked)?;
        match held.refused.into_iter().find(|refused| refused.task == task) {
            Some(refused) => Err(NotGranted::Refused(refused.why)),
            None => Ok(held.places),
        }
    }

    async fn sweep(&self) {
        let mut missed = BTreeSet::new();
        loop {
            sleep(SWEEP).await;
            self.remove_shadows().await;
            if let Ok(there) = self.inner.engine.endpoints().await {
                missed = self.let_go(&there, &missed).await;
            }
        }
    }

    /// Lets go of the leases that the engine has no endpoint for, and had none for the last time; those of this time. (Those
    /// that are on their way have none yet.)
    async fn let_go(&self, there: &BTreeSet<String>, missed: &BTreeSet<TaskId>) -> BTreeSet<TaskId> {
        let mut book = self.inner.book.lock().await;
        let is_absent = |lease: &Lease| {
            let endpoint = lease.endpoint.as_ref();
            lease.interface.is_none() && !endpoint.is_some_and(|endpoint| there.contains(&endpoint.id))
        };
        let absent = book.leases.iter().filter(|(_, lease)| is_absent(lease));
        let absent: BTreeSet<TaskId> = absent.map(|(task, _)| *task).collect();
        for task in absent.intersection(missed) {
            tracing::warn!(%task, "the engine has forgotten a container of a network; its address is free");
            if let Some(left) = book.remove(*task) {
                self.inner.host.ended(left);
            }
            self.kept(&book);
            self.inner.stale.notify_one();
        }
        absent
    }

    /// Removes the engine's networks that stand for one that the cluster has no more. The engine refuses where a container,
    /// running or not, is on one.
    async fn remove_shadows(&self) {
        for shadow in self.inner.engine.shadows().await.unwrap_or_default() {
            if let Ok(None) = self.inner.host.find(&shadow.of).await
                && self.inner.engine.remove(&shadow.id).await.is_ok()
            {
                tracing::info!(
                    network = shadow.name,
                    "the engine's part of a network that is no more was removed"
                );
            }
        }
    }

    /// Makes the engine's network that stands for one of the cluster's: what a container is on. Its name there; nothing
    /// where the cluster has none such, or the engine has one of its own by that name.
    ///
    /// # Errors
    /// [`PluginError`]: the network is not for containers, the managers or the engine do not answer.
    pub async fn prepare(&self, name: &str) -> Result<Option<String>, PluginError> {
        let there = self
            .inner
            .engine
            .network(name)
            .await
            .map_err(PluginError::Engine)?;
        if there.as_ref().is_some_and(|there| there.of.is_none()) {
            return Ok(None);
        }
        let found = self.inner.host.find(name).await.map_err(PluginError::Managers)?;
        let Some(network) = found else { return Ok(None) };
        if network.spec.attachable != Some(true) || network.is_ingress() {
            return Err(PluginError::NotAttachable {
                network: network.name().to_owned(),
            });
        }
        let own = network.name().to_owned();
        let there = match there {
            Some(there) if own == name => Some(there),
            _ => self
                .inner
                .engine
                .network(&own)
                .await
                .map_err(PluginError::Engine)?,
        };
        match there.map(|there| (there.of, there.id)) {
            Some((Some(of), _)) if of == network.id.as_str() => return Ok(Some(own)),
            // It stands for an earlier one of the name.
            Some((Some(_), id)) => self.inner.engine.remove(&id).await.map_err(PluginError::Engine)?,
            Some((None, _)) => return Ok(None),
            None => {}
        }
        self.inner
            .engine
            .make(&shadow_of(&network))
            .await
            .map_err(PluginError::Engine)?;
        Ok(Some(own))
    }

    /// Answers a call of the engine's: what it is told, or why not, in a sentence. `None` where there is no such call.
    pub async fn answer(&self, call: &str, body: &[u8]) -> Option<Result<Value, String>> {
        self.call(call, body).await.transpose()
    }

    async fn call(&self, call: &str, body: &[u8]) -> Result<Option<Value>, String> {
        let said = match call {
            "/Plugin.Activate" => json!({ "Implements": ["NetworkDriver", "IpamDriver"] }),
            "/NetworkDriver.GetCapabilities" => json!({ "Scope": "local", "ConnectivityScope": "global" }),
            "/IpamDriver.GetCapabilities" => {
                json!({ "RequiresMACAddress": false, "RequiresRequestReplay": false })
            }
            "/IpamDriver.GetDefaultAddressSpaces" => {
                json!({ "LocalDefaultAddressSpace": SPACE, "GlobalDefaultAddressSpace": SPACE })
            }
            "/IpamDriver.RequestPool" => request_pool(&read(body)?)?,
            "/IpamDriver.RequestAddress" => self.request_address(read(body)?).await?,
            "/IpamDriver.ReleaseAddress" => self.release_address(read(body)?).await?,
            "/NetworkDriver.CreateNetwork" => create_network(&read(body)?)?,
            "/NetworkDriver.CreateEndpoint" => self.create_endpoint(read(body)?).await?,
            "/NetworkDriver.Join" => self.join(read(body)?).await?,
            "/NetworkDriver.Leave" => self.leave(read(body)?).await?,
            "/NetworkDriver.DeleteEndpoint" => self.delete_endpoint(read(body)?).await,
            "/NetworkDriver.EndpointOperInfo" => json!({ "Value": {} }),
            "/IpamDriver.ReleasePool"
            | "/NetworkDriver.DeleteNetwork"
            | "/NetworkDriver.ProgramExternalConnectivity"
            | "/NetworkDriver.RevokeExternalConnectivity"
            | "/NetworkDriver.DiscoverNew"
            | "/NetworkDriver.DiscoverDelete" => json!({}),
            _ => return Ok(None),
        };
        Ok(Some(said))
    }

    async fn request_address(&self, asked: RequestAddress) -> Result<Value, String> {
        let pool = pool(&asked.pool)?;
        let wanted = match asked.address.as_str() {
            "" => None,
            text => Some(address(text).ok_or_else(|| format!("Address is {text:?}, expected an address"))?),
        };
        let prefix = pool.subnet.prefix_len();
        let with_prefix = |address| IpNet::new(address, prefix).map_err(|error| error.to_string());
        if asked.is_gateway() {
            let gateway =
                wanted.ok_or("a gateway is to be chosen, expected the network's own to be named")?;
            return Ok(json!({ "Address": with_prefix(gateway)?, "Data": {} }));
        }
        let wanted = wanted.map(with_prefix).transpose()?;
        // Of two families the second comes by a call of its own, which does not say for whom.
        let turn = timeout(HALF_TOLD, async {
            loop {
                let moved = self.inner.moved.notified();
                let book = self.inner.book.lock().await;
                let half = book.half_told(pool.network, pool.subnet);
                if half.is_some() || !book.is_half_told(pool.network) {
                    return (book, half);
                }
                drop(book);
                moved.await;
            }
        });
        let (mut book, half) = match turn.await {
            Ok(turn) => turn,
            Err(_) => (self.inner.book.lock().await, None),
        };
        if let Some(task) = half {
            let told = book
                .tell(task, pool.subnet)
                .filter(|told| wanted.is_none_or(|wanted| wanted == *told));
            self.kept(&book);
            self.inner.moved.notify_waiters();
            let told =
                told.ok_or("both addresses of a network with two families cannot be named; leave out --ip6")?;
            return Ok(json!({ "Address": told, "Data": {} }));
        }
        let task = random_task()?;
        book.ask(task, pool.network, wanted);
        let told = self.asked(&mut book, task, pool).await;
        if told.is_err() {
            book.leases.remove(&task);
            self.inner.stale.notify_one();
        }
        self.kept(&book);
        Ok(json!({ "Address": told?, "Data": {} }))
    }

    /// Has the managers choose the addresses of a new lease.
    async fn asked(&self, book: &mut Book, task: TaskId, pool: PoolId) -> Result<IpNet, String> {
        let places = self.granted(book, task).await.map_err(|why| why.to_string())?;
        let place = places
            .into_iter()
            .find(|place| place.task == task && place.network == pool.network);
        book.take(task, place.map(|place| place.addresses).unwrap_or_default());
        let none = || format!("the managers gave no address in {}", pool.subnet);
        book.tell(task, pool.subnet).ok_or_else(none)
    }

    async fn release_address(&self, asked: ReleaseAddress) -> Result<Value, String> {
        let pool = pool(&asked.pool)?;
        if let Some(address) = address(&asked.address) {
            let mut book = self.inner.book.lock().await;
            book.give_back(pool.network, address);
            self.kept(&book);
            self.inner.moved.notify_waiters();
            self.inner.stale.notify_one();
        }
        Ok(json!({}))
    }

    async fn create_endpoint(&self, asked: CreateEndpoint) -> Result<Value, String> {
        let interface = asked.interface.unwrap_or_default();
        let addresses: Vec<IpAddr> = [&interface.v4, &interface.v6]
            .into_iter()
            .filter_map(|text| address(text))
            .collect();
        let endpoint = Endpoint {
            id: asked.endpoint,
            network: asked.network,
        };
        let mut book = self.inner.book.lock().await;
        let task = book
            .place(endpoint, &addresses)
            .map_err(|error| error.to_string())?;
        let own = book
            .leases
            .get(&task)
            .map(|lease| mac(&lease.addresses).to_string())
            .unwrap_or_default();
        if !interface.mac.is_empty() && !interface.mac.eq_ignore_ascii_case(&own) {
            return Err(format!(
                "the Ethernet address is {}, expected {own}: on the cluster's networks it follows from the address; leave \
                 it out",
                interface.mac
            ));
        }
        self.kept(&book);
        self.inner.moved.notify_waiters();
        Ok(if interface.mac.is_empty() {
            json!({ "Interface": { "MacAddress": own } })
        } else {
            json!({ "Interface": {} })
        })
    }

    async fn join(&self, asked: OfEndpoint) -> Result<Value, String> {
        let (task, own) = {
            let mut book = self.inner.book.lock().await;
            let task = book
                .join(&asked.endpoint, &asked.sandbox)
                .map_err(|error| error.to_string())?;
            self.kept(&book);
            let told = self.granted(&book, task).await;
            let own = book.members(task).find(|lease| {
                lease
                    .endpoint
                    .as_ref()
                    .is_some_and(|endpoint| endpoint.id == asked.endpoint)
            });
            let own = own.and_then(|lease| lease.addresses.first()).map(IpNet::addr);
            if let Err(why) = told {
                self.left(&mut book, &asked.endpoint)?;
                return Err(why.to_string());
            }
            (task, own.ok_or("the endpoint has no address")?)
        };
        match self.inner.host.link(task, own).await {
            Ok(link) => {
                self.inner.host.runs(task);
                tokio::spawn(self.clone().look(asked.network, asked.endpoint));
                Ok(joined(&link.name, link.is_internal))
            }
            Err(why) => {
                self.left(&mut *self.inner.book.lock().await, &asked.endpoint)?;
                Err(why)
            }
        }
    }

    /// Looks for the container of an endpoint, and tells the managers its names.
    async fn look(self, network: String, endpoint: String) {
        for pause in LOOKS {
            sleep(Duration::from_millis(pause)).await;
            let Ok(Some(found)) = self.inner.engine.container(&network, &endpoint).await else {
                continue;
            };
            let mut book = self.inner.book.lock().await;
            if book.name(&endpoint, &found.id, found.names) {
                self.kept(&book);
                self.inner.stale.notify_one();
            }
            return;
        }
        tracing::warn!(
            endpoint,
            "the engine does not say which container has joined a network: it has no name there"
        );
    }

    async fn leave(&self, asked: OfEndpoint) -> Result<Value, String> {
        self.left(&mut *self.inner.book.lock().await, &asked.endpoint)?;
        Ok(json!({}))
    }

    async fn delete_endpoint(&self, asked: OfEndpoint) -> Value {
        let mut book = self.inner.book.lock().await;
        book.remove_endpoint(&asked.endpoint);
        self.kept(&book);
        json!({})
    }

    fn left(&self, book: &mut Book, endpoint: &str) -> Result<(), String> {
        if let Some(task) = book.leave(endpoint, random_task()?) {
            self.inner.host.ended(task);
        }
        self.kept(book);
        self.inner.stale.notify_one();
        Ok(())
    }

    fn kept(&self, book: &Book) {
        if let Err(error) = self.inner.file.write(book) {
            tracing::error!(%error, "which containers are on the cluster's networks is not written down");
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    serde_json::from_slice(body).map_err(|error| format!("the call cannot be read: {error}"))
}

fn pool(text: &str) -> Result<PoolId, String> {
    PoolId::parse(text).ok_or_else(|| format!("PoolID is {text:?}, expected NETWORK/SUBNET"))
}

fn request_pool(asked: &RequestPool) -> Result<Value, String> {
    let network = asked
        .options
        .as_ref()
        .and_then(|options| options.get(NETWORK_OPTION)?.as_str());
    let network = network.ok_or(
        "networks of this driver are made by essaim itself, for those of the cluster: docker network create --driver \
         overlay --attachable",
    )?;
    let id = format!("{network}/{}", asked.pool);
    pool(&id)?;
    Ok(json!({ "PoolID": id, "Pool": asked.pool, "Data": {} }))
}

fn create_network(asked: &CreateNetwork) -> Result<Value, String> {
    let mut pools = asked.v4.iter().flatten();
    if pools.all(|pool| pool.space == SPACE) {
        Ok(json!({}))
    } else {
        Err("a network of this driver has its addresses from it, too: --ipam-driver essaim".to_owned())
    }
}

fn random_task() -> Result<TaskId, String> {
    let halves = getrandom::u64().and_then(|high| Ok((high, getrandom::u64()?)));
    let (high, low) = halves.map_err(|error| format!("the system gave no randomness: {error}"))?;
    Ok(TaskId::from_bits(u128::from(high) << 64 | u128::from(low)))
}

/// What the engine's network for one of the cluster's is made of.
fn shadow_of(network: &Network) -> crate::engine::Shadow {
    crate::engine::Shadow {
        name: network.name().to_owned(),
        of: network.id.to_string(),
        subnets: network
            .subnets()
            .map(|subnet| (subnet.net, subnet.gateway))
            .collect(),
    }
}
