//! What the threads have in common.

use crate::asker::{AskerId, AskerInfo, Outside};
use crate::cache::Cache;
use crate::counters::CounterBlock;
use crate::kernel::{Budget, Kernel};
use crate::resolv_conf::DNS_PORT;
use crate::upstream::{EngineResolver, Servers};
use crate::zone::Zone;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

/// How much the cache of upstream answers holds, in bytes: some 50,000 answers of usual size.
const CACHE_SIZE: usize = 16 << 20;

/// What every answer may need.
#[derive(Debug)]
pub(crate) struct Shared {
    zone: RwLock<Arc<Zone>>,
    servers: RwLock<Arc<Servers>>,
    numbers: Mutex<ServerNumbers>,
    pub(crate) cache: Mutex<Cache>,
    /// Where the kernel answers too.
    pub(crate) kernel: OnceLock<Kernel>,
    /// How many questions wait for upstream servers.
    pub(crate) under_way: Arc<AtomicUsize>,
    /// The counters of what runs on the runtime.
    pub(crate) counters: CounterBlock,
}

/// Which number stands for which list of servers.
#[derive(Debug, Default)]
struct ServerNumbers {
    next: u32,
    of_askers: HashMap<Vec<IpAddr>, std::sync::Weak<Servers>>,
}

impl ServerNumbers {
    fn take(&mut self, addresses: Vec<SocketAddr>) -> Arc<Servers> {
        self.next = self.next.wrapping_add(1);
        Arc::new(Servers::at(self.next, addresses))
    }

    fn engine(&mut self, engine: EngineResolver) -> Arc<Servers> {
        self.next = self.next.wrapping_add(1);
        Arc::new(Servers {
            number: self.next,
            addresses: Vec::new(),
            engine: Some(Arc::new(engine)),
        })
    }
}

/// A task as the threads see it.
#[derive(Debug)]
pub(crate) struct Asker {
    pub(crate) id: AskerId,
    /// Where it is served, by UDP and TCP.
    pub(crate) ports: [u16; 2],
    view: RwLock<Arc<AskerView>>,
    pub(crate) udp: UdpSocket,
    /// How many of its questions wait for upstream servers.
    pub(crate) under_way: Arc<AtomicUsize>,
    /// For what the kernel is told on its behalf.
    pub(crate) budget: Budget,
}

/// What an asker's questions are answered by.
#[derive(Debug)]
pub(crate) struct AskerView {
    pub(crate) info: AskerInfo,
    /// Its own servers, where it has some.
    own: Option<Arc<Servers>>,
}

impl Asker {
    pub(crate) fn new(id: AskerId, ports: [u16; 2], view: AskerView, udp: UdpSocket) -> Self {
        Self {
            id,
            ports,
            view: RwLock::new(Arc::new(view)),
            udp,
            under_way: Arc::default(),
            budget: Budget::default(),
        }
    }

    pub(crate) fn view(&self) -> Arc<AskerView> {
        self.view.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_view(&self, view: AskerView) {
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
    }
}

impl Shared {
    pub(crate) fn new() -> Self {
        let mut numbers = ServerNumbers::default();
        Self {
            zone: RwLock::default(),
            servers: RwLock::new(numbers.take(Vec::new())),
            numbers: Mutex::new(numbers),
            cache: Mutex::new(Cache::new(CACHE_SIZE)),
            kernel: OnceLock::new(),
            under_way: Arc::default(),
            counters: CounterBlock::default(),
        }
    }

