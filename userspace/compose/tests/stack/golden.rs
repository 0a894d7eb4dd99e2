//! What is made of a stack's file is what the docker CLI 28.2.2 and 29.7.2 were seen to post for one like it.

use crate::{Files, load_all};
use serde_json::{Value, json};

/// `null` stands for an absent member, in what docker sends and in what it takes.
fn without_null(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(name, value)| (name, without_null(value)))
            .collect(),
        Value::Array(items) => items.into_iter().map(without_null).collect(),
        other => other,
    }
}

/// Without what only the cluster knows, and what the recordings leave out.
fn comparable(path: &str, body: Value) -> Value {
    let mut body = without_null(body);
    // Of old clients; names are always unique.
    body.as_object_mut().unwrap().remove("CheckDuplicate");
    if path == "secrets/create" {
        // The recordings have the first 24 characters of a secret.
        let data = body["Data"].as_str().unwrap();
        body["Data"] = data.trim_end_matches("...").into();
    }
    if let Some(container) = body.pointer_mut("/TaskTemplate/ContainerSpec") {
        for (list, id) in [("Secrets", "SecretID"), ("Configs", "ConfigID")] {
            for reference in container
                .get_mut(list)
                .and_then(Value::as_array_mut)
                .into_iter()
                .flatten()
            {
                reference.as_object_mut().unwrap().remove(id);
            }
        }
    }
    body
}

#[test]
fn the_posts_are_dockers() {
    let files = Files::of(&[
        ("/srv/app/s1.txt", "s3cr3t-value-abcde"),
        ("/srv/app/c1.txt", "conf=1\n"),
    ]);
    let loaded = load_all(&[include_str!("stack.yml")], &files).unwrap();
    assert!(loaded.unsupported.is_empty() && loaded.deprecated.is_empty() && loaded.words.is_empty());
    let plan = loaded.stack.plan("apistk", &files.around()).unwrap();
    let mut made = Vec::new();
    let mut add = |path: &str, body: Value| made.push((path.to_owned(), comparable(path, body)));
    plan.networks
        .iter()
        .for_each(|network| add("networks/create", json!(network)));
    plan.secrets
        .iter()
        .for_each(|secret| add("secrets/create", json!(secret)));
    plan.configs
        .iter()
        .for_each(|config| add("configs/create", json!(config)));
    plan.services
        .iter()
        .for_each(|service| add("services/create", json!(service)));
    for client in ["28.2.2", "29.7.2"] {
        let recorded: Vec<(String, Value)> = include_str!("posts.jsonl")
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .filter(|post| post["client"] == client)
            .map(|post| {
                let path = post["path"].as_str().unwrap().to_owned();
                let body = comparable(&path, post["body"].clone());
                (path, body)
            })
            .collect();
        assert_eq!(recorded.len(), 5, "{client}");
        assert_eq!(made, recorded, "{client}");
    }
}
