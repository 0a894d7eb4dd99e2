use super::*;
use crate::machine::Machine;
use crate::memory::{DiskFaults, MemoryDisk};
use crate::snapshot::SnapshotStore;
use crate::support::{Journal, TestSeal};
use crate::types::{Blob, Proposal, Timestamp};
use openraft::EntryPayload;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;

const NODE: NodeId = NodeId::new(1);

fn seal() -> Arc<dyn Seal> {
    Arc::new(TestSeal::new(1))
}

struct Builder;

impl StoreBuilder<Types, LogStore, Machine<Journal>, tempfile::TempDir> for Builder {
    async fn build(
        &self,
    ) -> Result<(tempfile::TempDir, LogStore, Machine<Journal>), openraft::StorageError<Types>> {
        let directory = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(crate::StateDirectory::open(directory.path()).unwrap());
        let fault = Fault::default();
        let log = LogStore::open(Arc::clone(&disk), seal(), NODE, fault.clone())
            .await
            .unwrap();
        let snapshots = SnapshotStore::new(Arc::clone(&disk), seal());
        let machine = Machine::open(Journal::default(), snapshots, disk, fault)
            .await
            .unwrap();
        Ok((directory, log, machine))
    }
}

#[test]
fn openrafts_own_storage_tests_pass() {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
        .block_on(async { Suite::test_all(Builder).await.unwrap() });
}

async fn open(disk: &MemoryDisk) -> Result<LogStore, StorageError> {
    LogStore::open(Arc::new(disk.clone()), seal(), NODE, Fault::default()).await
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(test)
}

fn entry(term: u64, index: u64) -> Entry {
    Entry {
        log_id: LogId::new_term_index(term, index),
        payload: EntryPayload::Normal(Proposal {
            at: Timestamp::from_millis(index),
            command: Blob::from(vec![term.to_le_bytes()[0]; 100]),
        }),
    }
}

async fn append(log: &mut LogStore, entries: Vec<Entry>) -> Result<(), io::Error> {
    let (sender, flushed) = Types::oneshot();
    log.append(entries, IOFlushed::signal(sender)).await?;
    flushed.await.unwrap()
}

