//! The holder as a process of its own, in a network namespace of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, its helpers too"
)]

use essaim_agent::holder::{HeldPort, HolderClient, HolderLauncher};
use essaim_agent::{PortHold, StateDir};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A state directory with the holder's program, and the namespace that this thread is in.
struct Stage {
    state_dir: StateDir,
    launcher: HolderLauncher,
    runtime: Runtime,
    _folder: tempfile::TempDir,
}

impl Stage {
    /// Moves this thread, and with it what it starts, into a fresh network namespace. It goes with the last of them.
    fn new() -> Self {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace of its own: run the tests as root");
        let folder = tempfile::tempdir().unwrap();
        let state_dir = StateDir::new(folder.path().join("state"));
        state_dir.create().unwrap();
        let launcher = HolderLauncher::new(env!("CARGO_BIN_EXE_essaim"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            state_dir,
            launcher,
            runtime,
            _folder: folder,
        }
    }

    fn holder(&self) -> HolderClient {
        self.runtime
            .block_on(self.launcher.ensure(&self.state_dir))
            .unwrap()
    }

    fn running(&self) -> Option<HolderClient> {
        HolderClient::connect(&self.state_dir.holder_socket()).unwrap()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Ok(Some(holder)) = HolderClient::connect(&self.state_dir.holder_socket()) {
            let _ = holder.stop();
        }
    }
}

fn ports(texts: &[&str]) -> BTreeSet<HeldPort> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

fn tcp_is_taken(port: u16) -> bool {
    match TcpListener::bind(("0.0.0.0", port)) {
        Ok(_) => false,
        Err(error) => error.kind() == ErrorKind::AddrInUse,
    }
}

/// Asks until nothing is refused. A port that was just closed may be open still: in a process that was killed and is not
/// taken apart yet, or in a child that another test's thread has forked and that has not executed its program yet.
fn eventually_held(holder: &mut HolderClient, ports: &BTreeSet<HeldPort>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let refused = holder.hold(ports).unwrap();
        if refused.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "still refused: {refused:?}");
        std::thread::yield_now();
    }
}

#[test]
fn ports_stay_held_when_the_agent_goes_and_the_next_one_adopts_the_holder() {
    let stage = Stage::new();
    let mut holder = stage.holder();
    let pid = holder.identity().pid;
    assert_eq!(holder.hold(&ports(&["tcp/8080", "udp/5300"])).unwrap(), []);
    drop(holder);
    assert!(tcp_is_taken(8080));
    assert_eq!(
        UdpSocket::bind("0.0.0.0:5300").unwrap_err().kind(),
        ErrorKind::AddrInUse
    );
    let adopted = stage.holder();
    assert_eq!((adopted.identity().pid, adopted.identity().ports), (pid, 2));
}

#[test]
fn a_new_set_releases_the_old_ports_and_keeps_the_common_ones() {
    let stage = Stage::new();
    let mut holder = stage.holder();
    holder.hold(&ports(&["tcp/8080", "tcp/8081"])).unwrap();
    assert_eq!(holder.hold(&ports(&["tcp/8081", "tcp/8082"])).unwrap(), []);
    assert!(!tcp_is_taken(8080) && tcp_is_taken(8081) && tcp_is_taken(8082));
}

#[test]
fn a_clash_names_the_process_and_ends_with_it() {
    let stage = Stage::new();
    let mut holder = stage.holder();
    let listener = TcpListener::bind("127.0.0.1:8080").unwrap();
    let refused = holder.hold(&ports(&["tcp/8080", "tcp/8081"])).unwrap();
    let [refusal] = refused.as_slice() else {
        panic!("{refused:?}")
    };
    assert_eq!(
        refusal.owner.as_ref().map(|owner| owner.pid),
        Some(std::process::id())
    );
    let problem = PortHold::of(refusal).problem(refusal.port).unwrap();
    assert!(
        problem.contains("tcp/8080") && problem.contains(&format!("pid {}", std::process::id())),
        "{problem}"
    );
    assert!(tcp_is_taken(8081), "the others are held all the same");
    drop(listener);
    eventually_held(&mut holder, &ports(&["tcp/8080", "tcp/8081"]));
}

#[test]
fn sctp_is_held_or_said_to_have_no_sockets() {
    let stage = Stage::new();
    let refused = stage.holder().hold(&ports(&["sctp/9000"])).unwrap();
    assert!(
        refused.is_empty() || PortHold::of(&refused[0]) == PortHold::Unsupported,
        "{refused:?}"
    );
}

