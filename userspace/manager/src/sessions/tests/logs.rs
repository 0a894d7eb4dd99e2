//! Logs, read at a manager that does not lead.

use super::{Fake, SOON, Session, found, managers, serve};
use crate::logs::{LogFailure, LogLines};
use crate::tests::{Authority, directories};
use essaim_objects::{Data, ServiceId, Task, TaskState, Timestamp};
use essaim_protocol::{
    LogBatch, LogEnd, LogMessage, LogPosition, LogSelector, LogSource, LogSubscription, LogSubscriptionId,
    Stream, ToNode, encode, method,
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
        resume: Vec::new(),
        round: 0,
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
}

/// A node's answer to a request, batch after batch.
struct Answer {
    request: LogSubscriptionId,
    round: u64,
    number: u64,
}

impl Answer {
    fn to(request: &LogSubscription) -> Self {
        Self {
            request: request.id,
            round: request.round,
            number: 0,
        }
    }

    fn batch(&self, messages: Vec<LogMessage>) -> LogBatch {
        LogBatch {
            subscription: self.request,
            round: self.round,
            number: self.number,
            begins: Vec::new(),
            messages,
            ended: None,
        }
    }

    /// The next batch; it is another one after one that was taken.
    async fn say(&mut self, by: &Session, batch: LogBatch, within: Duration) -> Result<(), CallError> {
        by.client.call(method::LOGS, encode(&batch), within).await?;
        self.number += 1;
        Ok(())
    }

    async fn lines(&mut self, by: &Session, messages: Vec<LogMessage>) -> Result<(), CallError> {
        self.say(by, self.batch(messages), SOON).await
    }

    async fn end(&mut self, by: &Session, messages: Vec<LogMessage>, error: Option<String>) {
        let batch = LogBatch {
            ended: Some(LogEnd { error }),
            ..self.batch(messages)
        };
        self.say(by, batch, SOON).await.unwrap();
    }
}

/// The next line of logs of which nothing is missing.
async fn next_line(lines: &mut LogLines) -> String {
    let next = timeout(SOON, lines.next()).await.expect("no line");
    let line = next.expect("the logs end").unwrap();
    String::from_utf8(line.data.as_bytes().to_vec()).unwrap()
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
    let mut unasked = Answer::to(&subscription(9, false));
    let error = unasked.lines(&one, vec![line(&tasks[0], "x")]).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);

    let mut lines = managers[1].leadership.logs(subscription(1, false)).await.unwrap();
    let asked = one.request().await;
    assert_eq!(asked, subscription(1, false));
    let (mut of_one, mut of_other) = (Answer::to(&asked), Answer::to(&other.request().await));
    third.request().await;
    drop(third);
    let both = vec![line(&tasks[0], "a"), line(&tasks[0], "b")];
    of_one.lines(&one, both).await.unwrap();
    let forged = of_one.lines(&one, vec![line(&others[0], "x")]).await.unwrap_err();
    assert_eq!(
        forged.code,
        Code::PermissionDenied,
        "a node speaks for itself only"
    );
    of_one.end(&one, Vec::new(), None).await;
    let error = Some("the file is gone".to_owned());
    of_other.end(&other, vec![line(&others[0], "c")], error).await;
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
    let mut answer = Answer::to(&node.request().await);
    let a_moment = Duration::from_millis(200);
    let mut taken = 0;
    let mut batch = answer.batch(vec![line(&tasks[0], "x")]);
    while answer.say(&node, batch.clone(), a_moment).await.is_ok() {
        taken += 1;
        batch.number = answer.number;
        assert!(taken < 100, "nothing ever waits");
    }
    assert!(taken >= 1);
    for _ in 0..taken {
        assert!(timeout(SOON, lines.next()).await.unwrap().unwrap().is_ok());
    }
    // It is sent again until it is taken, once.
    answer.say(&node, batch, SOON).await.unwrap();
    assert_eq!(next_line(&mut lines).await, "x");
    answer.lines(&node, vec![line(&tasks[0], "y")]).await.unwrap();
    assert_eq!(next_line(&mut lines).await, "y");
    drop(lines);
    loop {
        if let ToNode::EndLogs(id) = node.next().await {
            assert_eq!(id, LogSubscriptionId(2));
            break;
        }
    }
    let error = answer.lines(&node, vec![line(&tasks[0], "z")]).await.unwrap_err();
    assert_eq!(error.code, Code::NotFound);
}

