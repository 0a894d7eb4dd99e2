use crate::spec::{
    Contents, EtcFile, FileKind, Mount, MountSource, NetworkNamespace, ProcessSpec, Root, TaskFile, Ulimit,
};
use std::path::PathBuf;

fn good() -> ProcessSpec {
    ProcessSpec {
        command: vec!["/bin/true".into()],
        network: NetworkNamespace::Create("task".into()),
        ..ProcessSpec::default()
    }
}

fn file(target: &str) -> TaskFile {
    TaskFile {
        kind: FileKind::Secret,
        target: target.into(),
        mode: 0o444,
        uid: 0,
        gid: 0,
        contents: Contents::new(b"hush".to_vec()),
    }
}

fn ulimit(name: &str, soft: i64, hard: i64) -> Ulimit {
    let name = name.to_owned();
    Ulimit { name, soft, hard }
}

/// Each case changes a good spec in one place.
type Change = fn(&mut ProcessSpec);

#[test]
fn what_can_run_is_accepted() {
    let changes: [Change; 7] = [
        |_| {},
        |spec| spec.network = NetworkNamespace::Host,
        |spec| spec.files = vec![file("password"), file("/etc/key"), file("a/b")],
        |spec| {
            spec.ulimits = vec![
                ulimit("nofile", 10, 20),
                ulimit("core", 0, -1),
                ulimit("cpu", -1, -1),
            ];
        },
        |spec| drop(spec.sysctls.insert("net.ipv4.ip_forward".into(), "1".into())),
        |spec| spec.resources.nano_cpus = Some(10_000_000),
        |spec| spec.root = Root::Directory("/srv/root".into()),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let mut spec = good();
        change(&mut spec);
        assert_eq!(spec.check(), Ok(()), "case {index}");
    }
}

#[test]
fn what_cannot_run_is_refused_with_the_part_that_is_wrong() {
    let cases: [(&str, Change); 32] = [
        ("command", |spec| spec.command.clear()),
        ("command", |spec| spec.command = vec![String::new()]),
        ("command", |spec| spec.args = vec!["a\0b".into()]),
        ("env \"\"", |spec| {
            drop(spec.env.insert(String::new(), "1".into()));
        }),
        ("env \"A=\"", |spec| {
            drop(spec.env.insert("A=".into(), "1".into()));
        }),
        ("env \"A\"", |spec| drop(spec.env.insert("A".into(), "\0".into()))),
        ("dir", |spec| spec.dir = Some("srv".into())),
        ("hostname", |spec| spec.hostname = Some(String::new())),
        ("hostname", |spec| spec.hostname = Some("h".repeat(65))),
        ("network", |spec| {
            spec.network = NetworkNamespace::Create("a/b".into());
        }),
        ("network", |spec| {
            spec.network = NetworkNamespace::Create("..".into());
        }),
        ("network", |spec| {
            spec.network = NetworkNamespace::Create(String::new());
        }),
        ("network", |spec| {
            spec.network = NetworkNamespace::Existing("ns".into());
        }),
        ("root", |spec| spec.root = Root::Directory("root".into())),
        ("sysctls", |spec| {
            spec.network = NetworkNamespace::Host;
            spec.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
        }),
        ("sysctl kernel.panic", |spec| {
            drop(spec.sysctls.insert("kernel.panic".into(), "1".into()));
        }),
        ("sysctl net./a", |spec| {
            drop(spec.sysctls.insert("net./a".into(), "1".into()));
        }),
        ("sysctl net..a", |spec| {
            drop(spec.sysctls.insert("net..a".into(), "1".into()));
        }),
        ("secret ../key", |spec| spec.files = vec![file("../key")]),
        ("secret ", |spec| spec.files = vec![file("")]),
        ("secret /", |spec| spec.files = vec![file("/")]),
        ("resolv_conf", |spec| {
            spec.resolv_conf = Some(EtcFile::File("resolv.conf".into()));
        }),
        ("ulimit files", |spec| spec.ulimits = vec![ulimit("files", 1, 1)]),
        ("ulimit nofile", |spec| {
            spec.ulimits = vec![ulimit("nofile", 2, 1)];
        }),
        ("ulimit nofile", |spec| {
            spec.ulimits = vec![ulimit("nofile", -1, 1)];
        }),
        ("oom_score_adj", |spec| spec.oom_score_adj = Some(1001)),
        ("resources.nano_cpus", |spec| {
            spec.resources.nano_cpus = Some(9_999_999);
        }),
        ("resources.memory_bytes", |spec| {
            spec.resources.memory_bytes = Some(4096);
        }),
        ("resources.swap_bytes", |spec| spec.resources.swap_bytes = Some(0)),
        ("resources.pids", |spec| spec.resources.pids = Some(0)),
        ("log.max_size", |spec| spec.log.max_size = 1024),
        ("log.max_file", |spec| spec.log.max_file = 0),
    ];
    for (field, change) in cases {
        let mut spec = good();
        change(&mut spec);
        assert_eq!(spec.check().unwrap_err().field, field);
    }
}

#[test]
fn a_mount_goes_from_an_absolute_path_to_a_place_below_the_root() {
    let bind = |path: &str| MountSource::Bind {
        path: path.into(),
        non_recursive: false,
        propagation: crate::Propagation::Private,
    };
    for (target, source, accepted) in [
        ("/data", bind("/srv"), true),
        ("/data", bind("srv"), false),
        ("data", bind("/srv"), false),
        ("/", bind("/srv"), false),
        ("/a/../b", bind("/srv"), false),
        (
            "/data",
            MountSource::Tmpfs {
                size: None,
                mode: Some(0o1777),
            },
            true,
        ),
        (
            "/data",
            MountSource::Tmpfs {
                size: None,
                mode: Some(0o17777),
            },
            false,
        ),
    ] {
        let mount = Mount {
            target: PathBuf::from(target),
            read_only: false,
            source,
        };
        let spec = ProcessSpec {
            mounts: vec![mount.clone()],
            ..good()
        };
        assert_eq!(spec.check().is_ok(), accepted, "{mount:?}");
    }
}

#[test]
fn the_contents_of_files_are_neither_shown_nor_serialised() {
    let spec = ProcessSpec {
        files: vec![file("password")],
        ..good()
    };
    let shown = format!("{spec:?}");
    assert!(shown.contains("[4 bytes]") && !shown.contains("hush"), "{shown}");
    let text = serde_json::to_string(&spec).unwrap();
    assert!(!text.contains("hush") && !text.contains("104,117"), "{text}");
    let back: ProcessSpec = serde_json::from_str(&text).unwrap();
    assert_eq!(back.files[0].contents.bytes(), None);
    assert_eq!(serde_json::to_string(&back).unwrap(), text);
}
