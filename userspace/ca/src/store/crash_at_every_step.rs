//! A crash, or a disk that fails, at every step of every change: what is left loads, and is the old or the new.

use super::*;
use crate::testing::{NOW, Seeded, cluster_of, issue, renew};
use crate::{DesiredRoot, NodeLife, Role, RootCa};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

/// What a file holds now, and what of it a crash leaves.
#[derive(Clone, Debug)]
struct Inode {
    written: Vec<u8>,
    synced: Option<Vec<u8>>,
}

/// A disk that keeps what was synced, and of the rest what the test says.
#[derive(Clone, Debug, Default)]
struct Disk {
    inodes: Vec<Inode>,
    /// Names as they are now, and as they were when the directory was last synced.
    names: BTreeMap<String, usize>,
    synced_names: BTreeMap<String, usize>,
    /// How many operations succeed before all fail.
    left: usize,
    /// Whether the operation that fails has had its effect.
    effect_of_failed: bool,
    operations: usize,
}

/// What a crash leaves of what was not synced.
#[derive(Clone, Copy, Debug)]
enum Left {
    /// Nothing.
    Nothing,
    /// The names, but half of each file.
    NamesAndHalves,
    /// All.
    Everything,
}

impl Disk {
    fn step(&mut self, effect: impl FnOnce(&mut Self)) -> io::Result<()> {
        self.operations += 1;
        if self.left == 0 {
            if std::mem::take(&mut self.effect_of_failed) {
                effect(self);
            }
            return Err(io::Error::other("pulled the plug"));
        }
        self.left -= 1;
        effect(self);
        Ok(())
    }

    fn crash(&self, left: Left) -> Self {
        let names = match left {
            Left::Nothing => self.synced_names.clone(),
            Left::NamesAndHalves | Left::Everything => self.names.clone(),
        };
        let inodes = self.inodes.iter().map(|inode| {
            let half = inode.written[..inode.written.len() / 2].to_vec();
            let written = match left {
                Left::Nothing => inode.synced.clone().unwrap_or_default(),
                Left::NamesAndHalves => inode.synced.clone().unwrap_or(half),
                Left::Everything => inode.written.clone(),
            };
            Inode {
                synced: Some(written.clone()),
                written,
            }
        });
        let inodes = inodes.collect();
        Self {
            inodes,
            synced_names: names.clone(),
            names,
            left: usize::MAX,
            effect_of_failed: false,
            operations: 0,
        }
    }
}

#[derive(Clone, Debug)]
struct Shared(Rc<RefCell<Disk>>);

impl Directory for Shared {
    fn read(&self, name: &str) -> io::Result<Option<FoundFile>> {
        let disk = self.0.borrow();
        let found = disk.names.get(name);
        Ok(found.map(|inode| FoundFile {
            bytes: disk.inodes[*inode].written.clone(),
            mode: 0o600,
        }))
    }

    fn create(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.borrow_mut().step(|disk| {
            disk.inodes.push(Inode {
                written: bytes.to_vec(),
                synced: None,
            });
            disk.names.insert(name.to_owned(), disk.inodes.len() - 1);
        })
    }

    fn sync(&mut self, name: &str) -> io::Result<()> {
        self.0.borrow_mut().step(|disk| {
            let inode = disk.names[name];
            disk.inodes[inode].synced = Some(disk.inodes[inode].written.clone());
        })
    }

    fn rename(&mut self, from: &str, to: &str) -> io::Result<()> {
        self.0.borrow_mut().step(|disk| {
            let inode = disk.names.remove(from).unwrap();
            disk.names.insert(to.to_owned(), inode);
        })
    }

    fn sync_directory(&mut self) -> io::Result<()> {
        self.0
            .borrow_mut()
            .step(|disk| disk.synced_names = disk.names.clone())
    }
}

/// A change to a node's directory.
#[derive(Clone)]
enum Change {
    Install(Box<Identity>),
    DataKeys(Box<DataKeys>),
    Unlock(Option<UnlockKey>),
}

/// What can be read back.
#[derive(Clone, Debug, PartialEq)]
struct State {
    identity: Option<Identity>,
    data_keys: Option<DataKeys>,
    unlock: Option<String>,
}

impl State {
    fn of(store: &IdentityStore<Shared>) -> Self {
        Self {
            identity: store.identity().cloned(),
            data_keys: store.data_keys().cloned(),
            unlock: store.unlock_key().map(UnlockKey::reveal),
        }
    }