/// A line of this second.
fn line_at(task: &Task, second: i64, text: &str) -> LogMessage {
    LogMessage {
        timestamp: Timestamp::from_second(second).unwrap(),
        ..line(task, text)
    }
}

fn place(task: &Task, second: i64, lines: u64) -> LogPosition {
    LogPosition {
        task: task.id,
        timestamp: Timestamp::from_second(second).unwrap(),
        lines,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_where_it_is_when_a_node_begins_another_session() {
    let (authority, directories) = (Authority::new(), directories());
    let managers = managers(&authority, &directories[..1]).await;
    found(&managers[0], 1).await;
    let fake = Fake::new(&authority, 11, &managers);
    let mut node = fake.session().await;
    serve(&managers[0], "web", 2).await;
    let (mut tasks, _) = node.tasks(None).await;
    while tasks.len() < 2 {
        tasks.extend(node.tasks(None).await.0);
    }
    let wanted = LogSubscription {
        tail: Some(3),
        ..subscription(3, true)
    };
    let mut lines = managers[0].leadership.logs(wanted.clone()).await.unwrap();
    let asked = node.request().await;
    assert_eq!(asked, wanted);
    let mut answer = Answer::to(&asked);
    // One has said something, of which two lines have the same time; the other nothing yet.
    let said = LogBatch {
        begins: vec![place(&tasks[0], 4, 1), place(&tasks[1], 0, 0)],
        ..answer.batch(vec![
            line_at(&tasks[0], 5, "a"),
            line_at(&tasks[0], 6, "b"),
            line_at(&tasks[0], 6, "c"),
        ])
    };
    answer.say(&node, said.clone(), SOON).await.unwrap();
    // Sent again, as if that it was taken had not been heard.
    answer.say(&node, said, SOON).await.unwrap();
    for expected in ["a", "b", "c"] {
        assert_eq!(next_line(&mut lines).await, expected);
    }
    drop(node);
    let mut node = fake.session().await;
    let asked = node.request().await;
    let mut resume = asked.resume.clone();
    resume.sort_by_key(|place| place.lines);
    assert_eq!(resume, [place(&tasks[1], 0, 0), place(&tasks[0], 6, 2)]);
    assert_eq!(asked.id, wanted.id);
    // What answers the former session does not count any more.
    let stale = Answer { number: 1, ..answer }
        .lines(&node, vec![line_at(&tasks[0], 7, "d")])
        .await;
    assert_eq!(stale.unwrap_err().code, Code::NotFound);
    let mut answer = Answer::to(&asked);
    answer
        .lines(&node, vec![line_at(&tasks[0], 7, "d")])
        .await
        .unwrap();
    // Clients end with the first failure that they are told, so they are told none.
    assert_eq!(next_line(&mut lines).await, "d");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_where_it_is_with_another_leader() {
    let (authority, directories) = (Authority::new(), directories());
    let mut managers = managers(&authority, &directories).await;
    found(&managers[0], 1).await;
    let fake = Fake::new(&authority, 11, &managers);
    let mut node = fake.session().await;
    serve(&managers[0], "web", 1).await;
    let (tasks, _) = node.tasks(None).await;
    let mut followers = Vec::new();
    for (id, manager) in (1..).zip(&managers[1..]) {
        let mut lines = manager.leadership.logs(subscription(id, true)).await.unwrap();
        let mut answer = Answer::to(&node.request().await);
        let said = vec![line_at(&tasks[0], 5, "a"), line_at(&tasks[0], 5, "b")];
        answer.lines(&node, said).await.unwrap();
        for expected in ["a", "b"] {
            assert_eq!(next_line(&mut lines).await, expected);
        }
        followers.push(lines);
    }
    managers.remove(0).kill().await;
    while let Ok(Some(_)) = node.messages.next().await {}
    // The readers come to the new leader when they notice it, be it before the node or after it.
    let reading = followers.iter_mut().map(next_line);
    let answering = async {
        let mut node = fake.session().await;
        for _ in 0..2 {
            let asked = node.request().await;
            assert_eq!(asked.resume, [place(&tasks[0], 5, 2)]);
            Answer::to(&asked)
                .lines(&node, vec![line_at(&tasks[0], 5, "c")])
                .await
                .unwrap();
        }
        node
    };
    let (texts, _node) = tokio::join!(futures_util::future::join_all(reading), answering);
    assert_eq!(texts, ["c", "c"]);
}
