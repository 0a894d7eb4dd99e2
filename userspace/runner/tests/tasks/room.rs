//! What a task sees from inside.

use crate::rig::Rig;
use essaim_runner::{
    Capability, EtcFile, Exit, Mount, MountSource, NetworkNamespace, Propagation, Root, Runner as _, Ulimit,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use std::fs;

#[tokio::test(flavor = "multi_thread")]
async fn a_task_has_namespaces_of_its_own() {
    let rig = Rig::new();
    let script =
        "echo $$; hostname; for ns in net mnt pid ipc uts cgroup; do readlink /proc/self/ns/$ns; done
        ls /proc | grep -c '^[0-9]'; ls /dev/shm /run; cat /sys/class/net/lo/operstate; ls /sys/class/net; \
        cat /proc/self/cgroup | cut -d: -f3 | sort -u";
    let mut spec = rig.shell("task", script);
    spec.hostname = Some("inside".into());
    let (record, said) = rig.run("task", spec).await;
    assert_eq!(record.exit, Exit::Code { code: 0 }, "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[..2], ["1", "inside"]);
    for (name, inside) in ["net", "mnt", "pid", "ipc", "uts", "cgroup"]
        .iter()
        .zip(&lines[2..8])
    {
        let own = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        assert_ne!(own.to_str().unwrap(), *inside);
        assert!(inside.starts_with(name), "{inside}");
    }
    assert!(lines[8].parse::<u32>().unwrap() <= 4, "{said}");
    // Loopback has no state of its own but unknown, and is the only link.
    let rest = ["/dev/shm:", "", "/run:", "lock", "unknown", "lo"];
    assert_eq!(lines[9..15], rest, "{said}");
    assert!(lines[15..].contains(&"/"), "{said}");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_of_a_task_and_the_node_stay_apart() {
    let rig = Rig::new();
    let inside = rig.dir.path().join("inside");
    fs::create_dir(&inside).unwrap();
    let script = format!(
        "mount -t tmpfs none {0} && echo x > {0}/file && echo > /new && ls /tmp",
        inside.display()
    );
    let mut spec = rig.shell("task", &script);
    spec.cap_add = vec![Capability::All];
    let (record, said) = rig.run("task", spec).await;
    assert_eq!(record.exit, Exit::Code { code: 0 }, "{said}");
    assert!(!inside.join("file").exists());
    assert!(!fs::exists("/new").unwrap());
    // The node's files are the task's, too, but not those of other tasks.
    let script = format!("ls -A {}", rig.state_dir().display());
    let (record, said) = rig.run("hidden", rig.shell("hidden", &script)).await;
    assert_eq!((record.exit, said.as_str()), (Exit::Code { code: 0 }, ""));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_runs_as_who_where_and_with_what_it_is_told() {
    let rig = Rig::new();
    let mut spec = rig.shell("task", "id -u; id -g; id -G; pwd; env | sort; umask; ulimit -n; grep -E \
        '^(CapEff|CapBnd|NoNewPrivs|SigIgn|SigBlk)' /proc/self/status; cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l");
    spec.args = vec!["name".into(), "argument".into()];
    spec.env = [("A", "1 = 2"), ("PATH", "/usr/bin:/bin")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .into();
    spec.user = "daemon".into();
    spec.groups = vec!["adm".into(), "4711".into()];
    spec.dir = Some("/usr/lib".into());
    spec.hostname = Some("inside".into());
    spec.cap_drop = vec!["CHOWN".parse().unwrap()];
    spec.no_new_privileges = true;
    spec.oom_score_adj = Some(500);
    spec.ulimits = vec![Ulimit {
        name: "nofile".into(),
        soft: 99,
        hard: 100,
    }];
    let (record, said) = rig.run("task", spec).await;
    assert_eq!(record.exit, Exit::Code { code: 0 }, "{said}");
    let expected = "1\n1\n1 4 4711\n/usr/lib\nA=1 = 2\nHOME=/usr/sbin\nHOSTNAME=inside\nPATH=/usr/bin:/bin\nPWD=/usr/lib\n\
        0022\n99\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\nCapEff:\t0000000000000000\n\
        CapBnd:\t00000000a80425fa\nNoNewPrivs:\t1\n500\n4\n";
    // Signals 32 and 33 are the C library's own, which nobody can reset.
    assert_eq!(
        said.replace("SigIgn:\t0000000180000000", "SigIgn:\t0000000000000000"),
        expected
    );
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_own_limit_of_open_files_is_not_the_tasks() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let rig = Rig::new();
    let (record, said) = rig.run("task", rig.shell("task", "ulimit -Sn; ulimit -Hn")).await;
    assert_eq!(record.exit, Exit::Code { code: 0 }, "{said}");
    assert_eq!(said, format!("{}\n{hard}\n", hard.min(1024)));
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn root_has_dockers_capabilities_and_no_say_over_the_node() {
    let rig = Rig::new();
    let script = "grep CapEff /proc/self/status; for try in 'echo 1 > /proc/sys/kernel/panic' 'mount -t tmpfs x /mnt' \
        'echo 1 > /sys/kernel/mm/ksm/run' 'mknod /tmp/essaim-runner-disk b 254 0 && head -c 1 /tmp/essaim-runner-disk' \
        'echo > /proc/sysrq-trigger' 'hostname other'; do sh -c \"$try\" 2>/dev/null && echo \"$try\"; done; \
        rm -f /tmp/essaim-runner-disk; cat /proc/keys /proc/timer_list | wc -c";
    let (_, said) = rig.run("task", rig.shell("task", script)).await;
    assert_eq!(said, "CapEff:\t00000000a80425fb\n0\n");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounts_are_where_and_as_they_are_asked_for() {
    let rig = Rig::new();
    let source = rig.dir.path().join("source");
    fs::create_dir_all(source.join("below")).unwrap();
    // As on the node itself, mount points are not made in it.
    fs::create_dir_all(source.join("deeper")).unwrap();
    fs::write(source.join("file"), "from the node\n").unwrap();
    let bind = |name: &str| MountSource::Bind {
        path: source.join(name),
        non_recursive: false,
        propagation: Propagation::Private,
    };
    let mount = |target: &str, read_only, source| Mount {
        target: target.into(),
        read_only,
        source,
    };
    let mut spec = rig.shell(
        "task",
        "cat /data/file /run/deep/er/file; echo more >> /data/written; (echo > /closed/no) 2>/dev/null || echo closed; \
         stat -f -c %T /memory; stat -c %a /memory; head -c 2000000 /dev/zero > /memory/big 2>/dev/null || echo full; \
         cat /etc/resolv.conf /etc/hosts /etc/hostname; cat /proc/sys/net/ipv4/ip_forward",
    );
    spec.mounts = vec![
        mount("/data/deeper", false, bind("below")),
        mount("/data", false, bind(".")),
        mount("/closed", true, bind(".")),
        mount("/run/deep/er/file", true, bind("file")),
        mount(
            "/memory",
            false,
            MountSource::Tmpfs {
                size: Some(1 << 20),
                mode: Some(0o700),
            },
        ),
    ];
    let hosts = rig.dir.path().join("hosts");
    fs::write(&hosts, "10.0.0.2 web\n").unwrap();
    spec.resolv_conf = Some(EtcFile::Text("nameserver 127.0.0.11\n".into()));
    spec.hosts = Some(EtcFile::File(hosts));
    spec.hostname = Some("inside".into());
    spec.sysctls.insert("net.ipv4.ip_forward".into(), "1".into());
    let (record, said) = rig.run("task", spec).await;
    let expected = "from the node\nfrom the node\nclosed\ntmpfs\n700\nfull\nnameserver 127.0.0.11\n10.0.0.2 web\ninside\n1\n";
    assert_eq!((record.exit, said.as_str()), (Exit::Code { code: 0 }, expected));
    assert_eq!(fs::read_to_string(source.join("written")).unwrap(), "more\n");
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nodes_directories_get_no_mount_points() {
    let rig = Rig::new();
    let mut spec = rig.shell("task", "exit 0");
    let source = MountSource::Tmpfs {
        size: None,
        mode: None,
    };
    spec.mounts = vec![Mount {
        target: "/usr/essaim/no/such".into(),
        read_only: false,
        source,
    }];
    let task = "task".parse().unwrap();
    rig.runner.prepare(&task, spec).await.unwrap();
    let error = rig.runner.start(&task).await.unwrap_err().to_string();
    assert!(
        error.contains("mount point /usr/essaim does not exist on the node"),
        "{error}"
    );
    assert!(!fs::exists("/usr/essaim").unwrap());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_root_cannot_be_written_to() {
    let rig = Rig::new();
    let script = "for place in /tmp /usr /; do (echo > $place/essaim-runner) 2>/dev/null && echo $place; done; \
        echo > /dev/null && echo > /run/here && echo > /memory/here && echo rest";
    let mut spec = rig.shell("task", script);
    spec.read_only_root = true;
    let source = MountSource::Tmpfs {
        size: None,
        mode: None,
    };
    spec.mounts = vec![Mount {
        target: "/memory".into(),
        read_only: false,
        source,
    }];
    let (_, said) = rig.run("task", spec).await;
    assert_eq!(said, "rest\n");
    rig.finish().await;
}

/// A root of busybox alone, with a link that leads out of it where it is not the root.
#[tokio::test(flavor = "multi_thread")]
async fn a_root_directory_is_all_that_its_task_sees() {
    let rig = Rig::new();
    let root = rig.dir.path().join("root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::create_dir_all(root.join("etc")).unwrap();
    fs::copy("/usr/bin/busybox", root.join("bin/busybox")).unwrap();
    fs::write(root.join("etc/passwd"), "web:x:7:8::/srv:/bin/sh\n").unwrap();
    let outside = rig.dir.path().join("outside");
    std::os::unix::fs::symlink(&outside, root.join("etc/resolv.conf")).unwrap();
    for read_only in [false, true] {
        let script = "export PATH=/bin; busybox id -u; busybox id -g; busybox ls /; busybox cat /etc/resolv.conf; \
            (echo > /written) 2>/dev/null && echo open";
        let task = format!("task.{read_only}");
        let mut spec = rig.spec(&task, &["/bin/busybox", "sh", "-c", script]);
        spec.root = Root::Directory(root.clone());
        spec.read_only_root = read_only;
        spec.user = "web".into();
        spec.resolv_conf = Some(EtcFile::Text("nameserver 127.0.0.11\n".into()));
        let top = rig
            .dir
            .path()
            .components()
            .nth(1)
            .unwrap()
            .as_os_str()
            .to_str()
            .unwrap()
            .to_owned();
        let (record, said) = rig.run(&task, spec).await;
        let expected = format!("7\n8\nbin\ndev\netc\nproc\nsys\n{top}\nnameserver 127.0.0.11\n");
        assert_eq!(said, expected, "{record:?}");
    }
    assert!(!outside.exists());
    rig.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_joins_a_network_namespace_that_is_there() {
    let rig = Rig::new();
    let first = rig
        .start("first", rig.spec("first", &["sleep", "1000"]))
        .await
        .unwrap();
    let path = format!("/run/netns/{}", rig.netns("first"));
    let mut spec = rig.shell("second", "readlink /proc/self/ns/net");
    spec.network = NetworkNamespace::Existing(path.clone().into());
    let (_, said) = rig.run("second", spec).await;
    let pid = rig.runner.pids(&first).unwrap().into_iter().next().unwrap();
    assert_eq!(
        said.trim(),
        fs::read_link(format!("/proc/{pid}/ns/net"))
            .unwrap()
            .to_str()
            .unwrap()
    );
    rig.runner.remove(&"second".parse().unwrap()).await.unwrap();
    assert!(fs::exists(&path).unwrap(), "it is not the second task's");
    let mut spec = rig.shell("host", "readlink /proc/self/ns/net");
    spec.network = NetworkNamespace::Host;
    let (_, said) = rig.run("host", spec).await;
    assert_eq!(
        said.trim(),
        fs::read_link("/proc/self/ns/net").unwrap().to_str().unwrap()
    );
    rig.finish().await;
}