    fn after(&self, change: &Change) -> Self {
        let mut state = self.clone();
        match change {
            Change::Install(identity) => state.identity = Some((**identity).clone()),
            Change::DataKeys(keys) => state.data_keys = Some((**keys).clone()),
            Change::Unlock(key) => state.unlock = key.as_ref().map(UnlockKey::reveal),
        }
        state
    }

    /// The same but for the roots that it trusts, which pass through both sides' during a change.
    fn is_but_for_trust(&self, other: &Self) -> bool {
        let core = |state: &Self| {
            let identity = state.identity.as_ref();
            (
                identity.map(|identity| identity.chain().cloned().collect::<Vec<_>>()),
                identity.map(|identity| identity.key().clone()),
            )
        };
        core(self) == core(other) && self.data_keys == other.data_keys && self.unlock == other.unlock
    }
}

fn apply(store: &mut IdentityStore<Shared>, change: &Change) -> Result<(), StoreError> {
    let entropy = &mut Seeded::new(99);
    match change.clone() {
        Change::Install(identity) => store.install(*identity, entropy),
        Change::DataKeys(keys) => store.set_data_keys(Some(*keys), entropy),
        Change::Unlock(key) => store.set_unlock_key(key, entropy),
    }
}

/// Opens with whichever unlock key fits, as an operator who has both would.
fn load(disk: &Disk, unlock: &[Option<UnlockKey>]) -> (IdentityStore<Shared>, Found) {
    let mut errors = Vec::new();
    for key in unlock {
        match IdentityStore::open(Shared(Rc::new(RefCell::new(disk.clone()))), key.clone()) {
            Ok(opened) => return opened,
            Err(error) => errors.push(error),
        }
    }
    panic!("cannot be loaded: {errors:?} {disk:?}");
}

fn changes() -> (Vec<Change>, Vec<Option<UnlockKey>>) {
    let mut entropy = Seeded::new(1);
    let mut ca = RootCa::create(NOW, &mut entropy).unwrap();
    let cluster = cluster_of(&mut entropy);
    let life = NodeLife::default();
    let joined = issue(&ca, &cluster, Role::Manager, life, NOW, &mut entropy);
    let subject = joined.certificate().subject().unwrap();
    let node = subject.node_id.clone();
    let renewed = renew(&ca, &subject, life, NOW, &mut entropy);
    ca.rotate(DesiredRoot::New, NOW, &mut entropy).unwrap();
    let trusting = renewed.with_trust(ca.trust()).unwrap();
    let rotated = renew(&ca, &subject, life, NOW, &mut entropy);
    let reports = [(node, crate::TlsInfo::of(&rotated))].into();
    ca.finish(&reports, &mut entropy).unwrap();
    let finished = rotated.with_trust(ca.trust()).unwrap();
    // Somebody has started a new cluster from this node: nothing but its name is the same.
    let moved = renew(
        &RootCa::create(NOW, &mut entropy).unwrap(),
        &subject,
        life,
        NOW,
        &mut entropy,
    );
    let mut keys = DataKeys::generate(&mut entropy).unwrap();
    let first = keys.clone();
    keys.begin_rotation(&mut entropy).unwrap();
    let pending = keys.clone();
    keys.complete_rotation();
    let [a, b] = [5, 6].map(|seed| Some(UnlockKey::generate(&mut Seeded::new(seed)).unwrap()));
    let install = |identity| Change::Install(Box::new(identity));
    let data = |keys| Change::DataKeys(Box::new(keys));
    let changes = vec![
        install(joined),
        data(first),
        install(renewed),
        Change::Unlock(a.clone()),
        install(trusting),
        data(pending),
        install(rotated),
        Change::Unlock(b.clone()),
        data(keys),
        install(finished),
        Change::Unlock(None),
        install(moved),
    ];
    (changes, vec![None, a, b])
}

