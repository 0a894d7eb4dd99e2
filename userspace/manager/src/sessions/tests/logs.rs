//! Logs, read at a manager that does not lead.

use super::{Fake, SOON, Session, found, managers, serve};
use crate::logs::LogFailure;
use crate::tests::{Authority, directories};
use essaim_objects::{Data, ServiceId, Task, TaskState, Timestamp};
use essaim_protocol::{
    LogBatch, LogEnd, LogMessage, LogSelector, LogSource, LogSubscription, LogSubscriptionId, Stream, ToNode,
    encode, method,
};
use essaim_rpc::{CallError, Code};
use futures_util::StreamExt as _;
use std::time::Duration;
use tokio::time::timeout;

fn subscription(id: u64, follow: bool) -> LogSubscription {
    LogSubscription {
        id: LogSubscriptionId(id),
        selector: LogSelector {
            services: vec![ServiceId::from_bits(5)],
            tasks: Vec::new(),
            nodes: Vec::new(),
        },
        tail: None,
        since: None,
        until: None,
        follow,
        streams: vec![Stream::Stdout],
    }
}

fn line(task: &Task, text: &str) -> LogMessage {
    LogMessage {
        source: LogSource {
            node: task.node_id.unwrap(),
            service: task.service_id,
            task: task.id,
        },
        timestamp: Timestamp::UNIX_EPOCH,
        stream: Stream::Stdout,
        data: Data::from(text.as_bytes().to_vec()),
    }
}

impl Session {
    /// The request for logs that comes next.
    async fn request(&mut self) -> LogSubscription {
        loop {
            if let ToNode::Logs(request) = self.next().await {
                return request;
            }
        }
    }

    async fn say(
        &self,
        request: u64,
        messages: Vec<LogMessage>,
        ended: Option<LogEnd>,
        within: Duration,
    ) -> Result<(), CallError> {
        let batch = LogBatch {
            subscription: LogSubscriptionId(request),
            messages,
            ended,
        };
        self.client
            .call(method::LOGS, encode(&batch), within)
            .await
            .map(drop)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_come_from_all_nodes_and_what_is_missing_is_said() {
    let (authority, directories) = (Authority::new(), directories());
    let managers = managers(&authority, &directories).await;
    found(&managers[0], 3).await;
    let fakes = [11, 12, 13].map(|number| Fake::new(&authority, number, &managers));
    let [mut one, mut other, mut third] = [
        fakes[0].session().await,
        fakes[1].session().await,
        fakes[2].session().await,
    ];
    serve(&managers[0], "web", 3).await;
    let (tasks, _) = one.tasks(None).await;
    let (others, _) = other.tasks(None).await;
    third.tasks(None).await;
    one.report(&tasks[0], TaskState::Running).await.unwrap();
    // Nobody asked for these.
    let error = one
        .say(9, vec![line(&tasks[0], "x")], None, SOON)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::NotFound);

    let mut lines = managers[1].leadership.logs(subscription(1, false)).await.unwrap();
    assert_eq!(one.request().await, subscription(1, false));
    other.request().await;
    third.request().await;
    drop(third);
    one.say(1, vec![line(&tasks[0], "a"), line(&tasks[0], "b")], None, SOON)
        .await
        .unwrap();
    let forged = one
        .say(1, vec![line(&others[0], "x")], None, SOON)
        .await
        .unwrap_err();
    assert_eq!(
        forged.code,
        Code::PermissionDenied,
        "a node speaks for itself only"
    );
    one.say(1, Vec::new(), Some(LogEnd { error: None }), SOON)
        .await
        .unwrap();
    let error = Some("the file is gone".to_owned());
    other
        .say(1, vec![line(&others[0], "c")], Some(LogEnd { error }), SOON)
        .await
        .unwrap();
    let mut texts = Vec::new();
    while let Some(found) = timeout(SOON, lines.next()).await.expect("the logs do not end") {
        texts.push(match found {
            Ok(line) => String::from_utf8(line.data.as_bytes().to_vec()).unwrap(),
            Err(LogFailure::Node { node, why }) => format!("{node}: {why}"),
            Err(LogFailure::Leader { why }) => why,
        });
    }
    texts.sort();
    let [a, b, c] = ["a", "b", "c"].map(str::to_owned);
    let of_other = format!("{}: the file is gone", super::node_id(12));
    let of_third = format!("{}: its connection ended", super::node_id(13));
    assert_eq!(texts, [of_other, of_third, a, b, c]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_slows_the_node_and_one_that_goes_ends_the_request() {
    let (authority, directories) = (Authority::new(), directories());
    let managers = managers(&authority, &directories[..1]).await;
    found(&managers[0], 1).await;
    let fake = Fake::new(&authority, 11, &managers);
    let mut node = fake.session().await;
    serve(&managers[0], "web", 1).await;
    let (tasks, _) = node.tasks(None).await;
    let mut lines = managers[0].leadership.logs(subscription(2, true)).await.unwrap();
    node.request().await;
    let a_moment = Duration::from_millis(200);
    let mut taken = 0;
    while node
        .say(2, vec![line(&tasks[0], "x")], None, a_moment)
        .await
        .is_ok()
    {
        taken += 1;
        assert!(taken < 100, "nothing ever waits");
    }
    assert!(taken >= 1);
    for _ in 0..taken {
        assert!(timeout(SOON, lines.next()).await.unwrap().unwrap().is_ok());
    }
    node.say(2, vec![line(&tasks[0], "y")], None, SOON).await.unwrap();
    drop(lines);
    loop {
        if let ToNode::EndLogs(id) = node.next().await {
            assert_eq!(id, LogSubscriptionId(2));
            break;
        }
    }
    let error = node
        .say(2, vec![line(&tasks[0], "z")], None, SOON)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::NotFound);
}
