//! On directories that look like hierarchies: what is written where.

use super::*;
use std::collections::BTreeMap;

/// A version 2 hierarchy in a directory, whose groups have the files of these controllers.
fn unified(root: &Path, controllers: &[Controller]) -> Hierarchies {
    fs::write(root.join("cgroup.subtree_control"), "").unwrap();
    Hierarchies {
        unified: Some(root.to_owned()),
        legacy: BTreeMap::new(),
        controllers: controllers.iter().copied().collect(),
    }
}

fn limited() -> Resources {
    Resources {
        memory_bytes: Some(64 << 20),
        ..Resources::default()
    }
}

#[test]
fn version_2_limits_the_tasks_group_and_not_the_shims() {
    let root = tempfile::tempdir().unwrap();
    let hierarchies = unified(root.path(), &[Controller::Memory]);
    let group = TaskGroup::new(&hierarchies, Path::new("/essaim/tasks"), "web.1").unwrap();
    let base = root.path().join("essaim/tasks/web.1");
    fs::create_dir_all(base.join("task")).unwrap();
    fs::write(base.join("task/memory.max"), "max").unwrap();
    group.create(&limited()).unwrap();
    assert_eq!(
        fs::read_to_string(base.join("task/memory.max")).unwrap(),
        "67108864"
    );
    assert!(!base.join("shim/memory.max").exists());
    assert_eq!(
        fs::read_to_string(root.path().join("cgroup.subtree_control")).unwrap(),
        "+memory"
    );
    group.join(Pid::from_raw(7)).unwrap();
    group.join_shim(Pid::from_raw(8)).unwrap();
    assert_eq!(fs::read_to_string(base.join("task/cgroup.procs")).unwrap(), "7");
    assert_eq!(fs::read_to_string(base.join("shim/cgroup.procs")).unwrap(), "8");
    fs::write(base.join("task/memory.events"), "low 0\noom 1\noom_kill 1\n").unwrap();
    assert!(group.oom_killed());
}

#[test]
fn a_limit_without_its_controller_is_refused_by_name() {
    let root = tempfile::tempdir().unwrap();
    let hierarchies = unified(root.path(), &[]);
    let group = TaskGroup::new(&hierarchies, Path::new("essaim"), "web.1").unwrap();
    let error = group.create(&limited()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("the memory controller of control groups"),
        "{error}"
    );
    group.create(&Resources::default()).unwrap();
}

#[test]
fn a_hybrid_machine_limits_by_version_1_and_finds_processes_by_both() {
    let (new, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut hierarchies = unified(new.path(), &[]);
    hierarchies
        .legacy
        .insert(Controller::Memory, old.path().to_owned());
    let group = TaskGroup::new(&hierarchies, Path::new("essaim"), "web.1").unwrap();
    let memory = old.path().join("essaim/web.1");
    fs::create_dir_all(&memory).unwrap();
    fs::write(memory.join("memory.limit_in_bytes"), "").unwrap();
    group.create(&limited()).unwrap();
    assert_eq!(
        fs::read_to_string(memory.join("memory.limit_in_bytes")).unwrap(),
        "67108864"
    );
    fs::write(memory.join("cgroup.procs"), "0\n12\n").unwrap();
    fs::write(new.path().join("essaim/web.1/task/cgroup.procs"), "13\n").unwrap();
    assert_eq!(
        group.pids().unwrap(),
        BTreeSet::from([Pid::from_raw(12), Pid::from_raw(13)])
    );
}

#[test]
fn without_any_hierarchy_nothing_runs() {
    let none = TaskGroup::new(&Hierarchies::default(), Path::new("essaim"), "web.1");
    assert!(matches!(none, Err(CgroupError::None)));
}
