//! Managers whose disk takes nothing more.

use crate::stage::*;
use essaim_lab::{Cluster, ClusterBuilder, PlacedTask, eventually, run_here};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// A file system of its own, in memory, gone with this.
struct Disk(PathBuf);

impl Disk {
    /// Mounts one of so many MiB.
    fn mount(at: PathBuf, mebibytes: u32) -> Self {
        std::fs::create_dir_all(&at).unwrap();
        let (size, path) = (format!("size={mebibytes}m"), at.display().to_string());
        run_here(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &path]).unwrap();
        Self(at)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all the room that is left.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.filler()).unwrap();
        for size in [1 << 20, 4096, 1] {
            loop {
                match file.write(&vec![1; size]) {
                    Ok(written) if written == size => {}
                    Ok(_) => break,
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The daemon may still use it.
        if let Err(error) = run_here(&["umount", "-l", &self.0.display().to_string()]) {
            eprintln!("{error:#}");
        }
    }
}

fn error_of(cluster: &Cluster, node: &str) -> anyhow::Result<String> {
    Ok(text(&cluster.api(node, "/info")?, "/Swarm/Error").to_owned())
}

fn create_config(cluster: &Cluster, node: &str, name: &str, data: &Path) -> anyhow::Result<()> {
    let line = ["config", "create", name, &data.display().to_string()];
    cluster.operate(node, &line).map(drop)
}

fn configs(cluster: &Cluster, node: &str) -> anyhow::Result<Vec<String>> {
    let found = cluster.api(node, "/configs")?;
    let found = found.as_array().into_iter().flatten();
    let mut names: Vec<_> = found
        .map(|config| text(config, "/Spec/Name").to_owned())
        .collect();
    names.sort();
    Ok(names)
}

#[test]
fn a_manager_whose_disk_is_full_says_so_and_comes_back_with_all_that_was_acknowledged() {
    /// Each takes its size of the log.
    const LARGE: usize = 400 << 10;
    const MOST: usize = 100;
    let cluster = ClusterBuilder::new().nodes(3).build().unwrap();
    let disk = Disk::mount(cluster.data_dir("n3"), 64);
    cluster.spawn_nodes().unwrap();
    cluster.form(3).unwrap();
    let placed = sleepers(&cluster, "n1", "idle", 3);
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'x'; LARGE]).unwrap();
    let mut acknowledged = Vec::new();
    let mut create = |prefix: &str| {
        let name = format!("{prefix}{:03}", acknowledged.len());
        create_config(&cluster, "n1", &name, file.path()).unwrap();
        acknowledged.push(name);
        acknowledged.len()
    };
    create("before");
    disk.fill();
    // The others go on, until it has no room for what they write, and afterwards.
    let full = |cluster: &Cluster| error_of(cluster, "n3").is_ok_and(|error| error.contains("no space left"));
    while !full(&cluster) {
        assert!(create("full") < MOST, "{:?}", error_of(&cluster, "n3"));
    }
    println!("n3: {}", error_of(&cluster, "n3").unwrap());
    for _ in 0..3 {
        create("full");
    }
    acknowledged.sort();
    for node in ["n1", "n2"] {
        assert_eq!(configs(&cluster, node).unwrap(), acknowledged, "{node}");
        assert_eq!(error_of(&cluster, node).unwrap(), "");
    }
    // With room it goes on by itself, and knows all of it.
    std::fs::remove_file(disk.filler()).unwrap();
    eventually(SOON, "n3 has caught up", || {
        let error = error_of(&cluster, "n3")?;
        anyhow::ensure!(error.is_empty(), "{error}");
        let found = configs(&cluster, "n3")?;
        anyhow::ensure!(
            found == acknowledged,
            "it knows {} of {}",
            found.len(),
            acknowledged.len()
        );
        Ok(())
    })
    .unwrap();
    // It is needed for a majority, with what its disk holds.
    cluster.restart_node("n3").unwrap();
    cluster.power_off("n2").unwrap();
    wait_writable(&cluster, "n1");
    assert_eq!(configs(&cluster, "n3").unwrap(), acknowledged);
    let now = cluster.running("n1", "idle").unwrap();
    let survivors = placed.iter().filter(|task| task.node != "n2");
    assert!(
        survivors.clone().count() >= 1 && survivors.clone().all(|task| now.contains(task)),
        "{now:?}"
    );
    // The lab finds what is left of tasks by their node's disk, which goes before it.
    cluster.operate("n1", &["service", "rm", "idle"]).unwrap();
    eventually(SOON, "n3's tasks are gone", || {
        let mut own = placed.iter().filter(|task| task.node == "n3");
        let namespace = |task: &PlacedTask| Path::new("/run/netns").join(format!("es-{}", task.id));
        anyhow::ensure!(own.all(|task| !namespace(task).exists()));
        Ok(())
    })
    .unwrap();
}