#[test]
fn another_format_version_is_refused() {
    run(async {
        let disk = MemoryDisk::new(1);
        open(&disk).await.unwrap().close().await;
        {
            let file = crate::disk::Disk::database(&disk, "log.redb").unwrap();
            database::write_format_for_test(file, 2);
        }
        match open(&disk).await.err() {
            Some(StorageError::FormatVersion {
                found: 2,
                expected: 1,
            }) => {}
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_log_that_is_gone_is_not_begun_again() {
    run(async {
        let disk = MemoryDisk::new(1);
        let mut log = open(&disk).await.unwrap();
        append(&mut log, vec![entry(1, 0)]).await.unwrap();
        log.close().await;
        crate::disk::Disk::remove(&disk, "log.redb").unwrap();
        assert!(matches!(open(&disk).await.err(), Some(StorageError::Gone)));
    });
}

#[test]
fn after_an_error_nothing_more_is_written() {
    run(async {
        let disk = MemoryDisk::new(1);
        let mut log = open(&disk).await.unwrap();
        append(&mut log, vec![entry(1, 0)]).await.unwrap();
        disk.set_faults(DiskFaults {
            fail_after: Some((0, io::ErrorKind::StorageFull)),
            ..DiskFaults::default()
        });
        assert!(append(&mut log, vec![entry(1, 1)]).await.is_err());
        disk.set_faults(DiskFaults::default());
        let writes = disk.writes();
        assert!(append(&mut log, vec![entry(1, 2)]).await.is_err());
        assert!(log.save_vote(&Vote::new(3, NODE)).await.is_err());
        assert_eq!(disk.writes(), writes, "also when there is room again");
        assert!(matches!(
            log.shared.fault.get().as_deref(),
            Some(StorageError::Full { .. })
        ));
    });
}

/// What is done to the log and to its model.
#[derive(Clone, Debug)]
enum Step {
    Append(u8),
    Truncate(u8),
    Purge(u8),
    Vote,
    Reopen,
    PowerCut,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    use proptest::prelude::*;
    prop_oneof![
        6 => (1_u8..20).prop_map(Step::Append),
        2 => any::<u8>().prop_map(Step::Truncate),
        2 => any::<u8>().prop_map(Step::Purge),
        1 => Just(Step::Vote),
        1 => Just(Step::Reopen),
        1 => Just(Step::PowerCut),
    ]
}

/// The log as ten lines of model see it: entries by index, and what was purged.
async fn follows_its_model(steps: Vec<Step>, seed: u64) {
    let mut disk = MemoryDisk::new(seed);
    let mut log = open(&disk).await.unwrap();
    let (mut entries, mut purged, mut vote, mut term) = (BTreeMap::new(), None::<LogId>, None, 1);
    for step in steps {
        let next = entries
            .last_key_value()
            .map(|(index, _)| *index)
            .max(purged.map(|purged| purged.index));
        let next = next.map_or(0, |last| last + 1);
        let pick = |place: u8| {
            entries
                .keys()
                .nth(usize::from(place) % entries.len().max(1))
                .copied()
        };
        match step {
            Step::Append(count) => {
                let new: Vec<Entry> = (next..next + u64::from(count))
                    .map(|index| entry(term, index))
                    .collect();
                entries.extend(new.iter().map(|entry| (entry.index(), entry.clone())));
                append(&mut log, new).await.unwrap();
            }
            Step::Truncate(place) => {
                if let Some(from) = pick(place) {
                    let last = entries.range(..from).next_back().map(|(_, entry)| entry.log_id());
                    log.truncate_after(last.or(purged)).await.unwrap();
                    entries.split_off(&from);
                    term += 1;
                }
            }
            Step::Purge(place) => {
                if let Some(upto) = pick(place) {
                    let upto = entries[&upto].log_id();
                    log.purge(upto).await.unwrap();
                    entries = entries.split_off(&(upto.index + 1));
                    purged = Some(upto);
                }
            }
            Step::Vote => {
                term += 1;
                vote = Some(Vote::new(term, NODE));
                log.save_vote(&Vote::new(term, NODE)).await.unwrap();
            }
            Step::Reopen => {
                log.close().await;
                log = open(&disk).await.unwrap();
            }
            Step::PowerCut => {
                // What is queued before a vote is durable with it.
                vote = Some(Vote::new(term, NODE));
                log.save_vote(&Vote::new(term, NODE)).await.unwrap();
                disk = disk.crash();
                log = open(&disk).await.unwrap();
            }
        }
        let all = log.try_get_log_entries(..).await.unwrap();
        assert_eq!(all, entries.values().cloned().collect::<Vec<_>>());
        let state = log.get_log_state().await.unwrap();
        let last = entries.last_key_value().map(|(_, entry)| entry.log_id());
        assert_eq!(
            (state.last_purged_log_id, state.last_log_id),
            (purged, last.or(purged))
        );
        assert_eq!(log.read_vote().await.unwrap(), vote);
        assert_eq!(log.size().0, entries.len() as u64);
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(40))]
    #[test]
    fn the_log_follows_its_model(steps in proptest::collection::vec(step(), 1..40), seed in 0_u64..1000) {
        run(follows_its_model(steps, seed));
    }
}

#[test]
fn entries_that_left_the_memory_are_read_from_disk() {
    run(async {
        let disk = MemoryDisk::new(1);
        let mut log = open(&disk).await.unwrap();
        let large = |index| Entry {
            log_id: LogId::new_term_index(1, index),
            payload: EntryPayload::Normal(Proposal {
                at: Timestamp::from_millis(0),
                command: Blob::from(vec![index.to_le_bytes()[0]; 1 << 20]),
            }),
        };
        for index in 0..40 {
            append(&mut log, vec![large(index)]).await.unwrap();
        }
        assert!(log.size().1 <= CACHE_BYTES as u64);
        assert!(log.view().first_cached() > 20, "the first ones are not in memory");
        let all = log.try_get_log_entries(5..35).await.unwrap();
        assert!(all == (5..35).map(large).collect::<Vec<_>>());
        let limited = log.limited_get_log_entries(5, 35).await.unwrap();
        assert_eq!(limited.len(), 1, "a message holds one of them");
    });
}