    pub(crate) fn zone(&self) -> Arc<Zone> {
        self.zone.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn set_zone(&self, zone: Arc<Zone>) {
        let mut current = self.zone.write().unwrap_or_else(PoisonError::into_inner);
        // The caller may well have had no news.
        if Arc::ptr_eq(&current, &zone) {
            return;
        }
        *current = zone;
        drop(current);
        self.answers_changed();
    }

    /// Ends the answers that the kernel has: what they were made of was just replaced.
    pub(crate) fn answers_changed(&self) {
        if let Some(kernel) = self.kernel.get() {
            kernel.raise();
        }
    }

    fn numbers(&self) -> MutexGuard<'_, ServerNumbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks these servers from now on. What others said is then no more given out.
    pub(crate) fn set_servers(&self, addresses: Vec<SocketAddr>) {
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        if servers.addresses != addresses {
            *servers = self.numbers().take(addresses);
            drop(servers);
            self.answers_changed();
        }
    }

    /// Askers with the same servers of their own share what these said. `ports` are those that the asker is served at, by
    /// UDP and TCP.
    pub(crate) fn view_of(&self, info: AskerInfo, ports: [u16; 2]) -> AskerView {
        let own = match &info.outside {
            Outside::Closed | Outside::Node => None,
            Outside::Engine(netns) => Some(self.numbers().engine(EngineResolver {
                netns: netns.clone(),
                own: ports,
            })),
            Outside::Servers(addresses) => {
                let mut numbers = self.numbers();
                numbers.of_askers.retain(|_, servers| servers.strong_count() > 0);
                let known = numbers
                    .of_askers
                    .get(addresses)
                    .and_then(std::sync::Weak::upgrade);
                Some(known.unwrap_or_else(|| {
                    let at = addresses.iter().map(|address| (*address, DNS_PORT).into());
                    let servers = numbers.take(at.collect());
                    numbers
                        .of_askers
                        .insert(addresses.clone(), Arc::downgrade(&servers));
                    servers
                }))
            }
        };
        AskerView { info, own }
    }

    /// Whom an asker's names of the outside are asked of.
    pub(crate) fn servers_of(&self, view: &AskerView) -> Option<Arc<Servers>> {
        match view.info.outside {
            Outside::Closed => None,
            Outside::Node => Some(
                self.servers
                    .read()
                    .unwrap_or_else(PoisonError::into_inner)
                    .clone(),
            ),
            Outside::Servers(_) | Outside::Engine(_) => view.own.clone(),
        }
    }
}

/// A question's place among those that wait for upstream servers; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    counts: [Arc<AtomicUsize>; 2],
}

/// Why a question gets no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// Its asker has too many.
    Asker,
    /// All askers together have too many.
    Node,
}

/// How many questions of one asker may wait for upstream servers at once. Too low: a busy mail server or crawler is
/// refused; too high: one task takes all the places there are.
const MOST_OF_ASKER: usize = 256;
/// As above, of all askers: each holds a socket for every server.
const MOST_OF_NODE: usize = 1024;

impl Permit {
    pub(crate) fn take(asker: &Asker, shared: &Shared) -> Result<Self, Crowded> {
        let enter = |count: &Arc<AtomicUsize>, most: usize| {
            if count.fetch_add(1, Ordering::Relaxed) < most {
                return true;
            }
            count.fetch_sub(1, Ordering::Relaxed);
            false
        };
        if !enter(&asker.under_way, MOST_OF_ASKER) {
            return Err(Crowded::Asker);
        }
        if !enter(&shared.under_way, MOST_OF_NODE) {
            asker.under_way.fetch_sub(1, Ordering::Relaxed);
            return Err(Crowded::Node);
        }
        Ok(Self {
            counts: [asker.under_way.clone(), shared.under_way.clone()],
        })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        for count in &self.counts {
            count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(shared: &Shared, id: u64) -> Asker {
        let info = AskerInfo::new([], Outside::Node);
        Asker::new(
            AskerId(id),
            [0; 2],
            shared.view_of(info, [0; 2]),
            UdpSocket::bind("127.0.0.1:0").unwrap(),
        )
    }

    #[test]
    fn places_are_bounded_for_each_and_for_all_and_are_given_back() {
        let shared = Shared::new();
        let askers: Vec<Asker> = (0..5).map(|id| asker(&shared, id)).collect();
        let mut taken = Vec::new();
        for asker in &askers[..4] {
            taken.extend((0..MOST_OF_ASKER).map(|_| Permit::take(asker, &shared).unwrap()));
            assert_eq!(Permit::take(asker, &shared).unwrap_err(), Crowded::Asker);
        }
        assert_eq!(taken.len(), MOST_OF_NODE);
        assert_eq!(Permit::take(&askers[4], &shared).unwrap_err(), Crowded::Node);
        taken.pop();
        assert!(Permit::take(&askers[4], &shared).is_ok());
        taken.clear();
        assert_eq!(shared.under_way.load(Ordering::Relaxed), 0);
        assert!(
            askers
                .iter()
                .all(|asker| asker.under_way.load(Ordering::Relaxed) == 0)
        );
    }

    #[test]
    fn equal_lists_of_servers_share_what_they_said() {
        let shared = Shared::new();
        let own = |last: u8| Outside::Servers(vec![IpAddr::from([192, 0, 2, last])]);
        let view = |outside| shared.view_of(AskerInfo::new([], outside), [0; 2]);
        let number = |view: &AskerView| shared.servers_of(view).map(|servers| servers.number);
        let (one, same, other) = (view(own(1)), view(own(1)), view(own(2)));
        let (node, closed) = (view(Outside::Node), view(Outside::Closed));
        assert_eq!(number(&one), number(&same));
        assert_ne!(number(&one), number(&other));
        assert_ne!(number(&one), number(&node));
        assert_eq!(number(&closed), None);
        let before = number(&node);
        shared.set_servers(Vec::new());
        assert_eq!(number(&node), before, "the same servers");
        shared.set_servers(vec!["192.0.2.1:53".parse().unwrap()]);
        assert_ne!(number(&node), before);
    }
}