#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new() {
    let (changes, unlock) = changes();
    let mut disk = Disk {
        left: usize::MAX,
        ..Disk::default()
    };
    let mut points = 0;
    for (number, change) in changes.iter().enumerate() {
        let (store, _) = load(&disk, &unlock);
        let old = State::of(&store);
        let new = old.after(change);
        let mut seen_old = false;
        for left in 0.. {
            let mut finished = false;
            for effect_of_failed in [false, true] {
                let failing = Disk {
                    left,
                    effect_of_failed,
                    operations: 0,
                    ..disk.clone()
                };
                let (mut store, _) = {
                    // Reading takes no operation, so the store opens on the failing disk.
                    let shared = Shared(Rc::new(RefCell::new(failing)));
                    let key = unlock
                        .iter()
                        .find(|key| key.as_ref().map(UnlockKey::reveal) == old.unlock)
                        .unwrap();
                    IdentityStore::open(shared, key.clone()).unwrap()
                };
                let result = apply(&mut store, change);
                finished = result.is_ok();
                let after = store.directory.0.borrow().clone();
                for kept in [Left::Nothing, Left::NamesAndHalves, Left::Everything] {
                    points += 1;
                    let (loaded, found) = load(&after.crash(kept), &unlock);
                    let state = State::of(&loaded);
                    if finished {
                        assert_eq!(state, new, "change {number} was acknowledged and is lost");
                        continue;
                    }
                    // A first identity that is not whole yet is none.
                    if found != Found::Identity {
                        assert_eq!((number, &state.identity), (0, &None));
                    }
                    let (is_old, is_new) = (state.is_but_for_trust(&old), state.is_but_for_trust(&new));
                    assert!(
                        is_old || is_new,
                        "change {number}, operation {left}, {kept:?}: {state:?}"
                    );
                    seen_old |= is_old;
                    // What was left can be changed further.
                    let mut loaded = loaded;
                    apply(&mut loaded, change).unwrap();
                    assert_eq!(State::of(&loaded), new);
                    assert_eq!(State::of(&load(&loaded.directory.0.borrow(), &unlock).0), new);
                }
            }
            if finished {
                break;
            }
        }
        assert!(seen_old, "change {number} has no step");
        let (mut store, _) = load(&disk, &unlock);
        apply(&mut store, change).unwrap();
        disk = store.directory.0.borrow().crash(Left::Nothing);
        assert_eq!(
            State::of(&load(&disk, &unlock).0),
            new,
            "change {number} is not durable"
        );
    }
    assert!(points > 500, "{points}");
}

#[test]
fn a_store_whose_disk_failed_at_any_step_can_go_on_with_any_change() {
    let (changes, unlock) = changes();
    let mut disk = Disk {
        left: usize::MAX,
        ..Disk::default()
    };
    for (number, first) in changes.iter().enumerate() {
        for second in &changes[number..] {
            for left in 0.. {
                let shared = Shared(Rc::new(RefCell::new(disk.clone())));
                let (mut store, _) = {
                    let opened = unlock
                        .iter()
                        .find_map(|key| IdentityStore::open(shared.clone(), key.clone()).ok());
                    opened.unwrap()
                };
                (shared.0.borrow_mut().left, shared.0.borrow_mut().effect_of_failed) = (left, true);
                if apply(&mut store, first).is_ok() {
                    break;
                }
                // The disk works again, and the same process goes on, perhaps with something else; then fails once more.
                for again in 0.. {
                    let shared = Shared(Rc::new(RefCell::new(shared.0.borrow().clone())));
                    (shared.0.borrow_mut().left, shared.0.borrow_mut().effect_of_failed) = (again, true);
                    let mut store = IdentityStore {
                        directory: shared.clone(),
                        unlock: store.unlock.clone(),
                        identity: store.identity.clone(),
                        data_keys: store.data_keys.clone(),
                        candidates: store.candidates.clone(),
                        trust_on_disk: store.trust_on_disk.clone(),
                    };
                    // The change that failed may be on disk or not, whatever came later.
                    let before = State::of(&store);
                    let expected = [before.after(second), before.after(first).after(second)];
                    let done = apply(&mut store, second).is_ok();
                    for kept in [Left::Nothing, Left::NamesAndHalves, Left::Everything] {
                        let (loaded, found) = load(&shared.0.borrow().crash(kept), &unlock);
                        if done && found == Found::Identity {
                            let state = State::of(&loaded);
                            assert!(
                                expected.iter().any(|expected| state.is_but_for_trust(expected)),
                                "{state:?}"
                            );
                        }
                    }
                    if done {
                        break;
                    }
                }
            }
        }
        let (mut store, _) = load(&disk, &unlock);
        apply(&mut store, first).unwrap();
        disk = store.directory.0.borrow().crash(Left::Nothing);
    }
}