#[test]
fn a_newer_holder_takes_over_every_port_and_descriptor() {
    let stage = Stage::new();
    let mut holder = stage.holder();
    // More than one message can carry.
    let many = (20_000..20_300)
        .map(|port| format!("tcp/{port}"))
        .collect::<Vec<_>>();
    let many: BTreeSet<HeldPort> = many.iter().map(|text| text.parse().unwrap()).collect();
    holder.hold(&many).unwrap();
    let (mut reader, mut writer) = {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        (File::from(reader), File::from(writer))
    };
    holder.store("pipe", writer.as_fd()).unwrap();
    assert_eq!(holder.names().unwrap(), BTreeSet::from(["pipe".to_owned()]));
    let old = holder.identity().pid;
    stage
        .runtime
        .block_on(stage.launcher.start(&stage.state_dir))
        .unwrap();
    let mut newer = stage.running().unwrap();
    assert_ne!(newer.identity().pid, old);
    assert_eq!(newer.identity().ports, many.len());
    assert!((20_000..20_300).all(tcp_is_taken));
    assert_eq!(newer.hold(&many).unwrap(), [], "adopted, not bound again");
    let mut kept = File::from(newer.fetch("pipe").unwrap().unwrap());
    writer.write_all(b"a").unwrap();
    kept.write_all(b"b").unwrap();
    drop((writer, kept));
    newer.forget("pipe").unwrap();
    assert!(newer.fetch("pipe").unwrap().is_none() && newer.names().unwrap().is_empty());
    let mut text = String::new();
    reader.read_to_string(&mut text).unwrap();
    assert_eq!(
        text, "ab",
        "the last copy is closed: the old holder has none either"
    );
}

#[test]
fn a_holder_that_was_killed_is_replaced() {
    let stage = Stage::new();
    let mut holder = stage.holder();
    holder.hold(&ports(&["tcp/8080"])).unwrap();
    let pid = holder.identity().pid;
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), Signal::SIGKILL).unwrap();
    assert!(holder.hold(&ports(&["tcp/8080"])).is_err());
    let mut holder = stage.holder();
    assert_ne!(holder.identity().pid, pid);
    eventually_held(&mut holder, &ports(&["tcp/8080"]));
}

#[test]
fn a_holder_that_is_told_to_end_frees_its_ports_and_leaves_no_socket() {
    let stage = Stage::new();
    let mut holder = stage.holder();
    holder.hold(&ports(&["tcp/8080"])).unwrap();
    holder.stop().unwrap();
    assert!(!tcp_is_taken(8080));
    assert!(!stage.state_dir.holder_socket().exists());
    assert!(stage.running().is_none());
}

#[test]
fn what_is_lent_outlives_its_lender_for_a_limited_time() {
    let stage = Stage::new();
    let path = stage.state_dir.path().join("lent.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let mut lender = stage.holder();
    lender
        .lend("socket", listener.as_fd(), Duration::from_mins(1))
        .unwrap();
    drop((listener, lender));
    // Whoever connects meanwhile is served by the next one.
    let mut caller = UnixStream::connect(&path).unwrap();
    caller.write_all(b"call").unwrap();
    let mut next = stage.holder();
    let kept = UnixListener::from(next.fetch("socket").unwrap().unwrap());
    let (mut served, _) = kept.accept().unwrap();
    served.write_all(b"answer").unwrap();
    let mut said = [0; 6];
    caller.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"answer");
    // Kept by it for less: without it nobody waits for longer than that.
    next.lend("socket", kept.as_fd(), Duration::from_millis(200))
        .unwrap();
    drop((kept, served));
    let mut waiting = UnixStream::connect(&path).unwrap();
    drop(next);
    let begun = Instant::now();
    let ended = waiting.read(&mut said);
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    assert!(
        begun.elapsed() >= Duration::from_millis(150),
        "{:?}",
        begun.elapsed()
    );
    let refused = UnixStream::connect(&path).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    assert!(stage.holder().names().unwrap().is_empty());
}

#[test]
fn the_end_of_a_holder_is_seen() {
    let stage = Stage::new();
    let holder = stage.holder();
    let other = stage.holder();
    let limit = Duration::from_secs(20);
    let ended = stage.runtime.block_on(async {
        assert!(
            tokio::time::timeout(Duration::from_millis(50), holder.ended())
                .await
                .is_err(),
            "it runs"
        );
        other.stop().unwrap();
        tokio::time::timeout(limit, holder.ended()).await
    });
    ended.unwrap().unwrap();
}
