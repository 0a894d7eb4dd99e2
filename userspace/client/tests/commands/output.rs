//! What is printed is what the docker CLI 28.2.2 printed for the same answers, except that the `json` function sorts members.

use super::daemon::{Answer, Asked, Daemon, pairs};
use super::{Exit, essaim};
use serde_json::Value;
use std::collections::BTreeMap;

fn recorded() -> Daemon {
    let mut answers = BTreeMap::new();
    for line in include_str!("../fixtures/answers.jsonl").lines() {
        let answer: Value = serde_json::from_str(line).unwrap();
        let path = answer["path"].as_str().unwrap().to_owned();
        let body = answer["body"].as_str().unwrap();
        let body = if path.ends_with("/logs") {
            data_encoding::BASE64.decode(body.as_bytes()).unwrap()
        } else {
            body.as_bytes().to_vec()
        };
        let mut query = pairs(answer["query"].as_str().unwrap());
        query.remove(&("insertDefaults".to_owned(), "false".to_owned()));
        answers.insert(
            (path, query),
            (u16::try_from(answer["status"].as_u64().unwrap()).unwrap(), body),
        );
    }
    Daemon::start(move |asked: &Asked| -> Option<Answer> {
        answers.get(&(asked.path.clone(), asked.query.clone())).cloned()
    })
}

#[tokio::test]
async fn what_is_printed_is_what_docker_prints() {
    let daemon = recorded();
    let mut others = Vec::new();
    let mut count = 0;
    for line in include_str!("../fixtures/output.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let words: Vec<&str> = case["args"]
            .as_array()
            .unwrap()
            .iter()
            .map(|word| word.as_str().unwrap())
            .collect();
        let ran = essaim(&daemon, &words, "").await;
        let expected = case["out"]
            .as_str()
            .unwrap()
            .replace("docker swarm", "essaim swarm");
        let agrees = match case["code"].as_u64() {
            Some(0) => ran.end == Ok(Exit::Done) && ran.out == expected && ran.err.is_empty(),
            _ => ran.end != Ok(Exit::Done),
        };
        if !agrees {
            others.push(format!("{words:?}\n found {ran:?}\n expected {expected:?}"));
        }
        count += 1;
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
    assert!(count > 45, "{count}");
}

#[tokio::test]
async fn what_is_missing_is_told() {
    let daemon = recorded();
    let ran = essaim(&daemon, &["service", "inspect", "api-nosuch"], "").await;
    assert_eq!(
        (ran.end, ran.out.as_str(), ran.err.as_str()),
        (Ok(Exit::Failed), "[]\n", "essaim: no such service: api-nosuch\n")
    );
    let ran = essaim(&daemon, &["service", "logs", "api-nosuch"], "").await;
    assert_eq!(ran.end, Err("no such task or service: api-nosuch".to_owned()));
    let ran = essaim(&daemon, &["swarm", "unlock-key"], "").await;
    assert_eq!(ran.end, Err("no unlock key is set".to_owned()));
    let ran = essaim(&daemon, &["service", "ls", "--format", "{{.Nmae}}"], "").await;
    assert_eq!(
        ran.end,
        Err(
            "--format: there is no .Nmae, expected one of .ID, .Name, .Mode, .Replicas, .Image, .Ports"
                .to_owned()
        )
    );
}
