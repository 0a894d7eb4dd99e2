use crate::support::{Server, version};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What a client does to the config or service of a number.
#[derive(Clone, Debug)]
enum Operation {
    Create(u8),
    /// An update by the version that was read, or by an older one.
    Update {
        of: u8,
        label: u8,
        is_stale: bool,
    },
    Remove(u8),
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => (0_u8..4).prop_map(Operation::Create),
        4 => (0_u8..4, 0_u8..100, any::<bool>())
            .prop_map(|(of, label, is_stale)| Operation::Update { of, label, is_stale }),
        2 => (0_u8..4).prop_map(Operation::Remove),
    ]
}

/// The labels of what a list holds, by name.
fn labels(list: &Value) -> BTreeMap<String, Value> {
    let each = list.as_array().unwrap().iter();
    each.map(|it| {
        (
            it["Spec"]["Name"].as_str().unwrap().to_owned(),
            it["Spec"]["Labels"].clone(),
        )
    })
    .collect()
}

async fn run(kind: &str, operations: Vec<Operation>) {
    let (_server, mut client) = Server::manager().await;
    let mut model = BTreeMap::new();
    let body = |name: &str, labels: &Value| match kind {
        "configs" => json!({"Name": name, "Labels": labels, "Data": "QUJD"}),
        _ => json!({"Name": name, "Labels": labels, "TaskTemplate": {"ContainerSpec": {"Image": "a"}}}),
    };
    for operation in operations {
        match &operation {
            Operation::Create(number) => {
                let name = format!("it{number}");
                let answer = client
                    .post(&format!("/{kind}/create"), &body(&name, &json!({})))
                    .await;
                let expected = if model.contains_key(&name) { 409 } else { 201 };
                assert_eq!(answer.status, expected, "{operation:?}: {answer:?}");
                model.entry(name).or_insert(json!({}));
            }
            Operation::Update { of, label, is_stale } => {
                let name = format!("it{of}");
                let read = client.get(&format!("/{kind}/{name}")).await;
                let now = if read.status == 200 {
                    version(&read.json())
                } else {
                    1
                };
                let labels = json!({"label": label.to_string()});
                let update = format!("/{kind}/{name}/update?version={}", now - u64::from(*is_stale));
                let answer = client.post(&update, &body(&name, &labels)).await;
                let expected = match (model.contains_key(&name), is_stale) {
                    (false, _) => 404,
                    (true, true) => 500,
                    (true, false) => 200,
                };
                assert_eq!(answer.status, expected, "{operation:?}: {answer:?}");
                if expected == 200 {
                    model.insert(name, labels);
                }
            }
            Operation::Remove(number) => {
                let name = format!("it{number}");
                let status = client.delete(&format!("/{kind}/{name}")).await.status;
                assert_eq!(
                    status < 300,
                    model.remove(&name).is_some(),
                    "{operation:?}: {status}"
                );
            }
        }
        assert_eq!(
            labels(&client.get(&format!("/{kind}")).await.ok()),
            model,
            "{operation:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_clients_do_there_is_what_a_map_would_hold(
        kind in prop_oneof![Just("configs"), Just("services")],
        operations in prop::collection::vec(operation(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(run(kind, operations));
    }
}
