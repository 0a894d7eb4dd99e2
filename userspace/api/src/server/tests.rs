use super::*;
use crate::{Local, LogStream, Rotate};
use essaim_manager::Replica;
use essaim_objects::{ClusterSpec, InitRequest, JoinRequest, NodeId, Sensitive, Version};
use essaim_protocol::LogSubscription;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

/// A node in no cluster, of which nothing but that is asked.
#[derive(Clone)]
struct Nothing;

fn unasked<T>() -> Result<T, EngineError> {
    Err(EngineError::not_implemented("asked"))
}

impl Engine for Nothing {
    fn local(&self) -> Local {
        Local::default()
    }

    fn replica(&self) -> Option<Replica> {
        None
    }

    async fn init(&self, _: InitRequest) -> Result<NodeId, EngineError> {
        unasked()
    }

    async fn join(&self, _: JoinRequest) -> Result<(), EngineError> {
        unasked()
    }

    async fn leave(&self, _: bool) -> Result<(), EngineError> {
        unasked()
    }

    async fn unlock(&self, _: Sensitive) -> Result<(), EngineError> {
        unasked()
    }

    async fn unlock_key(&self) -> Result<Sensitive, EngineError> {
        unasked()
    }

    async fn update_swarm(&self, _: Version, _: ClusterSpec, _: Rotate) -> Result<(), EngineError> {
        unasked()
    }

    async fn remove_node(&self, _: NodeId, _: bool) -> Result<(), EngineError> {
        unasked()
    }

    async fn prepare_network(&self, _: &str) -> Result<Option<String>, EngineError> {
        unasked()
    }

    async fn logs(&self, _: LogSubscription) -> Result<LogStream, EngineError> {
        unasked()
    }
}

#[tokio::test]
async fn clients_that_are_too_slow_are_left() {
    const SHORT: Duration = Duration::from_millis(50);
    let limits = Limits {
        patience: Patience {
            head: SHORT,
            body: SHORT,
        },
        bodies: Arc::new(Semaphore::new(MAX_BODIES)),
    };
    let (_running, stopped) = watch::channel(false);
    for (sent, begins) in [
        ("", ""),
        ("GET /_ping HT", ""),
        (
            "POST /swarm/init HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{",
            "HTTP/1.1 408",
        ),
        // Answered, then idle.
        ("GET /_ping HTTP/1.1\r\nhost: a\r\n\r\n", "HTTP/1.1 200"),
    ] {
        let (mut ours, theirs) = duplex(1 << 16);
        let served = tokio::spawn(connection_of(theirs, Nothing, stopped.clone(), limits.clone()));
        ours.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = String::new();
        let read = timeout(Duration::from_secs(20), ours.read_to_string(&mut answer)).await;
        assert!(read.is_ok(), "{sent:?} is never left");
        // A head that is cut short may be answered or not.
        assert!(answer.starts_with(begins), "{sent:?}: {answer:?}");
        served.await.unwrap();
    }
}

#[tokio::test]
async fn bodies_that_wait_for_their_end_take_no_more_than_their_room() {
    const ROOM: usize = 1000;
    let limits = Limits {
        patience: Patience::USUAL,
        bodies: Arc::new(Semaphore::new(ROOM)),
    };
    let (_running, stopped) = watch::channel(false);
    let post = |length: usize, sent: usize| {
        format!(
            "POST /nonsense HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{}",
            "x".repeat(sent)
        )
    };
    let connect = |sent: String| {
        let (mut ours, theirs) = duplex(1 << 16);
        let served = tokio::spawn(connection_of(theirs, Nothing, stopped.clone(), limits.clone()));
        async move {
            ours.write_all(sent.as_bytes()).await.unwrap();
            (ours, served)
        }
    };
    let status = async |stream: &mut tokio::io::DuplexStream| {
        let mut start = [0; 12];
        let read = timeout(Duration::from_secs(20), stream.read_exact(&mut start)).await;
        read.unwrap().unwrap();
        String::from_utf8_lossy(&start[9..]).into_owned()
    };
    let (stalled, served) = connect(post(900, 800)).await;
    let taken = async {
        while limits.bodies.available_permits() != ROOM - 800 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(Duration::from_secs(20), taken).await.unwrap();
    let (mut small, _served) = connect(post(200, 200)).await;
    assert_eq!(status(&mut small).await, "404");
    let (mut large, _served) = connect(post(201, 201)).await;
    assert_eq!(status(&mut large).await, "503");
    drop(stalled);
    timeout(Duration::from_secs(20), served).await.unwrap().unwrap();
    assert_eq!(limits.bodies.available_permits(), ROOM);
}
